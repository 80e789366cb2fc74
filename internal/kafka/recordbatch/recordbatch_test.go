package recordbatch

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func sample(n int) []Record {
	at := time.UnixMilli(1_760_000_000_123).UTC()
	var out []Record
	for i := range n {
		r := Record{
			Offset: int64(i),
			Time:   at.Add(time.Duration(i*7-20) * time.Millisecond), // the second is older than the first
			Key:    fmt.Appendf(nil, "default|user:%d", i),
			Value:  bytes.Repeat([]byte{byte(i)}, i*37%900),
		}
		switch i % 4 {
		case 1:
			r.Key = nil
		case 2:
			r.Value = nil
		case 3:
			r.Headers = []Header{{Key: "ce_id", Value: []byte{1, 2}}, {Key: "tenant", Value: nil}}
		}
		out = append(out, r)
	}
	return out
}

func encode(rs []Record, s Sender) []byte {
	var w Writer
	w.Reset(nil)
	for _, r := range rs {
		w.Add(r.Time.UnixMilli(), r.Key, r.Value, r.Headers)
	}
	return w.Finish(s)
}

func decode(t testing.TB, d *Decoder, p []byte) []Record {
	t.Helper()
	b, rest, err := Next(p)
	if err != nil || len(rest) != 0 {
		t.Fatalf("Next: %v, %d bytes left", err, len(rest))
	}
	it, err := d.Records(&b)
	if err != nil {
		t.Fatal(err)
	}
	var out []Record
	var r Record
	for it.Next(&r) {
		out = append(out, r)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return out
}

func requireEqual(t testing.TB, got, want []Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range want {
		g, w := got[i], want[i]
		if g.Offset != w.Offset || !g.Time.Equal(w.Time) || !sameBlob(g.Key, w.Key) || !sameBlob(g.Value, w.Value) || len(g.Headers) != len(w.Headers) {
			t.Fatalf("record %d: %+v, want %+v", i, g, w)
		}
		for j := range w.Headers {
			if g.Headers[j].Key != w.Headers[j].Key || !sameBlob(g.Headers[j].Value, w.Headers[j].Value) {
				t.Fatalf("record %d header %d: %+v, want %+v", i, j, g.Headers[j], w.Headers[j])
			}
		}
	}
}

// sameBlob tells null from empty.
func sameBlob(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func TestWriter_RoundTripsNullsHeadersAndTimesThatGoBack(t *testing.T) {
	want := sample(300)
	requireEqual(t, decode(t, new(Decoder), encode(want, Sender{ID: -1, Epoch: -1, Sequence: -1})), want)
}

func TestWriter_ReusesMemoryWithoutLeavingTracesOfTheLastBatch(t *testing.T) {
	var w Writer
	w.Reset(nil)
	for _, r := range sample(50) {
		w.Add(r.Time.UnixMilli(), r.Key, r.Value, r.Headers)
	}
	first := w.Finish(Sender{ID: 9, Epoch: 2, Sequence: 77, Transactional: true})
	w.Reset(first)
	for _, r := range sample(3) {
		w.Add(r.Time.UnixMilli(), r.Key, r.Value, r.Headers)
	}
	s := Sender{ID: 5, Sequence: 1}
	if got, want := w.Finish(s), encode(sample(3), s); !bytes.Equal(got, want) {
		t.Fatal("a reused writer gives other bytes than a fresh one")
	}
}

// An independent implementation reads the same fields and records.
func TestWriter_IsReadByAnotherImplementation(t *testing.T) {
	want := sample(40)
	p := encode(want, Sender{ID: 4711, Epoch: 3, Sequence: 99, Transactional: true})
	var b kmsg.RecordBatch
	if err := b.ReadFrom(p); err != nil {
		t.Fatal(err)
	}
	if b.ProducerID != 4711 || b.ProducerEpoch != 3 || b.FirstSequence != 99 || b.Attributes != 0x10 ||
		b.NumRecords != 40 || b.LastOffsetDelta != 39 || b.Magic != 2 || int(b.Length) != len(p)-12 {
		t.Fatalf("header %+v", b)
	}
	if b.FirstTimestamp != want[0].Time.UnixMilli() || b.MaxTimestamp != want[39].Time.UnixMilli() {
		t.Fatalf("times %d to %d", b.FirstTimestamp, b.MaxTimestamp)
	}
	rest := b.Records
	for i := range want {
		size, n := binary.Varint(rest)
		var r kmsg.Record
		if err := r.ReadFrom(rest[:n+int(size)]); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		rest = rest[n+int(size):]
		if !bytes.Equal(r.Key, want[i].Key) || !bytes.Equal(r.Value, want[i].Value) || len(r.Headers) != len(want[i].Headers) || int(r.OffsetDelta) != i {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
	if len(rest) != 0 {
		t.Fatalf("%d bytes left", len(rest))
	}
}

func TestMaxRecordBytes_IsNeverLessThanWhatAddAppends(t *testing.T) {
	var w Writer
	for _, r := range sample(200) {
		w.Reset(w.buf)
		w.Add(0, nil, nil, nil)
		before := len(w.buf)
		w.Add(math.MaxInt64/2, r.Key, r.Value, r.Headers)
		if got, bound := len(w.buf)-before, MaxRecordBytes(r.Key, r.Value, r.Headers); got > bound {
			t.Fatalf("record of %d bytes, bound %d", got, bound)
		}
	}
}

func TestAdvanceSequence_WrapsToZero(t *testing.T) {
	for _, c := range []struct {
		from  int32
		count int
		want  int32
	}{{0, 3, 3}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 3, 1}} {
		if got := AdvanceSequence(c.from, c.count); got != c.want {
			t.Errorf("%d + %d = %d, want %d", c.from, c.count, got, c.want)
		}
	}
}

// repack sets attributes and records of an encoded batch and mends length and checksum.
func repack(p []byte, attributes uint16, records []byte) []byte {
	out := append(bytes.Clone(p[:HeaderBytes]), records...)
	binary.BigEndian.PutUint32(out[atLength:], uint32(len(out)-atLeaderEpoch))
	binary.BigEndian.PutUint16(out[atAttributes:], attributes)
	binary.BigEndian.PutUint32(out[atCRC:], crc32.Checksum(out[atAttributes:], castagnoli))
	return out
}

func compressed(t testing.TB, codec uint16, p []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	switch codec {
	case codecGzip:
		w := gzip.NewWriter(&out)
		w.Write(p)
		w.Close()
	case codecSnappy:
		out.Write(s2.EncodeSnappy(nil, p))
	case codecLZ4:
		w := lz4.NewWriter(&out)
		w.Write(p)
		w.Close()
	case codecZstd:
		w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(p, nil)
	}
	return out.Bytes()
}

func TestDecoder_InflatesEveryCodecAndKeepsWhatItGaveUntilReset(t *testing.T) {
	want := sample(500)
	plain := encode(want, Sender{ID: 1})
	var d Decoder
	var kept [][]Record
	for round := range 3 { // the arena moves meanwhile
		for codec := uint16(0); codec <= codecZstd; codec++ {
			got := decode(t, &d, repack(plain, codec, func() []byte {
				if codec == codecNone {
					return plain[HeaderBytes:]
				}
				return compressed(t, codec, plain[HeaderBytes:])
			}()))
			requireEqual(t, got, want)
			kept = append(kept, got)
		}
		_ = round
	}
	for _, got := range kept {
		requireEqual(t, got, want)
	}
	d.Reset()
	requireEqual(t, decode(t, &d, plain), want)
}

func TestDecoder_ReadsXerialFramedSnappy(t *testing.T) {
	want := sample(20)
	plain := encode(want, Sender{ID: 1})
	framed := append(bytes.Clone(xerialMagic), 0, 0, 0, 1, 0, 0, 0, 1)
	for p := plain[HeaderBytes:]; len(p) > 0; {
		n := min(700, len(p))
		block := s2.EncodeSnappy(nil, p[:n])
		framed = binary.BigEndian.AppendUint32(framed, uint32(len(block)))
		framed = append(framed, block...)
		p = p[n:]
	}
	requireEqual(t, decode(t, new(Decoder), repack(plain, codecSnappy, framed)), want)
}

func TestDecoder_TakesTheBrokersTimeWhereTheTopicIsOnLogAppendTime(t *testing.T) {
	plain := encode(sample(5), Sender{ID: 1})
	binary.BigEndian.PutUint64(plain[atMaxTime:], 1_800_000_000_000)
	for _, r := range decode(t, new(Decoder), repack(plain, attrLogAppendTime, plain[HeaderBytes:])) {
		if got := r.Time.UnixMilli(); got != 1_800_000_000_000 {
			t.Fatalf("record at %d", got)
		}
	}
}

func TestDecoder_TellsAbortFromCommit(t *testing.T) {
	for _, kind := range []byte{0, 1} {
		p := encode([]Record{{Time: time.UnixMilli(1), Key: []byte{0, 0, 0, kind}, Value: make([]byte, 6)}}, Sender{ID: 1})
		b, _, err := Next(repack(p, attrControl|attrTransactional, p[HeaderBytes:]))
		if err != nil || !b.Control() || !b.Transactional() {
			t.Fatalf("%+v, %v", b, err)
		}
		aborts, err := new(Decoder).Aborts(&b)
		if err != nil || aborts != (kind == 0) {
			t.Fatalf("type %d: aborts %v, %v", kind, aborts, err)
		}
	}
}

func TestNext_TellsCutOffFromCorrupt(t *testing.T) {
	p := encode(sample(10), Sender{ID: 1})
	for n := range p {
		if _, _, err := Next(p[:n]); !errors.Is(err, ErrPartial) {
			t.Fatalf("%d of %d bytes: %v", n, len(p), err)
		}
	}
	for at := atMagic; at < len(p); at++ { // before it stands what the broker rewrites
		q := bytes.Clone(p)
		q[at] ^= 0x10
		if _, _, err := Next(q); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("byte %d flipped: %v", at, err)
		}
	}
}

// With a right checksum, so that the decoder itself has to notice.
func TestDecoder_RefusesBombs(t *testing.T) {
	plain := encode(sample(4), Sender{ID: 1})
	huge := bytes.Repeat([]byte{0}, MaxInflatedBytes+1)
	declares := binary.AppendUvarint(nil, MaxInflatedBytes)
	for name, p := range map[string][]byte{
		"gzip":             repack(plain, codecGzip, compressed(t, codecGzip, huge)),
		"lz4":              repack(plain, codecLZ4, compressed(t, codecLZ4, huge)),
		"zstd":             repack(plain, codecZstd, compressed(t, codecZstd, huge)),
		"snappy":           repack(plain, codecSnappy, compressed(t, codecSnappy, huge)),
		"snappy declares":  repack(plain, codecSnappy, append(declares, 0, 1, 2, 3)),
		"unknown codec":    repack(plain, 7, plain[HeaderBytes:]),
		"bytes after":      repack(plain, 0, append(bytes.Clone(plain[HeaderBytes:]), 0)),
		"not enough bytes": repack(plain, 0, []byte{2, 0}),
	} {
		b, _, err := Next(p)
		if err == nil {
			var it Iterator
			if it, err = new(Decoder).Records(&b); err == nil {
				var r Record
				for it.Next(&r) {
				}
				err = it.Err()
			}
		}
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDecoder_NeverPanics(f *testing.F) {
	plain := encode(sample(12), Sender{ID: 1})
	for codec := uint16(0); codec <= codecZstd; codec++ {
		f.Add(codec, plain[HeaderBytes:])
		if codec != codecNone {
			f.Add(codec, compressed(f, codec, plain[HeaderBytes:]))
		}
	}
	f.Fuzz(func(t *testing.T, attributes uint16, records []byte) {
		b, _, err := Next(repack(plain, attributes, records))
		if err != nil {
			return
		}
		var d Decoder
		it, err := d.Records(&b)
		if err != nil {
			return
		}
		var r Record
		n := 0
		for it.Next(&r) {
			n++
		}
		if n > int(b.Count) {
			t.Fatalf("%d records from a batch of %d", n, b.Count)
		}
	})
}

func TestDecoder_SurvivesRandomDamageBehindARightChecksum(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 1))
	plain := encode(sample(30), Sender{ID: 1})
	for range 20_000 {
		records := bytes.Clone(plain[HeaderBytes:])
		for range 1 + rng.IntN(4) {
			records[rng.IntN(len(records))] = byte(rng.Uint32())
		}
		b, _, err := Next(repack(plain, 0, records[:1+rng.IntN(len(records))]))
		if err != nil {
			t.Fatal(err)
		}
		it, err := new(Decoder).Records(&b)
		if err != nil {
			continue
		}
		var r Record
		for it.Next(&r) {
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	rs := sample(1000)
	var w Writer
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		w.Reset(buf)
		for i := range rs {
			w.Add(rs[i].Time.UnixMilli(), rs[i].Key, rs[i].Value, rs[i].Headers)
		}
		buf = w.Finish(Sender{ID: 1})
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(rs)), "ns/record")
}

func BenchmarkDecoder(b *testing.B) {
	p := encode(sample(1000), Sender{ID: 1})
	var d Decoder
	b.ReportAllocs()
	for b.Loop() {
		d.Reset()
		batch, _, err := Next(p)
		if err != nil {
			b.Fatal(err)
		}
		it, err := d.Records(&batch)
		if err != nil {
			b.Fatal(err)
		}
		var r Record
		for it.Next(&r) {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*1000), "ns/record")
}
