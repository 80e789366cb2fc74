package kafka

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// An answer that is lost for good leaves the outcome unknown. What follows uses a new
// producer id, so that a late twin of the lost batch cannot take its sequence.
func TestProduce_TakesANewProducerIDAfterALostAnswer(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{DeliveryTimeout: 300 * time.Millisecond})
	if _, err := p.Produce(ctx, record("consent.events", "a", 0)); err != nil {
		t.Fatal(err)
	}
	before := p.sender
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: -1})
	_, err := p.Produce(ctx, record("consent.events", "a", 1))
	var failed *ProduceError
	if !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown || !errors.Is(err, ErrIndefinite) {
		t.Fatalf("error is %v", err)
	}
	fault.Remove()
	if _, err := p.Produce(ctx, record("consent.events", "a", 2)); err != nil {
		t.Fatal(err)
	}
	if p.sender == before || p.sender.id == before.id {
		t.Fatal("the producer id is the same as before")
	}
	got := drain(t, ctx, newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{}), 3)
	if got[0].value != "a #0" || got[1].value != "a #1" || got[2].value != "a #2" {
		t.Fatalf("stored: %v", got)
	}
}

func TestProduce_GoesOnUnderANewIDWhenTheBrokerLostTheSequence(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	for i, e := range []*kerr.Error{kerr.OutOfOrderSequenceNumber, kerr.UnknownProducerID} {
		cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: e, Count: 1})
		if _, err := p.Produce(ctx, record("consent.events", "a", i)); err != nil {
			t.Fatalf("%v: %v", e, err)
		}
	}
	got := drain(t, ctx, newFetcher(t, c, allFromStart("consent.events", 1), FetchOptions{}), 2)
	if len(got) != 2 || got[1].value != "a #1" {
		t.Fatalf("stored: %v", got)
	}
}

// Whether the first attempt was stored cannot be known once the broker lost the sequence.
func TestProduce_SaysUnknownWhenTheSequenceIsLostAfterALostAnswer(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	cluster.Fault(
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.RequestTimedOut, Count: 1},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.OutOfOrderSequenceNumber, Count: 1},
	)
	_, err := p.Produce(ctx, record("consent.events", "a", 0))
	var failed *ProduceError
	if !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown {
		t.Fatalf("error is %v", err)
	}
	if ends, err := c.Offsets(ctx, []Partition{{"consent.events", 0}}, Latest); err != nil || ends[Partition{"consent.events", 0}] != 1 {
		t.Fatalf("log ends at %v, %v: the record is not there once", ends, err)
	}
}

// A leader that loses its office while it waits for the others has appended the batch, and
// answers as one that never was. Nobody may say that such a batch is not in the log; and the
// next one must not have its sequence, or it would be taken for its copy.
func TestProduce_WhatADeposedLeaderTookIsUnknownAndHidesNothing(t *testing.T) {
	s := openSite(t)
	c, line := s.connect()
	p := newProducer(t, c, ProducerOptions{DeliveryTimeout: time.Second})
	to := func(value string) Record { return Record{Topic: s.events, Key: keyOf(0, 3), Value: []byte(value)} }
	if _, err := p.Produce(s.ctx, to("first")); err != nil {
		t.Fatal(err)
	}
	line.disturb(func(k kmsg.Key) fate {
		if k == kmsg.Produce {
			return deposed
		}
		return delivered
	})
	var failed *ProduceError
	if _, err := p.Produce(s.ctx, to("second")); !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown || !errors.Is(err, ErrIndefinite) {
		t.Errorf("of a batch that a deposed leader took: %v", err)
	}
	line.disturb(nil)
	if _, err := p.Produce(s.ctx, to("third")); err != nil {
		t.Fatal(err)
	}
	if got := s.visible(s.events)[0]; !slices.Equal(got, []string{"first", "second", "third"}) {
		t.Errorf("in the log: %v", got)
	}
	line.next(kmsg.Produce, deposed)
	if _, err := p.Produce(s.ctx, to("fourth")); err != nil { // the next leader knows its copy
		t.Fatal(err)
	}
	if got := s.visible(s.events)[0]; len(got) != 4 {
		t.Errorf("in the log: %v", got)
	}
}

func TestProduce_IsUnknownWhenTheClientIsClosedUnderABatch(t *testing.T) {
	ctx := testContext(t)
	cluster := startBroker(t, 1, []string{"consent.events"})
	c := connect(t, cluster)
	p := newProducer(t, c, ProducerOptions{})
	arrived, release := blockProduce(cluster)
	answer := make(chan error, 1)
	go func() { _, err := p.Produce(ctx, record("consent.events", "a", 0)); answer <- err }()
	receive(t, "a batch at the broker", arrived)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	var failed *ProduceError
	if err := receive(t, "the answer", answer); !errors.As(err, &failed) || failed.Results[0].Outcome != Unknown || !errors.Is(err, ErrClosed) {
		t.Errorf("of a batch at the broker: %v", err)
	}
	close(release)
	got := drain(t, ctx, newFetcher(t, connect(t, cluster), allFromStart("consent.events", 1), FetchOptions{}), 1)
	if got[0].value != "a #0" {
		t.Errorf("in the log: %v", got)
	}
}
