package main

import (
	"context"
	"crypto/rand"
	"runtime/debug"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/daemon"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/processor"
	"github.com/assent-dev/assent/processor/decision"
	"github.com/assent-dev/assent/processor/fanout"
	"github.com/assent-dev/assent/processor/owner"
	"github.com/assent-dev/assent/producer/gateway"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/sink"
	"github.com/assent-dev/assent/sink/audit"
	"github.com/assent-dev/assent/sink/table"
)

// The roles, each wired the same way by its own command and by `up`.

func (v *serving) addGateway(client *kafka.Client, names topic.Names, reg *registry.Store, subjects *intake.Pseudonymiser) error {
	g, err := gateway.New(gateway.Config{Topics: names}, gateway.Deps{
		Kafka:    client,
		Registry: func() intake.Registry { return reg.Current() },
		Subjects: subjects, Metrics: v.metrics, Logger: v.p.log,
	})
	if err != nil {
		return err
	}
	g.Register(v.mux)
	v.add(daemon.Service{Name: "gateway", Run: g.Run}, g.Ready)
	return nil
}

func (v *serving) addProcessor(client *kafka.Client, names topic.Names, reg *registry.Store, subjects *intake.Pseudonymiser, s *foldSettings) error {
	instance := rand.Text()
	of := processor.Config{
		Names: names, Stripes: s.Stripes, Pace: s.Pace, StateDir: s.StateDir, CacheBytes: int64(s.CacheMiB) << 20,
		Address: s.peerURL(v), Instance: instance, Registerer: v.metrics, Logger: v.p.log,
	}
	v.p.setMemory(of)
	fold, err := processor.New(of, client)
	if err != nil {
		return usageError{err}
	}
	owners := owner.NewDirectory(client, names, s.Stripes, v.p.log)
	router, err := owner.NewRouter(owner.Config{
		Local: fold, Directory: owners, Instance: instance, Secret: s.PeerSecret, Registerer: v.metrics, Logger: v.p.log,
	})
	if err != nil {
		return usageError{err}
	}
	router.Register(v.mux)
	answers, err := decision.New(decision.Config{
		States:     router,
		Catalogue:  func(t consent.Tenant) *consent.Catalogue { return reg.Current().Catalogue(t) },
		Subject:    subjects.Subject,
		Registerer: v.metrics,
		Logger:     v.p.log,
	})
	if err != nil {
		return err
	}
	answers.Register(v.mux)
	v.add(daemon.Service{Name: "processor", Run: fold.Run}, fold.Ready)
	v.add(daemon.Service{Name: "owners", Run: func(ctx context.Context) error {
		defer func() { _ = router.Close() }()
		return owners.Run(ctx)
	}}, owners.Ready)
	return nil
}

// setMemory is for the whole process; what the user has told the runtime counts.
func (p *program) setMemory(of processor.Config) {
	percent, limit := of.Memory()
	if p.env["GOGC"] == "" {
		debug.SetGCPercent(percent)
	}
	if p.env["GOMEMLIMIT"] == "" {
		debug.SetMemoryLimit(limit)
	}
}

func (v *serving) addFanout(client *kafka.Client, names topic.Names, files *registryFiles, stripes int) (*fanout.Dispatcher, error) {
	d, err := fanout.New(fanout.Config{Names: names, Stripes: stripes}, fanout.Deps{
		Kafka: client, Registry: files.store, Secrets: files.secrets, Metrics: v.metrics, Logger: v.p.log,
	})
	if err != nil {
		return nil, usageError{err}
	}
	v.add(daemon.Service{Name: "fanout", Run: d.Run}, d.Ready)
	return d, nil
}

func (v *serving) addSink(client *kafka.Client, names topic.Names, dsn string, flush time.Duration, subject func(string) (consent.Subject, error)) error {
	db, err := table.Open(dsn)
	if err != nil {
		return usageError{err}
	}
	s, err := sink.New(sink.Config{Names: names, FlushInterval: flush}, sink.Deps{
		Kafka: client, Tables: db, Metrics: v.metrics, Logger: v.p.log,
	})
	if err != nil {
		return usageError{err}
	}
	audit.NewHandler(audit.NewHistory(db), subject, v.p.log).Register(v.mux)
	v.add(daemon.Service{Name: "sink", Run: func(ctx context.Context) error {
		defer db.Close()
		return s.Run(ctx)
	}}, s.Ready)
	return nil
}
