package model

// Sizes of the largest configuration. A state is an array of this shape, so that it can be
// copied and hashed as a value; what would not fit is a fault of the configuration
// and panics.
const (
	maxInstances  = 3
	maxPartitions = 2
	maxSubjects   = 3
	maxEvents     = 6  // of a partition
	maxRows       = 14 // of a partition
	maxChanges    = 14 // of a partition
	maxLate       = 1
)

// fate is what became of a record. The zero value means that the place is free.
type fate uint8

const (
	free fate = iota
	open
	committed
	aborted
)

// list is the folded positions of one subject in their order: 4 bits each, offset + 1.
// It stands for the records, clock and versions of a real state, of which it keeps
// what matters here: which inputs were folded, in which order, how often each.
type list uint16

// overfull is what a list with more than four entries becomes: no right one is as long.
const overfull list = 0xFFFF

func (l list) with(offset int) list {
	if l >= 0x1000 {
		return overfull
	}
	return l<<4 | list(offset+1)
}

func (l list) version() uint8 {
	n := uint8(0)
	for ; l > 0; l >>= 4 {
		n++
	}
	return n
}

// event is a record of consent.events; which subject it is about and what it does
// is in the script, by its id.
type event struct {
	id   uint8
	fate fate
}

// row is a record of consent.state: all that is folded of a subject up to an input.
type row struct {
	folded  list
	subject uint8
	input   uint8 // offset of the newest event in it
	fate    fate
	epoch   uint8 // of the producer
}

// change is a record of consent.changes. Its id is derived from the subject's version
// and the event, which is known by its offset.
type change struct {
	input   uint8
	version uint8
	fate    fate
}

// note is the metadata of a committed offset: what the last writing transaction wrote.
type note struct {
	from    uint8 // input offset where it began
	rows    span
	changes span
}

// span is a run of offsets; an end of 0 means that it holds none.
type span struct{ first, end uint8 }

func (s *span) cover(offset uint8) {
	if s.end == 0 {
		*s = span{offset, offset + 1}
		return
	}
	*s = span{min(s.first, offset), max(s.end, offset+1)}
}

// commit is a committed offset.
type commit struct {
	next uint8
	note note
}

// work is what an instance holds in memory of its claim: what it has folded and
// published, and how far the batch on its way goes. A request carries a copy of what it was
// made of.
type work struct {
	base  [maxSubjects]list // published: everything before from
	from  [maxPartitions]uint8
	to    [maxPartitions]uint8 // of the batch; from: no batch
	told  [maxPartitions]uint8 // bit n: the change of input n was found at takeover
	wrote [maxPartitions]uint8 // end of the rows that the batch wrote; 0: none
	notes [maxPartitions]note
}

// step names of an instance: where it is in its claim, named as in the protocol.
type place uint8

const (
	idle place = iota
	atInit
	atOffsets
	atVerify
	atRestore
	atAnnounce
	atFetch
	atCarry
	atBegin
	atWrite
	atCommit
	atEnd
	atStore
)

var placeNames = [...]string{"idle", "init", "offsets", "verify", "restore", "announce", "fetch", "carry", "begin", "write", "commit offsets", "end", "store"}

func (p place) String() string { return placeNames[p] }

// mark says what a local store covers.
type mark struct {
	valid     bool
	topic     uint8
	changelog uint8 // next offset of consent.state
	input     uint8 // next offset of consent.events
	last      uint8 // producer epoch of the row before changelog; 0: no committed row is there
}

// instance is one process that may own the stripe. Its local store survives a crash,
// everything else does not.
type instance struct {
	at     place
	gen    uint8 // of its claim
	epoch  uint8 // that InitProducerID gave it
	lease  bool  // its last heartbeat is young enough
	asked  query
	cut    bool // a connection of its was cut since the last answer to EndTxn
	work   work
	stored [maxSubjects]list
	marks  [maxPartitions]mark
}

// query is a decision on its way.
type query uint8

const (
	notAsked query = iota
	computed
	answered
)

// coordinator is what the broker knows of the transactional id.
type coordinator struct {
	epoch   uint8
	status  status
	gen     uint8 // claim that opened the transaction
	pending bool  // offsets were committed in it
	settled bool  // it is committed, and its offsets are still to be applied
	last    bool  // the epoch's last transaction was committed
	offsets [maxPartitions]commit
}

type status uint8

const (
	empty status = iota
	ongoing
	committing // decided and answered; markers are on their way
)

// request is one that may arrive late.
type request struct {
	kind  place // the step that sent it; idle: none
	from  uint8
	gen   uint8
	epoch uint8
	work  work
}

// State is one state of the whole: logs, coordinator, group, instances, and requests that
// are still on their way.
type State struct {
	events  [maxPartitions][maxEvents]event
	rows    [maxPartitions][maxRows]row
	changes [maxPartitions][maxChanges]change
	offsets [maxPartitions]commit
	tx      coordinator

	topic     uint8 // how often the topics were made anew
	gen       uint8 // of the group
	owner     uint8 // instance + 1; 0: nobody
	taken     uint8 // generation whose owner has read offsets last
	announced uint8 // generation in the owner record

	instances [maxInstances]instance
	late      [maxLate]request

	losses  uint8 // answers that may still get lost, or requests be late
	tears   uint8 // commits that may still be torn
	renewal uint8 // topics that may still be made anew
	torn    bool  // a commit was torn
	wrong   wrong // what a step did that it must not
}
