package registry

import (
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// Controller is who answers for the data: the party that notices and receipts
// name. Source: GDPR art. 13(1)(a); ISO/IEC TS 27560.
type Controller struct {
	Name    string
	Contact string
	Address string
}

// Terms is what a purpose declares beside what the domain decides by.
type Terms struct {
	// Deadlines is by when downstreams must have obeyed; see [Registry.DueAt].
	Deadlines consent.ByJurisdiction[Deadline]
	// Was names the purposes that this one replaces: what was refused there is
	// refused here. With SameMeaning, what was granted there is granted here.
	Was         []consent.Purpose
	SameMeaning bool
	Keywords    Keywords
	Signals     Signals
	Data        []string      // kinds of personal data
	Recipients  []string      // third parties that receive it
	Storage     []string      // where it is kept
	Retention   time.Duration // how long; 0 = not declared, consent.Unlimited = no bound
}

// Keywords are the words of a text message that say yes or no, lower case.
type Keywords struct {
	Withdraw []string
	Grant    []string
}

// Signals maps the purpose to what other standards call it.
type Signals struct {
	ConsentMode []string // Google Consent Mode v2 types
	TCF         []int    // IAB TCF purposes, 1 to 11
	GPP         []string // IAB GPP opt-out fields
}

// What a notice declares about grants on it once a newer version supersedes it;
// see [consent.NoticeText].
const (
	MaterialRenew      = "renew"      // ask again; the grant still holds
	MaterialInvalidate = "invalidate" // the grant no longer holds
)

// tenant is what one purposes file declares.
type tenant struct {
	name       consent.Tenant
	at         strictyaml.Value // where the file names it
	controller Controller
	catalogue  *consent.Catalogue
	terms      map[consent.Purpose]*Terms
	calendars  consent.ByJurisdiction[holidays]
}
