package kafka

import (
	"context"
	"errors"
	"fmt"

	kafkasasl "github.com/segmentio/kafka-go/sasl"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// SASL mechanisms.
const (
	SASLPlain       = "PLAIN"
	SASLScramSHA256 = "SCRAM-SHA-256"
	SASLScramSHA512 = "SCRAM-SHA-512"
)

// SASL is how to log in to the brokers.
type SASL struct {
	Mechanism string // SASLPlain, SASLScramSHA256 or SASLScramSHA512
	User      string
	Password  string
}

func (s *SASL) validate() error {
	var faults []error
	switch s.Mechanism {
	case SASLPlain, SASLScramSHA256, SASLScramSHA512:
	default:
		faults = append(faults, fmt.Errorf("sasl mechanism: %q is not one of %s, %s, %s", s.Mechanism, SASLPlain, SASLScramSHA256, SASLScramSHA512))
	}
	if s.User == "" {
		faults = append(faults, errors.New("sasl user: is empty"))
	}
	if s.Password == "" {
		faults = append(faults, errors.New("sasl password: is empty"))
	}
	return errors.Join(faults...)
}

func (s *SASL) mechanism() kafkasasl.Mechanism {
	switch s.Mechanism {
	case SASLScramSHA256:
		return loginMechanism{scram.Auth{User: s.User, Pass: s.Password}.AsSha256Mechanism()}
	case SASLScramSHA512:
		return loginMechanism{scram.Auth{User: s.User, Pass: s.Password}.AsSha512Mechanism()}
	default:
		return loginMechanism{plain.Auth{User: s.User, Pass: s.Password}.AsMechanism()}
	}
}

// loginMechanism lends kafka-go a mechanism that needs no further module.
type loginMechanism struct{ sasl.Mechanism }

// Start implements kafka-go's sasl.Mechanism.
func (m loginMechanism) Start(ctx context.Context) (kafkasasl.StateMachine, []byte, error) {
	var host string
	if metadata := kafkasasl.MetadataFromContext(ctx); metadata != nil {
		host = metadata.Host
	}
	session, first, err := m.Authenticate(ctx, host)
	return loginSession{session}, first, err
}

type loginSession struct{ sasl.Session }

// Next implements kafka-go's sasl.StateMachine.
func (s loginSession) Next(_ context.Context, challenge []byte) (bool, []byte, error) {
	return s.Challenge(challenge)
}
