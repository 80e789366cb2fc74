package consent

import "strings"

// Jurisdiction is an ISO 3166-1 country, an ISO 3166-2 subdivision, or one of
// the unions EU and EEA. The empty jurisdiction is unknown.
type Jurisdiction string

// The unions that a country may belong to.
const (
	EU  Jurisdiction = "EU"
	EEA Jurisdiction = "EEA"
)

const (
	euMembers  = "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK"
	eeaMembers = euMembers + " IS LI NO"
	// countries are the officially assigned codes of ISO 3166-1 alpha-2.
	countries = "AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT BV BW BY BZ " +
		"CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH ER ES ET FI FJ FK FM FO FR " +
		"GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP " +
		"KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ " +
		"NA NC NE NF NG NI NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW " +
		"SA SB SC SD SE SG SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ " +
		"UA UG UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW"
)

var (
	isCountry = codeSet(countries)
	inEU      = codeSet(euMembers)
	inEEA     = codeSet(eeaMembers)
)

func codeSet(list string) map[Jurisdiction]bool {
	m := map[Jurisdiction]bool{}
	for _, c := range strings.Fields(list) {
		m[Jurisdiction(c)] = true
	}
	return m
}

// ParseJurisdiction upper-cases a code. An unknown code counts as empty; ok is
// then false, so that a caller can say so.
func ParseJurisdiction(s string) (j Jurisdiction, ok bool) {
	if s == "" {
		return "", true
	}
	j = Jurisdiction(strings.ToUpper(s))
	if j == EU || j == EEA || isCountry[j] {
		return j, true
	}
	if country, part, found := strings.Cut(string(j), "-"); found && isCountry[Jurisdiction(country)] && isSubdivision(part) {
		return j, true
	}
	return "", false
}

func isSubdivision(part string) bool {
	if len(part) < 1 || len(part) > 3 {
		return false
	}
	for i := 0; i < len(part); i++ {
		if c := part[i]; (c < 'A' || c > 'Z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// Country gives the country of a subdivision, and a country itself.
func (j Jurisdiction) Country() Jurisdiction {
	country, _, _ := strings.Cut(string(j), "-")
	return Jurisdiction(country)
}

// widening lists where to look for j: itself, its country, its unions.
func (j Jurisdiction) widening() []Jurisdiction {
	steps := make([]Jurisdiction, 0, 4)
	steps = append(steps, j)
	country := j.Country()
	if country != j {
		steps = append(steps, country)
	}
	if inEU[country] {
		steps = append(steps, EU)
	}
	if inEEA[country] || j == EU {
		steps = append(steps, EEA)
	}
	return steps
}

// ByJurisdiction holds a value per jurisdiction; the key "" is the default.
type ByJurisdiction[T any] map[Jurisdiction]T

// Lookup takes the exact code, its country, its unions (FR → EU, EEA), then the
// default. Source: semantics.md, section 4.
func (b ByJurisdiction[T]) Lookup(j Jurisdiction) (v T, ok bool) {
	if v, ok = b.Declared(j); ok {
		return v, true
	}
	v, ok = b[""]
	return v, ok
}

// Declared is Lookup without the default.
func (b ByJurisdiction[T]) Declared(j Jurisdiction) (v T, ok bool) {
	if len(b) == 0 || j == "" {
		return v, false
	}
	for _, step := range j.widening() {
		if v, ok = b[step]; ok {
			return v, true
		}
	}
	return v, false
}

// Strictest gives the value that no other is stricter than; it answers for an
// unknown jurisdiction.
func (b ByJurisdiction[T]) Strictest(stricter func(x, y T) bool) (best T, ok bool) {
	for _, v := range b {
		if !ok || stricter(v, best) {
			best, ok = v, true
		}
	}
	return best, ok
}
