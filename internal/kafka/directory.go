package kafka

import (
	"context"
	"fmt"
	"sync"
	"time"

	kafkago "github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unknownTopicPatience is how long a topic may be missing before the answer is
// ErrUnknownTopic: right after creation some brokers have not heard of it.
const unknownTopicPatience = 2 * time.Second

// directory remembers who leads what. An entry is used until an answer proves it
// wrong; then it is forgotten, and the next user looks again.
type directory struct {
	mu           sync.Mutex
	leaders      map[string][]int32    // topic → leader per partition, -1 = none now
	coordinators map[coordinated]int32 // → broker
}

// coordinated is what some broker is the coordinator of: a group, or a transactional
// id. The coordinators of the two have nothing to do with each other.
type coordinated struct {
	kind int8 // as in FindCoordinator
	name string
}

func groupNamed(name string) coordinated   { return coordinated{kind: 0, name: name} }
func transactionsOf(id string) coordinated { return coordinated{kind: 1, name: id} }

// String returns kind and name: "group processor".
func (c coordinated) String() string {
	if c.kind == 1 {
		return "transactional id " + c.name
	}
	return "group " + c.name
}

func newDirectory() directory {
	return directory{leaders: make(map[string][]int32), coordinators: make(map[coordinated]int32)}
}

func (d *directory) forgetTopic(topic string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.leaders, topic)
}

func (d *directory) forgetCoordinator(of coordinated) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.coordinators, of)
}

// Ping asks a broker for the versions it speaks, and returns an ErrUnsupported that
// names each request that it cannot take. It gives up after 2 s.
func (c *Client) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	resp := kmsg.NewPtrApiVersionsResponse()
	err := c.persist(ctx, "ping kafka", func(ctx context.Context) error {
		if err := c.send(ctx, anyBroker, 0, kmsg.NewPtrApiVersionsRequest(), resp); err != nil {
			return err
		}
		return codeError(resp.ErrorCode)
	})
	if err != nil {
		return err
	}
	offered := make(map[int16]kmsg.ApiVersionsResponseApiKey, len(resp.ApiKeys))
	for _, k := range resp.ApiKeys {
		offered[k.ApiKey] = k
	}
	for key, version := range requestVersions {
		if k, ok := offered[key]; !ok || version < k.MinVersion || version > k.MaxVersion {
			return fmt.Errorf("ping kafka: %w: %s version %d is needed, %d to %d offered", ErrUnsupported, kmsg.NameForKey(key), version, k.MinVersion, k.MaxVersion)
		}
	}
	return nil
}

// PartitionCount returns the number of partitions of a topic. ErrUnknownTopic when it
// is missing for longer than 2 s.
func (c *Client) PartitionCount(ctx context.Context, topic string) (int, error) {
	leaders, err := c.leaders(ctx, topic)
	return len(leaders), err
}

// CountPartitions is PartitionCount as it is now: partitions can be added to a topic that
// is in use, and who has asked before would not hear of it.
func (c *Client) CountPartitions(ctx context.Context, topic string) (int, error) {
	leaders, err := c.findLeaders(ctx, topic)
	return len(leaders), err
}

// leaders returns the leader of each partition of a topic.
func (c *Client) leaders(ctx context.Context, topic string) ([]int32, error) {
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	c.directory.mu.Lock()
	leaders, ok := c.directory.leaders[topic]
	c.directory.mu.Unlock()
	if ok {
		return leaders, nil
	}
	return c.findLeaders(ctx, topic)
}

// findLeaders asks the broker.
func (c *Client) findLeaders(ctx context.Context, topic string) ([]int32, error) {
	found, err := c.awaitTopic(ctx, topic)
	if err != nil {
		return nil, err
	}
	c.directory.mu.Lock()
	c.directory.leaders[topic] = found.leaders
	c.directory.mu.Unlock()
	return found.leaders, nil
}

// TopicID returns the id that the broker gave a topic when it was made: a topic of the
// same name that is made anew has another. Zero where the broker has no such ids.
// ErrUnknownTopic when the topic is missing for longer than 2 s.
func (c *Client) TopicID(ctx context.Context, topic string) ([16]byte, error) {
	found, err := c.awaitTopic(ctx, topic)
	return found.id, err
}

// awaitTopic asks about a topic until a broker knows it, or unknownTopicPatience is over.
func (c *Client) awaitTopic(ctx context.Context, topic string) (foundTopic, error) {
	var found foundTopic
	missingSince := time.Now()
	err := c.persist(ctx, "look up topic "+topic, func(ctx context.Context) error {
		topics, err := c.topics(ctx, topic)
		if err != nil {
			return err
		}
		found = topics[topic]
		if Code(found.code).Is(ErrUnknownTopic) && time.Since(missingSince) > unknownTopicPatience {
			return ErrUnknownTopic // no longer a matter of waiting
		}
		return codeError(found.code)
	})
	return found, err
}

// foundTopic is what a broker says about one topic.
type foundTopic struct {
	code    int16
	id      [16]byte
	leaders []int32
}

// topics asks any broker about topics, once. Topics that are missing carry a code.
func (c *Client) topics(ctx context.Context, names ...string) (map[string]foundTopic, error) {
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range names {
		t := kmsg.NewMetadataRequestTopic()
		t.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, t)
	}
	resp := kmsg.NewPtrMetadataResponse()
	if err := c.send(ctx, anyBroker, 0, req, resp); err != nil {
		return nil, err
	}
	found := make(map[string]foundTopic, len(resp.Topics))
	for _, t := range resp.Topics {
		if t.Topic == nil {
			continue
		}
		leaders := make([]int32, len(t.Partitions))
		for i := range leaders {
			leaders[i] = -1
		}
		for _, p := range t.Partitions {
			if int(p.Partition) < len(leaders) && p.Partition >= 0 {
				leaders[p.Partition] = p.Leader
			}
		}
		found[*t.Topic] = foundTopic{code: t.ErrorCode, id: t.TopicID, leaders: leaders}
	}
	return found, nil
}

// leader returns the broker that leads a partition.
func (c *Client) leader(ctx context.Context, p Partition) (int32, error) {
	leaders, err := c.leaders(ctx, p.Topic)
	if err != nil {
		return 0, err
	}
	if p.Index < 0 || int(p.Index) >= len(leaders) {
		return 0, fmt.Errorf("partition %s: %w: it has %d partitions", p, ErrUnknownTopic, len(leaders))
	}
	if leaders[p.Index] < 0 {
		c.directory.forgetTopic(p.Topic)
		return 0, fmt.Errorf("partition %s: %w", p, Code(kafkago.LeaderNotAvailable))
	}
	return leaders[p.Index], nil
}

// learn forgets what an error on a topic proved wrong.
func (d *directory) learn(topic string, err error) {
	if v := classify(err); v == verdictReroute || v == verdictIndefinite {
		d.forgetTopic(topic)
	}
}

// coordinator returns the broker that coordinates a group or a transactional id.
func (c *Client) coordinator(ctx context.Context, of coordinated) (int32, error) {
	c.directory.mu.Lock()
	node, ok := c.directory.coordinators[of]
	c.directory.mu.Unlock()
	if ok {
		return node, nil
	}
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorType, req.CoordinatorKey = of.kind, of.name
	resp := kmsg.NewPtrFindCoordinatorResponse()
	if err := c.send(ctx, anyBroker, 0, req, resp); err != nil {
		return 0, &unsentError{err} // what was to be sent to the coordinator, that is
	}
	if err := codeError(resp.ErrorCode); err != nil {
		if classify(err) == verdictFatal {
			return 0, fmt.Errorf("find coordinator of %s: %w", of, err)
		}
		return 0, &unsentError{fmt.Errorf("find coordinator of %s: %w", of, err)}
	}
	c.directory.mu.Lock()
	c.directory.coordinators[of] = resp.NodeID
	c.directory.mu.Unlock()
	return resp.NodeID, nil
}

// sendToCoordinator is send to the coordinator of a group or a transactional id. The caller
// passes the answer's codes to coordinatorCode.
func (c *Client) sendToCoordinator(ctx context.Context, of coordinated, wait time.Duration, req kmsg.Request, resp kmsg.Response) error {
	node, err := c.coordinator(ctx, of)
	if err != nil {
		return err
	}
	if err := c.send(ctx, node, wait, req, resp); err != nil {
		c.directory.forgetCoordinator(of)
		return err
	}
	return nil
}

// coordinatorCode turns the code of a coordinator's answer into an error, and forgets a
// coordinator that says that it is not the one.
func (c *Client) coordinatorCode(of coordinated, code int16) error {
	err := codeError(code)
	if err != nil {
		if v := classify(err); v == verdictReroute || v == verdictIndefinite {
			c.directory.forgetCoordinator(of)
		}
	}
	return err
}
