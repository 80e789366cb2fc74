package schemas

import (
	"flag"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
)

var (
	seed    = flag.Uint64("seed", uint64(time.Now().UnixNano()), "seed of the random values")
	rewrite = flag.Bool("rewrite", false, "write the golden files anew")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(m.Run())
}

// source of random values of every field, any of them absent at times.
type random struct{ *rand.Rand }

func newRandom(t testing.TB) random {
	t.Helper()
	t.Logf("-seed %d", *seed)
	return random{rand.New(rand.NewPCG(*seed, 1))}
}

func (r random) maybe() bool { return r.IntN(4) != 0 }

var unusual = []rune("äßñ日本語\u0000\n\t\"\\🙂\u2028\u2029<&\x7f\uFFFD")

// text is any UTF-8 text; now and then a long one.
func (r random) text() string {
	if !r.maybe() {
		return ""
	}
	n := r.IntN(30)
	if r.IntN(40) == 0 {
		n = r.IntN(2000)
	}
	var b strings.Builder
	for range n {
		switch r.IntN(4) {
		case 0:
			b.WriteRune(unusual[r.IntN(len(unusual))])
		default:
			b.WriteByte(byte('a' + r.IntN(26)))
		}
	}
	return b.String()
}

func (r random) from(alphabet string, low, high int) string {
	b := make([]byte, low+r.IntN(high-low+1))
	for i := range b {
		b[i] = alphabet[r.IntN(len(alphabet))]
	}
	return string(b)
}

func (r random) tenant() consent.Tenant {
	return consent.Tenant(r.from("abcdefghijklmnopqrstuvwxyz0123456789-", 1, 64))
}

func (r random) subject() consent.Subject {
	return consent.Subject(r.from("ABCabcxyz0189._~:@=-", 3, 256))
}

func (r random) purpose() consent.Purpose {
	if r.IntN(8) == 0 {
		return consent.Root
	}
	parts := make([]string, 1+r.IntN(4))
	for i := range parts {
		parts[i] = r.from("abcxyz089_-", 1, 12)
	}
	return consent.Purpose(strings.Join(parts, "."))
}

func (r random) id() (u consent.UUID) {
	if r.maybe() {
		r.fill(u[:])
	}
	return u
}

func (r random) hash() (h [32]byte) {
	if r.maybe() {
		r.fill(h[:])
	}
	return h
}

func (r random) fill(b []byte) {
	for i := range b {
		b[i] = byte(r.Uint32())
	}
}

func (r random) instant() consent.Instant {
	switch r.IntN(8) {
	case 0:
		return 0
	case 1:
		return minInstant
	case 2:
		return maxInstant
	}
	return minInstant + consent.Instant(r.Int64N(int64(maxInstant-minInstant)))
}

func (r random) enum(size int) uint8 { return uint8(r.IntN(size)) }
func (r random) flag() bool          { return r.IntN(2) == 0 }
func (r random) tri() consent.Tri    { return consent.Tri(r.IntN(3)) }

func (r random) jurisdiction() consent.Jurisdiction {
	return consent.Jurisdiction([]string{"", "DE", "US-CA", "EU", "FR"}[r.IntN(5)])
}

// list makes 0 to 5 items, nil for none, as the decoder does.
func list[T any](r random, item func() T) []T {
	var l []T
	for range r.IntN(6) {
		l = append(l, item())
	}
	return l
}

func (r random) event() consent.Event {
	e := consent.Event{
		ID: r.id(), InteractionID: r.id(), RequestID: r.id(),
		Tenant: r.tenant(), Subject: r.subject(), Purpose: r.purpose(), Action: consent.Action(r.enum(actions)),
		Property: r.text(), OccurredAt: r.instant(), SentAt: r.instant(), ReceivedAt: r.instant(), EffectiveAt: r.instant(),
		Channel: consent.Channel(r.enum(channels)), Source: r.text(), Jurisdiction: r.jurisdiction(), Test: r.flag(),
	}
	if r.maybe() {
		e.Notice = consent.Notice{ID: r.text(), Version: r.text(), Language: r.text(), SHA256: r.hash()}
	}
	if r.maybe() {
		e.Evidence = consent.Evidence{
			Method: consent.Method(r.enum(methods)), Control: consent.Control(r.enum(controls)), ControlDefault: consent.ControlDefault(r.enum(controlDefaults)),
			Bundled: r.flag(), Conditional: r.flag(), GPC: r.flag(), Reference: r.text(), PageURL: r.text(), UserAgent: r.text(), IP: r.text(),
			TCString: r.text(), GPPString: r.text(), Token: r.text(),
		}
	}
	if r.maybe() {
		e.Actor = consent.Actor{Type: consent.ActorType(r.enum(actorTypes)), ID: r.text()}
	}
	if r.maybe() {
		e.Policy = &consent.Policy{
			Version: r.text(), Model: consent.Model(r.enum(models)), LegalBasis: consent.LegalBasis(r.enum(legalBases)), Scope: consent.Scope(r.enum(scopes)),
			SaleOrShare: r.flag(), ExpiresAt: r.instant(), DoubleOptIn: r.flag(), ConfirmBy: r.instant(), HistoryImport: r.flag(), Covers: list(r, r.purpose),
		}
	}
	if r.maybe() {
		e.Confirms = &consent.EventRef{EventID: r.id(), EffectiveAt: r.instant()}
	}
	if r.maybe() {
		e.Invalidates = &consent.EventRef{EventID: r.id(), EffectiveAt: r.instant()}
	}
	if r.maybe() {
		e.LinkTo = r.subject()
	}
	if r.maybe() {
		e.Carried = &consent.Carried{Subject: r.subject(), EventID: r.id(), EffectiveAt: r.instant(), Via: list(r, r.subject)}
	}
	return e
}

func (r random) record() *consent.Record {
	if !r.maybe() {
		return nil
	}
	return &consent.Record{
		OrderKey: consent.OrderKey{Expressed: r.flag(), OrderAt: r.instant(), Protective: r.flag(), Stage: uint8(r.IntN(256)), EventID: r.id(), ExpiresAt: r.instant(), Digest: r.hash()},
		Action:   consent.Action(r.enum(actions)), EffectiveAt: r.instant(), ReceivedAt: r.instant(), Names: r.id(), Carried: r.flag(),
		Channel: consent.Channel(r.enum(channels)), Jurisdiction: r.jurisdiction(), Model: consent.Model(r.enum(models)), LegalBasis: consent.LegalBasis(r.enum(legalBases)),
		NoticeID: r.text(), NoticeVersion: r.text(), PolicyVersion: r.text(),
	}
}

func (r random) state() StateRow {
	s := StateRow{
		Tenant: r.tenant(), Subject: r.subject(), Test: r.flag(), InputOffset: r.Int64(),
		Row: consent.Row{
			Purpose: r.purpose(), Yes: r.record(), Pending: r.record(), No: r.record(), Ended: r.record(),
			Announced: consent.Verdict{Status: consent.Status(r.enum(statuses)), Allowed: r.tri()}, Version: r.Int64(),
		},
	}
	for range r.IntN(3) {
		if named := r.record(); named != nil {
			if s.Row.Named == nil {
				s.Row.Named = &consent.Named{}
			}
			s.Row.Named.Records = append(s.Row.Named.Records, named)
		}
	}
	if s.Row.No != nil && r.maybe() {
		e := r.event()
		e.Digest = s.Row.No.Digest
		s.Row.NoEvent = stored(e)
	}
	if r.maybe() {
		s.Row.Purpose = consent.Root
		s.Whole = &consent.Whole{
			Clock: r.instant(), Jurisdictions: list(r, r.jurisdiction), VersionFloor: r.Int64(), Erased: r.record(),
			Links: list(r, func() consent.LinkRecord {
				return consent.LinkRecord{To: r.subject(), Linked: r.record(), Unlinked: r.record()}
			}),
		}
	}
	return s
}

func (r random) change() consent.Change {
	return consent.Change{
		ID: r.id(), Tenant: r.tenant(), Subject: r.subject(), Purpose: r.purpose(), From: consent.Status(r.enum(statuses)), To: consent.Status(r.enum(statuses)),
		AllowedBefore: r.tri(), AllowedAfter: r.tri(), Withdrawal: r.flag(), EffectiveAt: r.instant(), EventID: r.id(), Version: r.Int64(),
		Timestamp: r.instant(), ReceivedAt: r.instant(), Jurisdiction: r.jurisdiction(), Test: r.flag(),
	}
}

func (r random) delivery() Delivery {
	return Delivery{
		ID: r.id(), ChangeID: r.id(), Tenant: r.tenant(), Subject: r.subject(), Purpose: r.purpose(), Version: r.Int64(), Withdrawal: r.flag(),
		Downstream: r.text(), WebhookID: r.text(), Attempt: r.Int32(), StartedAt: r.instant(), DurationMillis: -r.Int32(), Outcome: Outcome(r.enum(outcomes)),
		HTTPStatus: r.Int32(), Reason: r.text(), NextAttemptAt: r.instant(), DeadlineAt: r.instant(), ChangeReceivedAt: r.instant(), Test: r.flag(),
	}
}

func (r random) bytes() []byte {
	if !r.maybe() {
		return nil
	}
	b := make([]byte, r.IntN(300))
	r.fill(b)
	return b
}

func (r random) deadLetter() DeadLetter {
	return DeadLetter{
		Topic: r.text(), Partition: r.Int32(), Offset: r.Int64(), Code: r.text(), Reason: r.text(), Role: r.text(), Downstream: r.text(), At: r.instant(),
		Key: r.bytes(), Value: r.bytes(), Headers: list(r, func() Header { return Header{Key: r.text(), Value: r.bytes()} }), Partial: r.flag(),
	}
}
