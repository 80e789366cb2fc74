package registry

import (
	"slices"
	"strings"
)

// notYet says of each key that this version reads and checks what it does not
// do with it. An entry goes when the key is acted on.
var notYet = map[string]string{
	"double_opt_in":   "a grant that needs a confirmation stays pending, as none can be given yet",
	"was":             "nothing is carried over from the purposes that it names",
	"keywords":        "text messages are not read",
	"signals":         "no signal of another standard is mapped to a purpose",
	"material":        "nobody is asked again when a notice is superseded",
	"data":            "kept, and shown nowhere",
	"recipients":      "kept, and shown nowhere",
	"storage":         "kept, and shown nowhere",
	"retention":       "kept; nothing is deleted by it",
	"start: snapshot": "a new downstream hears the kept changes from their beginning instead",
	"delivery.topic":  "nothing is delivered to a topic",
	"delivery.poll":   "there is nothing to poll",
	"acknowledgement": "a change counts as done when it is delivered",
	"batch":           "each change is delivered by itself",
}

// waiting collects who uses a key that is not acted on.
type waiting struct{ names map[string][]string }

func (w *waiting) note(key, name string) {
	if w.names == nil {
		w.names = map[string][]string{}
	}
	if !slices.Contains(w.names[key], name) {
		w.names[key] = append(w.names[key], name)
	}
}

func (w *waiting) lines() []string {
	var lines []string
	for key, names := range w.names {
		lines = append(lines, key+" ("+strings.Join(names, ", ")+"): "+notYet[key])
	}
	slices.Sort(lines)
	return lines
}
