package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Every request is a message of our own making that travels over kafka-go's connections.
// kafka-go's types lack what we need: idempotent batches, several partitions in a Fetch,
// stable offsets, heartbeats that go to the coordinator.

// requestVersions pins each request to one version that Apache Kafka 2.8 to 4.x and the
// embedded broker speak. Ping checks them against what the broker offers.
//
// Produce under 12, AddPartitionsToTxn under 4, EndTxn under 5 and TxnOffsetCommit under
// 5 speak the older protocol of transactions: partitions and groups are added before
// they are written to, and the epoch stays the same from one transaction to the next.
var requestVersions = map[int16]int16{
	kmsg.Produce.Int16():                 8,
	kmsg.Fetch.Int16():                   11,
	kmsg.ListOffsets.Int16():             5,
	kmsg.Metadata.Int16():                10, // the first with ids of topics
	kmsg.OffsetCommit.Int16():            7,
	kmsg.OffsetFetch.Int16():             7, // the first that can ask for stable offsets
	kmsg.FindCoordinator.Int16():         2,
	kmsg.JoinGroup.Int16():               5,
	kmsg.Heartbeat.Int16():               3,
	kmsg.LeaveGroup.Int16():              3,
	kmsg.SyncGroup.Int16():               3,
	kmsg.ApiVersions.Int16():             0,
	kmsg.CreateTopics.Int16():            4,
	kmsg.InitProducerID.Int16():          3,
	kmsg.AddPartitionsToTxn.Int16():      3,
	kmsg.AddOffsetsToTxn.Int16():         3,
	kmsg.EndTxn.Int16():                  3,
	kmsg.TxnOffsetCommit.Int16():         3, // the first with generation and member id
	kmsg.DescribeConfigs.Int16():         2,
	kmsg.IncrementalAlterConfigs.Int16(): 0,
}

// Destinations that are not the id of a broker.
const (
	anyBroker  int32 = -1
	controller int32 = -2
)

// slowAnswer is how long a request without an answer says nothing, beside the time that a
// broker may hold it on purpose. Whoever waits for it may be held up for far longer, and
// go on at last as if nothing had been.
const slowAnswer = 3 * time.Second

// maxAnswerBytes bounds an answer: a larger size is a broken stream, not data.
const maxAnswerBytes = 512 << 20

var errNoSuchBroker = errors.New("broker is not known yet")

// unsentError wraps the error of a request that was never written to a connection.
type unsentError struct{ err error }

func (e *unsentError) Error() string { return "not sent: " + e.err.Error() }
func (e *unsentError) Unwrap() error { return e.err }

// States of an exchange. Whoever moves it from waiting decides: the connection's
// goroutine by starting to write, the caller by giving up.
const (
	exchangeWaiting int32 = iota
	exchangeSent
	exchangeAbandoned
)

// exchange is one request and its answer. After an error the connection's goroutine may
// still be reading into answer: nothing of an exchange that failed is used again.
type exchange struct {
	key         int16
	correlation int32
	flexible    bool // the answer's header carries tags
	frame       []byte
	answer      []byte
	state       atomic.Int32
}

// ApiKey implements protocol.Message.
//
//nolint:staticcheck // the library's spelling
func (x *exchange) ApiKey() protocol.ApiKey { return protocol.ApiKey(x.key) }

// Required implements protocol.RawExchanger: always our own bytes.
func (x *exchange) Required(map[protocol.ApiKey]int16) bool { return true }

// RawExchange implements protocol.RawExchanger. The connection has the context's deadline.
func (x *exchange) RawExchange(rw io.ReadWriter) (protocol.Message, error) {
	if !x.state.CompareAndSwap(exchangeWaiting, exchangeSent) {
		return nil, context.Canceled
	}
	if _, err := rw.Write(x.frame); err != nil {
		return nil, err
	}
	var head [8]byte
	if _, err := io.ReadFull(rw, head[:]); err != nil {
		return nil, noCleanEOF(err)
	}
	size := int64(int32(binary.BigEndian.Uint32(head[:]))) - 4
	if size < 0 || size > maxAnswerBytes {
		return nil, fmt.Errorf("answer of %d bytes", size)
	}
	if got := int32(binary.BigEndian.Uint32(head[4:])); got != x.correlation {
		return nil, fmt.Errorf("answer to request %d, want %d", got, x.correlation)
	}
	if int64(cap(x.answer)) < size {
		x.answer = make([]byte, size)
	}
	x.answer = x.answer[:size]
	if _, err := io.ReadFull(rw, x.answer); err != nil {
		return nil, noCleanEOF(err)
	}
	return x, nil
}

// body returns the answer after its header.
func (x *exchange) body() ([]byte, error) {
	if !x.flexible {
		return x.answer, nil
	}
	if len(x.answer) == 0 || x.answer[0] != 0 {
		return nil, errors.New("answer with unknown header tags")
	}
	return x.answer[1:], nil
}

func noCleanEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// routedExchange goes to one broker. An exchange without a route goes to any.
type routedExchange struct {
	*exchange
	to int32
}

// Broker implements protocol.BrokerMessage.
func (x routedExchange) Broker(cluster protocol.Cluster) (protocol.Broker, error) {
	id := x.to
	if id == controller {
		id = cluster.Controller
	}
	broker, ok := cluster.Brokers[id]
	if !ok {
		return protocol.Broker{}, fmt.Errorf("%w: id %d", errNoSuchBroker, id)
	}
	return broker, nil
}

// frames holds request buffers between uses.
var frames = sync.Pool{New: func() any { return new([]byte) }}

// send exchanges one request and decodes its answer into resp. It takes the client's
// request time-out plus wait at most, which is how long the broker may hold the request on purpose.
func (c *Client) send(ctx context.Context, to int32, wait time.Duration, req kmsg.Request, resp kmsg.Response) error {
	_, err := c.sendInto(ctx, to, wait, req, resp, nil)
	return err
}

// sendInto is send with a buffer for the answer, which resp's byte slices alias. It
// returns the buffer that was used in the end; after an error the given one is lost.
func (c *Client) sendInto(ctx context.Context, to int32, wait time.Duration, req kmsg.Request, resp kmsg.Response, buf []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.RequestTimeout+wait)
	defer cancel()
	version := requestVersions[req.Key()]
	req.SetVersion(version)
	resp.SetVersion(version)

	frame := frames.Get().(*[]byte)
	x := &exchange{
		key:         req.Key(),
		correlation: c.correlation.Add(1),
		flexible:    req.IsFlexible(),
		answer:      buf,
	}
	x.frame = c.formatter.AppendRequest((*frame)[:0], req, x.correlation)

	var message protocol.Message = x
	if to != anyBroker {
		message = routedExchange{x, to}
	}
	slow := time.AfterFunc(slowAnswer+wait, func() {
		c.log.Warn("kafka does not answer", "request", kmsg.NameForKey(req.Key()), "broker", to, "for", slowAnswer+wait)
	})
	defer slow.Stop()
	if err := c.roundTrip(ctx, message); err != nil {
		name := kmsg.NameForKey(req.Key())
		if x.state.CompareAndSwap(exchangeWaiting, exchangeAbandoned) {
			err = &unsentError{err}
		} else if errors.Is(err, ErrClosed) {
			err = fmt.Errorf("%w: %w", ErrIndefinite, err) // it may have arrived
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	*frame = x.frame
	frames.Put(frame)

	body, err := x.body()
	if err == nil {
		err = resp.ReadFrom(body)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: decode answer: %w", kmsg.NameForKey(req.Key()), err)
	}
	return x.answer, nil
}

func (c *Client) roundTrip(ctx context.Context, message protocol.Message) error {
	if c.ctx.Err() != nil {
		return ErrClosed
	}
	_, err := c.transport.RoundTrip(ctx, c.bootstrap, message)
	if err == nil {
		return nil
	}
	if theirs := kafkago.Error(0); errors.As(err, &theirs) {
		err = Code(theirs) // of logging in, or of a broker that the transport lost
	}
	if c.ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ErrClosed, err)
	}
	return err
}
