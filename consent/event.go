package consent

import "log/slog"

// Event is one thing that a subject expressed, or that the processor derived.
// Field names follow assent.v1.ConsentEvent; zero values mean "absent".
// Source: semantics.md, section 2.
type Event struct {
	ID            UUID
	InteractionID UUID // one act over several purposes: the same on each of its events
	RequestID     UUID // the request event (notice shown) that this act answers
	Tenant        Tenant
	Subject       Subject
	Purpose       Purpose
	Action        Action
	Property      string // site, app or brand; decides nothing

	OccurredAt  Instant // the subject acted, as the channel claims
	SentAt      Instant // stamped anew by the channel on each attempt
	ReceivedAt  Instant // the gateway accepted it
	EffectiveAt Instant // computed once, at intake: see Clock

	Channel      Channel
	Source       string
	Jurisdiction Jurisdiction
	Notice       Notice
	Evidence     Evidence
	Actor        Actor
	Policy       *Policy   // stamped at intake; nil on an unstamped event
	Confirms     *EventRef // on confirm: the grant that it completes
	Invalidates  *EventRef // on invalidate: the grant that it takes back
	LinkTo       Subject   // on link and unlink: the subject that this one is known to be
	Carried      *Carried  // on an event that a link carried over
	Test         bool

	// Digest is the SHA-256 of the event's Avro body without sent_at and
	// received_at, under its first schema version. The decoder fills it; it is
	// not a field of the record, and only a tie needs it.
	Digest [32]byte
	// Original is what a State keeps of the event where it keeps all of it, nil = the
	// event itself. Who changes the event drops it. It is no field of the record either.
	Original *Original
}

// original gives the event as a State keeps it.
func (e *Event) original() *Original {
	if e.Original != nil {
		return e.Original
	}
	return OriginalOf(e)
}

// Notice is the text that was shown.
type Notice struct {
	ID       string
	Version  string
	Language string
	SHA256   [32]byte // of the text; zero = absent
}

// Evidence is what proves the act.
type Evidence struct {
	Method         Method
	Control        Control
	ControlDefault ControlDefault
	Bundled        bool
	Conditional    bool
	GPC            bool
	Reference      string
	PageURL        string
	UserAgent      string
	IP             string
	TCString       string
	GPPString      string
	Token          string // on confirm: the signed token that it came with
}

// Actor is who acted; a call-centre agent is an agent acting for the subject.
type Actor struct {
	Type ActorType
	ID   string
}

// Policy is the purpose's declaration as it stood at intake, so that the fold
// needs no registry and a replay years later gives the same result.
type Policy struct {
	Version       string
	Model         Model
	LegalBasis    LegalBasis
	Scope         Scope
	SaleOrShare   bool
	ExpiresAt     Instant // effective_at + ttl; absent = never
	DoubleOptIn   bool
	ConfirmBy     Instant // effective_at + the confirmation window
	HistoryImport bool    // an import whose sender may speak of acts as expressed
	Covers        []Purpose
}

// EventRef names another event.
type EventRef struct {
	EventID     UUID
	EffectiveAt Instant
}

// Carried tells what a carried event was, and the subjects it came through.
type Carried struct {
	Subject     Subject
	EventID     UUID
	EffectiveAt Instant // of the original: it orders the carried event
	Via         []Subject
}

// LogValue says in logs which event it is, and nothing that it says.
func (e Event) LogValue() slog.Value {
	return slog.GroupValue(slog.String("event_id", e.ID.String()), slog.String("action", e.Action.String()), slog.Any("subject", e.Subject))
}

// Key is the Kafka key of the event's record.
func (e *Event) Key() []byte { return Key(e.Tenant, e.Subject) }
