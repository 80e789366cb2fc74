package schemas

import "github.com/assent-dev/assent/consent"

// MaxPayloadBytes bounds a record's value, frame included. It is also the
// default bound of a Kafka broker.
const MaxPayloadBytes = 1 << 20

// MaxEventBytes bounds an event that is folded, frame included. A state row holds the
// event of a refusal in full, beside records and lists that package consent bounds: with
// this bound the row stays below [MaxPayloadBytes]. Of what subjects said the gateway
// writes no event above half of it, so that a copy that a link carries, with the
// subjects that it came through (64 KiB of them), is folded too.
const MaxEventBytes = MaxPayloadBytes / 2

// maxFieldBytes bounds one text or byte field, but for a dead letter's value.
const maxFieldBytes = 64 << 10

// The instants that any language's calendar can show: 1900-01-01T00:00:00.000Z
// to 9999-12-31T23:59:59.999Z, as [consent.ParseInstant] takes them.
const (
	minInstant consent.Instant = -2_208_988_800_000
	maxInstant consent.Instant = 253_402_300_799_999
)

func inCalendar(i consent.Instant) bool { return i >= minInstant && i <= maxInstant }

// Sizes of the enums, UNKNOWN included. A symbol is appended here, in package
// consent and in the .avsc file; a test holds the three together.
const (
	actions         = int(consent.Defer) + 1
	statuses        = int(consent.Erased) + 1
	channels        = int(consent.API) + 1
	models          = int(consent.OptOut) + 1
	legalBases      = int(consent.BasisLegitimateInterests) + 1
	scopes          = int(consent.ScopeDevice) + 1
	methods         = int(consent.ContinuedUse) + 1
	controls        = int(consent.ToggleControl) + 1
	controlDefaults = int(consent.DefaultOn) + 1
	actorTypes      = int(consent.ActorSystem) + 1
	outcomes        = int(Superseded) + 1
)
