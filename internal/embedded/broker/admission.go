package broker

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// spaceCheckEvery bounds how often the file system is asked. In that time the
// engine can write a few megabytes, a small part of any sensible reserve.
const spaceCheckEvery = 10 * time.Millisecond

// admission decides which requests the engine may act on. Its methods for
// requests run on the engine's goroutine, one at a time; problem may be called
// from anywhere.
type admission struct {
	log     *slog.Logger
	dir     string
	reserve int64
	free    func(dir string) (int64, error)

	checking  sync.Mutex // guards checkedAt
	checkedAt time.Time
	low       atomic.Bool
	failed    atomic.Pointer[error] // the first write that failed
}

// appends are the requests that need room for more than a few bytes.
var appends = []kmsg.Key{kmsg.Produce, kmsg.CreateTopics, kmsg.CreatePartitions}

// writes are the others that change what is on disk. While there is only little
// room they still pass: commits and transaction ends are small, there are no
// more of them than what was produced needs, and the reserve is there for them.
var writes = []kmsg.Key{
	kmsg.OffsetCommit, kmsg.TxnOffsetCommit, kmsg.OffsetDelete, kmsg.DeleteGroups,
	kmsg.InitProducerID, kmsg.AddPartitionsToTxn, kmsg.AddOffsetsToTxn, kmsg.EndTxn,
	kmsg.DeleteTopics, kmsg.IncrementalAlterConfigs,
}

// install makes the engine ask a for every request that it concerns. What is
// refused is answered with the error and not acted on.
func (a *admission) install(engine *kfake.Cluster) {
	failed := func(kmsg.Request) bool { return a.failed.Load() != nil }
	engine.Fault(
		kfake.Fault{Keys: slices.Concat(appends, writes), Err: kerr.KafkaStorageError, Count: -1, When: failed},
		kfake.Fault{Keys: appends, Err: kerr.KafkaStorageError, Count: -1, When: func(kmsg.Request) bool { return a.isLow() }},
		kfake.Fault{Keys: []kmsg.Key{kmsg.Produce}, Err: kerr.InvalidRecord, Count: -1, When: damagesLog},
		kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics, kmsg.CreatePartitions}, Err: kerr.InvalidPartitions, Count: -1, When: asksTooMuch},
		kfake.Fault{Keys: []kmsg.Key{kmsg.IncrementalAlterConfigs}, Err: kerr.PolicyViolation, Count: -1, When: changesBroker},
		kfake.Fault{Keys: []kmsg.Key{kmsg.JoinGroup}, Err: kerr.InconsistentGroupProtocol, Count: -1, When: namesProtocolTwice},
	)
}

// fail stops all writing until the directory is opened again: after a failed
// write the engine counts an idempotent producer's batch as stored, and would
// acknowledge the retry.
func (a *admission) fail(err error) {
	if a.failed.CompareAndSwap(nil, &err) {
		a.log.Error("the broker's disk failed: nothing is accepted until it is opened again", "dir", a.dir, "error", err)
	}
}

// isLow asks the file system, at most every spaceCheckEvery. An answer that
// cannot be had changes nothing.
func (a *admission) isLow() bool {
	a.checking.Lock()
	defer a.checking.Unlock()
	if a.reserve <= 0 || time.Since(a.checkedAt) < spaceCheckEvery {
		return a.low.Load()
	}
	a.checkedAt = time.Now()
	free, err := a.free(a.dir)
	if err != nil {
		a.log.Warn("the free space of the broker's disk is not known", "dir", a.dir, "error", err)
		return a.low.Load()
	}
	limit := a.reserve
	if a.low.Load() {
		limit += limit / 8 // so that it does not flap
	}
	low := free < limit
	switch was := a.low.Swap(low); {
	case low && !was:
		a.log.Error("the broker's disk is nearly full: nothing is accepted until there is room", "dir", a.dir, "free_bytes", free, "reserve_bytes", a.reserve)
	case was && !low:
		a.log.Info("the broker's disk has room again", "dir", a.dir, "free_bytes", free)
	}
	return low
}

// problem says why nothing is accepted, nil when all is well. It looks at the
// disk itself: who sends nothing to a broker that is not well would never hear
// that there is room again.
func (a *admission) problem() error {
	if err := a.failed.Load(); err != nil {
		return fmt.Errorf("write to %s: %w: make room or mend the disk, then start again", a.dir, *err)
	}
	if a.isLow() {
		return fmt.Errorf("less than %d MiB are free below %s: make room; writing goes on by itself", a.reserve>>20, a.dir)
	}
	return nil
}

// maxPartitions of a topic. The engine would try to make two billion of them,
// and answer nobody meanwhile.
const maxPartitions = 10_000

func asksTooMuch(req kmsg.Request) bool {
	switch req := req.(type) {
	case *kmsg.CreateTopicsRequest:
		return slices.ContainsFunc(req.Topics, func(t kmsg.CreateTopicsRequestTopic) bool { return t.NumPartitions > maxPartitions })
	case *kmsg.CreatePartitionsRequest:
		return slices.ContainsFunc(req.Topics, func(t kmsg.CreatePartitionsRequestTopic) bool { return t.Count > maxPartitions })
	}
	return false
}

// changesBroker says that a request is for the settings of the broker itself:
// they would switch on what keepEverything keeps off.
func changesBroker(req kmsg.Request) bool {
	alter, ok := req.(*kmsg.IncrementalAlterConfigsRequest)
	return ok && slices.ContainsFunc(alter.Resources, func(r kmsg.IncrementalAlterConfigsRequestResource) bool {
		return r.ResourceType != kmsg.ConfigResourceTypeTopic
	})
}

// namesProtocolTwice says that a member lists a protocol twice. The engine counts
// it as two members, finds no protocol that all of them know, and panics.
func namesProtocolTwice(req kmsg.Request) bool {
	join, ok := req.(*kmsg.JoinGroupRequest)
	if !ok {
		return false
	}
	seen := make(map[string]bool, len(join.Protocols))
	for _, protocol := range join.Protocols {
		if seen[protocol.Name] {
			return true
		}
		seen[protocol.Name] = true
	}
	return false
}

// Where the fields of a record batch stand, in bytes from its begin.
const (
	batchAttributesAt  = 21 // int16
	batchNumRecordsAt  = 57 // int32
	batchHeadBytes     = 61
	attributeLogAppend = 0x08
)

// damagesLog says that a produce request holds a batch that the engine takes
// and should not: with the attribute for the broker's time set by the client it
// writes over the time and keeps the checksum, and at the next load cuts the
// log there; with no records, or fewer than none, it moves the end of the log
// back. Other faults of a batch it finds itself.
func damagesLog(req kmsg.Request) bool {
	produce, ok := req.(*kmsg.ProduceRequest)
	if !ok {
		return false
	}
	for i := range produce.Topics {
		for j := range produce.Topics[i].Partitions {
			raw := produce.Topics[i].Partitions[j].Records
			if len(raw) < batchHeadBytes {
				continue
			}
			if binary.BigEndian.Uint16(raw[batchAttributesAt:])&attributeLogAppend != 0 ||
				int32(binary.BigEndian.Uint32(raw[batchNumRecordsAt:])) < 1 {
				return true
			}
		}
	}
	return false
}
