package schemas

import (
	"bytes"
	"errors"

	"github.com/assent-dev/assent/consent"
)

// StateRow is a record of consent.state: one purpose of one subject.
type StateRow struct {
	Tenant  consent.Tenant
	Subject consent.Subject
	Test    bool
	Row     consent.Row
	// Whole belongs to the subject as such; only the row of * has it.
	Whole *consent.Whole
	// InputOffset is the offset in consent.events of the event that the row was
	// written for.
	InputOffset int64
}

// AddTo puts the row into the State that it is a row of, and what belongs to the
// subject with it.
func (r *StateRow) AddTo(s *consent.State) {
	if r.Whole != nil {
		s.Whole = *r.Whole
	}
	if r.Row != (consent.Row{Purpose: consent.Root}) { // else * is there for the subject's sake only
		s.PutRow(r.Row)
	}
}

// EncodeState appends a row's record to dst: frame and body. On an error, an
// [EncodeError], it gives dst back unchanged.
func EncodeState(dst []byte, r *StateRow) ([]byte, error) {
	x := newEncoder(dst, stateFingerprint)
	if field, err := checkState(r); err != nil {
		x.fail(CodeInvalid, field, err.Error())
	}
	x.state(r)
	return x.after(dst)
}

// DecodeState reads a row's record, frame and body. The row keeps nothing of b.
// An error is a [DecodeError].
func DecodeState(b []byte) (StateRow, error) {
	var r StateRow
	d, err := newDecoder(b, stateFingerprint)
	if err != nil {
		return r, err
	}
	defer d.release()
	d.state(&r)
	if d.err == nil {
		if field, err := checkState(&r); err != nil {
			d.fail(CodeInvalid, field, err.Error())
		}
	}
	if err := d.finish(); err != nil {
		return StateRow{}, err
	}
	return r, nil
}

func checkState(r *StateRow) (field string, err error) {
	if field, err = checkNames(r.Tenant, r.Subject, r.Row.Purpose); err != nil {
		return field, err
	}
	if r.Whole != nil {
		if r.Row.Purpose != consent.Root {
			return "whole", errors.New("only the row of * holds what belongs to the subject")
		}
		for i := range r.Whole.Links {
			if _, err = consent.ParseSubject(string(r.Whole.Links[i].To)); err != nil {
				return "whole.links.to", err
			}
		}
	}
	if r.Row.NoEvent != nil && r.Row.No == nil {
		return "no_event", errNoRecord
	}
	return "", nil
}

// checkNames holds a key's parts against package consent's rules.
func checkNames(t consent.Tenant, s consent.Subject, p consent.Purpose) (field string, err error) {
	if _, err = consent.ParseTenant(string(t)); err != nil {
		return "tenant", err
	}
	if _, err = consent.ParseSubject(string(s)); err != nil {
		return "subject", err
	}
	if _, err = consent.ParsePurpose(string(p)); err != nil {
		return "purpose", err
	}
	return "", nil
}

// StateKey is the key of a row's record: tenant|subject|purpose, and |test for
// the test state. None of the parts can hold a '|'.
func StateKey(t consent.Tenant, s consent.Subject, p consent.Purpose, test bool) []byte {
	return AppendStateKey(make([]byte, 0, len(t)+len(s)+len(p)+len("||")+len(testSuffix)), t, s, p, test)
}

// AppendStateKey appends what StateKey gives.
func AppendStateKey(dst []byte, t consent.Tenant, s consent.Subject, p consent.Purpose, test bool) []byte {
	dst = append(consent.AppendKey(dst, t, s), '|')
	dst = append(dst, p...)
	if test {
		dst = append(dst, testSuffix...)
	}
	return dst
}

const testSuffix = "|test"

// IsTestKey reports whether a row's key is one of a test state. A purpose may be called
// test too: how the key ends does not tell.
func IsTestKey(key []byte) bool { return bytes.Count(key, []byte{'|'}) == 3 }

// ParseStateKey takes a row's key apart. A tombstone has nothing else.
func ParseStateKey(key []byte) (t consent.Tenant, s consent.Subject, p consent.Purpose, test bool, err error) {
	parts := bytes.Split(key, []byte{'|'})
	test = len(parts) == 4 && string(parts[3]) == testSuffix[1:]
	if len(parts) != 3 && !test {
		return "", "", "", false, errors.New("a state's key is tenant|subject|purpose, or that with |test")
	}
	t, s, p = consent.Tenant(parts[0]), consent.Subject(parts[1]), consent.Purpose(parts[2])
	if _, err = checkNames(t, s, p); err != nil {
		return "", "", "", false, err
	}
	return t, s, p, test, nil
}
