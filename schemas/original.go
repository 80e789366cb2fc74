package schemas

import (
	"crypto/sha256"

	"github.com/assent-dev/assent/consent"
)

// storedEvent is the form of events as a state's record holds them: the body, as the
// encoder writes it, and behind it the Digest, which is not always that of the body:
// times are held to the broker's clock after it was taken.
type storedEvent struct{}

// storedOriginal makes the Original of an event that was read, from its body.
func storedOriginal(body []byte, digest [sha256.Size]byte) *consent.Original {
	text := make([]byte, 0, len(body)+len(digest))
	return consent.OriginalIn(storedEvent{}, append(append(text, body...), digest[:]...))
}

// SetOriginal gives an event the Original that Folding.Decode gives it: for who changed it
// since. Its error is an [EncodeError]; an event that was decoded has none.
func SetOriginal(e *consent.Event) error {
	x := encoder{b: make([]byte, 0, usualBytes)}
	if x.event(e); x.err != nil {
		return x.err
	}
	e.Original = storedOriginal(x.b, e.Digest)
	return nil
}

// written gives the body of an event that was read, as the encoder writes it.
func (d *decoder) written(e *consent.Event, body []byte) []byte {
	if !d.odd {
		return body
	}
	var x encoder
	x.event(e)
	return x.b
}

// Event implements [consent.Form].
func (storedEvent) Event(text []byte) (e consent.Event) {
	d := decoders.Get().(*decoder)
	defer d.release()
	body, digest := text[:len(text)-sha256.Size], text[len(text)-sha256.Size:]
	d.begin(body)
	d.event(&e) // was read once already
	e.Digest = [sha256.Size]byte(digest)
	return e
}

// original writes an event that a State keeps.
func (x *encoder) original(o *consent.Original) {
	if text, ok := o.Text(storedEvent{}); ok {
		x.raw(text[:len(text)-sha256.Size])
		return
	}
	x.path = "no_event."
	if field, err := checkEvent(o.Event()); err != nil {
		x.fail(CodeInvalid, field, err.Error())
	}
	x.event(o.Event())
	x.path = ""
}

// original reads what [encoder.original] wrote, and gives the body.
func (d *decoder) original() []byte {
	var e consent.Event
	from := len(d.body) - d.left
	d.odd, d.path = false, "no_event."
	d.event(&e)
	d.checked(&e)
	d.path = ""
	return d.written(&e, d.body[from:len(d.body)-d.left])
}
