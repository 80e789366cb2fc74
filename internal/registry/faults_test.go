package registry

import (
	"fmt"
	"strings"
	"testing"
)

// goodPurposes has no fault and no warning.
const goodPurposes = `purposes:
  - id: marketing.email
    title: Newsletter
    legal_basis: consent
    notices: [{id: n, version: "1", language: en, text: Yes.}]
`

// inPurpose puts lines after those of a good purpose: the first is line 5.
func inPurpose(lines string) string {
	return strings.TrimSuffix(goodPurposes, "\n") + "\n" + lines
}

// inWebhook puts a line into a good webhook: it is line 7.
func inWebhook(line string) string {
	return "downstreams:\n  - name: crm\n    purposes: [marketing.email]\n    delivery:\n      webhook:\n        secrets: [env:S]\n        " + line + "\n"
}

const webhookURL = "url: https://a.example/\n        "

// inDownstream puts a line into a good downstream: it is line 5.
func inDownstream(line string) string {
	return "downstreams:\n  - name: crm\n    purposes: [marketing.email]\n    delivery: {webhook: {url: https://a.example/, secrets: [env:S]}}\n    " + line + "\n"
}

func files(purposes, downstreams string) (p, d []Source) {
	if purposes != "" {
		p = []Source{{"p.yaml", []byte(purposes)}}
	}
	if downstreams != "" {
		d = []Source{{"d.yaml", []byte(downstreams)}}
	}
	return p, d
}

// disk is a ReadFile for the files that a registry names.
func disk(content map[string]string) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) {
		if s, ok := content[path]; ok {
			return []byte(s), nil
		}
		return nil, errMissing
	}
}

type missing struct{}

func (missing) Error() string { return "no such file" }

var errMissing = missing{}

var someFiles = disk(map[string]string{
	"empty.txt":   " \n",
	"bin.pdf":     "\xff\xfe",
	"text.txt":    "Yes, please.\n",
	"bad.cal":     "2026-12-25\n# fine\n\n2026-13-01 # no month 13\n",
	"sub/ok.text": "ok",
	"huge.txt":    strings.Repeat("a", 4<<20+1),
})

var badPurposes = map[string]struct{ yaml, want string }{
	"no purposes":               {"tenant: a\n", "p.yaml:1:1: purposes is missing"},
	"empty purposes":            {"purposes: []\n", "p.yaml:1:11: purposes is an empty list"},
	"unknown top key":           {goodPurposes + "purpose: 1\n", `p.yaml:6:1: unknown key "purpose": did you mean "purposes"?`},
	"tenant form":               {"tenant: Shop One\n" + goodPurposes, `p.yaml:1:9: tenant "Shop One": a tenant's name has`},
	"controller without a name": {"controller: {contact: a@b.example}\n" + goodPurposes, "p.yaml:1:13: name is missing: say who answers"},
	"controller key":            {"controller: {name: A, adress: x}\n" + goodPurposes, `p.yaml:1:23: unknown key "adress": did you mean "address"?`},
	"defaults key":              {"defaults: {replay_windows: {}}\n" + goodPurposes, `p.yaml:1:12: unknown key "replay_windows": did you mean "replay_window"?`},
	"strictest only":            {"defaults: {jurisdiction_unknown: EU}\n" + goodPurposes, `p.yaml:1:34: jurisdiction_unknown "EU" is not known: use strictest`},
	"replay window channel":     {"defaults: {replay_window: {webb: 1d}}\n" + goodPurposes, `p.yaml:1:28: unknown key "webb": did you mean "web"?`},
	"replay window span":        {"defaults: {replay_window: {web: 30}}\n" + goodPurposes, `p.yaml:1:33: web "30" is not a length of time`},
	"replay window in bd":       {"defaults: {replay_window: {web: 3bd}}\n" + goodPurposes, "p.yaml:1:33: web can't count business days"},
	"model table word":          {"jurisdictions: {optin: [EU]}\n" + goodPurposes, `p.yaml:1:17: unknown key "optin": did you mean "opt_in"?`},
	"model table code":          {"jurisdictions: {opt_in: [EU, UK]}\n" + goodPurposes, `p.yaml:1:30: jurisdiction "UK" is not known: did you mean "GB"?`},
	"model table twice":         {"jurisdictions: {opt_in: [EU, us], opt_out: [US]}\n" + goodPurposes, "p.yaml:1:45: jurisdiction US is listed already, under opt_in"},
	"calendar date":             {"calendars: {US: [2026-02-30]}\n" + goodPurposes, `p.yaml:1:18: "2026-02-30" is not a date`},
	"calendar file":             {"calendars: {US: none.cal}\n" + goodPurposes, `p.yaml:1:17: file "none.cal" can't be read: no such file`},
	"calendar line":             {"calendars: {US: bad.cal}\n" + goodPurposes, `bad.cal:4:1: "2026-13-01" is not a date`},
	"calendar code":             {"calendars: {XX: [2026-12-25]}\n" + goodPurposes, `p.yaml:1:13: jurisdiction "XX" is not known: use an ISO 3166-1 country`},

	"no id":                       {"purposes:\n  - title: T\n    legal_basis: contract\n", "p.yaml:2:5: id is missing"},
	"id with capitals":            {"purposes:\n  - {id: Marketing, title: T, legal_basis: contract}\n", `p.yaml:2:10: purpose "Marketing": a purpose is a dotted path`},
	"id root":                     {"purposes:\n  - {id: \"*\", title: T, legal_basis: contract}\n", "p.yaml:2:10: * is all purposes and is not declared"},
	"id twice":                    {"purposes:\n  - {id: a, title: T, legal_basis: contract}\n  - {id: b, title: T, legal_basis: contract}\n  - {id: a, title: U, legal_basis: contract}\n", "p.yaml:4:10: purpose a is declared twice: it is in line 2 already"},
	"no title":                    {"purposes:\n  - {id: a, legal_basis: contract}\n", "p.yaml:2:5: title is missing"},
	"not a mapping":               {"purposes:\n  - a\n", "p.yaml:2:5: purposes wants keys and values"},
	"no legal basis":              {"purposes:\n  - {id: a, title: T}\n", "p.yaml:2:5: legal_basis is missing"},
	"legal basis word":            {"purposes:\n  - {id: a, title: T, legal_basis: consnet}\n", `p.yaml:2:36: legal_basis "consnet" is not known: did you mean "consent"?`},
	"unknown key":                 {inPurpose("    tll: 3d\n"), `p.yaml:6:5: unknown key "tll": did you mean "ttl"?`},
	"group word":                  {"purposes:\n  - {id: a, title: T, legal_basis: contract, group: yes}\n", `p.yaml:2:53: group wants true or false, not "yes"`},
	"group with a basis":          {"purposes:\n  - {id: a, title: T, group: true, legal_basis: consent}\n", "p.yaml:2:36: legal_basis has no effect on a group"},
	"group with a model":          {"purposes:\n  - {id: a, title: T, group: true, model: opt_in}\n", "p.yaml:2:36: model has no effect on a group"},
	"group with a yes word":       {"purposes:\n  - {id: a, title: T, group: true, keywords: {grant: [go]}}\n", "p.yaml:2:36: a keyword can withdraw a group and never grant one"},
	"model word":                  {inPurpose("    model: optin\n"), `p.yaml:6:12: model "optin" is not known: did you mean "opt_in"?`},
	"model word by place":         {inPurpose("    model: {default: opt_in, US: out}\n"), `p.yaml:6:34: US "out" is not known: use opt_in or opt_out`},
	"model jurisdiction":          {inPurpose("    model: {default: opt_in, EL: opt_in}\n"), `p.yaml:6:30: jurisdiction "EL" is not known: did you mean "GR"?`},
	"model jurisdiction twice":    {inPurpose("    model: {us: opt_in, US: opt_out}\n"), `p.yaml:6:25: jurisdiction "US" is there twice`},
	"model empty":                 {inPurpose("    model: {}\n"), "p.yaml:6:12: model is empty"},
	"model of a contract":         {"purposes:\n  - {id: a, title: T, legal_basis: contract, model: opt_in}\n", "p.yaml:2:46: model has no effect: the purpose rests on contract"},
	"ttl":                         {inPurpose("    ttl: 2 years\n"), `p.yaml:6:10: ttl "2 years" is not a length of time: write a whole number and`},
	"ttl zero":                    {inPurpose("    ttl: 0d\n"), `p.yaml:6:10: ttl "0d" is not a length of time: nothing is not`},
	"ttl with a leading zero":     {inPurpose("    ttl: 030d\n"), `p.yaml:6:10: ttl "030d" is not a length of time: write`},
	"ttl too long":                {inPurpose("    ttl: 99999999999999999999d\n"), `p.yaml:6:10: ttl "99999999999999999999d" is not a length of time: longer`},
	"ttl over 100 years":          {inPurpose("    ttl: 36501d\n"), `p.yaml:6:10: ttl "36501d" is not a length of time: longer than`},
	"ttl in bd":                   {inPurpose("    ttl: 30bd\n"), "p.yaml:6:10: ttl can't count business days"},
	"ttl too short":               {inPurpose("    ttl: 5ms\n"), "p.yaml:6:10: ttl is 5ms, and must be from 1s to 36500d"},
	"ttl unlimited in one place":  {inPurpose("    ttl: {default: 1d, US: unlimited}\n"), "p.yaml:6:10: ttl is unlimited in US only"},
	"double opt-in word":          {inPurpose("    double_opt_in: DE\n"), `p.yaml:6:20: double_opt_in wants true or false, not "DE"`},
	"double opt-in without where": {inPurpose("    double_opt_in: {window: 7d}\n"), "p.yaml:6:20: required_in is missing"},
	"double opt-in key":           {inPurpose("    double_opt_in: {required_in: [DE], windows: 7d}\n"), `p.yaml:6:40: unknown key "windows": did you mean "window"?`},
	"double opt-in window":        {inPurpose("    double_opt_in: {required_in: [DE], window: 2s}\n"), "p.yaml:6:48: window is 2s, and must be from 1m to 365d"},
	"scope word":                  {inPurpose("    scope: household\n"), `p.yaml:6:12: scope "household" is not known: use person or device`},
	"freely given key":            {inPurpose("    freely_given: {refuse: true}\n"), `p.yaml:6:20: unknown key "refuse": the keys here are refuse_conditional`},
	"deadline":                    {inPurpose("    deadline: soon\n"), `p.yaml:6:15: deadline "soon" is not a length of time`},
	"deadline unlimited":          {inPurpose("    deadline: {US: unlimited}\n"), "p.yaml:6:20: US can't be unlimited"},
	"deadline in too many bd":     {inPurpose("    deadline: 1001bd\n"), `p.yaml:6:15: deadline "1001bd" is not a length of time: more than 1000 business days`},
	"was still declared":          {inPurpose("    was: [marketing.email]\n"), "p.yaml:6:5: purpose marketing.email is still declared in line 2"},
	"was form":                    {inPurpose("    was: [Old]\n"), `p.yaml:6:11: purpose "Old": a purpose is a dotted path`},
	"same meaning as what":        {inPurpose("    same_meaning: true\n"), "p.yaml:6:5: same_meaning speaks of the purposes under was"},
	"keyword key":                 {inPurpose("    keywords: {stop: [stop]}\n"), `p.yaml:6:16: unknown key "stop": the keys here are withdraw and grant`},
	"keyword twice":               {inPurpose("    keywords: {withdraw: [stop, STOP]}\n"), "p.yaml:6:33: withdraw names this twice"},
	"keyword for both":            {inPurpose("    keywords: {withdraw: [stop], grant: [Stop]}\n"), `p.yaml:6:42: keyword "stop" can't grant: it withdraws already`},
	"signals key":                 {inPurpose("    signals: {consent-mode: [ad_storage]}\n"), `p.yaml:6:15: unknown key "consent-mode": did you mean "consent_mode"?`},
	"consent mode word":           {inPurpose("    signals: {consent_mode: [ads_storage]}\n"), `p.yaml:6:30: consent_mode "ads_storage" is not known: did you mean "ad_storage"?`},
	"tcf purpose":                 {inPurpose("    signals: {tcf: [1, 12]}\n"), "p.yaml:6:24: tcf wants a whole number from 1 to 11, not 12"},
	"gpp word":                    {inPurpose("    signals: {gpp: [SaleOptOuts]}\n"), `p.yaml:6:21: gpp "SaleOptOuts" is not known: did you mean "SaleOptOut"?`},
	"data as text":                {inPurpose("    data: pages\n"), "p.yaml:6:11: data wants a list of kinds of personal data"},
	"recipients empty":            {inPurpose("    recipients: []\n"), "p.yaml:6:17: recipients is an empty list"},
	"storage twice":               {inPurpose("    storage: [Cork, Cork]\n"), "p.yaml:6:21: storage names this twice"},
	"retention":                   {inPurpose("    retention: long\n"), `p.yaml:6:16: retention "long" is not a length of time`},
}

func notice(fields string) string {
	return "purposes:\n  - id: a\n    title: T\n    legal_basis: consent\n    notices:\n      - {" + fields + "}\n"
}

const anotherSum = "c5ab5b70c2c0bfeeedd4c6a4ba90f6e5e0b0de4a8d3bd8a90c6bd1e5f1a3c0a1"

var badNotices = map[string]struct{ yaml, want string }{
	"no id":                {notice(`version: "1", language: en, text: x`), "p.yaml:6:9: id is missing"},
	"no version":           {notice(`id: n, language: en, text: x`), "p.yaml:6:9: version is missing"},
	"no language":          {notice(`id: n, version: "1", text: x`), "p.yaml:6:9: language is missing"},
	"language form":        {notice(`id: n, version: "1", language: e, text: x`), `p.yaml:6:41: language "e" is no language tag`},
	"unknown key":          {notice(`id: n, version: "1", language: en, txt: x, text: y`), `p.yaml:6:45: unknown key "txt": did you mean "text"?`},
	"text and file":        {notice(`id: n, version: "1", language: en, text: x, file: text.txt`), "p.yaml:6:60: text and file are both here"},
	"blank text":           {notice(`id: n, version: "1", language: en, text: " "`), "p.yaml:6:51: text is empty"},
	"file not there":       {notice(`id: n, version: "1", language: en, file: none.txt`), `p.yaml:6:51: file "none.txt" can't be read: no such file`},
	"file empty":           {notice(`id: n, version: "1", language: en, file: empty.txt`), `p.yaml:6:51: file "empty.txt" is empty`},
	"file no text":         {notice(`id: n, version: "1", language: en, file: bin.pdf`), `p.yaml:6:51: file "bin.pdf" is not UTF-8 text: give its sha256`},
	"file too large":       {notice(`id: n, version: "1", language: en, file: huge.txt`), `p.yaml:6:51: file "huge.txt" is larger than 4 MiB`},
	"hash of another file": {notice(`id: n, version: "1", language: en, file: text.txt, sha256: ` + anotherSum), "p.yaml:6:69: sha256 is not that of the text, which is bd9d1be98d599c07"},
	"hash of another text": {notice(`id: n, version: "1", language: en, text: "x", sha256: ` + anotherSum), "p.yaml:6:64: sha256 is not that of the text, which is 2d711642b726b044"},
	"hash form":            {notice(`id: n, version: "1", language: en, sha256: abc`), "p.yaml:6:53: sha256 wants 64 hex digits"},
	"valid until":          {notice(`id: n, version: "1", language: en, text: x, valid_until: "31.12.2026"`), `p.yaml:6:67: valid_until "31.12.2026" is no date`},
	"material":             {notice(`id: n, version: "1", language: en, text: x, material: renewal`), `p.yaml:6:64: material "renewal" is not known: use true, false, renew or invalidate`},
	"twice": {
		"purposes:\n  - id: a\n    title: T\n    legal_basis: consent\n    notices:\n      - {id: n, version: 1, language: en, text: x}\n      - {id: n, version: \"1\", language: de, text: y}\n      - {id: n, version: 1, language: en, text: z}\n",
		`p.yaml:8:9: notice "n", version "1", language "en" is there twice: it is in line 6 already`},
	"one version, two texts": {
		"purposes:\n  - id: a\n    title: T\n    legal_basis: consent\n    notices: [{id: n, version: 1, language: en, text: x}]\n  - id: b\n    title: T\n    legal_basis: consent\n    notices: [{id: n, version: 1, language: en, text: y}]\n",
		`p.yaml:9:15: notice "n", version "1", language "en" has another text in line 5`},
}

var badDownstreams = map[string]struct{ yaml, want string }{
	"no downstreams":            {"tenant: default\n", "d.yaml:1:1: downstreams is missing"},
	"unknown top key":           {"downstreams: []\nversion: 1\n", `d.yaml:2:1: unknown key "version": the keys here are tenant and downstreams`},
	"tenant without purposes":   {"tenant: defalt\ndownstreams: []\n", `d.yaml:1:9: tenant defalt has no purposes file: did you mean "default"?`},
	"tenant far from any":       {"tenant: shop\ndownstreams: []\n", "d.yaml:1:9: tenant shop has no purposes file: they declare default"},
	"no name":                   {"downstreams:\n  - purposes: [marketing.email]\n    delivery: {poll: {}}\n", "d.yaml:2:5: name is missing"},
	"name form":                 {"downstreams:\n  - {name: CRM, purposes: [marketing.email], delivery: {poll: {}}}\n", `d.yaml:2:12: name "CRM" has other than`},
	"name twice":                {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {poll: {}}}\n  - {name: a, purposes: [marketing.email], delivery: {poll: {}}}\n", "d.yaml:3:12: downstream a is there twice: it is in line 2 already"},
	"no purposes":               {"downstreams:\n  - {name: a, delivery: {poll: {}}}\n", "d.yaml:2:5: purposes is missing"},
	"pattern":                   {"downstreams:\n  - {name: a, purposes: [\"*.email\"], delivery: {poll: {}}}\n", `d.yaml:2:26: pattern "*.email": a purpose pattern is`},
	"pattern twice":             {"downstreams:\n  - {name: a, purposes: [\"*\", \"*\"], delivery: {poll: {}}}\n", "d.yaml:2:31: purposes names this twice"},
	"changes":                   {inDownstream("changes: withdrawal"), `d.yaml:5:14: changes "withdrawal" is not known: did you mean "withdrawals"?`},
	"no delivery":               {"downstreams:\n  - {name: a, purposes: [marketing.email]}\n", "d.yaml:2:5: delivery is missing"},
	"delivery of no kind":       {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {}}\n", "d.yaml:2:54: delivery wants exactly one of webhook, topic and poll, and has 0"},
	"delivery of two kinds":     {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {poll: {}, topic: {name: t}}}\n", "d.yaml:2:54: delivery wants exactly one of webhook, topic and poll, and has 2"},
	"delivery key":              {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {poll: {}, webhok: {}}}\n", `d.yaml:2:65: unknown key "webhok": did you mean "webhook"?`},
	"topic form":                {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {topic: {name: a/b}}}\n", `d.yaml:2:69: topic "a/b" has other than`},
	"topic of ours":             {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {topic: {name: consent.events}}}\n", `d.yaml:2:69: topic "consent.events" is named like one of Assent's own`},
	"topic without a name":      {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {topic: {}}}\n", "d.yaml:2:62: name is missing"},
	"retain":                    {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {poll: {retain: 5m}}}\n", "d.yaml:2:70: retain is 5m, and must be from 1h to 36500d"},
	"start":                     {inDownstream("start: begining"), `d.yaml:5:12: start "begining" is not known: did you mean "beginning"?`},
	"deadline":                  {inDownstream("deadline: 2"), `d.yaml:5:15: deadline "2" is not a length of time`},
	"acknowledgement":           {inDownstream("acknowledgement: {within: 1d}"), "d.yaml:5:22: required is missing"},
	"acknowledgement unasked":   {inDownstream("acknowledgement: {required: false, within: 1d}"), "d.yaml:5:48: within says by when, and required (line 5)"},
	"batch":                     {inDownstream("batch: {max_changes: 0}"), "d.yaml:5:26: max_changes wants a whole number from 1 to 1000, not 0"},
	"batch without a size":      {inDownstream("batch: {max_wait: 1s}"), "d.yaml:5:12: max_changes is missing"},
	"batch wait":                {inDownstream("batch: {max_changes: 2, max_wait: 2m}"), "d.yaml:5:39: max_wait is 2m, and must be from 1ms to 1m"},
	"test":                      {inDownstream("test: 1"), "d.yaml:5:11: test wants true or false"},
	"unknown key":               {inDownstream("tests: true"), `d.yaml:5:5: unknown key "tests": did you mean "test"?`},
	"no url":                    {inWebhook("timeout: 10s"), "d.yaml:6:9: url is missing"},
	"no secrets":                {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\"}}}\n", "d.yaml:2:64: secrets is missing"},
	"url without a scheme":      {inWebhook("url: crm.example/consent"), "d.yaml:7:14: url wants http:// or https://"},
	"url of a file":             {inWebhook("url: file:///etc/passwd"), "d.yaml:7:14: url wants http:// or https://"},
	"url without a host":        {inWebhook("url: https:///consent"), "d.yaml:7:14: url names no host"},
	"url broken":                {inWebhook("url: https://[::1"), "d.yaml:7:14: url is not a URL"},
	"http outside":              {inWebhook("url: http://crm.example/consent"), "d.yaml:7:14: http is sent in the clear"},
	"url with a password":       {inWebhook("url: https://bob:hunter2@crm.example/"), "d.yaml:7:14: url holds a name or password"},
	"url with a fragment":       {inWebhook("url: https://crm.example/#x"), "d.yaml:7:14: url has a fragment"},
	"url port":                  {inWebhook("url: https://crm.example:99999/"), `d.yaml:7:14: url has port "99999"`},
	"url loopback":              {inWebhook("url: https://127.0.0.1/"), "d.yaml:7:14: url goes to 127.0.0.1, which is no public address"},
	"url private":               {inWebhook("url: https://10.1.2.3/"), "d.yaml:7:14: url goes to 10.1.2.3, which is no public address"},
	"url metadata":              {inWebhook("url: https://169.254.169.254/latest"), "d.yaml:7:14: url goes to 169.254.169.254"},
	"url mapped":                {inWebhook("url: \"https://[::ffff:127.0.0.1]/\""), "d.yaml:7:14: url goes to ::ffff:127.0.0.1"},
	"url as a number":           {inWebhook("url: https://2130706433/"), `d.yaml:7:14: url has host "2130706433", which is neither`},
	"url short address":         {inWebhook("url: https://127.1/"), `d.yaml:7:14: url has host "127.1", which is neither`},
	"url hex address":           {inWebhook("url: https://0x7f.0x1/"), `d.yaml:7:14: url has host "0x7f.0x1", which is neither`},
	"url localhost":             {inWebhook("url: https://LocalHost./"), `d.yaml:7:14: url goes to "localhost", which is no public name`},
	"url internal name":         {inWebhook("url: https://crm.corp.internal/"), `d.yaml:7:14: url goes to "crm.corp.internal", which is no public name`},
	"url without a domain":      {inWebhook("url: https://crm/"), `d.yaml:7:14: url goes to "crm", a name without a domain`},
	"internal url as a number":  {inWebhook("internal: true\n        url: http://2130706433/"), `d.yaml:8:14: url has host "2130706433"`},
	"secret in the file":        {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\", secrets: [whsec_hunter2]}}}\n", "d.yaml:2:101: a secret is never written into this file"},
	"secret of a command":       {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\", secrets: [\"cmd:pass show\"]}}}\n", "d.yaml:2:101: cmd: is not read by this version"},
	"secret of no variable":     {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\", secrets: [\"env:A-B\"]}}}\n", "d.yaml:2:101: env: wants the name of a variable"},
	"secret of no file":         {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\", secrets: [\"file:\"]}}}\n", "d.yaml:2:101: file: wants a path"},
	"five secrets":              {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: {url: \"https://a.example\", secrets: [env:A, env:B, env:C, env:D, env:E]}}}\n", "d.yaml:2:100: more than 4 secrets"},
	"timeout too long":          {inWebhook(webhookURL + "timeout: 3m"), "d.yaml:8:18: timeout is 3m, and must be from 100ms to 2m"},
	"timeout unlimited":         {inWebhook(webhookURL + "timeout: unlimited"), "d.yaml:8:18: timeout can't be unlimited"},
	"concurrency zero":          {inWebhook(webhookURL + "concurrency: 0"), "d.yaml:8:22: concurrency wants a whole number from 1 to 1000, not 0"},
	"concurrency over":          {inWebhook(webhookURL + "concurrency: 1001"), "d.yaml:8:22: concurrency wants a whole number from 1 to 1000, not 1001"},
	"rate without a unit":       {inWebhook(webhookURL + "rate_limit: 500"), `d.yaml:8:21: rate_limit "500" is no rate`},
	"rate zero":                 {inWebhook(webhookURL + "rate_limit: 0/s"), `d.yaml:8:21: rate_limit "0/s" is no rate`},
	"rate negative":             {inWebhook(webhookURL + "rate_limit: -1/s"), `d.yaml:8:21: rate_limit "-1/s" is no rate`},
	"rate per day":              {inWebhook(webhookURL + "rate_limit: 5/d"), `d.yaml:8:21: rate_limit "5/d" is no rate`},
	"rate without a number":     {inWebhook(webhookURL + "rate_limit: /s"), `d.yaml:8:21: rate_limit "/s" is no rate`},
	"rate over":                 {inWebhook(webhookURL + "rate_limit: 2000000/s"), `d.yaml:8:21: rate_limit "2000000/s" is no rate`},
	"attempts":                  {inWebhook(webhookURL + "attempts: 101"), "d.yaml:8:19: attempts wants a whole number from 1 to 100"},
	"webhook key":               {inWebhook(webhookURL + "time_out: 3s"), `d.yaml:8:9: unknown key "time_out": did you mean "timeout"?`},
	"webhook of another kind":   {"downstreams:\n  - {name: a, purposes: [marketing.email], delivery: {webhook: \"https://a.example\"}}\n", "d.yaml:2:64: webhook wants keys and values"},
	"downstreams of other kind": {"downstreams: none\n", "d.yaml:1:14: downstreams wants a list of downstreams"},
}

// want holds the answer of a reading to one fault, which begins with want.
func oneFault(t *testing.T, purposes, downstreams, want string) {
	t.Helper()
	p, d := files(purposes, downstreams)
	r, err := LoadBytes(p, d, Options{ReadFile: someFiles})
	if err == nil || r != nil {
		t.Fatalf("accepted; want %s", want)
	}
	lines := strings.Split(Explain(err), "\n")
	if len(lines) != 1 || !strings.HasPrefix(lines[0], want) {
		t.Errorf("got  %s\nwant %s…", strings.Join(lines, "\n     "), want)
	}
	for _, secret := range []string{"hunter2", "whsec"} {
		if strings.Contains(Explain(err), secret) {
			t.Errorf("the sentence holds a secret: %s", Explain(err))
		}
	}
}

func TestLoad_NamesTheFaultOfAPurposesFile(t *testing.T) {
	for name, c := range badPurposes {
		t.Run(name, func(t *testing.T) { oneFault(t, c.yaml, "", c.want) })
	}
}

func TestLoad_NamesTheFaultOfANotice(t *testing.T) {
	for name, c := range badNotices {
		t.Run(name, func(t *testing.T) { oneFault(t, c.yaml, "", c.want) })
	}
}

func TestLoad_NamesTheFaultOfADownstreamsFile(t *testing.T) {
	for name, c := range badDownstreams {
		t.Run(name, func(t *testing.T) { oneFault(t, goodPurposes, c.yaml, c.want) })
	}
}

func TestLoad_TheGoodPartsOfTheTablesAreGood(t *testing.T) {
	p, d := files(goodPurposes, inDownstream("test: true"))
	r, err := LoadBytes(p, d, Options{})
	if err != nil || len(r.Warnings()) > 0 {
		t.Fatalf("faults: %s\nwarnings: %s", Explain(err), Explain(r.Warnings()))
	}
	p, d = files(goodPurposes, inWebhook(webhookURL+"timeout: 15s"))
	if _, err = LoadBytes(p, d, Options{}); err != nil {
		t.Fatal(Explain(err))
	}
}

func TestLoad_TellsEveryFaultOfEveryFileAtOnce(t *testing.T) {
	p, d := files("tenant: A\npurposes:\n  - {id: x}\n", "downstreams:\n  - {name: B}\n")
	p = append(p, Source{"p2.yaml", []byte("purposes: [")})
	_, err := LoadBytes(p, d, Options{})
	want := []string{"d.yaml:2:5: purposes is missing", "d.yaml:2:5: delivery is missing", "d.yaml:2:12: name", "p.yaml:1:9: tenant", "p.yaml:3:5: title is missing", "p.yaml:3:5: legal_basis is missing", "p2.yaml:1:11: not valid YAML"}
	got := strings.Split(Explain(err), "\n")
	if len(got) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%s", len(got), len(want), Explain(err))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("fault %d = %s, want %s…", i, got[i], want[i])
		}
	}
}

func TestLoad_NamesAFileThatCannotBeRead(t *testing.T) {
	_, err := Load([]string{"none.yaml"}, []string{"none2.yaml"}, Options{ReadFile: someFiles})
	if got := Explain(err); got != "none.yaml: can't be read: no such file\nnone2.yaml: can't be read: no such file" {
		t.Error(got)
	}
	_, err = Load([]string{t.TempDir() + "/none.yaml"}, nil, Options{})
	if got := Explain(err); !strings.HasSuffix(got, "none.yaml: can't be read: no such file or directory") {
		t.Error(got)
	}
}

func TestLoad_RefusesATenantTwice(t *testing.T) {
	p := []Source{{"a.yaml", []byte("tenant: one\n" + goodPurposes)}, {"b.yaml", []byte("# b\ntenant: one\n" + goodPurposes)}}
	_, err := LoadBytes(p, nil, Options{})
	if got := Explain(err); got != "b.yaml:2:9: tenant one has its purposes in a.yaml, line 1 already: one file per tenant" {
		t.Error(got)
	}
	d := []Source{{"a.yaml", []byte("downstreams: []\n")}, {"b.yaml", []byte("tenant: default\ndownstreams: []\n")}}
	_, err = LoadBytes(nil, d, Options{})
	if got := Explain(err); got != "b.yaml:1:9: tenant default has its downstreams in a.yaml, line 1 already: one file per tenant" {
		t.Error(got)
	}
}

func TestLoad_WarnsOfWhatIsAllowedAndLooksWrong(t *testing.T) {
	for name, c := range map[string]struct{ purposes, downstreams, want string }{
		"purpose above a purpose": {"purposes:\n  - {id: a, title: T, legal_basis: contract}\n  - {id: a.b.c, title: T, legal_basis: contract}\n", "",
			"p.yaml:2:10: purpose a stands above a.b.c and can be granted itself"},
		"empty group": {"purposes:\n  - {id: a, title: T, group: true}\n", "",
			"p.yaml:2:10: group a has no purpose below it"},
		"no notice": {"purposes:\n  - {id: a, title: T, legal_basis: consent}\n", "",
			"p.yaml:2:10: purpose a names no notice: no grant of it can be valid"},
		"notice without a text": {notice(`id: n, version: "1", language: en`), "",
			`p.yaml:6:9: notice "n" has no text, file or sha256`},
		"consent by silence": {inPurpose("    model: opt_out\n"), "",
			"p.yaml:2:9: purpose marketing.email rests on consent and is opt_out in the EU"},
		"pattern selects nothing": {goodPurposes, "downstreams:\n  - {name: a, purposes: [marketing.email, \"marketng.email.*\"], delivery: {poll: {}}}\n",
			`d.yaml:2:43: pattern "marketng.email.*" selects no declared purpose: did you mean "marketing.email"?`},
		"nobody listens": {goodPurposes + "  - {id: marketing, title: T, group: true}\n", "downstreams: []\n",
			"d.yaml:1:1: no downstream listens to marketing.email: a withdrawal of it reaches nobody"},
	} {
		t.Run(name, func(t *testing.T) {
			p, d := files(c.purposes, c.downstreams)
			r, err := LoadBytes(p, d, Options{})
			if err != nil {
				t.Fatal(Explain(err))
			}
			if w := r.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0].String(), c.want) {
				t.Errorf("got  %s\nwant %s…", Explain(w), c.want)
			}
		})
	}
}

// idsOf declares purposes whose ids have so many bytes together, one in each line from
// the second on. No id has more than 250.
func idsOf(bytes int) string {
	var b strings.Builder
	b.WriteString("purposes:\n")
	for i := 0; bytes > 0; i++ {
		id := fmt.Sprintf("p%04d", i) + strings.Repeat("a", 245)
		id = id[:min(len(id), bytes)]
		bytes -= len(id)
		fmt.Fprintf(&b, "  - {id: %s, title: T, legal_basis: contract}\n", id)
	}
	return b.String()
}

func TestLoad_BoundsTheIDsThatOneWithdrawalNames(t *testing.T) {
	p, d := files(idsOf(128<<10), "")
	if _, err := LoadBytes(p, d, Options{}); err != nil {
		t.Errorf("128 KiB of ids: %s", Explain(err))
	}
	const want = "p.yaml:526:10: the purpose ids of this file have more than 128 KiB together: shorten them or declare fewer"
	oneFault(t, idsOf(128<<10+1), "", want)
	oneFault(t, idsOf(256<<10), "", want)
}
