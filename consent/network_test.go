package consent_test

import (
	"crypto/sha1"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// network is several subjects whose links carry events between them, as the
// processor does it: what a fold carries is delivered some time later.
type network struct {
	t     *testing.T
	nodes map[consent.Subject]consent.State
	said  []consent.Event // and what was carried
	under []consent.Event // on their way
	moved int             // how many were carried
}

func newNetwork(t *testing.T) *network {
	return &network{t: t, nodes: map[consent.Subject]consent.State{}}
}

// most is far more than any of these small networks should carry: more means that
// an event goes round for ever.
const most = 20_000

func (n *network) fold(e consent.Event) {
	s, _, carried := consent.Fold(n.nodes[e.Subject], &e)
	n.nodes[e.Subject] = s
	n.said = append(n.said, e)
	n.moved += len(carried)
	if n.moved > most {
		n.t.Fatal("what is carried does not come to rest")
	}
	for _, c := range carried {
		if c.Action != consent.Refuse && c.Action != consent.Withdraw {
			n.t.Errorf("a %s is carried", c.Action)
		}
		if c.Subject == e.Subject || c.Subject == c.Carried.Subject || slices.Contains(c.Carried.Via, c.Subject) {
			n.t.Errorf("carried to where it came from: %v to %q", c.Carried, string(c.Subject))
		}
		if c.EffectiveAt > c.ReceivedAt || c.Policy != nil && c.Policy.Scope == consent.ScopeDevice && !c.Policy.SaleOrShare {
			n.t.Errorf("carried %+v", c)
		}
		if again := digested(c); again.Digest != c.Digest { // what a decoder would find
			n.t.Error("the copy's digest is not that of the first event")
		}
	}
	n.under = append(n.under, carried...)
}

// run folds events in their order; between any two of them, of what is under way
// as much is delivered as next says. In the end all is.
func (n *network) run(log []consent.Event, next func(under int) (which int, ok bool)) {
	for i := range log {
		n.fold(log[i])
		for len(n.under) > 0 {
			which, ok := next(len(n.under))
			if !ok {
				break
			}
			n.deliver(which)
		}
	}
	for len(n.under) > 0 {
		which, _ := next(len(n.under))
		n.deliver(which)
	}
}

func (n *network) deliver(which int) {
	e := n.under[which]
	n.under = slices.Delete(n.under, which, which+1)
	n.fold(e)
}

// records is what must not depend on the order: of each subject the records, and
// the events kept for carrying, but for which of several ways they came.
func (n *network) records() map[consent.Subject]consent.State {
	all := map[consent.Subject]consent.State{}
	for subject, s := range n.nodes {
		links := s.Whole.Links
		s = recordsOf(s)
		s.Whole = consent.Whole{Links: links, Erased: s.Whole.Erased} // clock and jurisdictions grow with what is carried
		for i := range s.Rows {
			o := s.Rows[i].NoEvent
			if o == nil || o.Event().Carried == nil {
				continue
			}
			kept, way := *o.Event(), *o.Event().Carried
			way.Via = nil
			kept.Carried = &way
			s.Rows[i].NoEvent = consent.OriginalOf(&kept)
		}
		if len(s.Rows) > 0 || len(s.Whole.Links) > 0 {
			all[subject] = s
		}
	}
	return all
}

// checkNothingLost holds each link that is in force, or was when the no was said,
// against the records at its end. What was said between two unlinks is carried or
// not, as they come.
func (n *network) checkNothingLost() {
	for subject, s := range n.nodes {
		for _, l := range s.Whole.Links {
			for _, row := range s.Rows {
				if row.No == nil || !refCarriable(row.NoEvent.Event()) || !n.carriedBy(subject, &l, row.No, s.Whole.Erased) {
					continue
				}
				if c := row.NoEvent.Event().Carried; c != nil && (c.Subject == l.To || slices.Contains(c.Via, l.To)) {
					continue
				}
				to := n.nodes[l.To]
				there := to.Row(row.Purpose)
				kept := there != nil && there.No != nil && there.No.Compare(row.No) >= 0
				if erased := to.Whole.Erased; !kept && (erased == nil || erased.Compare(row.No) < 0) {
					n.t.Errorf("the no on %s of %q did not come to %q", row.Purpose, string(subject), string(l.To))
				}
			}
		}
	}
}

func (n *network) carriedBy(from consent.Subject, l *consent.LinkRecord, no, erased *consent.Record) bool {
	if l.Linked == nil || erased != nil && l.Linked.Compare(erased) < 0 {
		return false // it ended, and what was said before went with it
	}
	for _, e := range n.said {
		if e.Action == consent.Unlink && e.Subject == from && e.LinkTo == l.To && e.EffectiveAt > l.Linked.OrderAt && e.EffectiveAt < no.OrderAt {
			return false
		}
	}
	return true
}

// refCarriable: "A purpose with scope: device is not carried, unless it is
// sale_or_share".
func refCarriable(e *consent.Event) bool {
	return e.Policy == nil || e.Policy.Scope != consent.ScopeDevice || e.Policy.SaleOrShare
}

// refSpread gives, where nothing is unlinked or erased, what each subject has
// been told in the end: its own events, and a copy of every refuse and withdraw of
// every subject from which links lead to it. A copy holds from when the last link
// of a way began, on the way on which that is earliest.
func refSpread(events []consent.Event) map[consent.Subject][]consent.Event {
	all := map[consent.Subject][]consent.Event{}
	links := map[[2]consent.Subject]consent.Instant{} // from, to: the first
	for _, e := range events {
		all[e.Subject] = append(all[e.Subject], e)
		if e.Action != consent.Link {
			continue
		}
		edge := [2]consent.Subject{e.Subject, e.LinkTo}
		if first, ok := links[edge]; !ok || e.EffectiveAt < first {
			links[edge] = e.EffectiveAt
		}
	}
	for _, e := range events {
		if e.Action != consent.Refuse && e.Action != consent.Withdraw || !refCarriable(&e) {
			continue
		}
		holds := map[consent.Subject]consent.Instant{e.Subject: e.EffectiveAt}
		for range len(links) { // longer ways than there are links go round
			for edge, began := range links {
				from, ok := holds[edge[0]]
				if !ok {
					continue
				}
				if at, known := holds[edge[1]]; !known || max(from, began) < at {
					holds[edge[1]] = max(from, began)
				}
			}
		}
		for to, at := range holds {
			if to == e.Subject {
				continue
			}
			c := e
			c.ID, c.Subject, c.EffectiveAt, c.ReceivedAt = refUUIDv5(e.ID, string(to)), to, at, max(e.ReceivedAt, at)
			c.Carried = &consent.Carried{Subject: e.Subject, EventID: e.ID, EffectiveAt: e.EffectiveAt}
			all[to] = append(all[to], c)
		}
	}
	return all
}

func refUUIDv5(namespace consent.UUID, name string) (u consent.UUID) {
	sum := sha1.Sum(append(namespace[:], name...))
	copy(u[:], sum[:])
	u[6], u[8] = u[6]&0x0f|0x50, u[8]&0x3f|0x80
	return u
}

// differsFromSpread compares the networks' nos with the reference's.
func (n *network) differsFromSpread(events []consent.Event) string {
	for subject, told := range refSpread(events) {
		s := n.nodes[subject]
		said := refHear(told)
		for _, p := range saidOf {
			row := s.Row(p)
			if row == nil {
				row = &consent.Row{}
			}
			want := refLargest(said, p, "no")
			for i := range said { // of repetitions, the first receipt
				if want != nil && said[i].rank == want.rank && refNode(&said[i].Event) == p && said[i].ReceivedAt < want.ReceivedAt {
					want = &said[i]
				}
			}
			if (row.No == nil) != (want == nil) {
				return fmt.Sprintf("%q has a no on %s: %t, want %t", string(subject), p, row.No != nil, want != nil)
			}
			if want != nil && (row.No.EventID != want.ID || row.No.Digest != want.Digest || row.No.EffectiveAt != want.EffectiveAt || row.No.ReceivedAt != want.ReceivedAt || row.No.OrderAt != refOrderAt(&want.Event)) {
				return fmt.Sprintf("%q on %s: %+v, want %+v", string(subject), p, *row.No, want.Event)
			}
		}
	}
	return ""
}

var linked = []consent.Subject{"device:1", "user:1", "user:2", "device:2"}

// events draws what several subjects say, and how they are linked.
func (d drawer) events(actions []consent.Action) []consent.Event {
	var all []consent.Event
	for range 2 + d.IntN(9) {
		e := consent.Event{
			ID: id(d.IntN(1 << 16)), Tenant: consent.DefaultTenant, Subject: pick(d, linked), Purpose: pick(d, saidOf), Action: pick(d, actions),
			EffectiveAt: minute * consent.Instant(1+d.IntN(6)), Channel: consent.Web, Policy: &consent.Policy{},
		}
		if len(all) > 0 && d.chance(10) {
			e.ID = pick(d, all).ID
		}
		switch e.Purpose {
		case "a":
			e.Policy.Scope = consent.ScopeDevice
		case "m.s":
			e.Policy.Scope, e.Policy.SaleOrShare = consent.ScopeDevice, true
		}
		if e.Action.Whole() {
			e.Purpose, e.Policy = consent.Root, &consent.Policy{}
		}
		if e.Action == consent.Link || e.Action == consent.Unlink {
			if e.LinkTo = pick(d, linked); e.LinkTo == e.Subject {
				continue
			}
		}
		e.ReceivedAt = e.EffectiveAt + minute*consent.Instant(d.IntN(3))
		all = append(all, digested(e))
		if d.chance(10) { // a retry
			e.ReceivedAt += minute
			all = append(all, digested(e))
		}
	}
	return all
}

// sooner or later delivers at random.
func (d drawer) soonerOrLater(percent int) func(int) (int, bool) {
	return func(under int) (int, bool) { return d.IntN(under), d.chance(percent) }
}

func TestLink_EveryOrderOfSayingAndCarryingGivesTheSameRecords(t *testing.T) {
	d := drawer{seeded(t), nil}
	carried := 0
	for n := range 3 * histories {
		events := d.events([]consent.Action{consent.Link, consent.Link, consent.Withdraw, consent.Refuse, consent.Grant})
		var first map[consent.Subject]consent.State
		for order := range 4 {
			log := d.log(events)
			if order == 0 {
				log = events
			}
			net := newNetwork(t)
			net.run(log, d.soonerOrLater(order*33))
			carried += net.moved
			net.checkNothingLost()
			if problem := net.differsFromSpread(events); problem != "" {
				t.Errorf("network %d, order %d: %s", n, order, problem)
			}
			if records := net.records(); order == 0 {
				first = records
			} else if !reflect.DeepEqual(records, first) {
				t.Errorf("network %d: order %d gives other records", n, order)
			}
			if t.Failed() {
				t.Fatal(describeAll(log))
			}
		}
	}
	t.Logf("%d events carried", carried)
	if carried < 1000 {
		t.Error("hardly anything was carried")
	}
}

// A late unlink or erase leaves more restriction, never less: whatever the order,
// what a link must carry has come.
func TestLink_WithUnlinksAndErasesNothingIsLostInAnyOrder(t *testing.T) {
	d := drawer{seeded(t), nil}
	for range 3 * histories {
		events := d.events([]consent.Action{consent.Link, consent.Link, consent.Withdraw, consent.Refuse, consent.Withdraw, consent.Unlink, consent.Erase})
		for order := range 4 {
			log := d.log(events)
			net := newNetwork(t)
			net.run(log, d.soonerOrLater(order*33))
			net.checkNothingLost()
			if t.Failed() {
				t.Fatal(describeAll(log))
			}
			// All of it again: nothing more is carried than came, and nothing moves.
			before := net.records()
			net.run(log, d.soonerOrLater(50))
			net.checkNothingLost()
			for subject, s := range net.records() {
				for _, row := range before[subject].Rows {
					if again := s.Row(row.Purpose); again == nil || row.No != nil && (again.No == nil || again.No.Compare(row.No) < 0) {
						t.Fatalf("a repetition takes a no from %q on %s\n%s", string(subject), row.Purpose, describeAll(log))
					}
				}
			}
		}
	}
}

// Every history of up to four events of three linked subjects, in every order, with
// what is carried delivered at once, or at the very end, last first.
func TestLink_EveryShortHistoryInEveryOrder(t *testing.T) {
	say := func(n int, s consent.Subject, a consent.Action, to consent.Subject, at consent.Instant) consent.Event {
		e := consent.Event{ID: id(n), Tenant: consent.DefaultTenant, Subject: s, Purpose: "m.e", Action: a, LinkTo: to, EffectiveAt: at, ReceivedAt: at}
		if a.Whole() {
			e.Purpose = consent.Root
		}
		return digested(e)
	}
	const d, p, q = "device:1", "user:1", "user:2"
	letters := []consent.Event{
		say(1, d, consent.Withdraw, "", 30), say(2, d, consent.Refuse, "", 50), say(3, p, consent.Withdraw, "", 40), say(4, p, consent.Grant, "", 45),
		say(5, d, consent.Link, p, 10), say(6, d, consent.Link, p, 60), say(7, p, consent.Link, q, 20), say(8, q, consent.Link, d, 35), say(9, p, consent.Link, d, 55),
		say(10, d, consent.Link, q, 5), say(11, d, consent.Unlink, p, 40), say(12, d, consent.Erase, "", 45), say(13, p, consent.Erase, "", 35),
	}
	longest, sets, runs := 4, 0, 0
	if testing.Short() {
		longest = 3
	}
	var choose func(from int, chosen []consent.Event)
	choose = func(from int, chosen []consent.Event) {
		if len(chosen) > 0 {
			sets++
			runs += everyOrder(t, chosen)
		}
		for i := from; i < len(letters) && len(chosen) < longest; i++ {
			choose(i+1, append(slices.Clone(chosen), letters[i]))
		}
	}
	choose(0, nil)
	t.Logf("%d histories, %d runs", sets, runs)
}

func everyOrder(t *testing.T, events []consent.Event) (runs int) {
	joins := !slices.ContainsFunc(events, func(e consent.Event) bool { return e.Action == consent.Unlink || e.Action == consent.Erase })
	var first map[consent.Subject]consent.State
	permute(slices.Clone(events), func(log []consent.Event) {
		for _, next := range []func(int) (int, bool){
			func(int) (int, bool) { return 0, true },
			func(under int) (int, bool) { return under - 1, false },
		} {
			runs++
			net := newNetwork(t)
			net.run(log, next)
			net.checkNothingLost()
			if joins {
				if problem := net.differsFromSpread(events); problem != "" {
					t.Error(problem)
				}
				if records := net.records(); first == nil {
					first = records
				} else if !reflect.DeepEqual(records, first) {
					t.Error("another order gives other records")
				}
			}
			if t.Failed() {
				t.Fatal(describeAll(log))
			}
		}
	})
	return runs
}

// permute calls f with every order of list.
func permute(list []consent.Event, f func([]consent.Event)) {
	var walk func(k int)
	walk = func(k int) {
		if k == len(list) {
			f(list)
			return
		}
		for i := k; i < len(list); i++ {
			list[k], list[i] = list[i], list[k]
			walk(k + 1)
			list[k], list[i] = list[i], list[k]
		}
	}
	walk(0)
}

func describeAll(log []consent.Event) string {
	by := map[consent.Subject][]consent.Event{}
	order := ""
	for _, e := range log {
		by[e.Subject] = append(by[e.Subject], e)
		order += " " + string(e.Subject)
	}
	text := order + "\n"
	for _, s := range slices.Sorted(maps.Keys(by)) {
		text += string(s) + "\n" + describe(by[s])
	}
	return text
}
