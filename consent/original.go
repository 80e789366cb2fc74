package consent

// Original is an event in full, as a State keeps it: the event, or its text, which takes
// less room and need not be written anew. It is never changed once made, nor is what
// was given to make it.
type Original struct {
	event *Event
	text  []byte
	form  Form
}

// Form reads texts that stand for events. They are texts of its own.
type Form interface {
	Event(text []byte) Event
}

// OriginalOf makes the Original that is the event itself.
func OriginalOf(e *Event) *Original { return &Original{event: e} }

// OriginalIn makes the Original that a text of a form stands for.
func OriginalIn(form Form, text []byte) *Original { return &Original{text: text, form: form} }

// Event gives the event, which must not be written to. Of a text it is read anew.
func (o *Original) Event() *Event {
	if o.event != nil {
		return o.event
	}
	e := o.form.Event(o.text)
	return &e
}

// Text gives what stands for the event in a form; ok is false where it has none.
func (o *Original) Text(form Form) (text []byte, ok bool) {
	return o.text, o.event == nil && o.form == form
}

// Bytes is about what it takes of memory.
func (o *Original) Bytes() int {
	const own, inFull = 48, 900
	if o.event != nil {
		return own + inFull
	}
	return own + len(o.text)
}
