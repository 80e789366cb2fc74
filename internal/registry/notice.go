package registry

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// language is the form of a BCP 47 tag; whether the language exists is not
// checked.
var language = regexp.MustCompile(`^[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*$`)

// noticeName is what a grant names a notice by.
type noticeName struct{ id, version, language string }

// notices reads what was or is shown for a purpose. They keep the order of the
// file: of two that are valid, the later one is the newer.
func (f *purposesFile) notices(m *strictyaml.Mapping, p *purposeEntry) {
	v, ok := m.Get("notices")
	if !ok {
		return
	}
	seen := map[noticeName]int{}
	for _, item := range v.List("notices") {
		n, ok := item.Mapping()
		if !ok {
			continue
		}
		text, ok := f.notice(n, p)
		if !ok {
			continue
		}
		name := noticeName{text.ID, text.Version, text.Language}
		if line, twice := seen[name]; twice {
			n.Fault("notice %s, version %s, language %s is there twice: it is in line %d already; a new text is a new version", strictyaml.Quote(name.id), strictyaml.Quote(name.version), strictyaml.Quote(name.language), line)
			continue
		}
		seen[name] = n.At().Line
		p.Notices = append(p.Notices, text)
		f.sameText(n.At(), name, text.SHA256)
	}
}

// notice reads one; ok is false where its name can't be used.
func (f *purposesFile) notice(m *strictyaml.Mapping, p *purposeEntry) (n consent.NoticeText, ok bool) {
	id, hasID := m.Need("id", "name the notice, such as newsletter")
	version, hasVersion := m.Need("version", "a text that changes gets a new one, such as \"1\"")
	tongue, hasLanguage := m.Need("language", "say in which language it is, such as en")
	if hasID {
		n.ID, hasID = id.Text(consent.MaxNameBytes)
	}
	if hasVersion {
		n.Version, hasVersion = version.Text(consent.MaxNameBytes)
	}
	if hasLanguage {
		if n.Language, hasLanguage = tongue.Text(35); hasLanguage && !language.MatchString(n.Language) {
			tongue.Fault("language %s is no language tag: use one such as en or de-AT", strictyaml.Quote(n.Language))
			hasLanguage = false
		}
	}
	f.noticeText(m, &n)
	if v, ok := m.Get("valid_until"); ok {
		n.ValidUntil = readValidUntil(v)
	}
	if v, ok := m.Get("material"); ok {
		n.Material = readMaterial(v)
		f.waiting.note("material", string(p.ID))
	}
	m.Done()
	return n, hasID && hasVersion && hasLanguage
}

// noticeText fills the text and its hash. The hash is over the very bytes: a
// file's own, or the text as YAML gives it (a block after "|" ends with a line
// break).
func (f *purposesFile) noticeText(m *strictyaml.Mapping, n *consent.NoticeText) {
	text, inline := m.Get("text")
	file, inFile := m.Get("file")
	hash, declared := m.Get("sha256")
	known := false
	switch {
	case inline && inFile:
		file.Fault("text and file are both here: keep one of them")
		return
	case inline:
		n.Text, known = text.Scalar("the text that is shown")
		if known && strings.TrimSpace(n.Text) == "" {
			text.Fault("text is empty: give the text that is shown")
			known = false
		}
	case inFile:
		path, ok := file.Text(maxDescription)
		if ok {
			n.Text, known = f.load.noticeText(f, file, path)
		}
	case !declared:
		m.At().Warn("notice %s has no text, file or sha256: a grant on it can't prove what was shown", strictyaml.Quote(n.ID))
	}
	if known {
		n.SHA256 = sha256.Sum256([]byte(n.Text))
	}
	if !declared {
		return
	}
	want, ok := readSHA256(hash)
	switch {
	case !ok:
	case !known:
		n.SHA256 = want
	case want != n.SHA256:
		hash.Fault("sha256 is not that of the text, which is %s: a text that was shown is not edited, give the new one a new version", hex.EncodeToString(n.SHA256[:]))
	}
}

func readSHA256(v strictyaml.Value) (sum [32]byte, ok bool) {
	s, ok := v.Scalar("64 hex digits")
	if !ok {
		return sum, false
	}
	b, err := hex.DecodeString(strings.ToLower(s))
	if err != nil || len(b) != len(sum) {
		v.Fault("sha256 wants 64 hex digits, as sha256sum prints them")
		return sum, false
	}
	return [32]byte(b), true
}

// validUntil reads a date, whose whole day counts (UTC), or a time.
func readValidUntil(v strictyaml.Value) consent.Instant {
	s, ok := v.Scalar("a date such as 2026-12-31")
	if !ok {
		return 0
	}
	if t, ok := parseDate(s); ok {
		return consent.InstantOf(t.Add(day - time.Millisecond))
	}
	at, err := consent.ParseInstant(s)
	if err != nil || at == 0 {
		v.Fault("valid_until %s is no date: write 2026-12-31, or a time such as 2026-12-31T22:00:00Z", strictyaml.Quote(s))
	}
	return at
}

// material reads what superseding the notice means: true is the milder of the
// two.
func readMaterial(v strictyaml.Value) string {
	if b, ok := v.Bool(); ok {
		if b {
			return MaterialRenew
		}
		return ""
	}
	s, _ := strictyaml.Word(v, parseMaterial, "true", "false", MaterialRenew, MaterialInvalidate)
	return s
}

func parseMaterial(s string) (string, bool) { return s, s == MaterialRenew || s == MaterialInvalidate }

// sameText holds one notice to one text: purposes that show the same banner
// name the same id, version and language.
func (f *purposesFile) sameText(at strictyaml.Value, name noticeName, sum [32]byte) {
	if sum == ([32]byte{}) {
		return
	}
	first, known := f.texts[name]
	if !known {
		f.texts[name] = noticeAt{sum, at.Line}
		return
	}
	if first.sum != sum {
		at.Fault("notice %s, version %s, language %s has another text in line %d: one version is one text", strictyaml.Quote(name.id), strictyaml.Quote(name.version), strictyaml.Quote(name.language), first.line)
	}
}

type noticeAt struct {
	sum  [32]byte
	line int
}
