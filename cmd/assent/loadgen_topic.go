package main

import (
	"context"
	"errors"
	"net/http"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/loadgen"
	"github.com/assent-dev/assent/internal/loadgen/drive"
	"github.com/assent-dev/assent/producer"
)

// topicSender publishes to consent.intake. What the gateway makes of an event
// it does not hear.
type topicSender struct {
	publisher *producer.Publisher
	patience  *drive.Patience
}

func (p *program) sendToTopic(ctx context.Context, s *loadgenSettings, c drive.Config, report loadReport) error {
	publisher, err := producer.NewPublisher(producer.PublisherConfig{
		Brokers: s.Brokers, ClientID: "assent-loadgen", TLS: tlsConfig(s.TLS), TopicPrefix: s.Prefix, Logger: p.log,
	})
	if err != nil {
		return usageError{err}
	}
	sender := &topicSender{publisher, drive.NewPatience(p.log)}
	c.Sender = sender
	summary, err := drive.Run(ctx, c)
	err = errors.Join(err, publisher.Close())
	report.summary(&summary, sender.patience.Retries())
	return p.endLoad(ctx, s, &report, err)
}

// Send publishes a parcel. Its events are in the log when it returns without an
// error; on an error all are sent again, with the same ids.
func (t *topicSender) Send(ctx context.Context, parcel *drive.Parcel) ([]drive.Answer, error) {
	claims := parcel.Act.Claims
	answers := make([]drive.Answer, len(claims))
	events := make([]consent.Event, 0, len(claims))
	for i := range claims {
		if answers[i].Skipped = !sayable(&claims[i]); !answers[i].Skipped {
			events = append(events, claims[i].Event)
		}
	}
	if len(events) == 0 {
		return answers, nil
	}
	err := t.patience.Persist(ctx, func() error {
		if _, err := t.publisher.Publish(ctx, events...); err != nil {
			return &drive.LaterError{Err: err}
		}
		return nil
	})
	for i := range answers {
		answers[i].Done = err == nil || answers[i].Skipped
	}
	return answers, err
}

// sayable: an Avro record holds no broken JSON, and a publisher takes no event
// that is about nobody or nothing.
func sayable(c *loadgen.Claim) bool {
	return c.Expect.Accepted() || (c.Raw == nil && c.Expect.Status == http.StatusUnprocessableEntity)
}
