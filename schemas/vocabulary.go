package schemas

import "unicode/utf8"

// vocabulary keeps one copy of the texts that come again and again (tenants,
// purposes, versions), so that a million records do not hold a million copies.
type vocabulary struct {
	recent [256]string // by slot: the word that was asked for last
	all    map[string]string
}

const (
	maxWordBytes = 64
	maxWords     = 2048
)

// of gives the text that b is; false where that is not UTF-8, which no word ever is.
func (v *vocabulary) of(b []byte) (string, bool) {
	if len(b) == 0 {
		return "", true
	}
	if len(b) > maxWordBytes {
		return string(b), utf8.Valid(b)
	}
	slot := &v.recent[byte(len(b)+5*int(b[0])+31*int(b[len(b)-1])+89*int(b[len(b)/2]))]
	if *slot != string(b) { // no copy is made to compare, or to look up
		if !utf8.Valid(b) {
			return "", false
		}
		*slot = v.find(b)
	}
	return *slot, true
}

func (v *vocabulary) find(b []byte) string {
	if s, ok := v.all[string(b)]; ok {
		return s
	}
	if len(v.all) >= maxWords {
		clear(v.all) // whoever floods it pays with copies, nobody with memory
	}
	s := string(b)
	v.all[s] = s
	return s
}
