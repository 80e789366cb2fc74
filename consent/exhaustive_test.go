package consent_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// The exhaustive test folds every sequence of up to four events out of an
// alphabet: that is every order, with every repetition, of every history of up
// to four events over *, m and m.e and the two times t1 and t2.
//
// The alphabet holds each action that folds, and for each part of the order key
// a pair of letters that only this part tells apart.
const (
	t1 consent.Instant = 1_000
	t2 consent.Instant = 2_000
)

var nodes = []consent.Purpose{"*", "m", "m.e"}

// letter makes an event of the alphabet. Letters of one node, time and key
// share an id, so that only expiry or content tells them apart.
type letter struct {
	node    int
	at      consent.Instant
	action  consent.Action
	key     string
	expires consent.Instant
	channel consent.Channel
	pending bool
	history bool
	names   *letter // the grant that an invalidate takes back or a confirm completes
	unplace bool    // … without its effective_at
	late    bool    // received at t2, whenever it took effect
	in      consent.Jurisdiction
	covers  []consent.Purpose
}

func (l letter) id() consent.UUID {
	return consent.DeriveUUID(consent.NamespaceEvent, fmt.Appendf(nil, "%d %d %s", l.node, l.at, l.key))
}

func (l letter) event() consent.Event {
	e := consent.Event{
		ID: l.id(), Tenant: consent.DefaultTenant, Subject: "user:1", Purpose: nodes[l.node], Action: l.action,
		EffectiveAt: l.at, ReceivedAt: l.at, Channel: l.channel, Jurisdiction: l.in,
		Policy: &consent.Policy{ExpiresAt: l.expires, DoubleOptIn: l.pending, HistoryImport: l.history, Covers: l.covers},
	}
	if l.late {
		e.ReceivedAt = t2
	}
	if l.names != nil {
		ref := &consent.EventRef{EventID: l.names.id(), EffectiveAt: l.names.at}
		if l.unplace {
			ref.EffectiveAt = 0
		}
		if l.action == consent.Confirm {
			e.Confirms = ref
		} else {
			e.Invalidates = ref
		}
	}
	return digested(e)
}

func alphabet() []consent.Event {
	below := [][]consent.Purpose{{"m", "m.e"}, {"m.e"}, nil}
	var letters []letter
	add := func(l letter) { letters = append(letters, l) }
	for n := range nodes {
		grant1, grant2 := letter{node: n, at: t1, action: consent.Grant, key: "yes"}, letter{node: n, at: t2, action: consent.Grant, key: "yes"}
		add(grant2)
		add(letter{node: n, at: t1, action: consent.Withdraw, key: "no", covers: below[n]})
		add(letter{node: n, at: t2, action: consent.Withdraw, key: "no"})
		add(letter{node: n, at: t1, action: consent.Invalidate, key: "ended"})
		if n == 0 {
			add(letter{node: n, at: t2, action: consent.Refuse, key: "no"})
			add(letter{node: n, at: t1, action: consent.Erase, key: "erase", covers: below[n]})
			add(letter{node: n, at: t2, action: consent.Erase, key: "erase"})
			continue
		}
		add(grant1)
		add(letter{node: n, at: t1, action: consent.Refuse, key: "no"})
		add(letter{node: n, at: t2, action: consent.Invalidate, key: "ended", covers: below[n]})
		add(letter{node: n, at: t2, action: consent.Invalidate, key: "ended named", names: &grant1})
		add(letter{node: n, at: t1, action: consent.Grant, key: "yes", expires: t2})
		add(letter{node: n, at: t2, action: consent.Grant, key: "pending", pending: true})
		add(letter{node: n, at: t2, action: consent.Grant, key: "import", channel: consent.Import})
		if n == 1 {
			continue
		}
		add(letter{node: n, at: t1, action: consent.Grant, key: "yes", expires: t2 + 1})
		add(letter{node: n, at: t1, action: consent.Grant, key: "pending", pending: true, in: "FR"})
		add(letter{node: n, at: t1, action: consent.Withdraw, key: "late", late: true})
		add(letter{node: n, at: t2, action: consent.Grant, key: "pending import", channel: consent.Import, pending: true})
		add(letter{node: n, at: t1, action: consent.Invalidate, key: "ended early", names: &grant2, unplace: true})
		add(letter{node: n, at: t2, action: consent.Grant, key: "history", channel: consent.Import, history: true})
		pending := letter{node: n, at: t1, key: "pending"}
		add(letter{node: n, at: t2, action: consent.Confirm, key: "confirm", names: &pending})
		add(letter{node: n, at: t2, action: consent.Expire, key: "expire"})
		add(letter{node: n, at: t2, action: consent.Request, key: "request", in: "JP"})
		add(letter{node: n, at: t2, action: consent.Defer, key: "defer"})
	}
	events := make([]consent.Event, len(letters))
	for i, l := range letters {
		events[i] = l.event()
	}
	return events
}

// expected is what the reference says of a set of events, in whatever order.
type expected struct {
	winners [3][4]consent.UUID // per node: yes, pending, no, ended
	content [3][4][32]byte
	now     [3]refFinding   // at the clock
	answers [2][3]refAnswer // at the clock, and later
	clock   consent.Instant // the largest received_at
	onNode  [3]bool         // something that is kept was said of the node
	named   [3]bool         // an invalidate there names a grant
	erased  string          // the rank of the largest erase
	asks    [2]consent.Instant
}

// explorer walks all sequences, depth first, and folds each once.
type explorer struct {
	t       *testing.T
	letters []consent.Event
	cat     *consent.Catalogue
	known   map[[4]int8]*expected // by the sorted letters, +1, 0 = none
	longest int
	counts  [5]int
}

func TestFold_EveryOrderOfEveryShortHistoryEqualsTheReference(t *testing.T) {
	longest := 4
	if testing.Short() {
		longest = 3
	}
	x := &explorer{t: t, letters: alphabet(), cat: catalogue(), known: map[[4]int8]*expected{}, longest: longest}
	if n := len(x.letters); n > 127 {
		t.Fatalf("%d letters do not fit into the key", n)
	}
	x.walk(consent.State{}, nil, toldNodes{})
	t.Logf("%d letters; sequences of 1 to 4 events: %d %d %d %d; different histories: %d", len(x.letters), x.counts[1], x.counts[2], x.counts[3], x.counts[4], len(x.known))
}

// toldNodes is what a sequence has announced of each node, and above which version
// those go on whose row an erase took away.
type toldNodes struct {
	node   [3]refTold
	floor  int64
	erased string // the rank of the largest erase so far
}

// walk appends every letter to the sequence and checks what Fold does with it.
// told is what the sequence so far has announced per node.
func (x *explorer) walk(s consent.State, sequence []int8, told toldNodes) {
	if len(sequence) == x.longest {
		return
	}
	for l := range x.letters {
		longer := append(slices.Clone(sequence), int8(l))
		e := &x.letters[l]
		next, changes, carried := consent.Fold(s, e)
		x.counts[len(longer)]++
		want := x.expect(longer)
		x.check(longer, len(carried) == 0, "something is carried without a link")
		x.checkRecords(longer, &next, want)
		x.checkDecisions(longer, &next, want)
		x.walk(next, longer, x.checkChanges(longer, e, changes, told, want))
	}
}

// expect asks the reference, once for each set of letters.
func (x *explorer) expect(sequence []int8) *expected {
	var key [4]int8
	for i, l := range sequence {
		key[3-i] = l + 1
	}
	slices.Sort(key[:])
	if w := x.known[key]; w != nil {
		return w
	}
	log := make([]consent.Event, len(sequence))
	for i, l := range sequence {
		log[i] = x.letters[l]
	}
	said := refHear(log)
	w := &expected{clock: refClock(said)}
	w.asks = [2]consent.Instant{w.clock, t2 + 1}
	if erased := refErased(said); erased != nil {
		w.erased = erased.rank
	}
	for n, p := range nodes {
		for k, kind := range []string{"yes", "pending", "no", "ended"} {
			if winner := refLargest(said, p, kind); winner != nil {
				w.winners[n][k], w.content[n][k], w.onNode[n] = winner.ID, winner.Digest, true
			}
		}
		for i := range said {
			if x := &said[i]; x.Purpose == p && x.Action == consent.Invalidate && x.Invalidates != nil {
				w.named[n] = true
			}
		}
		w.now[n] = refJudge(said, p, w.clock)
		for i, at := range w.asks {
			w.answers[i][n] = registry.refDecide(said, p, "US", at)
		}
	}
	x.known[key] = w
	return w
}

func (x *explorer) checkRecords(sequence []int8, s *consent.State, want *expected) {
	x.check(sequence, s.Whole.Clock == want.clock, "clock")
	for n, p := range nodes {
		row := s.Row(p)
		if row == nil {
			x.check(sequence, !want.onNode[n] && !want.named[n], "no row of a node of which something is kept")
			continue
		}
		for k, r := range [4]*consent.Record{row.Yes, row.Pending, row.No, row.Ended} {
			if r == nil {
				x.check(sequence, want.winners[n][k].IsZero(), "a record is missing")
			} else {
				x.check(sequence, r.EventID == want.winners[n][k] && r.Digest == want.content[n][k], "another record than the largest")
			}
		}
	}
}

func (x *explorer) checkDecisions(sequence []int8, s *consent.State, want *expected) {
	for i, at := range want.asks {
		for n, p := range nodes {
			got := consent.Decide(s, x.cat, consent.Query{Purpose: p, Jurisdiction: "US", At: at})
			if problem := differs(got, want.answers[i][n]); problem != "" {
				x.fail(sequence, fmt.Sprintf("decision for %s at %d: %s", p, at, problem))
			}
		}
	}
}

// checkChanges compares the changes of the last event with what the reference
// finds on each node that the event reaches, and gives what is announced now.
func (x *explorer) checkChanges(sequence []int8, e *consent.Event, got []consent.Change, told toldNodes, want *expected) toldNodes {
	if !refHeard(e) {
		x.check(sequence, len(got) == 0, "an event that is mere history emits a change")
		return told
	}
	for n, p := range nodes {
		was, known := told.node[n], told.node[n].version > 0
		if !known {
			was = refTold{status: consent.None, version: told.floor}
		}
		onRecord := want.onNode[n] || want.named[n] || known || slices.Contains(e.Policy.Covers, p)
		reached := p == e.Purpose || refProtective(e) && refBelow(p, e.Purpose) && onRecord
		f := want.now[n]
		moved := reached && (f.status != was.status || f.allowed != was.allowed) &&
			(known || told.erased == "" || f.status != consent.Erased)
		i := slices.IndexFunc(got, func(c consent.Change) bool { return c.Purpose == p })
		if !moved {
			x.check(sequence, i < 0, "a change of a purpose that did not move")
			continue
		}
		told.node[n] = refTold{f.status, f.allowed, was.version + 1}
		if i < 0 {
			x.fail(sequence, fmt.Sprintf("no change of %s: %s to %s", p, was.status, f.status))
		}
		c := got[i]
		x.check(sequence, c.From == was.status && c.To == f.status && c.AllowedBefore == was.allowed && c.AllowedAfter == f.allowed, "from, to or allowed")
		x.check(sequence, c.Version == was.version+1 && c.EventID == e.ID && c.Timestamp == want.clock, "version, event or timestamp")
		x.check(sequence, c.EffectiveAt == f.since && c.Withdrawal == refWithdrawal(was.status, f.status, was.allowed, f.allowed), "effective_at or withdrawal")
		got = slices.Delete(slices.Clone(got), i, i+1)
	}
	x.check(sequence, len(got) == 0, "more changes than the reference knows")
	if want.erased != told.erased {
		told.bury(want)
	}
	return told
}

// bury forgets the nodes whose row a new erase took away.
func (t *toldNodes) bury(want *expected) {
	t.erased = want.erased
	for _, told := range t.node {
		t.floor = max(t.floor, told.version)
	}
	for n, told := range t.node {
		if n > 0 && told.status == consent.Erased && !want.onNode[n] && !want.named[n] {
			t.node[n] = refTold{}
		}
	}
}

func (x *explorer) check(sequence []int8, ok bool, what string) {
	if !ok {
		x.fail(sequence, what)
	}
}

func (x *explorer) fail(sequence []int8, what string) {
	x.t.Helper()
	var log []consent.Event
	for _, l := range sequence {
		log = append(log, x.letters[l])
	}
	x.t.Fatalf("%s, after\n%s", what, describe(log))
}
