package registry

import (
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

const (
	maxSecrets     = 4 // two during rotation, of each of two kinds
	maxConcurrency = 1000
	maxAttempts    = 100
	maxBatch       = 1000
	maxRate        = 1e6 // attempts a second
	ownTopics      = "consent."
)

// downstreamsFile is one downstreams.yaml while it is read.
type downstreamsFile struct {
	*strictyaml.Document
	reg     *Registry
	tenant  consent.Tenant
	seen    map[string]int // names and their lines
	waiting *waiting
	// tenantsKnown: every purposes file was read, so that a tenant among none of
	// them is a fault.
	tenantsKnown bool
}

// read gives the tenant and where it is named; ok is false when the file has
// none that can be used.
func (f *downstreamsFile) read(data []byte) (t consent.Tenant, at strictyaml.Value, ok bool) {
	top, ok := f.Parse(data)
	if !ok {
		return "", strictyaml.Value{}, false
	}
	f.tenant, at = readTenant(top)
	f.checkTenant(at)
	f.seen = map[string]int{}
	if v, ok := top.Need("downstreams", "list the systems that must obey, or [] for none"); ok {
		for _, item := range f.items(v) {
			if m, ok := item.Mapping(); ok {
				f.downstream(m)
			}
		}
	}
	top.Done()
	return f.tenant, at, f.tenant != ""
}

// items allows the empty list: a tenant may have nobody to tell.
func (f *downstreamsFile) items(v strictyaml.Value) []strictyaml.Value {
	if v.IsEmptyList() {
		return nil
	}
	return v.List("downstreams")
}

func (f *downstreamsFile) checkTenant(at strictyaml.Value) {
	if f.tenant == "" || !f.tenantsKnown || len(f.reg.tenants) == 0 || f.reg.tenants[f.tenant] != nil {
		return
	}
	var known []string
	for _, t := range f.reg.Tenants() {
		known = append(known, string(t))
	}
	hint := strictyaml.DidYouMean(string(f.tenant), known)
	if hint == "" {
		hint = ": they declare " + strictyaml.Listed(known, "and")
	}
	at.Fault("tenant %s has no purposes file%s", f.tenant, hint)
}

func (f *downstreamsFile) downstream(m *strictyaml.Mapping) {
	d := &Downstream{Tenant: f.tenant, Changes: All, Start: StartSnapshot}
	if v, ok := m.Need("name", "give it a name such as crm; its position in the log is kept under it"); ok {
		d.Name = f.name(v)
	}
	if v, ok := m.Need("purposes", "list what it listens to, such as [marketing.*]"); ok {
		d.Purposes = strictyaml.Each(v, "purposes", f.pattern)
	}
	if v, ok := m.Get("changes"); ok {
		d.Changes, _ = strictyaml.Word(v, parseChangeFilter, "all", "withdrawals")
	}
	if v, ok := m.Need("delivery", "say how it is told: webhook, topic or poll"); ok {
		f.delivery(v, d)
	}
	if v, ok := m.Get("start"); ok {
		d.Start, _ = strictyaml.Word(v, parseStart, "snapshot", "now", "beginning")
	}
	if v, ok := m.Get("deadline"); ok {
		d.Deadline, _ = readDeadline(v)
	}
	if v, ok := m.Get("acknowledgement"); ok {
		d.Acknowledgement = f.acknowledgement(v, d)
	}
	if v, ok := m.Get("batch"); ok {
		d.Batch = f.batch(v, d)
	}
	d.Test = m.Flag("test")
	m.Done()
	if d.Webhook != nil && d.Start == StartSnapshot {
		f.waiting.note("start: snapshot", d.Name)
	}
	f.reg.downstreams = append(f.reg.downstreams, d)
}

func (f *downstreamsFile) name(v strictyaml.Value) string {
	s, ok := v.Scalar("a name such as crm")
	if !ok {
		return ""
	}
	if !consent.IsName(s) {
		v.Fault("name %s has other than 1 to 64 characters of a-z, 0-9 and -", strictyaml.Quote(s))
		return ""
	}
	if line, twice := f.seen[s]; twice {
		v.Fault("downstream %s is there twice: it is in line %d already", s, line)
		return ""
	}
	f.seen[s] = v.Line
	return s
}

// pattern warns of one that selects nothing: an event may still name a purpose
// that nobody declares, so it is no fault.
func (f *downstreamsFile) pattern(v strictyaml.Value) (consent.Pattern, bool) {
	s, ok := v.Scalar("a purpose pattern such as marketing.*")
	if !ok {
		return "", false
	}
	pattern, err := consent.ParsePattern(s)
	if err != nil {
		v.Fault("pattern %s: %s", strictyaml.Quote(s), err)
		return "", false
	}
	if t := f.reg.tenants[f.tenant]; t != nil {
		var known []string
		for _, d := range t.catalogue.Purposes {
			if pattern.Matches(d.ID) {
				return pattern, true
			}
			known = append(known, string(d.ID))
		}
		v.Warn("pattern %s selects no declared purpose%s", strictyaml.Quote(s), strictyaml.DidYouMean(strings.TrimSuffix(s, ".*"), known))
	}
	return pattern, true
}

func (f *downstreamsFile) delivery(v strictyaml.Value, d *Downstream) {
	m, ok := v.Mapping()
	if !ok {
		return
	}
	ways := 0
	if w, ok := m.Get("webhook"); ok {
		ways++
		d.Webhook = readWebhook(w)
	}
	if t, ok := m.Get("topic"); ok {
		ways++
		d.Topic = readTopic(t)
		f.waiting.note("delivery.topic", d.Name)
	}
	if p, ok := m.Get("poll"); ok {
		ways++
		d.Poll = readPoll(p)
		f.waiting.note("delivery.poll", d.Name)
	}
	m.Done()
	if ways != 1 {
		v.Fault("delivery wants exactly one of webhook, topic and poll, and has %d: a second way is a second downstream", ways)
	}
}

func readWebhook(v strictyaml.Value) *Webhook {
	m, ok := v.Mapping()
	if !ok {
		return nil
	}
	w := &Webhook{Timeout: DefaultTimeout, Concurrency: DefaultConcurrency, Attempts: DefaultAttempts}
	w.Internal = m.Flag("internal")
	if u, ok := m.Need("url", "say where the webhook goes"); ok {
		w.URL = readURL(u, w.Internal)
	}
	if s, ok := m.Need("secrets", "name what webhooks are signed with, such as [env:CRM_WEBHOOK_SECRET]"); ok {
		w.Secrets = strictyaml.Each(s, "references to secrets", readSecretRef)
		if len(w.Secrets) > maxSecrets {
			s.Fault("more than %d secrets: take away those that were rotated out", maxSecrets)
		}
	}
	if t, ok := m.Get("timeout"); ok {
		w.Timeout, _ = readDuration(t, 100*time.Millisecond, 2*time.Minute)
	}
	if c, ok := m.Get("concurrency"); ok {
		w.Concurrency, _ = c.Number(1, maxConcurrency)
	}
	if r, ok := m.Get("rate_limit"); ok {
		w.RateLimit = readRate(r)
	}
	if a, ok := m.Get("attempts"); ok {
		w.Attempts, _ = a.Number(1, maxAttempts)
	}
	m.Done()
	return w
}

// rate reads attempts per time: "500/s", "30/m", "1000/h".
func readRate(v strictyaml.Value) float64 {
	s, ok := v.Scalar("a rate such as 500/s")
	if !ok {
		return 0
	}
	count, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseUint(count, 10, 32)
	scale, known := map[string]float64{"s": 1, "m": 60, "h": 3600}[unit]
	perSecond := float64(n)
	if known {
		perSecond /= scale
	}
	if err != nil || !known || count[0] == '0' || perSecond > maxRate {
		v.Fault("rate_limit %s is no rate: write a whole number and /s, /m or /h, such as 500/s", strictyaml.Quote(s))
		return 0
	}
	return perSecond
}

// topicName is what Kafka takes as a topic's name.
var topicName = regexp.MustCompile(`^[a-zA-Z0-9._-]{1,249}$`)

func readTopic(v strictyaml.Value) *TopicDelivery {
	m, ok := v.Mapping()
	if !ok {
		return nil
	}
	t := &TopicDelivery{}
	if n, ok := m.Need("name", "name the topic that it reads"); ok {
		s, isText := n.Scalar("a topic's name")
		switch {
		case !isText:
		case !topicName.MatchString(s) || s == "." || s == "..":
			n.Fault("topic %s has other than 1 to 249 characters of A-Z, a-z, 0-9, '.', _ and -", strictyaml.Quote(s))
		case strings.HasPrefix(s, ownTopics):
			n.Fault("topic %s is named like one of Assent's own, which begin with %s: choose another name", strictyaml.Quote(s), ownTopics)
		default:
			t.Name = s
		}
	}
	m.Done()
	return t
}

func readPoll(v strictyaml.Value) *PollDelivery {
	m, ok := v.Mapping()
	if !ok {
		return nil
	}
	p := &PollDelivery{Retain: DefaultRetain}
	if r, ok := m.Get("retain"); ok {
		p.Retain, _ = readDuration(r, time.Hour, longestSpan)
	}
	m.Done()
	return p
}

func (f *downstreamsFile) acknowledgement(v strictyaml.Value, d *Downstream) (a Acknowledgement) {
	m, ok := v.Mapping()
	if !ok {
		return a
	}
	f.waiting.note("acknowledgement", d.Name)
	if r, ok := m.Need("required", "say true or false"); ok {
		a.Required, _ = r.Flag()
	}
	if w, ok := m.Get("within"); ok {
		a.Within, _ = readDuration(w, time.Second, 365*day)
		if r, isSet := m.Has("required"); isSet && !a.Required {
			w.Fault("within says by when, and required (line %d) does not ask for it", r.Line)
		}
	}
	m.Done()
	return a
}

func (f *downstreamsFile) batch(v strictyaml.Value, d *Downstream) (b Batch) {
	m, ok := v.Mapping()
	if !ok {
		return b
	}
	f.waiting.note("batch", d.Name)
	if n, ok := m.Need("max_changes", "say how many changes one delivery may carry"); ok {
		b.MaxChanges, _ = n.Number(1, maxBatch)
	}
	if w, ok := m.Get("max_wait"); ok {
		b.MaxWait, _ = readDuration(w, time.Millisecond, time.Minute)
	}
	m.Done()
	return b
}
