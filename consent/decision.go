package consent

// Query asks "may I?" for one purpose.
type Query struct {
	Purpose      Purpose
	Jurisdiction Jurisdiction // where the subject is; empty = unknown
	At           Instant
	GPC          bool // the question came with a Global Privacy Control signal
}

// Reason is why a decision is as it is.
type Reason string

// The reasons.
const (
	ReasonExplicit    Reason = "explicit"    // what the subject said of this purpose
	ReasonDefault     Reason = "default"     // nothing was said that decides
	ReasonAncestor    Reason = "ancestor"    // a restriction above it
	ReasonExpiry      Reason = "expiry"      // the yes has run out
	ReasonLink        Reason = "link"        // a restriction that a link carried over
	ReasonBasis       Reason = "basis"       // the purpose does not rest on consent
	ReasonGPC         Reason = "gpc"         // the question came with Sec-GPC: 1
	ReasonUnavailable Reason = "unavailable" // the state cannot be known: denied
)

// Decision is the answer to a Query. Zero values are absent.
type Decision struct {
	Purpose       Purpose
	Allowed       bool
	Status        Status
	Reason        Reason
	LegalBasis    LegalBasis
	Since         Instant
	ExpiresAt     Instant
	DecidedBy     *DecidedBy
	Model         Model
	Jurisdiction  Jurisdiction // the one whose model was applied
	NoticeID      string
	NoticeVersion string
	PolicyVersion string // of the deciding event; of the registry where a default decides
	Version       int64
}

// DecidedBy names the event that decides.
type DecidedBy struct {
	EventID     UUID
	Purpose     Purpose
	EffectiveAt Instant
}

// Unavailable is the answer where the state cannot be known.
func Unavailable(p Purpose) Decision {
	return Decision{Purpose: p, Status: StatusUnknown, Reason: ReasonUnavailable}
}

// Decide answers a query from a subject's State and the registry in force.
// s may be nil: nothing is on record. Expiry is evaluated here, never by a timer.
// Source: semantics.md, section 5.
func Decide(s *State, c *Catalogue, q Query) Decision {
	d := c.Find(q.Purpose)
	f := finding{Verdict: Verdict{Status: None}}
	out := Decision{Purpose: q.Purpose}
	if s != nil {
		f = s.evaluate(q.Purpose, q.At)
		if row := s.Row(q.Purpose); row != nil && row.Version > 0 {
			out.Version = row.Version
		} else {
			out.Version = s.Whole.VersionFloor // its row went with an erasure, if it had one
		}
	}
	model, jurisdiction := c.strictestModel(d, q.Jurisdiction, s)
	out.Status, out.Since = f.Status, f.since
	out.Model, out.Jurisdiction = model, jurisdiction
	if d != nil {
		out.LegalBasis = d.LegalBasis
	}
	out.from(f)
	switch {
	case d != nil && !d.LegalBasis.DecidedByFold() && !d.Group:
		out.Allowed, out.Reason = true, ReasonBasis
	case f.Allowed == Undecided:
		out.Allowed, out.Reason = model == OptOut, ReasonDefault
		out.PolicyVersion = c.Version
	default:
		out.Allowed = f.Allowed == Allowed
		out.Reason = f.reason(q.Purpose)
	}
	if q.GPC && d != nil && d.SaleOrShare && out.Allowed && out.Reason != ReasonBasis {
		out.Allowed, out.Reason = false, ReasonGPC
	}
	return out
}

// from copies what the deciding record tells.
func (d *Decision) from(f finding) {
	r := f.decides
	if r == nil {
		return
	}
	d.DecidedBy = &DecidedBy{EventID: r.EventID, Purpose: f.node, EffectiveAt: r.EffectiveAt}
	d.NoticeID, d.NoticeVersion, d.PolicyVersion = r.NoticeID, r.NoticeVersion, r.PolicyVersion
	if r.Action.Affirms() {
		d.ExpiresAt = r.ExpiresAt
	}
}

func (f finding) reason(p Purpose) Reason {
	switch {
	case f.Status == Expired:
		return ReasonExpiry
	case f.decides.Carried:
		return ReasonLink
	case f.node != p:
		return ReasonAncestor
	}
	return ReasonExplicit
}

// strictestModel is opt_out only if it is so in the jurisdiction asked for and
// in every one on the subject's record: the asker does not pick the law.
func (c *Catalogue) strictestModel(d *Declaration, asked Jurisdiction, s *State) (Model, Jurisdiction) {
	model := c.Model(d, asked)
	if model != OptOut || s == nil {
		return model, asked
	}
	if len(s.Whole.Jurisdictions) == maxJurisdictions {
		return OptIn, asked
	}
	for _, j := range s.Whole.Jurisdictions {
		if c.Model(d, j) != OptOut {
			return OptIn, j
		}
	}
	return model, asked
}

// AllPurposes lists what an answer about the whole subject covers: every declared
// purpose and all on record, sorted. Groups and * appear only when on record.
func (c *Catalogue) AllPurposes(s *State) []Purpose {
	seen := map[Purpose]bool{}
	var all []Purpose
	add := func(p Purpose) {
		if !seen[p] {
			seen[p] = true
			all = append(all, p)
		}
	}
	for _, d := range c.Purposes {
		if !d.Group {
			add(d.ID)
		}
	}
	if s != nil {
		for i := range s.Rows {
			if s.Rows[i].Version > 0 {
				add(s.Rows[i].Purpose)
			}
		}
	}
	sortPurposes(all)
	return all
}
