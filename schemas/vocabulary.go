package schemas

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

func (v *vocabulary) of(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	if len(b) > maxWordBytes {
		return string(b)
	}
	slot := v.slot(b)
	if *slot != string(b) { // no copy is made to compare, or to look up
		*slot = v.find(b)
	}
	return *slot
}

// recently gives a word that was asked for not long ago.
func (v *vocabulary) recently(b []byte) (word string, ok bool) {
	if len(b) == 0 || len(b) > maxWordBytes {
		return "", len(b) == 0
	}
	word = *v.slot(b)
	return word, word == string(b)
}

// slot is where a word would be that was asked for last. b is not empty.
func (v *vocabulary) slot(b []byte) *string {
	return &v.recent[byte(len(b)+5*int(b[0])+31*int(b[len(b)-1])+89*int(b[len(b)/2]))]
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
