package loadgen

import (
	"strconv"

	"github.com/assent-dev/assent/consent"
)

// act makes one of a kind. A kind that this catalogue or population has nothing
// for becomes a change of preferences.
func (g *Generator) act(k Kind) Act {
	switch k {
	case Banner:
		return g.banner()
	case Unsubscribe:
		return g.unsubscribe()
	case Signup:
		return g.signup()
	case Phone:
		return g.phone()
	case CallCenter:
		return g.callCenter()
	case Linking:
		return g.linking()
	case ImportRows:
		return g.importRows()
	case GPC:
		return g.gpc()
	case Correction:
		return g.correction()
	case Odd:
		return g.odd()
	case Erasure:
		return g.erasure()
	}
	return g.preferences()
}

// What browsers and apps say about themselves; addresses are those that RFC 5737
// keeps for documents.
var (
	pages      = []string{"https://shop.example/", "https://shop.example/sale", "https://shop.example/cart", "https://news.example/today"}
	userAgents = []string{
		"Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		"Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148 Safari/604.1",
		"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/138.0.0.0 Safari/537.36",
	}
	addresses = func() (all [64]string) {
		for i := range all {
			all[i] = "203.0.113." + strconv.Itoa(i+1)
		}
		return all
	}()
)

// event begins an event of subject n that is said now, by the subject's clock.
func (g *Generator) event(n int, channel consent.Channel, source string) consent.Event {
	now := g.now()
	if wrong := g.people.clockError(n); -wrong < g.offers.oldest(channel) {
		now += wrong
	}
	e := consent.Event{
		ID: g.uuid(), Tenant: g.options.Tenant, Subject: g.people.subject(n),
		OccurredAt: now - g.instant(20, 3*second), SentAt: now,
		Channel: channel, Source: source, Property: "shop.example",
		Jurisdiction: g.people.jurisdiction(n),
		Test:         g.chance(2, 100),
	}
	if g.chance(3, 100) { // on a journey
		e.Jurisdiction = pick(g, g.options.Jurisdictions).Jurisdiction
	}
	return e
}

// browser fills in what a web page knows besides.
func (g *Generator) browser(e *consent.Event) {
	e.Evidence.PageURL, e.Evidence.UserAgent, e.Evidence.IP = pick(g, pages), pick(g, userAgents), addresses[g.rand.IntN(len(addresses))]
}

// notice is what a purpose is shown with; one in four channels sends its hash.
func (g *Generator) notice(o *offer) consent.Notice {
	n := pick(g, o.notices)
	if !g.chance(1, 4) {
		n.SHA256 = [32]byte{}
	}
	return n
}

// say makes a claim of e about a purpose, with an id of its own.
func (g *Generator) say(n int, e consent.Event, action consent.Action, purpose consent.Purpose) Claim {
	e.ID, e.Action, e.Purpose = g.uuid(), action, purpose
	return Claim{Event: e, Expect: recorded, Household: n / householdSize}
}

// choose makes the claim of one toggle: a grant with its notice, or what takes
// it back.
func (g *Generator) choose(n int, e consent.Event, o *offer, granted bool, no consent.Action) Claim {
	if !granted {
		return g.say(n, e, no, o.purpose)
	}
	e.Notice = g.notice(o)
	return g.say(n, e, consent.Grant, o.purpose)
}

// some gives k different offers.
func (g *Generator) some(k int) []*offer {
	k = min(k, len(g.offers.all))
	from := g.rand.IntN(len(g.offers.all))
	chosen := make([]*offer, k)
	for i := range chosen {
		chosen[i] = &g.offers.all[(from+i)%len(g.offers.all)]
	}
	return chosen
}

// banner shows a notice; the answer follows as an act of its own.
func (g *Generator) banner() Act {
	n := g.people.device(g.people.draw(g.rand))
	if g.chance(15, 100) {
		n = g.people.user(n)
	}
	e := g.event(n, consent.Web, "shop-web/3.2")
	g.browser(&e)
	e.InteractionID = g.uuid()
	shown := e
	shown.OccurredAt -= g.instant(2*second, 20*second)
	shown.Notice = g.offers.all[0].notices[0]
	request := g.say(n, shown, consent.Request, consent.Root)
	e.RequestID = request.Event.ID
	answer := g.answer(n, e)
	g.follow = &answer
	return Act{Kind: Banner, Claims: []Claim{request}}
}

// answer is what a subject does with a banner.
func (g *Generator) answer(n int, e consent.Event) Act {
	a := Act{Kind: Banner}
	yes := 0 // of 100, for each purpose
	e.Evidence.Method = consent.ClickAccept
	switch at := g.rand.IntN(100); {
	case at < 10:
		a.Claims = []Claim{g.say(n, e, consent.Defer, consent.Root)}
		return a
	case at < 55:
		e.Evidence.Control, yes = consent.AcceptAll, 100
	case at < 85:
		e.Evidence.Control = consent.RejectAll
	default:
		e.Evidence.Control, e.Evidence.ControlDefault, yes = consent.Save, consent.DefaultOff, 50
		e.Evidence.Method = consent.Toggle
	}
	a.Claims = make([]Claim, 0, len(g.offers.all))
	for i := range g.offers.all {
		a.Claims = append(a.Claims, g.choose(n, e, &g.offers.all[i], g.chance(yes, 100), consent.Refuse))
	}
	if g.chance(1, 2) {
		a.Form, a.Key = AsSubmission, "banner-"+e.InteractionID.String()
	}
	return a
}

// preferences moves toggles on a page; one in 20 takes back a whole branch, or
// everything.
func (g *Generator) preferences() Act {
	n := g.people.user(g.people.draw(g.rand))
	e := g.event(n, consent.Web, "shop-web/3.2")
	g.browser(&e)
	e.Evidence.Method, e.Evidence.Control, e.Evidence.ControlDefault = consent.PreferenceCenter, consent.ToggleControl, consent.DefaultOff
	if g.chance(1, 20) {
		branch := consent.Root
		if len(g.offers.groups) > 0 && g.chance(2, 3) {
			branch = pick(g, g.offers.groups)
		}
		return Act{Kind: Preferences, Claims: []Claim{g.say(n, e, consent.Withdraw, branch)}}
	}
	e.InteractionID = g.uuid()
	chosen := g.some(g.between(1, 3))
	a := Act{Kind: Preferences, Claims: make([]Claim, 0, len(chosen))}
	no := consent.Withdraw
	if len(chosen) > 1 && g.chance(1, 3) {
		a.Form, a.Key, no = AsSubmission, "page-"+e.InteractionID.String(), consent.Refuse
	}
	for _, o := range chosen {
		a.Claims = append(a.Claims, g.choose(n, e, o, g.chance(45, 100), no))
	}
	return a
}

// unsubscribe is the link in a mail. One-click senders tell no time.
func (g *Generator) unsubscribe() Act {
	n := g.people.draw(g.rand)
	if g.chance(6, 10) {
		n = g.people.mailbox(n)
	} else {
		n = g.people.user(n)
	}
	e := g.event(n, consent.Email, "mailer/7.0")
	e.Evidence.Reference = "campaign-" + strconv.Itoa(g.between(100, 999))
	purpose := pick(g, g.offers.mail).purpose
	if parent := purpose.Parent(); parent != consent.Root && g.chance(1, 10) {
		purpose = parent // the link that says "from all of it"
	}
	if g.chance(3, 10) {
		e.OccurredAt, e.SentAt = 0, 0
	}
	return Act{Kind: Unsubscribe, Claims: []Claim{g.say(n, e, consent.Withdraw, purpose)}}
}

func (g *Generator) signup() Act {
	n := g.people.draw(g.rand)
	if g.chance(1, 2) {
		n = g.people.mailbox(n)
	} else {
		n = g.people.user(n)
	}
	e := g.event(n, consent.Web, "newsletter-form/1.4")
	g.browser(&e)
	e.Evidence.Method, e.Evidence.ControlDefault = consent.Checkbox, consent.DefaultOff
	o := pick(g, g.offers.mail)
	return Act{Kind: Signup, Claims: []Claim{g.choose(n, e, &o, true, consent.Refuse)}}
}

// phone sends what an app could not send for up to three days; in one of three
// queues the order is lost.
func (g *Generator) phone() Act {
	n := g.people.device(g.people.draw(g.rand))
	e := g.event(n, consent.App, "shop-app/5.1")
	e.Evidence.Method, e.Evidence.ControlDefault = consent.Toggle, consent.DefaultOff
	count := g.between(2, 8)
	a := Act{Kind: Phone, Form: AsBatch, Claims: make([]Claim, 0, count)}
	newest := e.OccurredAt
	age := g.instant(minute, min(3*day, g.offers.oldest(consent.App)))
	for i := range count {
		e.OccurredAt = newest - age*consent.Instant(count-i)/consent.Instant(count)
		o := &g.offers.all[g.rand.IntN(len(g.offers.all))]
		a.Claims = append(a.Claims, g.choose(n, e, o, g.chance(1, 2), consent.Withdraw))
	}
	if g.chance(1, 3) {
		g.rand.Shuffle(count, func(i, j int) { a.Claims[i], a.Claims[j] = a.Claims[j], a.Claims[i] })
	}
	return a
}

func (g *Generator) callCenter() Act {
	n := g.people.user(g.people.draw(g.rand))
	e := g.event(n, consent.CallCenter, "callcenter/1.9")
	e.OccurredAt -= g.instant(minute, 30*minute)
	e.Actor = consent.Actor{Type: consent.ActorAgent, ID: "agent-" + strconv.Itoa(g.between(1, 40))}
	e.Evidence.Method = consent.Verbal
	e.Evidence.Reference = "call-" + strconv.Itoa(g.between(100_000, 999_999))
	o := g.some(1)[0]
	return Act{Kind: CallCenter, Claims: []Claim{g.choose(n, e, o, g.chance(4, 10), consent.Withdraw)}}
}

// linking says whose a device or a mail box is.
func (g *Generator) linking() Act {
	n := g.people.draw(g.rand)
	if g.chance(8, 10) {
		n = g.people.device(n)
	} else {
		n = g.people.mailbox(n)
	}
	owner := g.people.user(n)
	if owner == n {
		return g.preferences()
	}
	e := g.event(n, consent.App, "accounts/2.0")
	e.LinkTo = g.people.subject(owner)
	action := consent.Link
	if g.chance(15, 100) {
		action = consent.Unlink
	}
	return Act{Kind: Linking, Claims: []Claim{g.say(n, e, action, consent.Root)}}
}

const importedRows = 20

// importRows brings what another system has on record, with the times it tells.
func (g *Generator) importRows() Act {
	a := Act{Kind: ImportRows, Form: AsBatch, Claims: make([]Claim, 0, importedRows)}
	file := "crm-export-" + strconv.Itoa(g.between(1, 99)) + "/row-"
	for row := range importedRows {
		n := g.people.draw(g.rand)
		e := g.event(n, consent.Import, "crm-import/1.0")
		e.Test = false
		e.OccurredAt -= g.instant(day, min(700*day, g.offers.oldest(consent.Import)))
		e.Actor = consent.Actor{Type: consent.ActorSystem, ID: "crm"}
		e.Evidence.Method = consent.APIAttested
		e.Evidence.Reference = file + strconv.Itoa(row+1)
		a.Claims = append(a.Claims, g.choose(n, e, g.some(1)[0], g.chance(8, 10), consent.Withdraw))
	}
	return a
}

func (g *Generator) gpc() Act {
	if len(g.offers.shared) == 0 {
		return g.preferences()
	}
	n := g.people.device(g.people.draw(g.rand))
	e := g.event(n, consent.Web, "shop-web/3.2")
	g.browser(&e)
	e.InteractionID, e.Evidence.GPC = g.uuid(), true
	a := Act{Kind: GPC, Claims: make([]Claim, 0, len(g.offers.shared))}
	for _, p := range g.offers.shared {
		c := g.say(n, e, consent.Withdraw, p)
		c.GPC = true
		a.Claims = append(a.Claims, c)
	}
	return a
}

// correction takes a grant back that should not have been: most name it.
func (g *Generator) correction() Act {
	if len(g.given.kept) == 0 {
		return g.preferences()
	}
	was := pick(g, g.given.kept)
	now := g.now()
	e := consent.Event{
		ID: g.uuid(), Tenant: g.options.Tenant, Subject: was.subject, Purpose: was.purpose, Action: consent.Invalidate,
		OccurredAt: now - second, SentAt: now, Channel: consent.API, Source: "fraud-desk/1.0", Jurisdiction: was.jurisdiction,
		Actor: consent.Actor{Type: consent.ActorSystem, ID: "fraud-desk"}, Test: was.test,
	}
	if !g.chance(1, 10) {
		named := was.reference
		if g.chance(1, 6) {
			named.EffectiveAt = 0
		}
		e.Invalidates = &named
	}
	return Act{Kind: Correction, Claims: []Claim{{Event: e, Expect: recorded, Household: was.household}}}
}

func (g *Generator) erasure() Act {
	n := g.people.user(g.people.draw(g.rand))
	channel, source := consent.Web, "privacy-desk/1.0"
	if g.chance(1, 4) {
		channel = consent.Post
	}
	e := g.event(n, channel, source)
	e.Evidence.Reference = "request-" + strconv.Itoa(g.between(1000, 9999))
	return Act{Kind: Erasure, Claims: []Claim{g.say(n, e, consent.Erase, consent.Root)}}
}
