package consent

// enum gives a closed set of words its names. Index 0 is always "unknown": a
// word that this version does not know is never read as one that it knows.
type enum []string

func (e enum) name(i uint8) string {
	if int(i) < len(e) {
		return e[i]
	}
	return e[0]
}

func (e enum) parse(s string) (uint8, bool) {
	for i := 1; i < len(e); i++ {
		if e[i] == s {
			return uint8(i), true
		}
	}
	return 0, false
}

// Action is what was expressed.
type Action uint8

// The actions. Expire is written by the processor only; Request and Defer are
// history that changes nothing.
const (
	ActionUnknown Action = iota
	Grant
	Confirm
	Refuse
	Withdraw
	Invalidate
	Link
	Unlink
	Erase
	Expire
	Request
	Defer
)

var actions = enum{"unknown", "grant", "confirm", "refuse", "withdraw", "invalidate", "link", "unlink", "erase", "expire", "request", "defer"}

// ParseAction reads lower snake case; ok is false for a word not listed.
func ParseAction(s string) (a Action, ok bool) { i, ok := actions.parse(s); return Action(i), ok }

func (a Action) String() string { return actions.name(uint8(a)) }

// Protective reports whether the action can only restrict.
func (a Action) Protective() bool {
	return a == Refuse || a == Withdraw || a == Invalidate || a == Erase
}

// Affirms reports whether the action says yes.
func (a Action) Affirms() bool { return a == Grant || a == Confirm }

// Kept reports whether [Fold] may keep the event itself in the State: a no, which a
// link that comes later carries on with every field.
func (a Action) Kept() bool { return a == Refuse || a == Withdraw }

// Folds reports whether this version's fold knows what the action does.
func (a Action) Folds() bool { return a > ActionUnknown && a <= Defer }

// Whole reports whether the action speaks of the whole subject: its purpose is
// [Root], whatever is written there.
func (a Action) Whole() bool { return a == Link || a == Unlink || a == Erase }

// Status is what holds now. Names map one to one to W3C DPV ConsentStatus.
type Status uint8

// The statuses.
const (
	StatusUnknown Status = iota
	None
	Pending
	Granted
	Refused
	Withdrawn
	Expired
	Invalidated
	Erased
)

var statuses = enum{"unknown", "none", "pending", "granted", "refused", "withdrawn", "expired", "invalidated", "erased"}

// ParseStatus reads lower snake case.
func ParseStatus(s string) (Status, bool) { i, ok := statuses.parse(s); return Status(i), ok }

func (s Status) String() string { return statuses.name(uint8(s)) }

// Denies reports whether the status is one that a withdrawal ends in.
func (s Status) Denies() bool {
	switch s {
	case Refused, Withdrawn, Expired, Invalidated, Erased:
		return true
	}
	return false
}

// Channel is where the event was expressed.
type Channel uint8

// The channels.
const (
	ChannelUnknown Channel = iota
	Web
	App
	Email
	SMS
	CallCenter
	InStore
	Post
	Partner
	Import
	API
)

var channels = enum{"unknown", "web", "app", "email", "sms", "call_center", "in_store", "post", "partner", "import", "api"}

// ParseChannel reads lower snake case.
func ParseChannel(s string) (Channel, bool) { i, ok := channels.parse(s); return Channel(i), ok }

func (c Channel) String() string { return channels.name(uint8(c)) }

// Model is what holds when nothing was said.
type Model uint8

// The models. ModelUnknown counts as OptIn wherever it decides.
const (
	ModelUnknown Model = iota
	OptIn
	OptOut
)

var models = enum{"unknown", "opt_in", "opt_out"}

// ParseModel reads opt_in and opt_out.
func ParseModel(s string) (Model, bool) { i, ok := models.parse(s); return Model(i), ok }

func (m Model) String() string { return models.name(uint8(m)) }

// LegalBasis is the ground of GDPR art. 6(1) on which a purpose stands.
type LegalBasis uint8

// The legal bases.
const (
	BasisUnknown LegalBasis = iota
	BasisConsent
	BasisContract
	BasisLegalObligation
	BasisVitalInterests
	BasisPublicTask
	BasisLegitimateInterests
)

var bases = enum{"unknown", "consent", "contract", "legal_obligation", "vital_interests", "public_task", "legitimate_interests"}

// ParseLegalBasis reads lower snake case.
func ParseLegalBasis(s string) (LegalBasis, bool) { i, ok := bases.parse(s); return LegalBasis(i), ok }

func (b LegalBasis) String() string { return bases.name(uint8(b)) }

// DecidedByFold reports whether what the subject said decides: consent, and
// legitimate interests (a refusal is the objection of GDPR art. 21).
func (b LegalBasis) DecidedByFold() bool {
	return b == BasisConsent || b == BasisLegitimateInterests || b == BasisUnknown
}

// Scope tells whom a purpose's records speak of.
type Scope uint8

// The scopes.
const (
	ScopeUnknown Scope = iota
	ScopePerson
	ScopeDevice
)

var scopes = enum{"unknown", "person", "device"}

// ParseScope reads person and device.
func ParseScope(s string) (Scope, bool) { i, ok := scopes.parse(s); return Scope(i), ok }

func (s Scope) String() string { return scopes.name(uint8(s)) }

// Method is the act that a grant's evidence names.
type Method uint8

// The methods: up to APIAttested a clear act, after it none.
const (
	MethodUnknown Method = iota
	ClickAccept
	Checkbox
	Toggle
	Signature
	Verbal
	DoubleOptIn
	PreferenceCenter
	APIAttested
	Inactivity
	Scroll
	ContinuedUse
)

var methods = enum{"unknown", "click_accept", "checkbox", "toggle", "signature", "verbal", "double_opt_in", "preference_center", "api_attested", "inactivity", "scroll", "continued_use"}

// ParseMethod reads lower snake case.
func ParseMethod(s string) (Method, bool) { i, ok := methods.parse(s); return Method(i), ok }

func (m Method) String() string { return methods.name(uint8(m)) }

// ClearAct reports whether the method is an affirmative act.
// Source: GDPR art. 4(11); recital 32 excludes silence and inactivity.
func (m Method) ClearAct() bool { return m >= ClickAccept && m <= APIAttested }

// Control is the control that was used.
type Control uint8

// The controls.
const (
	ControlUnknown Control = iota
	AcceptAll
	RejectAll
	Save
	ToggleControl
)

var controls = enum{"unknown", "accept_all", "reject_all", "save", "toggle"}

// ParseControl reads lower snake case.
func ParseControl(s string) (Control, bool) { i, ok := controls.parse(s); return Control(i), ok }

func (c Control) String() string { return controls.name(uint8(c)) }

// ControlDefault is how a control stood before it was touched.
type ControlDefault uint8

// The control defaults.
const (
	DefaultUnknown ControlDefault = iota
	DefaultOff
	DefaultOn
)

var controlDefaults = enum{"unknown", "off", "on"}

// ParseControlDefault reads off and on.
func ParseControlDefault(s string) (ControlDefault, bool) {
	i, ok := controlDefaults.parse(s)
	return ControlDefault(i), ok
}

func (d ControlDefault) String() string { return controlDefaults.name(uint8(d)) }

// ActorType is who acted.
type ActorType uint8

// The actor types. An agent acts for the subject.
const (
	ActorUnknown ActorType = iota
	ActorSubject
	ActorGuardian
	ActorAgent
	ActorSystem
)

var actorTypes = enum{"unknown", "subject", "guardian", "agent", "system"}

// ParseActorType reads lower snake case.
func ParseActorType(s string) (ActorType, bool) {
	i, ok := actorTypes.parse(s)
	return ActorType(i), ok
}

func (a ActorType) String() string { return actorTypes.name(uint8(a)) }
