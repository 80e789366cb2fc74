package consent

import "strings"

// Code names a rule that an event broke.
type Code string

// The rule codes. Source: semantics.md, section 4; interfaces.md, HTTP.
const (
	CodeAffirmative  Code = "affirmative"
	CodeSpecific     Code = "specific"
	CodeInformed     Code = "informed"
	CodeFreelyGiven  Code = "freely_given"
	CodeFresh        Code = "fresh"
	CodePseudonymous Code = "pseudonymous"
	CodeConfirm      Code = "confirm"
	CodeMalformed    Code = "malformed"
	CodeNotYet       Code = "not_yet"
	CodeUnstamped    Code = "unstamped"
)

// Fault is one broken rule: its code, the field that broke it, and a sentence
// that says what to do.
type Fault struct {
	Code    Code
	Field   string
	Message string
}

// Faults is every broken rule of one event. As an error it names codes and
// fields, never values.
type Faults []Fault

func (f Faults) Error() string {
	parts := make([]string, len(f))
	for i, x := range f {
		parts[i] = string(x.Code)
		if x.Field != "" {
			parts[i] += " (" + x.Field + ")"
		}
	}
	return "event breaks " + strings.Join(parts, ", ")
}

// Warning is something that looks wrong about an event which was accepted.
type Warning struct {
	Code    WarningCode
	Field   string
	Message string
}

// WarningCode names a warning.
type WarningCode string

// The warning codes.
const (
	WarnUnknownPurpose  WarningCode = "unknown_purpose"
	WarnNoDownstream    WarningCode = "no_downstream"
	WarnBackdated       WarningCode = "backdated"
	WarnUnknownField    WarningCode = "unknown_field"
	WarnNotConsentBased WarningCode = "not_consent_based"
	WarnStampIgnored    WarningCode = "stamp_ignored"
	WarnEventIDDerived  WarningCode = "event_id_derived"
	WarnSubjectHashed   WarningCode = "subject_hashed"
	WarnWholeSubject    WarningCode = "whole_subject"
	WarnGPC             WarningCode = "gpc_withdrawal"
)
