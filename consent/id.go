package consent

import (
	"crypto/sha1" //nolint:gosec // UUIDv5 is defined over SHA-1 (RFC 9562, section 5.5); it names things, it protects nothing
	"encoding/hex"
	"errors"
)

// UUID is an event, interaction or change id, compared as 16 bytes. The zero
// value means "absent".
type UUID [16]byte

// Namespaces of the ids that are derived instead of drawn. They are constants
// of the format: changing one would make a replay look like new events.
var (
	// NamespaceEvent names events by their claims, keys or positions.
	NamespaceEvent = UUID{0x5a, 0x1d, 0x0c, 0x3e, 0x6b, 0x3a, 0x5f, 0x0e, 0x9c, 0x41, 0x8f, 0x27, 0x10, 0x6d, 0xb2, 0x01}
	// NamespaceChange names changes by tenant, subject, purpose, version and event.
	NamespaceChange = UUID{0x5a, 0x1d, 0x0c, 0x3e, 0x6b, 0x3a, 0x5f, 0x0e, 0x9c, 0x41, 0x8f, 0x27, 0x10, 0x6d, 0xb2, 0x02}
)

var errUUID = errors.New("not a UUID: want 32 hex digits, with or without hyphens")

// ParseUUID reads the 36-character form and the form without hyphens, in upper
// or lower case.
func ParseUUID(s string) (UUID, error) {
	var u UUID
	var digits [32]byte
	switch len(s) {
	case 32:
		copy(digits[:], s)
	case 36:
		if s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
			return u, errUUID
		}
		n := copy(digits[:], s[:8])
		n += copy(digits[n:], s[9:13])
		n += copy(digits[n:], s[14:18])
		n += copy(digits[n:], s[19:23])
		copy(digits[n:], s[24:])
	default:
		return u, errUUID
	}
	if _, err := hex.Decode(u[:], digits[:]); err != nil {
		return UUID{}, errUUID
	}
	return u, nil
}

// IsZero reports whether the id is absent.
func (u UUID) IsZero() bool { return u == UUID{} }

// String gives the lower-case 36-character form, and "" for the zero value.
func (u UUID) String() string {
	var b [36]byte
	return string(u.Append(b[:0]))
}

// Append appends what String gives.
func (u UUID) Append(dst []byte) []byte {
	if u.IsZero() {
		return dst
	}
	dst = hex.AppendEncode(dst, u[:4])
	dst = hex.AppendEncode(append(dst, '-'), u[4:6])
	dst = hex.AppendEncode(append(dst, '-'), u[6:8])
	dst = hex.AppendEncode(append(dst, '-'), u[8:10])
	return hex.AppendEncode(append(dst, '-'), u[10:])
}

// DeriveUUID gives the UUIDv5 of name in namespace. Source: RFC 9562, 5.5.
func DeriveUUID(namespace UUID, name []byte) UUID {
	var stack [512]byte                                                  // most names fit: nothing is allocated for them
	sum := sha1.Sum(append(append(stack[:0], namespace[:]...), name...)) //nolint:gosec // see the import
	var u UUID
	copy(u[:], sum[:])
	u[6] = u[6]&0x0f | 0x50
	u[8] = u[8]&0x3f | 0x80
	return u
}
