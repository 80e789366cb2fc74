package schemas

import "testing"

func BenchmarkEncodeEvent(b *testing.B) {
	e := typicalEvent()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = EncodeEvent(buf[:0], &e); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeEvent(b *testing.B) {
	e := typicalEvent()
	buf, err := EncodeEvent(nil, &e)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeEvent(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeState(b *testing.B) {
	r := goldenRow()
	buf, err := EncodeState(nil, &r)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeState(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeState(b *testing.B) {
	r := goldenRow()
	buf := make([]byte, 0, 2048)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = EncodeState(buf[:0], &r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeChange(b *testing.B) {
	c := goldenChange()
	buf := make([]byte, 0, 1024)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = EncodeChange(buf[:0], &c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeChange(b *testing.B) {
	c := goldenChange()
	buf, err := EncodeChange(nil, &c)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := DecodeChange(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEventClaims(b *testing.B) {
	e := typicalEvent()
	b.ReportAllocs()
	for b.Loop() {
		_ = EventClaims(&e)
	}
}
