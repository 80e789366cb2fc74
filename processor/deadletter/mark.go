package deadletter

import (
	"fmt"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
)

const (
	// CodeReplayed is the code of a mark: a letter that says of another one, with
	// the same origin and downstream, that its record was published again.
	CodeReplayed = "replayed"
	// HeaderReplayOf is the header of a record that was published again: where it
	// was set aside for the first time.
	HeaderReplayOf = "assent_replay_of"

	roleOperator = "operator"
	// Headers of a mark.
	markCode   = "code"   // of the letter that it is about
	markLetter = "letter" // its position
	markTo     = "to"     // position of the record that was published
)

// mark is the record that says of a letter that it was published again. It has the
// letter's key, and so stands behind it in the same partition.
func mark(topic string, l *Letter, to kafka.Position, at consent.Instant) (kafka.Record, error) {
	value, err := schemas.EncodeDeadLetter(nil, &schemas.DeadLetter{
		Topic: l.Topic, Partition: l.Partition, Offset: l.Offset, Downstream: l.Downstream,
		Code: CodeReplayed, Reason: "published again at " + to.String(), Role: roleOperator, At: at,
		Headers: []schemas.Header{
			{Key: markCode, Value: []byte(l.Code)},
			{Key: markLetter, Value: []byte(l.Position.String())},
			{Key: markTo, Value: []byte(to.String())},
		},
	})
	if err != nil {
		return kafka.Record{}, fmt.Errorf("mark the letter at %s: %w", l.Position, err)
	}
	return kafka.Record{Topic: topic, Key: l.RecordKey, Value: value}, nil
}

func readMark(l *Letter) (ID, *Mark) {
	id, m := ID{Origin: l.Origin(), Downstream: l.Downstream}, &Mark{At: l.At}
	for _, h := range l.Headers {
		switch h.Key {
		case markCode:
			id.Code = string(h.Value)
		case markTo:
			m.To = string(h.Value)
		}
	}
	return id, m
}
