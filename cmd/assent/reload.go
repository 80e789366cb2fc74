package main

import (
	"context"
	"slices"

	"github.com/assent-dev/assent/internal/daemon"
	"github.com/assent-dev/assent/internal/registry"
)

// registryFiles is the registry in force, and how to read it again.
type registryFiles struct {
	store   *registry.Store
	open    func() (*registry.Registry, error)
	secrets registry.Secrets
}

// openRegistry reads the registry for the first time; lookupEnv resolves the
// secrets that downstreams name.
func (p *program) openRegistry(open func() (*registry.Registry, error), lookupEnv func(string) (string, bool)) (*registryFiles, error) {
	reg, err := open()
	if err != nil {
		return nil, err
	}
	p.noteRegistry(reg)
	return &registryFiles{store: registry.NewStore(reg), open: open, secrets: registry.SecretsFrom(lookupEnv)}, nil
}

func (p *program) lookupEnv(name string) (string, bool) {
	text, ok := p.env[name]
	return text, ok
}

// reloader reads the registry files again on SIGHUP. A faulty file changes
// nothing: the version in force stays, and the log says what is wrong.
func (p *program) reloader(files *registryFiles, then func()) daemon.Service {
	return daemon.Service{Name: "registry", Run: func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-p.hangups:
			}
			next, err := files.open()
			if err != nil {
				p.log.Error("the registry was not reloaded; the version in force stays", "error", err)
				continue
			}
			if next.Version() == files.store.Current().Version() {
				p.log.Info("the registry files have not changed", "version", next.Version())
				continue
			}
			before := files.store.Current()
			files.store.Replace(next)
			p.noteRegistry(next)
			p.noteGone(before, next)
			then()
		}
	}}
}

// noteRegistry says which registry is in force, and what of it is not acted on.
func (p *program) noteRegistry(reg *registry.Registry) {
	p.log.Info("registry in force", "version", reg.Version(), "downstreams", len(reg.Downstreams()))
	for _, w := range reg.Warnings() {
		p.log.Warn("registry", "warning", w.String())
	}
	for _, line := range reg.Waiting() {
		p.log.Warn("registry: declared, and not acted on by this version", "key", line)
	}
}

// noteGone names what a reload took away: a file that was read while it was written
// can end early and be in order.
func (p *program) noteGone(before, next *registry.Registry) {
	for _, d := range before.Downstreams() {
		same := func(x *registry.Downstream) bool { return x.Tenant == d.Tenant && x.Name == d.Name }
		if !slices.ContainsFunc(next.Downstreams(), same) {
			p.log.Error("a downstream is gone from the registry: its open changes wait until it is declared again", "tenant", string(d.Tenant), "downstream", d.Name)
		}
	}
	for _, tenant := range before.Tenants() {
		for _, d := range before.Catalogue(tenant).Purposes {
			if next.Catalogue(tenant).Find(d.ID) == nil {
				p.log.Warn("a purpose is gone from the registry: no grant of it is accepted until it is declared again", "tenant", string(tenant), "purpose", string(d.ID))
			}
		}
	}
}
