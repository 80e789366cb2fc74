package consent_test

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
)

// args are the words of one script line: plain words in order, flags, and
// key=value pairs. What nobody asked for is an error, so that a misspelt word
// cannot pass unseen.
type args struct {
	plain  []string
	values map[string]string
	err    error
}

func newArgs(words []string) *args {
	a := &args{values: map[string]string{}}
	for _, w := range words {
		if key, value, ok := strings.Cut(w, "="); ok {
			a.values[key] = value
		} else {
			a.plain = append(a.plain, w)
		}
	}
	return a
}

// word takes the first plain word.
func (a *args) word() string {
	if len(a.plain) == 0 {
		a.err = fmt.Errorf("a word is missing")
		return ""
	}
	w := a.plain[0]
	a.plain = a.plain[1:]
	return w
}

// flag takes a plain word by name.
func (a *args) flag(name string) bool {
	for i, w := range a.plain {
		if w == name {
			a.plain = append(a.plain[:i:i], a.plain[i+1:]...)
			return true
		}
	}
	return false
}

func (a *args) value(key string) string {
	v := a.values[key]
	delete(a.values, key)
	return v
}

func (a *args) int(key string) int {
	v := a.value(key)
	if v == "" {
		return 0
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		a.err = err
	}
	return n
}

// origin is where the scripts' time begins.
const origin = consent.Instant(1_767_225_600_000) // 2026-01-01T00:00:00Z

// instant reads a duration since the scripts' origin; absent is absent.
func (a *args) instant(key string) consent.Instant {
	v := a.value(key)
	if v == "" {
		return 0
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		a.err = err
	}
	return origin.Add(d)
}

func (a *args) done() error {
	if a.err == nil && len(a.plain)+len(a.values) > 0 {
		return fmt.Errorf("not understood: %v %v", a.plain, a.values)
	}
	return a.err
}

// show writes an instant as the scripts do.
func show(i consent.Instant) string {
	if i == 0 {
		return "never"
	}
	text := i.Sub(origin).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// number gives back the number of an id made by id.
func number(u consent.UUID) int { return int(u[14])<<8 | int(u[15]) }

func same(a, b any) bool { return reflect.DeepEqual(a, b) }
