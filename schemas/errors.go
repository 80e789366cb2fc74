package schemas

// The codes of a [DecodeError] and an [EncodeError].
const (
	CodeNoSchema  = "no_schema" // bytes that no schema explains
	CodeTruncated = "truncated" // the bytes end, or a length says more than there is
	CodeTooLarge  = "too_large" // over a limit
	CodeTrailing  = "trailing"  // bytes follow the record
	CodeInvalid   = "invalid"   // a field holds what it may not hold
)

// DecodeError tells why bytes are not the record that was asked for. Its texts
// name fields and rules, never what was in them.
type DecodeError struct {
	Code   string
	Field  string // dotted, as in notice.id; empty where it is about the whole
	Reason string
}

func (e *DecodeError) Error() string { return faultText("decode", e.Code, e.Field, e.Reason) }

// EncodeError tells why a value cannot be written: the decoder would refuse it.
// Its codes are too_large and invalid.
type EncodeError struct {
	Code   string
	Field  string
	Reason string
}

func (e *EncodeError) Error() string { return faultText("encode", e.Code, e.Field, e.Reason) }

func faultText(what, code, field, reason string) string {
	if field != "" {
		what += " " + field
	}
	return what + ": " + code + ": " + reason
}
