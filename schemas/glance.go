package schemas

import "github.com/assent-dev/assent/consent"

// Glance is the little of a state row that a restore needs of each of millions.
type Glance struct {
	// InputOffset is [StateRow.InputOffset].
	InputOffset int64
	// Granted says that a grant was announced, which may run out: decode the row
	// to learn when.
	Granted bool
}

// GlanceState reads the beginning of a row's record, and skips the rest unread. An
// error is a [DecodeError]; none is no promise that [DecodeState] has none.
func GlanceState(b []byte) (Glance, error) {
	body, err := unframe(b, stateFingerprint)
	if err != nil {
		return Glance{}, err
	}
	w := walker{left: body}
	w.skip(w.long()) // tenant
	w.skip(w.long()) // subject
	w.skip(w.long()) // purpose
	w.skip(1)        // test
	status := w.long()
	if w.long() == 1 {
		w.skip(1) // allowed
	}
	w.long() // version
	g := Glance{InputOffset: w.long(), Granted: status == int64(consent.Granted)}
	if w.short {
		return Glance{}, &DecodeError{Code: CodeTruncated, Reason: "the row ends before its input offset"}
	}
	return g, nil
}

// walker steps over Avro's binary form without a reader. short is set once
// something was not there.
type walker struct {
	left  []byte
	short bool
}

func (w *walker) skip(n int64) {
	if n < 0 || n > int64(len(w.left)) {
		w.short, w.left = true, nil
		return
	}
	w.left = w.left[n:]
}

// long reads a zigzag varint of up to ten bytes.
func (w *walker) long() int64 {
	var u uint64
	for i, c := range w.left {
		if i == 10 {
			break
		}
		u |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			w.left = w.left[i+1:]
			return int64(u>>1) ^ -int64(u&1)
		}
	}
	w.short, w.left = true, nil
	return 0
}
