package registry

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/registry/strictyaml"
)

// Options is what the reading of the files depends on.
type Options struct {
	// ReadFile reads registry files, notice texts and calendars. Default: from
	// disk, up to 4 MiB a file.
	ReadFile func(path string) ([]byte, error)
	// SamplePurposes takes the built-in purposes where no purposes file is given.
	// Without it, no file means that nothing is declared.
	SamplePurposes bool

	asked func(path string) // see strictyaml.NewDocument
}

// Source is a file that was read already. Paths in it are relative to Name's
// folder.
type Source struct {
	Name string
	Data []byte
}

// Load reads the files, several of each kind for several tenants, and gives a
// Registry that is whole, or [Faults] with everything that is wrong with them.
func Load(purposes, downstreams []string, opt Options) (*Registry, error) {
	l := newLoader(opt)
	p := l.sources(purposes)
	d := l.sources(downstreams)
	return l.load(p, d)
}

// LoadBytes is [Load] for files that are in memory.
func LoadBytes(purposes, downstreams []Source, opt Options) (*Registry, error) {
	return newLoader(opt).load(purposes, downstreams)
}

// loader is one reading of all files.
type loader struct {
	opt     Options
	faults  Faults
	reg     *Registry
	content []string // the version of each file, by kind
	// unread: some purposes file gave no tenant, so that not all are known.
	unread bool
}

func newLoader(opt Options) *loader {
	if opt.ReadFile == nil {
		opt.ReadFile = readBounded
	}
	return &loader{opt: opt, reg: &Registry{tenants: map[consent.Tenant]*tenant{}, waiting: &waiting{}}}
}

// readBounded reads a file of at most strictyaml.MaxFileBytes; of a longer one it gives a
// byte more than that.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, strictyaml.MaxFileBytes+1))
}

func (l *loader) sources(paths []string) []Source {
	var all []Source
	for _, path := range paths {
		data, err := l.opt.ReadFile(path)
		if err != nil {
			l.faults = append(l.faults, Fault{File: path, Sentence: fmt.Sprintf("can't be read: %v", plain(err))})
			l.unread = true
			continue
		}
		all = append(all, Source{path, data})
	}
	return all
}

func (l *loader) load(purposes, downstreams []Source) (*Registry, error) {
	if len(purposes) == 0 && l.opt.SamplePurposes {
		purposes = []Source{{sampleName, samplePurposes}}
	}
	for _, s := range purposes {
		l.purposes(s)
	}
	told := map[consent.Tenant]strictyaml.Value{}
	for _, s := range downstreams {
		l.downstreams(s, told)
	}
	if len(l.faults) > 0 {
		l.faults.Sort()
		return nil, l.faults
	}
	l.reg.finish(l.content)
	l.reg.warnUnheard(told)
	l.reg.warnings.Sort()
	return l.reg, nil
}

func (l *loader) purposes(s Source) {
	f := &purposesFile{Document: strictyaml.NewDocument(s.Name, l.opt.asked), load: l, content: newHasher(), texts: map[noticeName]noticeAt{}, waiting: l.reg.waiting}
	f.content.add(s.Data)
	f.read(s.Data)
	if t := f.tenant; t == nil || t.name == "" {
		l.unread = true
	} else {
		l.addTenant(t)
	}
	l.collect(f.Document)
	l.content = append(l.content, "purposes "+f.content.sum())
}

func (l *loader) addTenant(t *tenant) {
	if first := l.reg.tenants[t.name]; first != nil {
		t.at.Fault("tenant %s has its purposes in %s, line %d already: one file per tenant", t.name, first.at.File(), first.at.Line)
		return
	}
	l.reg.tenants[t.name] = t
}

func (l *loader) downstreams(s Source, told map[consent.Tenant]strictyaml.Value) {
	f := &downstreamsFile{Document: strictyaml.NewDocument(s.Name, l.opt.asked), reg: l.reg, waiting: l.reg.waiting, tenantsKnown: !l.unread}
	if t, at, ok := f.read(s.Data); ok {
		if first, twice := told[t]; twice {
			at.Fault("tenant %s has its downstreams in %s, line %d already: one file per tenant", t, first.File(), first.Line)
		} else {
			told[t] = at
		}
	}
	l.collect(f.Document)
	h := newHasher()
	h.add(s.Data)
	l.content = append(l.content, "downstreams "+h.sum())
}

func (l *loader) collect(d *strictyaml.Document) {
	l.faults = append(l.faults, d.Faults()...)
	l.reg.warnings = append(l.reg.warnings, d.Warnings()...)
}

// named reads a file that v names, and adds it to the version.
func (l *loader) named(f *purposesFile, v strictyaml.Value, path string) ([]byte, bool) {
	path = beside(f.Name(), path)
	data, err := l.opt.ReadFile(path)
	switch {
	case err != nil:
		v.Fault("file %s can't be read: %v", strictyaml.Quote(path), plain(err))
		return nil, false
	case len(data) > strictyaml.MaxFileBytes:
		v.Fault("file %s is larger than %d MiB", strictyaml.Quote(path), strictyaml.MaxFileBytes>>20)
		return nil, false
	}
	f.content.add(data)
	return data, true
}

func (l *loader) noticeText(f *purposesFile, v strictyaml.Value, path string) (string, bool) {
	data, ok := l.named(f, v, path)
	if !ok {
		return "", false
	}
	switch {
	case !utf8.Valid(data):
		v.Fault("file %s is not UTF-8 text: give its sha256 instead of the file", strictyaml.Quote(path))
		return "", false
	case len(bytes.TrimSpace(data)) == 0:
		v.Fault("file %s is empty: it should hold the text that is shown", strictyaml.Quote(path))
		return "", false
	}
	return string(data), true
}

// calendar reads one date a line; what follows a # is a comment.
func (l *loader) calendar(f *purposesFile, v strictyaml.Value, path string) (holidays, bool) {
	data, ok := l.named(f, v, path)
	if !ok {
		return nil, false
	}
	closed := holidays{}
	for i, line := range strings.Split(string(data), "\n") {
		text, _, _ := strings.Cut(line, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		t, isDate := parseDate(text)
		if !isDate {
			l.faults = append(l.faults, Fault{File: beside(f.Name(), path), Line: i + 1, Column: 1, Sentence: strictyaml.Quote(text) + " is not a date: write it as 2026-12-25"})
			ok = false
			continue
		}
		closed[dayNumber(t)] = true
	}
	return closed, ok
}

// hasher makes a content hash of several pieces, each with its length before
// it, so that no two sequences of pieces look alike.
type hasher struct{ h hash.Hash }

func newHasher() *hasher { return &hasher{sha256.New()} }

func (h *hasher) add(piece []byte) {
	var length [8]byte
	binary.BigEndian.PutUint64(length[:], uint64(len(piece)))
	h.h.Write(length[:])
	h.h.Write(piece)
}

func (h *hasher) sum() string { return hex.EncodeToString(h.h.Sum(nil)) }

// versionOf is the version of all files, whatever their order.
func versionOf(content []string) string {
	h := newHasher()
	for _, c := range slices.Sorted(slices.Values(content)) {
		h.add([]byte(c))
	}
	return h.sum()
}
