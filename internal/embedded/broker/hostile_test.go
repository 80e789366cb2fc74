package broker

import (
	"io"
	"log/slog"
	"math"
	"math/rand/v2"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// hostile makes requests that are well-formed and senseless.
type hostile struct{ *rand.Rand }

func pick[T any](h hostile, of ...T) T { return of[h.IntN(len(of))] }

// fill sets every field below v to something a broker may not expect.
func (h hostile) fill(v reflect.Value) {
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(h.IntN(2) == 0)
	case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n := pick[int64](h, 0, 0, 0, 1, 2, -1, -2, 5000, math.MaxInt8, math.MaxInt16, math.MaxInt32, math.MaxInt64, math.MinInt64)
		if v.OverflowInt(n) {
			n = -1
		}
		v.SetInt(n)
	case reflect.Uint16, reflect.Uint32:
		v.SetUint(pick[uint64](h, 0, 1, math.MaxUint16))
	case reflect.Float64:
		v.SetFloat(pick(h, 0, 1, -1, math.Inf(1), math.NaN()))
	case reflect.String:
		v.SetString(pick(h, "", "events", "events", "g", "tx", "no such thing", "../../etc", "\x00"))
	case reflect.Pointer:
		if h.IntN(4) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			h.fill(v.Elem())
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes(pick(h, nil, []byte{}, []byte{0, 0, 0, 1}, rawBatch("x", nil), rawBatch("x", func(b *kmsg.RecordBatch) {
				b.ProducerID, b.ProducerEpoch, b.FirstSequence = pick[int64](h, 0, 1, -1), pick[int16](h, 0, 1), pick[int32](h, 0, 1, -1, math.MaxInt32)
				b.Attributes = pick[int16](h, 0, 0x10, 0x20, 0x01, 0x7fff)
			})))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), h.IntN(3), 3))
		for i := range v.Len() {
			h.fill(v.Index(i))
		}
	case reflect.Array:
		if h.IntN(2) == 0 {
			v.Index(0).SetUint(h.Uint64N(256))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && v.Type().Field(i).Name != "UnknownTags" {
				h.fill(v.Field(i))
			}
		}
	}
}

func (h hostile) request() []byte {
	req := kmsg.RequestForKey(int16(pick(h, served...)))
	h.fill(reflect.ValueOf(req).Elem())
	req.SetVersion(int16(h.IntN(int(newestVersions[req.Key()]) + 1)))
	return kmsg.NewRequestFormatter(kmsg.FormatterClientID("hostile")).AppendRequest(nil, req, 1)
}

// What passes the guard must not stop the engine: its panic ends the process,
// and this test with it.
func TestEngine_TakesWhateverTheGuardPasses(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	slog.Info("hostile requests", "seed", seed) // the log of a test is lost in a panic
	h := hostile{rand.New(rand.NewPCG(seed, 0))}
	b := openBroker(t, t.TempDir())
	createTopic(t, b.Addr(), "events", 2)
	for range 300 {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		var requests []byte
		for range 10 {
			requests = append(requests, h.request()...)
		}
		go func() { _, _ = conn.Write(requests) }()
		// Some requests wait for minutes by their nature, and are left alone.
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	if err := createTopicErr(t.Context(), b.Addr(), "after", 1); err != nil {
		t.Errorf("create a topic afterwards: %v; health %v", err, b.Health())
	}
}
