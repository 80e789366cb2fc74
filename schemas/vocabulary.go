package schemas

// vocabulary keeps one copy of the texts that come again and again (tenants,
// purposes, versions), so that a million records do not hold a million copies.
type vocabulary map[string]string

const (
	maxWordBytes = 64
	maxWords     = 2048
)

func (v vocabulary) of(b []byte) string {
	if len(b) > maxWordBytes {
		return string(b)
	}
	if s, ok := v[string(b)]; ok { // no copy is made for the look-up
		return s
	}
	if len(v) >= maxWords {
		clear(v) // whoever floods it pays with copies, nobody with memory
	}
	s := string(b)
	v[s] = s
	return s
}
