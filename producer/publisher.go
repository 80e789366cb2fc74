package producer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/schemas"
)

// PublisherConfig says where the brokers are. Only Brokers is needed.
type PublisherConfig struct {
	Brokers  []string // host:port
	ClientID string   // what brokers log us as; default assent-publisher
	TLS      *tls.Config
	// SASLMechanism is PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; "" = no login.
	SASLMechanism, User, Password string
	// TopicPrefix is put before consent.intake.
	TopicPrefix string
	Logger      *slog.Logger // nil = none
}

// Publisher writes consent events to the topic consent.intake, as Avro, without
// a gateway between: the gateway role reads them, checks and stamps them as it
// does over HTTP, and sets a refused grant aside as a dead letter. It may be used
// by any number of goroutines.
type Publisher struct {
	client   *kafka.Client
	producer *kafka.Producer
	topic    string
}

// maxBatchBytes bounds what goes to the broker at once; the topic allows it.
const maxBatchBytes = 3 << 20

// NewPublisher makes a publisher. It does no I/O; Close it.
func NewPublisher(config PublisherConfig) (*Publisher, error) {
	if config.ClientID == "" {
		config.ClientID = "assent-publisher"
	}
	k := kafka.Config{Brokers: config.Brokers, ClientID: config.ClientID, TLS: config.TLS, Logger: config.Logger}
	if config.SASLMechanism != "" {
		k.SASL = &kafka.SASL{Mechanism: config.SASLMechanism, User: config.User, Password: config.Password}
	}
	client, err := kafka.New(k)
	if err != nil {
		return nil, err
	}
	return &Publisher{
		client:   client,
		producer: client.NewProducer(kafka.ProducerOptions{MaxBatchBytes: maxBatchBytes}),
		topic:    topic.Names{Prefix: config.TopicPrefix}.Intake(),
	}, nil
}

// Publish writes events and returns when all in-sync replicas have them.
//
// An event without ID gets one; ids tells them in order, on an error too:
// whoever repeats an event with its id is counted once. A protective event
// without OccurredAt is taken to be said now. Stamps are left out. The events of
// one subject keep their order.
func (p *Publisher) Publish(ctx context.Context, events ...consent.Event) (ids []consent.UUID, err error) {
	now := consent.InstantOf(time.Now())
	ids = make([]consent.UUID, len(events))
	records := make([]kafka.Record, len(events))
	for i, e := range events {
		prepare(&e)
		ids[i], e.SentAt = e.ID, now
		if e.Tenant == "" {
			e.Tenant = consent.DefaultTenant
		}
		if e.Subject == "" || e.Purpose == "" || e.Action == consent.ActionUnknown {
			return ids, fmt.Errorf("publish event %d of %d: name subject, purpose and action; nothing was published", i+1, len(events))
		}
		value, err := schemas.EncodeIntakeEvent(nil, &e)
		if err != nil {
			return ids, fmt.Errorf("publish event %d of %d: %w; nothing was published", i+1, len(events), err)
		}
		records[i] = kafka.Record{Topic: p.topic, Key: e.Key(), Value: value}
	}
	if _, err := p.producer.Produce(ctx, records...); err != nil {
		return ids, fmt.Errorf("publish to %s: %w", p.topic, err)
	}
	return ids, nil
}

// Close sends what is on its way and closes all connections. Twice is fine.
func (p *Publisher) Close() error {
	return errors.Join(p.producer.Close(), p.client.Close())
}
