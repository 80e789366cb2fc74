package gateway

import (
	"encoding/hex"
	"net/http"
	"strings"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/problem"
)

// declared is a purpose as a banner needs it.
type declared struct {
	ID          consent.Purpose `json:"id"`
	Title       string          `json:"title,omitempty"`
	Description string          `json:"description,omitempty"`
	Group       bool            `json:"group,omitempty"` // never granted as a whole
	LegalBasis  string          `json:"legal_basis,omitempty"`
	Model       string          `json:"model,omitempty"`
	Scope       string          `json:"scope,omitempty"`
	SaleOrShare bool            `json:"sale_or_share,omitempty"`
	DoubleOptIn bool            `json:"double_opt_in,omitempty"`
	Notice      *declaredNotice `json:"notice,omitempty"`
}

type declaredNotice struct {
	ID       string `json:"id"`
	Version  string `json:"version"`
	Language string `json:"language,omitempty"`
	SHA256   string `json:"sha256,omitempty"`
	Text     string `json:"text,omitempty"`
}

// getPurposes lists what a banner may ask for, where the subject is.
func (g *Gateway) getPurposes(w http.ResponseWriter, r *http.Request) {
	query, err := problem.ParseQuery(r)
	if err != nil {
		problem.BadRequest(err.Error()).Write(w)
		return
	}
	tenant := consent.DefaultTenant
	if name := query.Get("tenant"); name != "" {
		if tenant, err = consent.ParseTenant(name); err != nil {
			problem.BadRequest("tenant: " + err.Error()).Write(w)
			return
		}
	}
	jurisdiction, _ := consent.ParseJurisdiction(query.Get("jurisdiction")) // unknown counts as empty
	catalogue := g.registry().Catalogue(tenant)
	answer := struct {
		Tenant        consent.Tenant       `json:"tenant"`
		PolicyVersion string               `json:"policy_version,omitempty"`
		Jurisdiction  consent.Jurisdiction `json:"jurisdiction,omitempty"`
		Purposes      []declared           `json:"purposes"`
	}{tenant, catalogue.Version, jurisdiction, make([]declared, 0, len(catalogue.Purposes))}
	for _, d := range catalogue.Purposes {
		answer.Purposes = append(answer.Purposes, g.declare(catalogue, d, jurisdiction, query.Get("language")))
	}
	writeJSON(w, http.StatusOK, answer)
}

func (g *Gateway) declare(c *consent.Catalogue, d *consent.Declaration, j consent.Jurisdiction, language string) declared {
	x := declared{ID: d.ID, Title: d.Title, Description: d.Description, Group: d.Group, Scope: known(d.Scope), SaleOrShare: d.SaleOrShare}
	if d.Group {
		return x
	}
	x.LegalBasis = known(d.LegalBasis)
	x.Model = c.Model(d, j).String()
	x.DoubleOptIn = d.NeedsDoubleOptIn(j)
	if n := currentNotice(d.Notices, language, g.received()); n != nil {
		x.Notice = &declaredNotice{ID: n.ID, Version: n.Version, Language: n.Language, Text: n.Text}
		if n.SHA256 != [32]byte{} {
			x.Notice.SHA256 = hex.EncodeToString(n.SHA256[:])
		}
	}
	return x
}

// known gives the word of an enum, "" for what is not declared.
func known(v interface{ String() string }) string {
	if s := v.String(); s != "unknown" {
		return s
	}
	return ""
}

// currentNotice chooses the text to show: of those still valid at t the best
// language (the one asked for, its base language, English, any), then one
// without an end before one with, then the one declared last.
func currentNotice(notices []consent.NoticeText, language string, t consent.Instant) *consent.NoticeText {
	base, _, _ := strings.Cut(language, "-")
	rank := func(n *consent.NoticeText) int {
		r := 0
		switch {
		case language != "" && strings.EqualFold(n.Language, language):
			r = 6
		case base != "" && strings.EqualFold(n.Language, base):
			r = 4
		case n.Language == "en":
			r = 2
		}
		if n.ValidUntil == 0 {
			r++
		}
		return r
	}
	var best *consent.NoticeText
	for i := range notices {
		n := &notices[i]
		if n.ValidUntil != 0 && n.ValidUntil < t {
			continue
		}
		if best == nil || rank(n) >= rank(best) {
			best = n
		}
	}
	return best
}
