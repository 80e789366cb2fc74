package token

import (
	"math"
	"net/url"
	"testing"
)

func TestToken_ComesBackAsItWas(t *testing.T) {
	for _, c := range []struct {
		partition int32
		offset    int64
	}{{0, 0}, {11, 1042}, {127, 127}, {128, 128}, {math.MaxInt32, math.MaxInt64}} {
		s := Encode(c.partition, c.offset)
		if url.QueryEscape(s) != s {
			t.Errorf("%q needs escaping in a URL", s)
		}
		p, o, err := Decode(s)
		if err != nil || p != c.partition || o != c.offset {
			t.Errorf("Decode(%q) = %d, %d, %v; want %d, %d", s, p, o, err, c.partition, c.offset)
		}
	}
}

func TestToken_TextIsPinned(t *testing.T) {
	if got, want := Encode(3, 1042), "AQOSCFU"; got != want {
		t.Errorf("Encode(3, 1042) = %q, want %q: tokens are held by clients over an upgrade", got, want)
	}
}

func TestToken_RefusesWhatIsNone(t *testing.T) {
	good := Encode(3, 1042)
	for i := range good {
		if _, _, err := Decode(good[:i]); err == nil {
			t.Errorf("the first %d characters of a token were accepted", i)
		}
	}
	swapped := []byte(good)
	swapped[1]++
	for _, s := range []string{"", "=", good + "A", good + "AAAA", good + "=", string(swapped), "consent.events/3@1042", "AgMSAA"} {
		if _, _, err := Decode(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzDecode_NeverPanicsAndIsCanonical(f *testing.F) {
	f.Add(Encode(3, 1042))
	f.Add("AQCAAAA")
	f.Fuzz(func(t *testing.T, s string) {
		p, o, err := Decode(s)
		if err == nil && Encode(p, o) != s {
			t.Errorf("%q and %q name the same position", s, Encode(p, o))
		}
	})
}
