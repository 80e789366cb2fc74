package loadgen

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"math/rand/v2"
	"strconv"

	"github.com/assent-dev/assent/consent"
)

// A household is householdSize subjects with consecutive numbers.
const (
	householdSize   = 20
	householdUsers  = 9 // numbers 0 to 8
	householdPhones = 8 // then the devices; the rest are mail boxes
)

// population knows everybody by number, and keeps nobody: what a subject is
// follows from the seed and the number.
type population struct {
	seed    uint64
	size    int
	markets []Market
	total   uint64 // of the markets' weights
}

func newPopulation(o *Options) population {
	p := population{seed: o.Seed, size: o.Subjects, markets: o.Jurisdictions}
	for _, m := range o.Jurisdictions {
		p.total += uint64(m.Weight)
	}
	return p
}

// hash is SplitMix64 over seed, purpose and number.
func (p *population) hash(salt uint64, number int) uint64 {
	z := p.seed + (salt<<56 | uint64(number)) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	z ^= z >> 31
	// Once more: seeds that differ by little must not give shifted populations.
	z = (z + p.seed*0x9e3779b97f4a7c15) * 0xbf58476d1ce4e5b9
	return z ^ z>>29
}

// draw picks a subject: ranks fall off as 1/rank, flattened at the top so that
// the busiest one has at most about a hundred times its share.
func (p *population) draw(r *rand.Rand) int {
	// Uniform in the octave, and between octaves: log-uniform, in integers, so
	// that every machine draws the same.
	top := uint64(p.size)/1024 + 1
	octaves := bits.Len64((uint64(p.size) + top - 1) / top)
	for {
		low := top << r.Uint64N(uint64(octaves))
		if x := low + r.Uint64N(low) - top; x < uint64(p.size) {
			return int(x)
		}
	}
}

// user, device and mailbox give a subject of the household of that kind, always
// the same one; the subject itself where the household has none.
func (p *population) user(n int) int   { return p.mate(n, 0, householdUsers) }
func (p *population) device(n int) int { return p.mate(n, householdUsers, householdPhones) }
func (p *population) mailbox(n int) int {
	return p.mate(n, householdUsers+householdPhones, householdSize-householdUsers-householdPhones)
}

func (p *population) mate(n, first, count int) int {
	at := n % householdSize
	if at >= first && at < first+count {
		return n
	}
	m := n - at + first + at%count
	if m >= p.size {
		return n
	}
	return m
}

func isDevice(n int) bool {
	at := n % householdSize
	return at >= householdUsers && at < householdUsers+householdPhones
}

// subject is the pseudonymous id of a number.
func (p *population) subject(n int) consent.Subject {
	switch at := n % householdSize; {
	case at < householdUsers:
		return consent.Subject(p.id("user:", n, 1))
	case at < householdUsers+householdPhones:
		return consent.Subject(p.id(consent.NamespaceDevice+":", n, 2))
	}
	return consent.Subject(p.id(consent.NamespaceEmailHMAC+":", n, 4))
}

// address is a raw one: what a protective event may name, and a grant may not.
func (p *population) address(n int) consent.Subject {
	return consent.Subject("person." + strconv.FormatUint(p.hash(saltID, n)%1_000_000_007, 36) + "@mail.example")
}

// The uses of hash.
const (
	saltID uint64 = iota + 1
	saltMarket
	saltClock
)

func (p *population) id(namespace string, n, words int) string {
	b := make([]byte, len(namespace), len(namespace)+words*16)
	copy(b, namespace)
	var word [8]byte
	for w := range words {
		binary.BigEndian.PutUint64(word[:], p.hash(saltID+uint64(w)<<4, n))
		b = hex.AppendEncode(b, word[:])
	}
	return string(b)
}

// jurisdiction is where a subject lives; a household lives together.
func (p *population) jurisdiction(n int) consent.Jurisdiction {
	at := p.hash(saltMarket, n/householdSize) % p.total
	for _, m := range p.markets {
		if at < uint64(m.Weight) {
			return m.Jurisdiction
		}
		at -= uint64(m.Weight)
	}
	return "" // the weights sum up to total
}

// wrongClocks, in milliseconds: what a device's clock adds to the time.
var wrongClocks = [...]consent.Instant{
	-26 * hour, -2 * hour, -hour, -10 * minute, -90 * second, 75 * second, 5 * minute, hour, 2 * hour, 25 * hour,
}

const (
	second consent.Instant = 1000
	minute                 = 60 * second
	hour                   = 60 * minute
	day                    = 24 * hour
)

// clockError is what a subject's clock adds: nothing, but for one device in 30.
func (p *population) clockError(n int) consent.Instant {
	h := p.hash(saltClock, n)
	if !isDevice(n) || h%30 != 0 {
		return 0
	}
	return wrongClocks[h/30%uint64(len(wrongClocks))]
}

// households tells how many there are.
func (p *population) households() int { return (p.size + householdSize - 1) / householdSize }

// household lists the subjects of one.
func (p *population) household(h int) []consent.Subject {
	var all []consent.Subject
	for n := h * householdSize; n < min((h+1)*householdSize, p.size); n++ {
		all = append(all, p.subject(n))
	}
	return all
}
