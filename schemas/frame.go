package schemas

import "encoding/binary"

// Fingerprints of the schemas as they stand, CRC-64-AVRO. A test derives each
// from its .avsc file and holds it against the value that fastavro computes.
const (
	eventFingerprint      uint64 = 0x7eea498598e86112
	stateFingerprint      uint64 = 0x191cc69514cd15bc
	changeFingerprint     uint64 = 0xf58c94bfc6559465
	deliveryFingerprint   uint64 = 0xc3c3ff4c4ac605e0
	deadLetterFingerprint uint64 = 0x3fc6b89f95d19633
)

const (
	marker0, marker1 = 0xC3, 0x01
	frameBytes       = 10
)

// appendFrame appends the ten bytes that name the schema.
func appendFrame(dst []byte, fingerprint uint64) []byte {
	return binary.LittleEndian.AppendUint64(append(dst, marker0, marker1), fingerprint)
}

// resolve tells from the first bytes which schema wrote the rest. It is the one
// place that knows framings.
func resolve(b []byte) (fingerprint uint64, body []byte, err error) {
	switch {
	case len(b) == 0:
		return 0, nil, &DecodeError{Code: CodeNoSchema, Reason: "the value is empty"}
	case b[0] == 0x00:
		return 0, nil, &DecodeError{Code: CodeNoSchema, Reason: "the value starts with a schema registry's prefix; this version reads single-object encoding (C3 01) only"}
	case b[0] != marker0 || (len(b) > 1 && b[1] != marker1):
		return 0, nil, &DecodeError{Code: CodeNoSchema, Reason: "the value does not start with C3 01"}
	case len(b) < frameBytes:
		return 0, nil, &DecodeError{Code: CodeTruncated, Reason: "the value ends before its schema's fingerprint does"}
	}
	return binary.LittleEndian.Uint64(b[2:]), b[frameBytes:], nil
}

// unframe gives the body of a value that must have been written with the schema
// of the wanted fingerprint.
func unframe(b []byte, want uint64) ([]byte, error) {
	if len(b) > MaxPayloadBytes {
		return nil, &DecodeError{Code: CodeTooLarge, Reason: "the value is over 1 MiB"}
	}
	got, body, err := resolve(b)
	if err != nil {
		return nil, err
	}
	if got == want {
		return body, nil
	}
	for _, name := range []struct {
		fingerprint uint64
		name        string
	}{
		{eventFingerprint, "ConsentEvent"},
		{stateFingerprint, "ConsentState"},
		{changeFingerprint, "ConsentChange"},
		{deliveryFingerprint, "DeliveryAttempt"},
		{deadLetterFingerprint, "DeadLetter"},
	} {
		if name.fingerprint == got {
			return nil, &DecodeError{Code: CodeNoSchema, Reason: "the value is a " + name.name + ", which does not belong here"}
		}
	}
	return nil, &DecodeError{Code: CodeNoSchema, Reason: "the value's fingerprint is of no schema that this version knows"}
}
