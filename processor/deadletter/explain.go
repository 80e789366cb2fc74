package deadletter

import (
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// Meaning is what a code says, and what a person can do about it.
type Meaning struct {
	Code   string `json:"code"`
	Means  string `json:"means"`
	Remedy string `json:"remedy"`
}

const (
	askAgain    = "the subject must be asked again: a replay does not make the proof better"
	mendSender  = "mend the sender, and let it publish the record anew; a replay helps only when a version of Assent that takes the record is running"
	mendNothing = "nothing is to be mended: replay it, and the gateway checks and stamps it"
)

// meanings of the codes that roles give.
var meanings = map[string]Meaning{
	schemas.CodeNoSchema:  {Means: "no schema explains the bytes", Remedy: mendSender},
	schemas.CodeTruncated: {Means: "the bytes end too early", Remedy: mendSender},
	schemas.CodeTooLarge:  {Means: "the record, or something in it, is over a limit", Remedy: mendSender},
	schemas.CodeTrailing:  {Means: "bytes follow the record", Remedy: mendSender},
	schemas.CodeInvalid:   {Means: "a field holds what it may not hold", Remedy: mendSender},

	string(consent.CodeAffirmative):  {Means: "the grant is no clear affirmative act", Remedy: askAgain},
	string(consent.CodeSpecific):     {Means: "the grant is not for one declared purpose", Remedy: "declare the purpose in purposes.yaml and replay; a bundle of purposes must be asked for one by one"},
	string(consent.CodeInformed):     {Means: "the notice of the grant is not known for this purpose, or no longer valid", Remedy: "declare the notice in purposes.yaml, if it is the one that was shown, and replay; else ask again"},
	string(consent.CodeFreelyGiven):  {Means: "a service was denied unless the subject agreed", Remedy: askAgain},
	string(consent.CodeFresh):        {Means: "the grant has no time, or is older than the window of its channel", Remedy: "widen the window in purposes.yaml if the proof is good, and replay; else ask again"},
	string(consent.CodePseudonymous): {Means: "the subject of the grant is a raw address or number", Remedy: "let the sender use an opaque id; a replay does not change the subject"},
	string(consent.CodeConfirm):      {Means: "a confirmation came by another way than its signed link", Remedy: "let the subject follow the link again; a replay is refused again"},
	string(consent.CodeMalformed):    {Means: "a field of the grant cannot be read as what it should be, or subject, purpose or action is missing", Remedy: mendSender},
	string(consent.CodeNotYet):       {Means: "this version of Assent does not know the action", Remedy: "run a version that knows it, then replay"},
	string(consent.CodeUnstamped):    {Means: "the event reached consent.events without the gateway's stamps", Remedy: mendNothing + "; let its writer publish to consent.intake from now on"},

	"wrong_key":       {Means: "the record's key is not tenant|subject of its event", Remedy: mendNothing + "; its writer must publish to consent.intake"},
	"wrong_partition": {Means: "the record is in another partition than its key says", Remedy: mendNothing + "; its writer must use the partitioner murmur2 as the Java client does, and publish to consent.intake"},

	"undecodable":     {Means: "the change cannot be read by this version of the fan-out", Remedy: "run the version that wrote it; tell the downstream by hand what its purposes are now"},
	"deadline_passed": {Means: "the downstream did not take the change by its legal deadline; it is no withdrawal", Remedy: "mend the downstream, and tell it by hand"},
	"rejected_400":    {Means: "the downstream answers that it cannot read the change", Remedy: "mend the downstream, and tell it by hand"},
	"rejected_413":    {Means: "the downstream answers that the change is too large", Remedy: "mend the downstream, and tell it by hand"},
	"rejected_422":    {Means: "the downstream answers that it does not accept the change", Remedy: "mend the downstream, and tell it by hand"},
	"failed":          {Means: "the downstream took the change, and says that it failed to obey it", Remedy: "mend the downstream, and tell it by hand"},
	"gone":            {Means: "retention removed the change from consent.changes before the downstream had taken it; where the letter's reason names a range, all that was in it", Remedy: "find it by its position in the history's table changes, and tell the downstream by hand"},

	CodeReplayed: {Means: "a mark: the letter that it names was published again", Remedy: "nothing"},
}

// Explain gives the meaning of each code in a letter's code, which the gateway
// separates by commas.
func Explain(code string) []Meaning {
	parts := strings.Split(code, ",")
	all := make([]Meaning, len(parts))
	for i, c := range parts {
		m, known := meanings[c]
		if !known {
			m = Meaning{Means: "a code that this version does not know", Remedy: "read the letter's reason; look at the release notes of the role that wrote it"}
		}
		m.Code = c
		all[i] = m
	}
	return all
}

// Readable gives a record's value as JSON, and the name of the schema that explains
// it; "" where none does.
func Readable(value []byte) (schema string, json []byte) {
	if e, err := schemas.DecodeEvent(value); err == nil {
		return "ConsentEvent", jsonform.AppendEvent(nil, &e)
	}
	if e, err := schemas.DecodeIntakeEvent(value); err == nil { // what only intake may hold, such as a raw subject
		return "ConsentEvent", jsonform.AppendEvent(nil, &e)
	}
	if c, err := schemas.DecodeChange(value); err == nil {
		return "ConsentChange", jsonform.AppendChange(nil, &c)
	}
	return "", nil
}
