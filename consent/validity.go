package consent

import "fmt"

// Check tells every rule that the event breaks under this version of the
// registry. A protective action breaks none and is never refused; a link or
// unlink must name another subject; confirm and expire are written by this
// system only. EffectiveAt and ReceivedAt must be set. An empty answer means:
// accept.
//
// Source: semantics.md, section 4; GDPR art. 4(11), 7(1).
func (c *Catalogue) Check(e *Event) Faults {
	switch e.Action {
	case Grant:
		return c.checkGrant(e)
	case Confirm:
		return Faults{{CodeConfirm, "action", "a confirm is made by the link in the confirmation message only: POST /v1/confirm/{token}"}}
	case Link, Unlink:
		return checkLink(e)
	case Expire:
		return Faults{{CodeMalformed, "action", "expire is written by the processor only: a grant runs out by itself"}}
	case Refuse, Withdraw, Invalidate, Erase, Request, Defer:
		return nil
	}
	return Faults{{CodeAffirmative, "action", "name an action: grant, refuse, withdraw, invalidate, link, unlink, erase, request or defer"}}
}

// checkLink holds what a link cannot do without: there is no doubt to decide, it
// would say nothing.
func checkLink(e *Event) Faults {
	switch e.LinkTo {
	case "":
		return Faults{{CodeMalformed, "link.to", "name the subject that this one is known to be, such as user:42"}}
	case e.Subject:
		return Faults{{CodeMalformed, "link.to", "a subject cannot be linked to itself: name the other id"}}
	}
	return nil
}

func (c *Catalogue) checkGrant(e *Event) Faults {
	d := c.Find(e.Purpose)
	var f Faults
	f = append(f, checkAffirmative(e)...)
	f = append(f, checkSpecific(e, d)...)
	f = append(f, checkInformed(e, d)...)
	if e.Evidence.Conditional && d != nil && d.RefuseConditional {
		f = append(f, Fault{CodeFreelyGiven, "evidence.conditional", "service must not depend on this consent: offer the service without it"})
	}
	f = append(f, c.checkFresh(e)...)
	if !e.Subject.Pseudonymous() {
		f = append(f, Fault{CodePseudonymous, "subject", "use an opaque id such as user:42; never an address or a telephone number"})
	}
	return f
}

func checkAffirmative(e *Event) Faults {
	m, was := e.Evidence.Method, e.Evidence.ControlDefault
	switch {
	case m == MethodUnknown:
		return Faults{{CodeAffirmative, "evidence.method", "name the clear act that the subject did: click_accept, checkbox, toggle, signature, verbal, double_opt_in, preference_center or api_attested"}}
	case !m.ClearAct():
		return Faults{{CodeAffirmative, "evidence.method", fmt.Sprintf("%s is not a clear act: no action is no consent", m)}}
	case was == DefaultOn:
		return Faults{{CodeAffirmative, "evidence.control_default", "a control that was on from the start is no consent: show it off"}}
	case (m == Checkbox || m == Toggle) && was != DefaultOff:
		return Faults{{CodeAffirmative, "evidence.control_default", "say that the control was off before it was touched: control_default must be off"}}
	}
	return nil
}

func checkSpecific(e *Event, d *Declaration) Faults {
	var f Faults
	switch {
	case e.Purpose == Root:
		f = append(f, Fault{CodeSpecific, "purpose", "a grant names one purpose: * can only be withdrawn"})
	case d == nil:
		f = append(f, Fault{CodeSpecific, "purpose", "this purpose is not declared: GET /v1/purposes lists those that are"})
	case d.Group:
		f = append(f, Fault{CodeSpecific, "purpose", "this is a group of purposes: grant each of them on its own"})
	case !d.LegalBasis.DecidedByFold():
		f = append(f, Fault{CodeSpecific, "purpose", fmt.Sprintf("this purpose rests on %s, not on consent: there is nothing to grant", d.LegalBasis)})
	}
	if e.Evidence.Bundled {
		f = append(f, Fault{CodeSpecific, "evidence.bundled", "a yes to several purposes as one is no consent: offer each on its own"})
	}
	return f
}

func checkInformed(e *Event, d *Declaration) Faults {
	n := e.Notice
	switch {
	case n.ID == "":
		return Faults{{CodeInformed, "notice.id", "name the notice that was shown"}}
	case n.Version == "":
		return Faults{{CodeInformed, "notice.version", "name the version of the notice that was shown"}}
	case d == nil:
		return nil // checkSpecific has said it: no notice can be known
	}
	texts := d.texts(n, e.EffectiveAt)
	if len(texts) == 0 {
		return Faults{{CodeInformed, "notice", "this notice, version and language are not known for this purpose, or were no longer valid: GET /v1/purposes gives the current one"}}
	}
	if n.SHA256 == ([32]byte{}) {
		return nil
	}
	for _, x := range texts {
		if x.SHA256 == n.SHA256 {
			return nil
		}
	}
	return Faults{{CodeInformed, "notice.sha256", "the text that was shown is not the registered one: compare its bytes with the registry's"}}
}

func (c *Catalogue) checkFresh(e *Event) Faults {
	if e.OccurredAt == 0 {
		return Faults{{CodeFresh, "occurred_at", "say when the subject acted: a grant without a time proves nothing"}}
	}
	window := c.ReplayWindow(e.Channel)
	if window != Unlimited && e.ReceivedAt.Sub(e.EffectiveAt) > window {
		return Faults{{CodeFresh, "occurred_at", fmt.Sprintf("the act is older than %s: ask the subject again", window)}}
	}
	return nil
}

// Warnings tells what looks wrong about an accepted event, from the registry
// and the clocks. EffectiveAt and ReceivedAt must be set.
func (c *Catalogue) Warnings(e *Event) []Warning {
	if !e.Action.Protective() {
		return nil
	}
	var w []Warning
	d := c.Find(e.Purpose)
	switch {
	case d == nil && e.Purpose != Root:
		w = append(w, Warning{WarnUnknownPurpose, "purpose", "this purpose is not declared: recorded and passed on at its own path; map it in purposes.yaml"})
	case d != nil && !d.LegalBasis.DecidedByFold():
		w = append(w, Warning{WarnNotConsentBased, "purpose", fmt.Sprintf("recorded, but this purpose rests on %s and stays allowed", d.LegalBasis)})
	}
	if Backdated(e) {
		w = append(w, Warning{WarnBackdated, "occurred_at", "takes effect more than 24 hours before it was received: a newer grant outranks it; leave occurred_at out if it holds from now on"})
	}
	return w
}
