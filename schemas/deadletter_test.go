package schemas

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestDeadLetter_CanHoldAnyRecord(t *testing.T) {
	big := bytes.Repeat([]byte{0xff}, MaxPayloadBytes)
	var headers []Header
	for range 50_000 {
		headers = append(headers, Header{Key: "\xff\xfe", Value: []byte("x")})
	}
	l := DeadLetter{
		Topic: "consent.intake", Offset: 7, Code: strings.Repeat("\xff", 10_000), Reason: strings.Repeat("ü", 10_000),
		Key: big, Value: big, Headers: headers,
	}
	b, err := EncodeDeadLetter(nil, &l)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > MaxPayloadBytes {
		t.Fatalf("%d bytes are over what a topic takes", len(b))
	}
	got, err := DecodeDeadLetter(b)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Partial || len(got.Value) != keptValueBytes || len(got.Key) != keptKeyBytes || len(got.Headers) == 0 {
		t.Fatalf("partial %v, value %d, key %d, headers %d", got.Partial, len(got.Value), len(got.Key), len(got.Headers))
	}
	if !utf8.ValidString(got.Code) || !utf8.ValidString(got.Reason) || got.Headers[0].Key != "\uFFFD" {
		t.Fatalf("texts: %q", got.Headers[0].Key)
	}
	if l.Partial || len(l.Value) != len(big) || len(l.Headers) != len(headers) || l.Headers[0].Key != "\xff\xfe" {
		t.Fatal("the caller's dead letter was changed")
	}
}

func TestDeadLetter_TellsANullValueFromAnEmptyOne(t *testing.T) {
	for _, value := range [][]byte{nil, {}} {
		b, err := EncodeDeadLetter(nil, &DeadLetter{Topic: "t", Code: "c", Value: value})
		if err != nil {
			t.Fatal(err)
		}
		got, err := DecodeDeadLetter(b)
		if err != nil || (got.Value == nil) != (value == nil) || got.Partial {
			t.Fatalf("%v came back as %v, %v", value, got.Value, err)
		}
	}
}
