package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/logtest"
)

// frame is a request of size bytes behind its size field, or of the size that
// says says, when that is not 0.
func frame(key, version int16, says int32, body ...byte) []byte {
	out := make([]byte, 4, 12+len(body))
	out = binary.BigEndian.AppendUint16(out, uint16(key))
	out = binary.BigEndian.AppendUint16(out, uint16(version))
	out = append(out, 0, 0, 0, 7)
	out = append(out, body...)
	if says == 0 {
		says = int32(len(out) - 4)
	}
	binary.BigEndian.PutUint32(out, uint32(says))
	return out
}

func TestGuard_DropsTheConnectionThatSendsWhatTheEngineCannotTakeAndNoOther(t *testing.T) {
	var log logtest.Buffer
	b := openBroker(t, t.TempDir(), func(o *Options) { o.Logger = log.Logger() })
	createTopic(t, b.Addr(), "events", 1)
	c := client(t, b.Addr())
	produce(t, c, "events", 0, "k", "before")
	for name, bytes := range map[string][]byte{
		"unknown api key":    frame(9999, 0, 0, 0xff, 0xff, 0, 0),
		"negative api key":   frame(-1, 0, 0, 0xff, 0xff),
		"key with a gap":     frame(kmsg.MaxKey+1, 0, 0, 0xff, 0xff),
		"a key not served":   frame(int16(kmsg.DeleteRecords), 0, 0, 0xff, 0xff),
		"version too new":    frame(int16(kmsg.Fetch), 500, 0, 0xff, 0xff),
		"negative version":   frame(int16(kmsg.ApiVersions), -1, 0, 0xff, 0xff),
		"over 100 MiB":       frame(int16(kmsg.Produce), 8, 100<<20+1),
		"negative size":      {0xff, 0xff, 0xff, 0xff},
		"size 0":             {0, 0, 0, 0},
		"no correlation id":  {0, 0, 0, 7, 0, 0, 0, 0},
		"a line of http":     []byte("GET / HTTP/1.1\r\n\r\n"),
		"behind a good one":  append(frame(int16(kmsg.ApiVersions), 0, 0, 0xff, 0xff), frame(9999, 0, 0, 0xff, 0xff)...),
		"a TLS client hello": {0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03},
	} {
		conn, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(bytes); err != nil {
			t.Fatal(err)
		}
		if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection is still open", name)
		}
		conn.Close()
	}
	produce(t, c, "events", 0, "k", "after") // over the connection of before
	if got := values(readAll(t, b.Addr(), "events", 0)); got != "before after" {
		t.Errorf("events = %q", got)
	}
	if got := strings.Count(log.String(), "dropped a kafka connection"); got != 13 {
		t.Errorf("%d drops were logged, want 13: %s", got, log.String())
	}
}

// joiner is a member of a group with one topic, of which there is nothing.
type joiner struct {
	testing.TB
	c          *kgo.Client
	id         string
	generation int32
}

func (j *joiner) join(ctx context.Context) (*kmsg.JoinGroupResponse, error) {
	join := kmsg.NewPtrJoinGroupRequest()
	join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = "g", "consumer", 1000, 30000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name = "range"
	join.Protocols, join.MemberID = append(join.Protocols, protocol), j.id
	joined, err := join.RequestWith(ctx, j.c)
	if err == nil {
		j.id, j.generation = joined.MemberID, joined.Generation
	}
	return joined, err
}

func (j *joiner) sync() {
	j.Helper()
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation = "g", j.id, j.generation
	if synced, err := sync.RequestWith(j.Context(), j.c); err != nil || synced.ErrorCode != 0 {
		j.Fatalf("sync: %v, error %d", err, synced.ErrorCode)
	}
}

func (j *joiner) heartbeat() error {
	j.Helper()
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = "g", j.id, j.generation
	answer, err := beat.RequestWith(j.Context(), j.c)
	if err != nil {
		j.Fatal(err)
	}
	return kerr.ErrorForCode(answer.ErrorCode)
}

// A process that is killed while it waits in a join is no member for ever. There are some
// of them, since the engine tosses a coin over whom it cannot answer.
func TestGuard_WhoEndsWhileItJoinsIsMissedWhenItsSessionIsOver(t *testing.T) {
	engine, err := kfake.NewCluster(append(Guarded(), kfake.NumBrokers(1), kfake.GroupMinSessionTimeout(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(engine.Close)
	joiners := make([]*joiner, 11)
	for i := range joiners {
		joiners[i] = &joiner{TB: t, c: client(t, engine.ListenAddrs()[0])}
		if joined, err := joiners[i].join(t.Context()); err != nil || joined.ErrorCode != kerr.MemberIDRequired.Code {
			t.Fatalf("the first join: %v, error %d", err, joined.ErrorCode)
		}
	}
	stays, others := joiners[0], joiners[1:]
	if joined, err := stays.join(t.Context()); err != nil || joined.ErrorCode != 0 {
		t.Fatalf("join: %v, error %d", err, joined.ErrorCode)
	}
	stays.sync()

	waiting, kill := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	for _, j := range others {
		ended.Go(func() { _, _ = j.join(waiting) })
	}
	for joined := 0; joined < len(joiners); time.Sleep(10 * time.Millisecond) {
		described, err := stays.c.Request(t.Context(), describeGroup("g"))
		if err != nil {
			t.Fatal(err)
		}
		joined = len(described.(*kmsg.DescribeGroupsResponse).Groups[0].Members)
		_ = stays.heartbeat() // it lives
	}
	kill()
	ended.Wait()
	for _, j := range others {
		j.c.Close()
	}
	time.Sleep(100 * time.Millisecond) // the engine hears of it
	joined, err := stays.join(t.Context())
	if err != nil || joined.ErrorCode != 0 || len(joined.Members) != len(joiners) || joined.LeaderID != stays.id {
		t.Fatalf("the second generation: %v, %+v", err, joined)
	}
	stays.sync()
	for until := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		switch err := stays.heartbeat(); {
		case errors.Is(err, kerr.RebalanceInProgress):
			if joined, err = stays.join(t.Context()); err != nil || joined.ErrorCode != 0 {
				t.Fatalf("a later generation: %v, %+v", err, joined)
			}
			if stays.sync(); len(joined.Members) == 1 {
				return
			}
		case err != nil || time.Now().After(until):
			t.Fatalf("%d members that are gone are still there; heartbeat: %v", len(joined.Members)-1, err)
		}
	}
}

func describeGroup(group string) *kmsg.DescribeGroupsRequest {
	req := kmsg.NewPtrDescribeGroupsRequest()
	req.Groups = append(req.Groups, group)
	return req
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// stream is a connection that delivers what it was given.
type stream struct {
	net.Conn
	in     io.Reader
	closed bool
}

func (s *stream) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s *stream) Write(p []byte) (int, error) { return len(p), nil }
func (s *stream) Close() error                { s.closed = true; return nil }
func (s *stream) RemoteAddr() net.Addr        { return &net.TCPAddr{} }

// passed reads through the guard as the engine does: a size, then a body, which it answers.
func passed(in io.Reader) (frames [][]byte, conn *stream, err error) {
	conn = &stream{in: in}
	guard := newGuardConn(conn, slog.New(slog.DiscardHandler))
	for {
		size := make([]byte, 4)
		if _, err := io.ReadFull(guard, size); err != nil {
			return frames, conn, err
		}
		body := make([]byte, binary.BigEndian.Uint32(size))
		if _, err := io.ReadFull(guard, body); err != nil {
			return frames, conn, err
		}
		frames = append(frames, append(size, body...))
		_, _ = guard.Write(nil)
	}
}

func TestGuard_PassesGoodRequestsByteForByteHoweverTheyArrive(t *testing.T) {
	in := append(frame(18, 3, 0), frame(0, 8, 0, bytes.Repeat([]byte{1, 2, 3}, 5000)...)...)
	in = append(in, frame(18, 999, 0, 0xff, 0xff)...) // a client newer than we are may ask
	for name, reader := range map[string]io.Reader{
		"at once":    bytes.NewReader(in),
		"bytes":      iotest.OneByteReader(bytes.NewReader(in)),
		"halves":     iotest.HalfReader(bytes.NewReader(in)),
		"with error": iotest.DataErrReader(bytes.NewReader(in)),
	} {
		frames, _, err := passed(reader)
		if !errors.Is(err, io.EOF) || len(frames) != 3 || !bytes.Equal(bytes.Join(frames, nil), in) {
			t.Errorf("%s: %d frames, %v", name, len(frames), err)
		}
	}
}

func FuzzGuard_LetsOnlyKnownRequestsThrough(f *testing.F) {
	f.Add(frame(0, 8, 0, 1, 2, 3), false)
	f.Add(frame(9999, 0, 0), true)
	f.Add(append(frame(18, 3, 0), frame(3, 1, -1)...), true)
	f.Add([]byte{0, 0, 0}, false)
	f.Add([]byte{0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 0}, false)
	f.Fuzz(func(t *testing.T, in []byte, slowly bool) {
		var reader io.Reader = bytes.NewReader(in)
		if slowly {
			reader = iotest.OneByteReader(reader)
		}
		frames, conn, err := passed(reader)
		if !bytes.HasPrefix(in, bytes.Join(frames, nil)) {
			t.Fatal("what passed is not what was sent")
		}
		for _, frame := range frames {
			key, version := int16(binary.BigEndian.Uint16(frame[4:])), int16(binary.BigEndian.Uint16(frame[6:]))
			if !slices.Contains(served, kmsg.Key(key)) || version < 0 || version > kmsg.RequestForKey(key).MaxVersion() && key != 18 || len(frame) < 12 {
				t.Fatalf("a request of key %d, version %d, %d bytes passed", key, version, len(frame))
			}
		}
		if errors.Is(err, errFrame) != conn.closed {
			t.Fatalf("closed is %v after %v", conn.closed, err)
		}
	})
}
