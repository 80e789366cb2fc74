package schemas

import (
	"strings"

	"github.com/assent-dev/assent/consent"
)

// DeadLetter is a record of consent.deadletters: a record that could not be
// used, with its position and its bytes.
type DeadLetter struct {
	Topic      string
	Partition  int32
	Offset     int64
	Code       string // of the fault
	Reason     string // a sentence without payload
	Role       string
	Downstream string
	At         consent.Instant

	// Key, Value and Headers are the record's own; nil is null.
	Key, Value []byte
	Headers    []Header
	// Partial: something of key, value or headers did not fit, or was no text.
	// The whole record is at its position.
	Partial bool
}

// Header is one header of the record.
type Header struct {
	Key   string
	Value []byte
}

// What of a record is kept. Together it stays under MaxPayloadBytes, whatever
// the record held: a record that cannot be used must never stop a partition.
const (
	keptTextBytes   = 4 << 10
	keptKeyBytes    = 64 << 10
	keptValueBytes  = 768 << 10
	keptHeaderBytes = 64 << 10 // of all headers together
	perHeaderBytes  = 16       // counted for each on top of its key and value
)

// headerBytes is the least that a header takes: its text and a null.
const headerBytes = 2

// EncodeDeadLetter appends a dead letter's record to dst: frame and body. It
// keeps what fits and says so in partial: a value up to 768 KiB, a key and all
// headers up to 64 KiB each, texts up to 4 KiB. The error is for a time outside
// the years 1900 to 9999 only.
func EncodeDeadLetter(dst []byte, l *DeadLetter) ([]byte, error) {
	kept := *l
	kept.fit()
	x := newEncoder(dst, deadLetterFingerprint)
	x.deadLetter(&kept)
	return x.after(dst)
}

// DecodeDeadLetter reads a dead letter's record, frame and body. It keeps
// nothing of b. An error is a [DecodeError].
func DecodeDeadLetter(b []byte) (DeadLetter, error) {
	var l DeadLetter
	d, err := newDecoder(b, deadLetterFingerprint)
	if err != nil {
		return l, err
	}
	defer d.release()
	d.deadLetter(&l)
	if err := d.finish(); err != nil {
		return DeadLetter{}, err
	}
	return l, nil
}

// fit cuts what is too long. It writes to no slice of the original.
func (l *DeadLetter) fit() {
	for _, s := range []*string{&l.Topic, &l.Code, &l.Reason, &l.Role, &l.Downstream} {
		*s = cutText(*s, keptTextBytes)
	}
	if len(l.Key) > keptKeyBytes {
		l.Key, l.Partial = l.Key[:keptKeyBytes], true
	}
	if len(l.Value) > keptValueBytes {
		l.Value, l.Partial = l.Value[:keptValueBytes], true
	}
	headers := l.Headers
	l.Headers = nil
	left := keptHeaderBytes
	for _, h := range headers {
		key := cutText(h.Key, keptTextBytes)
		if key != h.Key {
			l.Partial = true
		}
		if left -= len(key) + len(h.Value) + perHeaderBytes; left < 0 {
			l.Partial = true
			break
		}
		l.Headers = append(l.Headers, Header{Key: key, Value: h.Value})
	}
}

// cutText makes s a text of at most limit bytes.
func cutText(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit]
	}
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > limit { // a replacement is longer than what it replaces
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return s
}

func (x *encoder) deadLetter(l *DeadLetter) {
	x.text("topic", l.Topic)
	x.long(int64(l.Partition))
	x.long(l.Offset)
	x.text("code", l.Code)
	x.optionalText("reason", l.Reason)
	x.optionalText("role", l.Role)
	x.optionalText("downstream", l.Downstream)
	x.instant("at", l.At)
	x.optionalBytes(l.Key)
	x.optionalBytes(l.Value)
	x.array(len(l.Headers), func(i int) {
		x.text("headers.key", l.Headers[i].Key)
		x.optionalBytes(l.Headers[i].Value)
	})
	x.flag(l.Partial)
}

func (d *decoder) deadLetter(l *DeadLetter) {
	l.Topic = d.word("topic")
	l.Partition = d.int("partition")
	l.Offset = d.long("offset")
	l.Code = d.word("code")
	l.Reason = d.optionalText("reason")
	l.Role = d.optionalWord("role")
	l.Downstream = d.optionalWord("downstream")
	l.At = d.instant("at")
	l.Key = d.optionalBytes("key", maxFieldBytes)
	l.Value = d.optionalBytes("value", keptValueBytes)
	d.array("headers", headerBytes, func() {
		l.Headers = append(l.Headers, Header{
			Key:   d.word("headers.key"),
			Value: d.optionalBytes("headers.value", maxFieldBytes),
		})
	})
	l.Partial = d.flag("partial")
}
