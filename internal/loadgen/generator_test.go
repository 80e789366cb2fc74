package loadgen

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/schemas/jsonform"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

func newGenerator(t testing.TB, o Options) *Generator {
	t.Helper()
	g, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("seed %d", o.Seed)
	return g
}

func jsonOf(g *Generator, n int) []byte {
	var b []byte
	for range n {
		c := g.Next()
		b = append(c.AppendJSON(b), '\n')
	}
	return b
}

// testCatalogue declares what the sample does not: a purpose for which service
// may not be denied, notices in two languages, another legal basis.
func testCatalogue(t testing.TB) *consent.Catalogue {
	t.Helper()
	r, err := registry.LoadBytes([]registry.Source{{Name: "purposes.yaml", Data: []byte(`
tenant: default
controller: {name: Shop, contact: privacy@shop.example}
defaults: {replay_window: {web: 2d, app: 5d, default: 30d}}
jurisdictions: {opt_in: [EU], opt_out: [US]}
purposes:
  - {id: marketing, title: Marketing, group: true}
  - id: marketing.email
    title: Newsletter
    legal_basis: consent
    model: {default: opt_in, US: opt_out}
    ttl: 10d
    double_opt_in: {required_in: [DE, AT], window: 7d}
    notices:
      - {id: newsletter, version: "2", language: en, text: "Yes, send it."}
      - {id: newsletter, version: "2", language: de, text: "Ja, gerne."}
  - id: analytics
    title: Statistics
    legal_basis: consent
    model: opt_in
    scope: device
    freely_given: {refuse_conditional: true}
    notices: [{id: banner, version: "7", language: en, text: "Count me."}]
  - id: billing
    title: Billing
    legal_basis: contract
`)}}, nil, registry.Options{})
	if err != nil {
		t.Fatal(registry.Explain(err))
	}
	return r.Catalogue(consent.DefaultTenant)
}

func TestNext_TheSameSeedGivesTheSameBytes(t *testing.T) {
	options := Options{Seed: 7, Subjects: 1000, InvalidShare: 0.05}
	text := jsonOf(newGenerator(t, options), 20_000)
	if !bytes.Equal(text, jsonOf(newGenerator(t, options), 20_000)) {
		t.Fatal("two generators with the same options differ")
	}
	options.Seed++
	if bytes.Equal(text, jsonOf(newGenerator(t, options), 20_000)) {
		t.Fatal("another seed gives the same")
	}
	golden(t, "next.sha256", text)
}

// golden holds a text against the hash of what it was: whoever changes what a
// seed gives must know it, since benchmarks before and after are then of other
// traffic.
func golden(t *testing.T, name string, text []byte) {
	t.Helper()
	sum := sha256.Sum256(text)
	got := hex.EncodeToString(sum[:]) + "\n"
	path := "testdata/" + name
	if *rewrite {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("what the seed gives has the hash %s, want %s; if that is meant, -rewrite", got, want)
	}
}

// verdict is what package consent and the JSON form say of a claim that is
// received at a time.
func verdict(c *consent.Catalogue, claim *Claim, received consent.Instant) (codes []consent.Code, unusable bool) {
	raw := claim.AppendJSON(nil)
	e, problems, err := jsonform.ParseEvent(raw)
	if err != nil || len(raw) > 64<<10 {
		return nil, true
	}
	if e.Action == consent.ActionUnknown {
		return []consent.Code{consent.CodeMalformed}, false
	}
	e.ReceivedAt = received
	e.EffectiveAt = consent.EffectiveAt(&e, received)
	c.Stamp(&e)
	for _, f := range c.Check(&e) {
		codes = append(codes, f.Code)
	}
	for _, p := range problems {
		if p.Kind.Malformed() && e.Action == consent.Grant {
			codes = append(codes, consent.CodeMalformed)
		}
	}
	return codes, false
}

func TestExpect_AgreesWithTheRules(t *testing.T) {
	for name, catalogue := range map[string]*consent.Catalogue{
		"sample": registry.Sample().Catalogue(consent.DefaultTenant),
		"strict": testCatalogue(t),
	} {
		g := newGenerator(t, Options{Seed: 3, Subjects: 500, InvalidShare: 0.4, Catalogue: catalogue})
		seen := map[Expect]int{}
		for range 15_000 {
			claim := g.Next()
			x := claim.Expect
			seen[x]++
			codes, unusable := verdict(catalogue, &claim, g.now()+consent.Instant(80))
			told := false
			for _, code := range codes {
				told = told || code == x.Code
			}
			switch {
			case x.Accepted() && (unusable || len(codes) > 0):
				t.Fatalf("%s: %s must be accepted, and breaks %v: %s", name, claim.Event.Action, codes, claim.AppendJSON(nil))
			case x.Status == 422 && !told:
				t.Fatalf("%s: must break %s, and breaks %v: %s", name, x.Code, codes, claim.AppendJSON(nil))
			case (x.Status == 400 || x.Status == 413) && !unusable:
				t.Fatalf("%s: must be %d, and could be read", name, x.Status)
			}
		}
		for _, want := range []Expect{
			refusedBy(consent.CodeAffirmative), refusedBy(consent.CodeSpecific), refusedBy(consent.CodeInformed), refusedBy(consent.CodeFresh),
			refusedBy(consent.CodePseudonymous), refusedBy(consent.CodeConfirm), refusedBy(consent.CodeMalformed), {Status: 400}, {Status: 413}, recorded,
			{Status: 202, Warning: consent.WarnUnknownPurpose}, {Status: 202, Warning: consent.WarnSubjectHashed},
			{Status: 202, Warning: consent.WarnBackdated}, {Status: 202, Warning: consent.WarnEventIDDerived}, {Status: 202, Warning: consent.WarnUnknownField},
		} {
			if seen[want] == 0 {
				t.Errorf("%s: nothing is expected to be %+v", name, want)
			}
		}
		if name == "strict" && seen[refusedBy(consent.CodeFreelyGiven)] == 0 {
			t.Error("nothing breaks freely_given")
		}
	}
}

func TestNext_HoldsTheInvalidShare(t *testing.T) {
	for _, share := range []float64{0, 0.01, 0.3, 1} {
		g := newGenerator(t, Options{Seed: 5, InvalidShare: share})
		const n = 50_000
		refused := 0
		for range n {
			if c := g.Next(); !c.Expect.Accepted() {
				refused++
			}
		}
		if got := float64(refused) / n; got < share*0.85 || got > share*1.15 {
			t.Errorf("share %v of the events must be refused, want %v", got, share)
		}
	}
}

func TestNextAct_FollowsTheMix(t *testing.T) {
	mix, err := ParseMix([]string{"unsubscribe=3", "erase=1"})
	if err != nil {
		t.Fatal(err)
	}
	g := newGenerator(t, Options{Seed: 5, Mix: mix})
	for range 10_000 {
		g.NextAct()
	}
	if u, e := g.Count(Unsubscribe), g.Count(Erasure); u+e != 10_000 || u < 7200 || u > 7800 {
		t.Errorf("%d unsubscribes and %d erasures, want three to one", u, e)
	}
	full := newGenerator(t, Options{Seed: 5, InvalidShare: 0.01})
	for range 50_000 {
		full.NextAct()
	}
	for k := Banner; k <= Invalid; k++ {
		if full.Count(k) == 0 {
			t.Errorf("the default mix makes no %s", k)
		}
	}
}

func TestParseMix_ReadsWhatItPrintsAndRefusesTheRest(t *testing.T) {
	again, err := ParseMix(strings.Split(DefaultMix().String(), ","))
	if err != nil || again != DefaultMix() {
		t.Errorf("%v, %v", again, err)
	}
	for _, pairs := range [][]string{{"banner"}, {"banner=-1"}, {"invalid=3"}, {"cookie=1"}, {"banner=0"}, {"banner=2000000"}} {
		if m, err := ParseMix(pairs); err == nil {
			t.Errorf("%v became %v", pairs, m)
		}
	}
}

func TestNextAct_SendsAgainWithTheSameIDsAndAnotherSentAt(t *testing.T) {
	g := newGenerator(t, Options{Seed: 9, Subjects: 300})
	first := map[consent.UUID]consent.Event{}
	again, later := 0, 0
	for range 30_000 {
		a := g.NextAct()
		for i := range a.Claims {
			e := a.Claims[i].Event
			was, seen := first[e.ID]
			if seen != a.Claims[i].Again {
				t.Fatalf("%s of kind %s: sent before: %v, marked so: %v", e.ID, a.Kind, seen, a.Claims[i].Again)
			}
			if !seen {
				first[e.ID] = e
				continue
			}
			again++
			if e.SentAt > was.SentAt {
				later++
			}
			if was.SentAt = e.SentAt; !bytes.Equal(jsonform.AppendEvent(nil, &was), jsonform.AppendEvent(nil, &e)) {
				t.Fatalf("%s says something else the second time", e.ID)
			}
		}
	}
	if again < 500 || later < again/2 {
		t.Errorf("%d events were sent again, %d with a later sent_at", again, later)
	}
}

func TestNextAct_ChoicesOfOneActShareAnInteraction(t *testing.T) {
	g := newGenerator(t, Options{Seed: 11})
	several, answersOfRequests := 0, 0
	requests := map[consent.UUID]bool{}
	for range 5000 {
		a := g.NextAct()
		if a.Kind != Banner {
			continue
		}
		for i := range a.Claims {
			e := &a.Claims[i].Event
			if e.InteractionID.IsZero() || e.InteractionID != a.Claims[0].Event.InteractionID || e.Subject != a.Claims[0].Event.Subject {
				t.Fatal("a banner's events are of several interactions or subjects")
			}
			switch {
			case e.Action == consent.Request:
				requests[e.ID] = true
			case requests[e.RequestID]:
				answersOfRequests++
			default:
				t.Fatal("an answer names no request that was made before")
			}
		}
		if len(a.Claims) > 1 {
			several++
		}
	}
	if several < 100 || answersOfRequests < 100 {
		t.Errorf("%d banners with several choices, %d answers", several, answersOfRequests)
	}
}

func TestNext_IsLateOutOfOrderAndHasWrongClocks(t *testing.T) {
	g := newGenerator(t, Options{Seed: 13, Subjects: 2000})
	type key struct {
		consent.Subject
		consent.Purpose
	}
	newest := map[key]consent.Instant{}
	var backwards, skewed, tests, links, named, gpc int
	for range 50_000 {
		now := g.now()
		c := g.Next()
		e := &c.Event
		k := key{e.Subject, e.Purpose}
		if e.OccurredAt != 0 && e.OccurredAt < newest[k] {
			backwards++
		}
		newest[k] = max(newest[k], e.OccurredAt)
		if d := e.SentAt - now; e.SentAt != 0 && (d > minute || d < -minute) {
			skewed++
		}
		for is, count := range map[*int]bool{&tests: e.Test, &links: e.LinkTo != "", &named: e.Invalidates != nil, &gpc: c.GPC} {
			if count {
				*is++
			}
		}
	}
	for name, n := range map[string]int{"out of order": backwards, "with a wrong clock": skewed, "tests": tests, "links": links, "invalidates that name a grant": named, "GPC": gpc} {
		if n < 100 {
			t.Errorf("%d events of 50,000 are %s", n, name)
		}
	}
}

func TestNextAct_APhoneSendsItsQueueLateAndSometimesOutOfOrder(t *testing.T) {
	g := newGenerator(t, Options{Seed: 14, Mix: Mix{Phone: 1}})
	sorted, shuffled := 0, 0
	for range 1000 {
		a := g.NextAct()
		inOrder := true
		for i := range a.Claims {
			e := &a.Claims[i].Event
			inOrder = inOrder && (i == 0 || a.Claims[i-1].Event.OccurredAt <= e.OccurredAt)
			if e.Subject != a.Claims[0].Event.Subject || e.OccurredAt > e.SentAt || e.OccurredAt < e.SentAt-4*day {
				t.Fatalf("occurred at %s, sent at %s", e.OccurredAt, e.SentAt)
			}
		}
		if inOrder {
			sorted++
		} else {
			shuffled++
		}
	}
	if sorted < 500 || shuffled < 200 {
		t.Errorf("%d queues are in order, %d are not", sorted, shuffled)
	}
}

func TestNext_LinksStayInTheHousehold(t *testing.T) {
	g := newGenerator(t, Options{Seed: 15, Subjects: 777, Mix: Mix{Linking: 1}})
	links := 0
	for range 3000 {
		c := g.Next()
		if c.Event.LinkTo == "" {
			continue
		}
		links++
		from, to := false, false
		for _, s := range g.Household(c.Household) {
			from, to = from || s == c.Event.Subject, to || s == c.Event.LinkTo
		}
		if !from || !to || c.Event.Subject == c.Event.LinkTo {
			t.Fatalf("household %d: has the device %v, the person %v", c.Household, from, to)
		}
	}
	if links < 1000 {
		t.Errorf("%d links", links)
	}
}

func TestDraw_FallsOffByRankAndReachesEverybody(t *testing.T) {
	for _, size := range []int{1, 2, 19, 20, 1000, 10_000} {
		g := newGenerator(t, Options{Seed: 17, Subjects: size})
		hits := make([]int, size)
		draws := 200 * size
		for range draws {
			hits[g.people.draw(g.rand)]++
		}
		top, bottom := hits[0], 0
		for _, h := range hits[size/2:] {
			bottom += h
		}
		if size >= 1000 && (top < draws/size*20 || bottom > draws/4 || bottom < draws/20) {
			t.Errorf("of %d subjects the first acts %d times in %d, the second half %d times", size, top, draws, bottom)
		}
		if size <= 1000 && hits[size-1] == 0 {
			t.Errorf("of %d subjects the last never acts", size)
		}
	}
}

func TestAppendSubmission_SaysWhatItsEventsSay(t *testing.T) {
	g := newGenerator(t, Options{Seed: 19})
	submissions := 0
	for range 5000 {
		a := g.NextAct()
		if a.Form != AsSubmission {
			continue
		}
		submissions++
		var outer struct {
			Subject string
			Choices map[string]struct {
				Granted bool
				Notice  struct{ ID, Version string }
			}
		}
		if text := a.AppendSubmission(nil); json.Unmarshal(text, &outer) != nil {
			t.Fatalf("no JSON: %s", text)
		}
		if outer.Subject != string(a.Claims[0].Event.Subject) || len(outer.Choices) != len(a.Claims) || a.Key == "" {
			t.Fatalf("%d choices for %d events", len(outer.Choices), len(a.Claims))
		}
		for i := range a.Claims {
			e := &a.Claims[i].Event
			choice := outer.Choices[string(e.Purpose)]
			if choice.Granted != (e.Action == consent.Grant) || choice.Notice.ID != e.Notice.ID {
				t.Fatalf("%s %s became %+v", e.Action, e.Purpose, choice)
			}
		}
	}
	if submissions < 100 {
		t.Errorf("%d submissions", submissions)
	}
}

func TestNow_ReplacesTheClock(t *testing.T) {
	clock := consent.InstantOf(time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC))
	g := newGenerator(t, Options{Seed: 25, Mix: Mix{CallCenter: 1}, Now: func() consent.Instant { clock += 5; return clock }})
	for range 100 {
		if c := g.Next(); c.Event.SentAt < clock-5000 || c.Event.SentAt > clock {
			t.Fatalf("sent at %s, now %s", c.Event.SentAt, clock)
		}
	}
}

func TestNew_RefusesWhatIsOutOfBounds(t *testing.T) {
	for _, o := range []Options{
		{Subjects: -1}, {InvalidShare: -0.1}, {InvalidShare: 1.1}, {EventsPerSecond: -1}, {Day: -1}, {Day: time.Millisecond},
		{Jurisdictions: []Market{{"DE", 0}}}, {Jurisdictions: []Market{{"DE", -1}}}, {Mix: Mix{Banner: -1, Phone: 2}},
		{Catalogue: consent.NewCatalogue("default", "v", nil)},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if _, err := New(Options{}); err != nil {
		t.Error(err)
	}
}

func BenchmarkNext(b *testing.B) {
	g := newGenerator(b, Options{Seed: 1, Subjects: 100_000, InvalidShare: 0.01})
	b.ReportAllocs()
	for b.Loop() {
		g.Next()
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
