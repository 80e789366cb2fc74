package consent

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"log/slog"
	"strconv"
	"strings"
)

// Tenant is the data controller that a record belongs to.
type Tenant string

// DefaultTenant is used where none is named.
const DefaultTenant Tenant = "default"

// ParseTenant checks a tenant's name: 1 to 64 of a-z, 0-9 and '-'.
func ParseTenant(s string) (Tenant, error) {
	if !IsName(s) {
		return "", errors.New("a tenant's name has 1 to 64 characters of a-z, 0-9 and -")
	}
	return Tenant(s), nil
}

// IsName reports whether s can name a tenant or a downstream:
// 1 to 64 characters of a-z, 0-9 and '-'.
func IsName(s string) bool {
	if len(s) == 0 || len(s) > 64 {
		return false
	}
	for i := 0; i < len(s); i++ {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return false
		}
	}
	return true
}

// Subject is the person or device, by an opaque pseudonymous id
// "namespace:value" of 3 to 256 characters of A-Z a-z 0-9 . _ ~ : @ = -
//
// Its String and LogValue are redacted, so that an id cannot reach a log or an
// error text by accident; string(s) is the id itself.
type Subject string

const (
	minSubjectBytes = 3
	maxSubjectBytes = 256
)

// Namespaces that the gateway makes itself out of raw identifiers.
const (
	NamespaceDevice    = "device"
	NamespaceEmailHMAC = "email-hmac"
	NamespacePhoneHMAC = "phone-hmac"
	NamespaceIDHMAC    = "id-hmac"
)

var (
	errSubjectLength = errors.New("a subject id has 3 to 256 characters")
	errSubjectChars  = errors.New("a subject id is made of A-Z a-z 0-9 . _ ~ : @ = -")
)

// ParseSubject checks length and alphabet. Whether the id is pseudonymous is a
// rule for grants: see [Subject.Pseudonymous].
func ParseSubject(s string) (Subject, error) {
	if len(s) < minSubjectBytes || len(s) > maxSubjectBytes {
		return "", errSubjectLength
	}
	for i := 0; i < len(s); i++ {
		if !isSubjectByte[s[i]] {
			return "", errSubjectChars
		}
	}
	return Subject(s), nil
}

// isSubjectByte tells whether a byte may stand in a subject.
var isSubjectByte = func() (is [256]bool) {
	for _, c := range "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._~:@=-" {
		is[c] = true
	}
	return is
}()

// Namespace gives what stands before the first colon, "" when there is none.
func (s Subject) Namespace() string {
	ns, _, ok := strings.Cut(string(s), ":")
	if !ok {
		return ""
	}
	return ns
}

// Pseudonymous reports whether s is well formed and no raw identifier: it has a
// namespace, its value has no '@' and is not '+' with 7 to 15 digits.
// Source: semantics.md, section 4, rule pseudonymous.
func (s Subject) Pseudonymous() bool {
	if _, err := ParseSubject(string(s)); err != nil {
		return false
	}
	ns, value, ok := strings.Cut(string(s), ":")
	return ok && ns != "" && value != "" && !strings.Contains(string(s), "@") && !IsPhoneNumber(value)
}

// IsPhoneNumber reports whether value is '+' followed by 7 to 15 digits (E.164).
func IsPhoneNumber(value string) bool {
	if len(value) < 8 || len(value) > 16 || value[0] != '+' {
		return false
	}
	for _, c := range []byte(value[1:]) {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

// String gives a redacted form: the namespace and a short hash. It is the same
// for the same id, so that log lines can be related, and cannot be turned back.
func (s Subject) String() string {
	if s == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(s))
	return s.Namespace() + ":#" + hex.EncodeToString(sum[:4])
}

// GoString redacts the id under %#v.
func (s Subject) GoString() string { return strconv.Quote(s.String()) }

// LogValue redacts the id in structured logs.
func (s Subject) LogValue() slog.Value { return slog.StringValue(s.String()) }

// Key is the Kafka key of every record about a subject: tenant|subject. It puts
// one subject's events into one partition and one order.
func Key(t Tenant, s Subject) []byte {
	return AppendKey(make([]byte, 0, len(t)+1+len(s)), t, s)
}

// AppendKey appends what Key gives.
func AppendKey(dst []byte, t Tenant, s Subject) []byte {
	dst = append(append(dst, t...), '|')
	return append(dst, s...)
}

// ParseKey takes a Kafka key apart.
func ParseKey(key []byte) (Tenant, Subject, error) {
	t, s, ok := strings.Cut(string(key), "|")
	if !ok {
		return "", "", errors.New("a record's key is tenant|subject")
	}
	tenant, err := ParseTenant(t)
	if err != nil {
		return "", "", err
	}
	subject, err := ParseSubject(s)
	return tenant, subject, err
}

// SubjectID tells States apart: a tenant's subject, whose test events fold into a
// State of their own.
type SubjectID struct {
	Tenant  Tenant
	Subject Subject
	Test    bool
}

// Key is the Kafka key of every record about the subject.
func (id SubjectID) Key() []byte { return Key(id.Tenant, id.Subject) }
