package processor

import (
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/topic"
)

// admin sends what an operator would do to a topic.
func (w *world) admin(req kmsg.Request) kmsg.Response {
	w.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(w.brokers()...))
	if err != nil {
		w.Fatal(err)
	}
	defer client.Close()
	resp, err := client.Request(w.ctx, req)
	if err != nil {
		w.Fatal(err)
	}
	return resp
}

// drop deletes a topic.
func (w *world) drop(name string) {
	w.Helper()
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TopicNames = []string{name}
	t := kmsg.NewDeleteTopicsRequestTopic()
	t.Topic = kmsg.StringPtr(name)
	req.Topics = append(req.Topics, t)
	w.admin(req)
}

// recreate deletes a topic and makes it anew: its offsets begin at 0 again.
func (w *world) recreate(name string) {
	w.Helper()
	w.drop(name)
	var specs []kafka.TopicSpec
	for _, s := range w.names.Specs(topic.Layout{Partitions: w.partitions, Replication: w.cluster.Replication()}) {
		if s.Name == name {
			specs = append(specs, s)
		}
	}
	w.eventually("the topic is made anew", func() error { // brokers delete in the background
		_, err := w.client.Provision(w.ctx, specs, false)
		return err
	})
}
