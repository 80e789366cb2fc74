package consent

import (
	"errors"
	"strings"
)

// Purpose is what data is used for: a dotted lower-case path such as
// marketing.email. Restrictions on a node reach everything below it.
type Purpose string

// Root is the purpose above all others.
const Root Purpose = "*"

const maxPurposeBytes = 256

var errPurpose = errors.New("a purpose is a dotted path of a-z, 0-9, _ and - (such as marketing.email), at most 256 characters, or *")

// ParsePurpose checks the form [a-z0-9_-]+(\.[a-z0-9_-]+)* or *.
func ParsePurpose(s string) (Purpose, error) {
	if s == string(Root) {
		return Root, nil
	}
	if s == "" || len(s) > maxPurposeBytes {
		return "", errPurpose
	}
	start := true
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			start = false
		case c == '.' && !start:
			start = true
		default:
			return "", errPurpose
		}
	}
	if start {
		return "", errPurpose
	}
	return Purpose(s), nil
}

// Parent gives the node above; Root's parent is "".
func (p Purpose) Parent() Purpose {
	if p == Root || p == "" {
		return ""
	}
	if i := strings.LastIndexByte(string(p), '.'); i >= 0 {
		return p[:i]
	}
	return Root
}

// Covers reports whether q is p or lies below it.
func (p Purpose) Covers(q Purpose) bool {
	if p == Root || p == q {
		return true
	}
	return len(q) > len(p) && q[len(p)] == '.' && q[:len(p)] == p
}

// Pattern selects purposes for a downstream: a path (itself only), "a.*" (a and
// all below), or "*" (everything).
type Pattern string

// ParsePattern checks a pattern's form.
func ParsePattern(s string) (Pattern, error) {
	node := strings.TrimSuffix(s, ".*")
	if _, err := ParsePurpose(node); err != nil || (node == string(Root) && node != s) {
		return "", errors.New("a purpose pattern is a purpose (marketing.email), a purpose and all below it (marketing.*), or *")
	}
	return Pattern(s), nil
}

// Matches reports whether a change of purpose p is selected. A change is
// matched by its own purpose only.
func (a Pattern) Matches(p Purpose) bool {
	if a == "*" {
		return true
	}
	if node, ok := strings.CutSuffix(string(a), ".*"); ok {
		return Purpose(node).Covers(p)
	}
	return Purpose(a) == p
}
