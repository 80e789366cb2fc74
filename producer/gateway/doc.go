// Package gateway is the intake role: it takes consent events over HTTP and from
// the topic consent.intake, decides about both by package intake, and is the
// only writer of what subjects said to consent.events.
//
// # Who is right about what
//
// consent.events is the truth. The gateway keeps nothing that is not in it: no
// queue, no table of ids that it has seen. An event that is written twice has the
// same id, and counts once for whoever reads.
//
// # One event over HTTP
//
//	parse    jsonform.ParseEvent         400, 413: nothing was recorded
//	decide   intake.Accept               422 with every broken rule
//	admit    limits                      429; a protective event waits instead
//	write    Produce, acks=all           503: not recorded, or not known
//	answer   202                         all in-sync replicas have it
//
// A crash before write loses a request that nobody was answered. A crash between
// write and answer leaves an event recorded that the sender does not know of: it
// tries again, with the same event_id or Idempotency-Key. A sender that goes away
// does not stop a write that has begun.
//
// Of a batch ([batch]) the body is read whole, then chunk after chunk goes that
// way, and its results are sent before the next is parsed. So memory is bounded
// by the body (16 MiB), one chunk, and Config.MaxBatches.
//
// # One turn of the intake
//
//	fetch    what came in a stripe's partitions
//	decide   an event, or a dead letter with the codes; a protective event passes
//	write    consent.events and consent.deadletters, acks=all, until it is done
//	commit   the position
//
// A crash before commit repeats the turn, with the same ids and the same times
// (received_at is the record's time where that can be true, an absent id comes from
// its position): the same bytes, as long as the registry's version is the same.
// Nothing is skipped: while the broker is away a turn waits, and a partition whose
// records are gone or damaged stops with an alarm.
//
// # Goroutines
//
// Run owns two: the member of the group assent-intake (and below it, in
// internal/kafka, one per stripe, which runs work), and that of internal/reach, which
// asks now and then whether the broker answers, for Ready. Handlers run in those of the HTTP
// server. The producer's goroutines end when Run returns.
package gateway
