package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	kafkago "github.com/segmentio/kafka-go"
)

// Errors to test for with errors.Is.
var (
	// ErrClosed means that the client, producer or claim has been closed.
	ErrClosed = errors.New("closed")
	// ErrUnknownTopic means that no broker knows the topic, or that the credentials
	// may not see it: create it (assent topics apply) or grant access.
	ErrUnknownTopic = errors.New("topic does not exist or may not be seen")
	// ErrUnauthorized means that the credentials were refused, or lack a right.
	ErrUnauthorized = errors.New("not authorized")
	// ErrUnsupported means that the broker does not offer a request version that we send.
	ErrUnsupported = errors.New("broker version not supported")
	// ErrFenced means that somebody newer owns what was asked for. Nothing was done;
	// stop, and let the new owner go on.
	ErrFenced = errors.New("fenced by a newer owner")
	// ErrIndefinite means that a request may or may not have been carried out, now or later.
	ErrIndefinite = errors.New("outcome unknown")
	// ErrBusy means that the buffer was full until the caller's context ended.
	ErrBusy = errors.New("producer buffer is full")
	// ErrTooLarge means that a record cannot fit into one batch.
	ErrTooLarge = errors.New("record is too large")
	// ErrMetadataTooLarge means that commit metadata is over MaxMetadataBytes.
	ErrMetadataTooLarge = errors.New("commit metadata is too large")
)

// Code is an error code of a broker's answer.
//
// Source: https://kafka.apache.org/protocol#protocol_error_codes
type Code int16

// operationNotAttempted is 55, to which kafka-go gives another name.
const operationNotAttempted kafkago.Error = 55

// Error returns number and name: "broker answers 6 (not leader for partition)".
func (c Code) Error() string {
	if kafkago.Error(c) == operationNotAttempted {
		return "broker answers 55 (operation not attempted)"
	}
	return fmt.Sprintf("broker answers %d (%s)", int16(c), strings.ToLower(kafkago.Error(c).Title()))
}

// Is maps codes to the errors of this package.
func (c Code) Is(target error) bool {
	switch kafkago.Error(c) {
	case kafkago.UnknownTopicOrPartition:
		return target == ErrUnknownTopic
	case kafkago.TopicAuthorizationFailed, kafkago.GroupAuthorizationFailed, kafkago.ClusterAuthorizationFailed,
		kafkago.TransactionalIDAuthorizationFailed,
		kafkago.SASLAuthenticationFailed, kafkago.UnsupportedSASLMechanism, kafkago.IllegalSASLState:
		return target == ErrUnauthorized
	case kafkago.UnsupportedVersion, kafkago.UnsupportedForMessageFormat:
		return target == ErrUnsupported
	}
	switch c.verdict() {
	case verdictFenced:
		return target == ErrFenced
	case verdictIndefinite:
		return target == ErrIndefinite
	}
	return false
}

// codeError returns nil for 0.
func codeError(code int16) error {
	if code == 0 {
		return nil
	}
	return Code(code)
}

// verdict is what an error means for the request that met it.
type verdict int

const (
	// verdictRetry: nothing was done; the same request may succeed after a pause.
	verdictRetry verdict = iota
	// verdictReroute: nothing was done, since another broker is responsible; ask which. (But
	// see produceError.)
	verdictReroute
	// verdictIndefinite: nobody knows whether it was done. A reader asks again. A writer
	// may repeat only what the broker can tell from its first copy (an idempotent batch),
	// never an offset commit: a late twin would overwrite what came after.
	verdictIndefinite
	// verdictFenced: nothing was done, and never will be for this owner.
	verdictFenced
	// verdictFatal: the same request gets the same answer until somebody changes something.
	verdictFatal
)

// classify is the only place that decides what an error means.
func classify(err error) verdict {
	unsent := new(unsentError)
	switch sent := !errors.As(err, &unsent); {
	case sent && errors.Is(err, ErrIndefinite):
		return verdictIndefinite // a code that says so, or who knew more than the code tells
	case errors.Is(err, ErrClosed):
		return verdictFatal // whatever the connection said when it was closed under us
	case !sent:
		return classifyUnsent(unsent.err)
	}
	if code, ok := codeOf(err); ok {
		return code.verdict()
	}
	switch {
	case errors.Is(err, errNoSuchBroker):
		// The metadata names a broker that the transport has not met yet, or no longer knows.
		return verdictReroute
	case errors.Is(err, ErrFenced):
		return verdictFenced // found out here, without asking
	case errors.Is(err, ErrUnknownTopic), errors.Is(err, ErrUnsupported), errors.Is(err, ErrUnauthorized):
		return verdictFatal
	default:
		// Sent, and then a time-out, a cut connection ("unexpected EOF" once for every pooled
		// connection after a broker's restart), or an answer that could not be read.
		return verdictIndefinite
	}
}

// classifyUnsent judges a request that never reached a connection, so that trying again
// is always safe. Whether it is of use is the question here.
func classifyUnsent(err error) verdict {
	if code, ok := codeOf(err); ok && code.Is(ErrUnauthorized) {
		// SASL refused us. A broker that closes the connection in the middle of SASL is
		// reported in the same way; the operator sees the same sentence and a restart.
		return verdictFatal
	}
	if certificate := new(tls.CertificateVerificationError); errors.As(err, &certificate) {
		return verdictFatal // the wrong CA or host name
	}
	if op := new(net.OpError); errors.As(err, &op) && op.Op == "remote error" {
		return verdictFatal // a TLS alert: the broker dislikes our certificate or version
	}
	if errors.Is(err, errNoSuchBroker) {
		return verdictReroute
	}
	return verdictRetry // refused, unreachable, name not found, no time left to dial
}

func (c Code) verdict() verdict {
	switch kafkago.Error(c) {
	case kafkago.GroupLoadInProgress, // the coordinator is reading its log
		kafkago.ConcurrentTransactions,  // the markers of the last transaction are still being written
		operationNotAttempted,           // another partition of the request was refused: its code decides
		kafkago.UnstableOffsetCommit,    // an open transaction holds offsets; a lasting one is an alarm
		kafkago.NotEnoughReplicas,       // refused before the append
		kafkago.OffsetNotAvailable,      // the new leader does not know its high watermark yet
		kafkago.ThrottlingQuotaExceeded, // quota
		kafkago.GroupMaxSizeReached,     // until a member leaves
		kafkago.InvalidMessage:          // damaged on the way: refused before the append
		return verdictRetry

	case kafkago.UnknownTopicOrPartition, // right after creation, or the replica moved away
		kafkago.LeaderNotAvailable,
		kafkago.NotLeaderForPartition,
		kafkago.ReplicaNotAvailable,
		kafkago.BrokerNotAvailable,
		kafkago.NotCoordinatorForGroup,
		kafkago.NotController,
		kafkago.FencedLeaderEpoch,
		kafkago.UnknownLeaderEpoch:
		return verdictReroute

	case kafkago.RequestTimedOut, // appended by the leader, not yet by the others
		kafkago.NotEnoughReplicasAfterAppend,
		kafkago.GroupCoordinatorNotAvailable, // OffsetCommit answers it when its own append timed out
		kafkago.NetworkException,
		kafkago.KafkaStorageError, // the disk failed, perhaps after the write
		kafkago.Unknown:
		return verdictIndefinite

	case kafkago.IllegalGeneration,
		kafkago.UnknownMemberId,
		kafkago.RebalanceInProgress, // a commit in this state is refused: the generation is over
		kafkago.FencedInstanceID,
		// A newer owner of the transactional id; or the broker itself, which ended a
		// transaction that was open for longer than its time-out. Partition leaders say 47,
		// the coordinator 90, and both say it for ever.
		kafkago.InvalidProducerEpoch,
		kafkago.ProducerFenced:
		return verdictFenced

	case kafkago.OutOfOrderSequenceNumber, kafkago.UnknownProducerId, // see sequenceLost
		// The broker and we disagree about what is open: it restarted without the transaction,
		// or lost the end of its log. Nothing under this epoch can be right any more.
		kafkago.InvalidTransactionState,
		// The producer id was forgotten, after weeks away. Nobody newer: take the id again.
		kafkago.InvalidProducerIDMapping, kafkago.TransactionalIDNotFound,
		// A coordinator was replaced while markers were written: a matter between brokers.
		kafkago.TransactionCoordinatorFenced,
		kafkago.InvalidTransactionTimeout: // above the broker's transaction.max.timeout.ms
		return verdictFatal

	default:
		// Authorization, versions, sizes, time stamps, configuration: all of them stay.
		return verdictFatal
	}
}

// sequenceLost says that the broker no longer knows where a producer's sequence stands:
// its log was truncated, expired or lost its tail in an unclean stop. The batch was
// not written by this attempt, and no other can be under the same producer id.
func sequenceLost(err error) bool {
	code, ok := codeOf(err)
	if !ok {
		return false
	}
	switch kafkago.Error(code) {
	case kafkago.OutOfOrderSequenceNumber, kafkago.UnknownProducerId, kafkago.InvalidProducerIDMapping, kafkago.InvalidProducerEpoch:
		return true
	}
	return false
}

// graver returns the one of two errors that decides about a request which met both. An
// open outcome weighs most: whoever may not repeat must know.
func graver(a, b error) error {
	switch {
	case a == nil:
		return b
	case b == nil || gravity(a) >= gravity(b):
		return a
	default:
		return b
	}
}

// answers gathers what one answer says of each partition that was asked about.
type answers struct {
	taken   int
	gravest error
}

func (a *answers) take(topic string, partition int32, err error) {
	a.taken++
	if err != nil {
		a.gravest = graver(a.gravest, fmt.Errorf("partition %s/%d: %w", topic, partition, err))
	}
}

var errIncompleteAnswer = errors.New("answer without all partitions") // counts as none

// verdict is the gravest of the errors, or that a partition is missing.
func (a *answers) verdict(asked int) error {
	if a.gravest == nil && a.taken != asked {
		return errIncompleteAnswer
	}
	return a.gravest
}

func gravity(err error) int {
	if code, ok := codeOf(err); ok && kafkago.Error(code) == operationNotAttempted {
		return 0 // says nothing about itself
	}
	switch classify(err) {
	case verdictRetry:
		return 1
	case verdictReroute:
		return 2
	case verdictFatal:
		return 3
	case verdictFenced:
		return 4
	default:
		return 5
	}
}

// codeOf finds a broker's code.
func codeOf(err error) (Code, bool) {
	var code Code
	ok := errors.As(err, &code)
	return code, ok
}

// isContextError tells the end of the caller's patience from everything else.
func isContextError(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}
