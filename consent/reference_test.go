package consent_test

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/assent-dev/assent/consent"
)

// This file is a second, naive reading of semantics.md, sections 4 and 5. It
// was written from the text alone and shares no code with the fold: it keeps
// every event ever said and recomputes every answer from all of them, slowly
// and in the words of the text. It uses the package's types, none of its
// functions or methods. Where it and the fold disagree, one of them misreads
// the text.

// refSaid is an event as the reference keeps it: with its rank among all others.
type refSaid struct {
	consent.Event
	rank string
}

// refAnswer is what the reference says of one purpose at one time.
type refAnswer struct {
	Status  consent.Status
	Allowed bool
	By      consent.UUID // zero: no event decides
	Since   consent.Instant
}

// refFinding is what the events alone tell, without a registry.
type refFinding struct {
	status  consent.Status
	allowed consent.Tri // undecided: the default decides
	by      *refSaid    // nil: no event decides
	since   consent.Instant
}

// refChange is one change that the reference expects.
type refChange struct {
	Purpose       consent.Purpose
	From, To      consent.Status
	Before, After consent.Tri
	Withdrawal    bool
	Event         consent.UUID
	EffectiveAt   consent.Instant
	Version       int64
	Clock         consent.Instant
}

// refPurpose is what the reference's registry says of a declared purpose.
type refPurpose struct {
	Group  bool
	Basis  consent.LegalBasis
	Models map[consent.Jurisdiction]consent.Model // "" = the purpose's default
}

type refRegistry map[consent.Purpose]refPurpose

// refKind sorts an event into one of the four kinds of record; "" is none:
// "request, defer, expire take no part", and a link is no record of a purpose.
func refKind(e *consent.Event) string {
	switch e.Action {
	case consent.Grant:
		if e.Policy != nil && e.Policy.DoubleOptIn {
			return "pending"
		}
		return "yes"
	case consent.Confirm:
		if e.Confirms == nil || e.Confirms.EventID == (consent.UUID{}) {
			return "" // it completes nothing
		}
		return "yes"
	case consent.Refuse, consent.Withdraw:
		return "no"
	case consent.Invalidate, consent.Erase:
		return "ended"
	}
	return ""
}

// refNode is what an event speaks of: "link, unlink and erase speak of the whole
// subject: purpose *".
func refNode(e *consent.Event) consent.Purpose {
	switch e.Action {
	case consent.Link, consent.Unlink, consent.Erase:
		return "*"
	}
	return e.Purpose
}

// refHeard: "request (a notice was shown) and defer" are history that changes
// nothing; everything else moves at least the clock.
func refHeard(e *consent.Event) bool {
	return e.Action != consent.Request && e.Action != consent.Defer
}

func refProtective(e *consent.Event) bool { return refKind(e) == "no" || refKind(e) == "ended" }

// refHear keeps what is said. Request and defer are "history that changes
// nothing": nothing of them is kept, neither their time nor their jurisdiction.
func refHear(log []consent.Event) []refSaid {
	var said []refSaid
	for i := range log {
		if refHeard(&log[i]) {
			said = append(said, refSaid{log[i], refRank(&log[i])})
		}
	}
	return said
}

// refRank writes an order key as text whose alphabetical order is the order of
// the keys. Each part has a fixed width, the most important one comes first.
func refRank(e *consent.Event) string {
	expressed := 1
	if e.Action == consent.Grant && e.Channel == consent.Import && (e.Policy == nil || !e.Policy.HistoryImport) {
		expressed = 0
	}
	protectiveness := 0
	if refProtective(e) {
		protectiveness = 1
	}
	stage, id := 0, e.ID
	if e.Action == consent.Confirm {
		stage = 1
	}
	if e.Carried != nil { // "ordered as the original"
		id = e.Carried.EventID
	}
	earlierExpiry := int64(0)     // never: the latest, so the smallest
	if x := refExpiry(e); x > 0 { // the earlier, the larger
		earlierExpiry = math.MaxInt64 - int64(x)
	}
	return fmt.Sprintf("%d %020d %d %d %x %020d %x", expressed, refOrderAt(e), protectiveness, stage, id[:], earlierExpiry, e.Digest[:])
}

func refOrderAt(e *consent.Event) consent.Instant {
	switch {
	case e.Carried != nil:
		return e.Carried.EffectiveAt
	case e.Action == consent.Invalidate && e.Invalidates != nil && e.Invalidates.EffectiveAt != 0:
		return e.Invalidates.EffectiveAt
	case e.Action == consent.Confirm && e.Confirms != nil && e.Confirms.EffectiveAt != 0:
		return e.Confirms.EffectiveAt
	}
	return e.EffectiveAt
}

// refErased is the largest erase, nil when there is none.
func refErased(said []refSaid) *refSaid {
	var largest *refSaid
	for i := range said {
		if x := &said[i]; x.Action == consent.Erase && (largest == nil || x.rank > largest.rank) {
			largest = x
		}
	}
	return largest
}

func refExpiry(e *consent.Event) consent.Instant {
	if e.Policy == nil {
		return 0
	}
	return e.Policy.ExpiresAt
}

// refHolds is since when an event holds: "from its own effective_at, whatever
// its order_at"; "an invalidate with invalidates holds from that grant on".
func refHolds(e *consent.Event) consent.Instant {
	if e.Action == consent.Invalidate {
		return refOrderAt(e)
	}
	return e.EffectiveAt
}

// refLargest gives the largest event of a kind said of a node, nil when none was.
// Erase: "records with a smaller key go, and such that arrive later are not kept".
func refLargest(said []refSaid, node consent.Purpose, kind string) *refSaid {
	var largest *refSaid
	for i := range said {
		if x := &said[i]; refNode(&x.Event) == node && refKind(&x.Event) == kind && (largest == nil || x.rank > largest.rank) {
			largest = x
		}
	}
	if erased := refErased(said); erased != nil && largest != nil && largest.rank < erased.rank {
		return nil
	}
	return largest
}

// refPath lists the nodes from * down to a purpose, itself included.
func refPath(p consent.Purpose) []consent.Purpose {
	path := []consent.Purpose{"*"}
	if p == "*" {
		return path
	}
	words := strings.Split(string(p), ".")
	for i := range words {
		path = append(path, consent.Purpose(strings.Join(words[:i+1], ".")))
	}
	return path
}

// refBelow tells whether q is a descendant of p.
func refBelow(q, p consent.Purpose) bool {
	return q != p && slices.Contains(refPath(q), p)
}

// refRestriction is "the largest no or ended from * down to the purpose".
func refRestriction(said []refSaid, p consent.Purpose) *refSaid {
	var largest *refSaid
	for _, node := range refPath(p) {
		for _, kind := range []string{"no", "ended"} {
			if x := refLargest(said, node, kind); x != nil && (largest == nil || x.rank > largest.rank) {
				largest = x
			}
		}
	}
	return largest
}

// refNaming is the largest invalidate on the node that names a yes, or the grant
// that a confirm completed: every one that was ever said counts, not only the
// node's largest, and not only those since the last erase.
func refNaming(said []refSaid, p consent.Purpose, yes *refSaid) *refSaid {
	var largest *refSaid
	for i := range said {
		x := &said[i]
		if x.Purpose != p || x.Action != consent.Invalidate || x.Invalidates == nil || x.Invalidates.EventID == (consent.UUID{}) {
			continue
		}
		names := x.Invalidates.EventID == yes.ID || yes.Action == consent.Confirm && x.Invalidates.EventID == yes.Confirms.EventID
		if names && (largest == nil || x.rank > largest.rank) {
			largest = x
		}
	}
	return largest
}

// refJudge says what the events alone tell of a purpose at t.
func refJudge(said []refSaid, p consent.Purpose, t consent.Instant) refFinding {
	yes, pending := refLargest(said, p, "yes"), refLargest(said, p, "pending")
	restriction := refRestriction(said, p)

	var denial refFinding
	switch {
	case yes != nil && (restriction == nil || yes.rank > restriction.rank):
		// "A yes whose event_id the node's ended names is denied whatever its
		// key": the yes is the larger of the two, and this ended denies it.
		if names := refNaming(said, p, yes); names != nil {
			denial = refFinding{consent.Invalidated, consent.Denied, names, refHolds(&names.Event)}
		} else if x := refExpiry(&yes.Event); x != 0 && x <= t {
			denial = refFinding{consent.Expired, consent.Denied, yes, x}
		} else {
			return refFinding{consent.Granted, consent.Allowed, yes, yes.EffectiveAt}
		}
	case restriction != nil:
		status := map[consent.Action]consent.Status{
			consent.Refuse: consent.Refused, consent.Withdraw: consent.Withdrawn, consent.Invalidate: consent.Invalidated,
			consent.Erase: consent.Erased,
		}[restriction.Action]
		denial = refFinding{status, consent.Denied, restriction, refHolds(&restriction.Event)}
	case pending != nil: // "A pending that is alone shows as pending, and the default decides"
		return refFinding{consent.Pending, consent.Undecided, pending, pending.EffectiveAt}
	default:
		return refFinding{consent.None, consent.Undecided, nil, 0}
	}
	// "one that is larger than what denies shows as pending, denied"
	if pending != nil && pending.rank > denial.by.rank {
		return refFinding{consent.Pending, consent.Denied, pending, pending.EffectiveAt}
	}
	return denial
}

// refChain is where to look a jurisdiction up, written out for those that the
// tests use: the exact code, its country, its unions.
var refChain = map[consent.Jurisdiction][]consent.Jurisdiction{
	"FR":    {"FR", "EU", "EEA"},
	"DE-BY": {"DE-BY", "DE", "EU", "EEA"},
	"NO":    {"NO", "EEA"},
	"US":    {"US"},
	"US-CA": {"US-CA", "US"},
	"JP":    {"JP"},
}

// refOptOut tells whether a purpose is allowed in a jurisdiction when nothing
// was said.
func (r refRegistry) refOptOut(p consent.Purpose, j consent.Jurisdiction) bool {
	d, declared := r[p]
	switch {
	case !declared || d.Group:
		return false
	case len(d.Models) == 0:
		return d.Basis == consent.BasisLegitimateInterests
	case j == "": // "Unknown jurisdiction = the strictest that the purpose declares"
		for _, m := range d.Models {
			if m != consent.OptOut {
				return false
			}
		}
		// Whom no line of the declaration covers gets opt_in.
		_, hasDefault := d.Models[""]
		return hasDefault
	}
	chain, known := refChain[j]
	if !known {
		panic("the reference has no chain for " + string(j))
	}
	for _, step := range append(slices.Clone(chain), "") {
		if m, ok := d.Models[step]; ok {
			return m == consent.OptOut
		}
	}
	return false
}

// refDecide answers "may I?" from everything said.
func (r refRegistry) refDecide(said []refSaid, p consent.Purpose, asked consent.Jurisdiction, t consent.Instant) refAnswer {
	f := refJudge(said, p, t)
	a := refAnswer{Status: f.status, Allowed: f.allowed == consent.Allowed, Since: f.since}
	if f.by != nil {
		a.By = f.by.ID
	}
	if f.allowed == consent.Undecided {
		a.Allowed = r.refOptOut(p, asked)
		for i := range said { // "and in every jurisdiction on the subject's record"
			if j := said[i].Jurisdiction; j != "" && !r.refOptOut(p, j) {
				a.Allowed = false
			}
		}
	}
	return a
}

// refClock is "the largest received_at folded".
func refClock(said []refSaid) consent.Instant {
	clock := consent.Instant(0)
	for i := range said {
		clock = max(clock, said[i].ReceivedAt)
	}
	return clock
}

// refTold is what was last announced of a purpose.
type refTold struct {
	status  consent.Status
	allowed consent.Tri
	version int64
}

// refChanges gives the changes of a log, event by event: element i holds those
// of log[i], sorted by purpose.
func refChanges(log []consent.Event) [][]refChange {
	r := refTeller{told: map[consent.Purpose]refTold{}}
	all := make([][]refChange, len(log))
	said, heard := refHear(log), 0
	for i := range log {
		if refHeard(&log[i]) {
			heard++
			all[i] = r.hear(said[:heard-1], said[:heard], &log[i])
		}
	}
	return all
}

// refTeller remembers what was announced.
type refTeller struct {
	told  map[consent.Purpose]refTold
	floor int64 // "after an erasure it goes on above the subject's highest"
}

// hear gives the changes of one event, sorted by purpose.
func (r *refTeller) hear(before, said []refSaid, e *consent.Event) (changes []refChange) {
	if e.Action == consent.Link || e.Action == consent.Unlink {
		return nil // of no purpose anything is said
	}
	was, is := refErased(before), refErased(said)
	for _, p := range refReach(said, e, r.told) {
		told, known := r.told[p]
		if !known {
			told = refTold{status: consent.None, allowed: consent.Undecided, version: r.floor}
		}
		f := refJudge(said, p, refClock(said))
		if f.status == told.status && f.allowed == told.allowed {
			continue
		}
		if !known && was != nil && f.status == consent.Erased {
			continue // the row went with an erase, and that was told
		}
		changes = append(changes, refChange{
			Purpose: p, From: told.status, To: f.status, Before: told.allowed, After: f.allowed,
			Withdrawal: refWithdrawal(told.status, f.status, told.allowed, f.allowed), Event: e.ID, EffectiveAt: f.since,
			Version: told.version + 1, Clock: refClock(said),
		})
		r.told[p] = refTold{f.status, f.allowed, told.version + 1}
	}
	if is != nil && (was == nil || is.rank > was.rank) {
		r.bury(said)
	}
	return changes
}

// refLeft tells whether an event is on record: it is of a kind, and no erase took
// it away; of an invalidate the name stays.
func refLeft(erased, x *refSaid) bool {
	if refKind(&x.Event) == "" {
		return false
	}
	names := x.Action == consent.Invalidate && x.Invalidates != nil && x.Invalidates.EventID != (consent.UUID{})
	return names || erased == nil || x.rank >= erased.rank
}

// bury: "Purpose rows become tombstones", but those in which something newer than
// the erase is left, or a name. The row of * stays.
func (r *refTeller) bury(said []refSaid) {
	for _, told := range r.told {
		r.floor = max(r.floor, told.version)
	}
	erased := refErased(said)
	for p, told := range r.told {
		left := p == "*" || told.status != consent.Erased
		for i := range said {
			left = left || refNode(&said[i].Event) == p && refLeft(erased, &said[i])
		}
		if !left {
			delete(r.told, p)
		}
	}
}

// refReach lists the purposes that an event may move: "the node, and on a
// protective event every descendant on record or in policy.covers". What was
// announced once is on record.
func refReach(said []refSaid, e *consent.Event, announced map[consent.Purpose]refTold) []consent.Purpose {
	node := refNode(e)
	reach := map[consent.Purpose]bool{node: true}
	if refProtective(e) {
		var candidates []consent.Purpose
		erased := refErased(said)
		for i := range said {
			if refLeft(erased, &said[i]) {
				candidates = append(candidates, refNode(&said[i].Event))
			}
		}
		for p := range announced {
			candidates = append(candidates, p)
		}
		if e.Policy != nil {
			candidates = append(candidates, e.Policy.Covers...)
		}
		for _, p := range candidates {
			if refBelow(p, node) {
				reach[p] = true
			}
		}
	}
	list := make([]consent.Purpose, 0, len(reach))
	for p := range reach {
		list = append(list, p)
	}
	slices.Sort(list)
	return list
}

// refWithdrawal is the definition of section 1: "a change from granted, none
// or pending to refused, withdrawn, expired, invalidated or erased", and every
// other move from there to denied: "somebody may have relied on the yes, or on a
// default".
func refWithdrawal(from, to consent.Status, before, after consent.Tri) bool {
	relied := map[consent.Status]bool{consent.Granted: true, consent.None: true, consent.Pending: true}
	denied := map[consent.Status]bool{consent.Refused: true, consent.Withdrawn: true, consent.Expired: true, consent.Invalidated: true, consent.Erased: true}
	return relied[from] && (denied[to] || before != consent.Denied && after == consent.Denied)
}
