package jsonform

// Problem is something that is wrong with a field of a posted event. What was
// sent is in Field at most (a name that is not known), and never in Message.
type Problem struct {
	Field   string // dotted, as in evidence.method
	Kind    Kind
	Message string // a sentence that says what to do
}

// Kind tells what a problem costs.
type Kind uint8

// The kinds.
const (
	_            Kind = iota
	UnknownField      // no field of this name: its value is not in the event
	BadValue          // the field is absent from the event, or the last of several counts
	StampIgnored      // a field that only the gateway fills: its value is not in the event
	IDDerived         // an id that is no UUID: its UUIDv5 stands in the event
	UnknownCode       // a jurisdiction that is not known: it counts as empty
)

// Malformed reports whether a grant with this problem is refused. On any other
// action, and for the other kinds, it is a warning. A method that is not listed
// (BadValue on evidence.method) breaks the rule "affirmative" besides.
func (k Kind) Malformed() bool { return k == UnknownField || k == BadValue }

// Unusable is the error of an event that there is nothing to go on with,
// whatever its action.
type Unusable struct {
	Field   string // empty where it is about the whole
	Message string
}

func (e *Unusable) Error() string {
	if e.Field == "" {
		return e.Message
	}
	return e.Field + ": " + e.Message
}

const (
	// maxProblems bounds the list; an event that has more is malformed anyway.
	maxProblems = 64
	// maxNameBytes cuts the name of an unknown field.
	maxNameBytes = 64
)
