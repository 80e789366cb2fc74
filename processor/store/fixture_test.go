package store

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
)

// sample makes rows of the size and grain of consent.state: keys of about 60 bytes, nine
// rows a subject, values that repeat some words (a purpose, a notice, a policy's hash) and
// have ids and times of their own.
type sample struct {
	rng   *rand.Rand
	value int // bytes of a value
}

var samplePurposes = []string{"*", "analytics", "ads.personalisation", "ads.measurement", "email.newsletter",
	"email.offers", "sms.offers", "profiling", "partners.sharing"}

func newSample(seed uint64, value int) *sample {
	return &sample{rng: rand.New(rand.NewPCG(seed, 1)), value: value}
}

func sampleKey(row int64) []byte {
	subject, purpose := row/int64(len(samplePurposes)), samplePurposes[row%int64(len(samplePurposes))]
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], uint64(subject)*0x9E3779B97F4A7C15)
	binary.BigEndian.PutUint64(id[8:], uint64(subject)*0xD6E8FEB86659FD93)
	return fmt.Appendf(nil, "acme|user:%s|%s", hex.EncodeToString(id[:]), purpose)
}

func (s *sample) row(row int64) Row {
	v := make([]byte, 0, s.value)
	v = append(v, "\xc3\x01schema..\x08acme\x02\x14analytics\x00\x02"...)
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64()) // event id
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64())
	v = binary.LittleEndian.AppendUint64(v, uint64(1_790_000_000_000+s.rng.Int64N(1e9))) // times
	v = binary.LittleEndian.AppendUint64(v, uint64(1_790_000_000_000+s.rng.Int64N(1e9)))
	v = append(v, "privacy-notice-eu\x0e2026-03"...)
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64()) // digest of the event
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64())
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64())
	v = binary.BigEndian.AppendUint64(v, s.rng.Uint64())
	v = append(v, "8f434346648f6b96df89dda901c5176b10a6d83961dd3c1ac88b59b2dc327aa4opt_in\x04DE"...)
	for len(v) < s.value {
		v = append(v, byte(s.rng.Uint32()&7), 0)
	}
	return Row{Key: sampleKey(row), Value: v[:s.value]}
}

func (s *sample) rows(from, n int64) []Row {
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = s.row(from + int64(i))
	}
	return rows
}

// shuffled lays rows out as fetches bring them: one behind the other in the order of
// the log, which has nothing to do with their keys.
func (s *sample) shuffled(n int64) []Row {
	order := make([]int64, n)
	for i := range order {
		order[i] = int64(i)
	}
	s.rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	rows := make([]Row, 0, n)
	arena := make([]byte, 0, n*int64(s.value+72))
	for _, row := range order {
		r := s.row(row)
		at := len(arena)
		arena = append(append(arena, r.Key...), r.Value...)
		mid := at + len(r.Key)
		rows = append(rows, Row{Key: arena[at:mid:mid], Value: arena[mid:len(arena):len(arena)]})
	}
	return rows
}

func openPartition(tb testing.TB, o Options) (*Store, *Partition) {
	tb.Helper()
	s, err := Open(o)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := s.Close(); err != nil {
			tb.Error(err)
		}
	})
	p, err := s.Partition(0)
	if err != nil {
		tb.Fatal(err)
	}
	return s, p
}
