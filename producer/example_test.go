package producer_test

import (
	"context"
	"errors"
	"log"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/producer"
)

// A newsletter form: the box was not ticked, the subject ticked it.
func ExampleClient_Send() {
	client, err := producer.NewClient(producer.ClientConfig{URL: "http://127.0.0.1:8080"})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := client.Send(context.Background(), consent.Event{
		Subject:    "user:42", // never an address: a grant needs an opaque id
		Purpose:    "marketing.email",
		Action:     consent.Grant,
		Channel:    consent.Web,
		OccurredAt: consent.InstantOf(time.Now()),
		Notice:     consent.Notice{ID: "newsletter", Version: "1", Language: "en"},
		Evidence:   consent.Evidence{Method: consent.Checkbox, ControlDefault: consent.DefaultOff},
	})
	var broken consent.Faults
	switch {
	case errors.As(err, &broken):
		for _, f := range broken {
			log.Printf("not valid: %s: %s", f.Field, f.Message)
		}
	case err != nil:
		log.Fatal(err) // the gateway is away: send the same event again
	default:
		log.Printf("recorded as %s; ask with at_least=%s to see it", receipt.EventID, receipt.Token)
	}
}

// A withdrawal needs a subject and a purpose, no more. An address will do.
func ExampleClient_Send_withdrawal() {
	client, err := producer.NewClient(producer.ClientConfig{URL: "http://127.0.0.1:8080"})
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := client.Send(context.Background(), consent.Event{
		Subject: "jane@shop.example",
		Purpose: "marketing.email",
		Action:  consent.Withdraw,
		Channel: consent.CallCenter,
	})
	if err != nil {
		log.Fatal(err)
	}
	log.Printf("recorded for the pseudonymous id %s", string(receipt.Subject))
}

// A preference page, saved as a whole.
func ExampleClient_Submit() {
	client, err := producer.NewClient(producer.ClientConfig{URL: "http://127.0.0.1:8080"})
	if err != nil {
		log.Fatal(err)
	}
	result, err := client.Submit(context.Background(), producer.Submission{
		Act: consent.Event{
			Subject:    "user:42",
			Channel:    consent.Web,
			OccurredAt: consent.InstantOf(time.Now()),
			Evidence:   consent.Evidence{Method: consent.Toggle, ControlDefault: consent.DefaultOff, Control: consent.Save},
		},
		Choices: []producer.Choice{
			{Purpose: "marketing.email", Granted: true, Notice: &consent.Notice{ID: "newsletter", Version: "1"}},
			{Purpose: "analytics", Granted: false},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	for _, r := range result.Results {
		log.Printf("%s: %v", r.Purpose, r.Err) // nil = recorded
	}
}

// A backend that already speaks to Kafka.
func ExamplePublisher() {
	publisher, err := producer.NewPublisher(producer.PublisherConfig{Brokers: []string{"127.0.0.1:9092"}})
	if err != nil {
		log.Fatal(err)
	}
	defer publisher.Close() //nolint:errcheck // Publish has waited for everything
	ids, err := publisher.Publish(context.Background(), consent.Event{
		Subject: "user:42",
		Purpose: "analytics",
		Action:  consent.Refuse,
		Channel: consent.App,
	})
	if err != nil {
		log.Printf("publish %s again, under the same ID: %v", ids[0], err)
		return
	}
	log.Printf("published as %s", ids[0])
}
