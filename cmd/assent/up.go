package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/daemon"
	"github.com/assent-dev/assent/internal/demo"
	"github.com/assent-dev/assent/internal/embedded/datadir"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/internal/webhook"
	"github.com/assent-dev/assent/processor/fanout/receiver"
	"github.com/assent-dev/assent/producer/intake"
	"github.com/assent-dev/assent/sink/table"
)

type upSettings struct {
	Data           dataSettings
	HTTP           httpSettings
	KafkaAddr      string   `env:"KAFKA_ADDR" default:"127.0.0.1:9092" help:"where the embedded broker listens; loopback only, port 0 = any free port"`
	ClickHouseAddr string   `env:"CLICKHOUSE_ADDR" default:"127.0.0.1:9000" help:"where the embedded ClickHouse listens; loopback only, port 0 = any free port"`
	Brokers        []string `env:"KAFKA_BROKERS" help:"another's brokers instead of the embedded one, host:port, separated by commas"`
	TLS            bool     `env:"KAFKA_TLS" help:"speak TLS to those brokers"`
	Prefix         string   `env:"TOPIC_PREFIX" help:"put before each topic and group name"`
	DSN            string   `env:"CLICKHOUSE_DSN" flag:"-" help:"another ClickHouse instead of the embedded one: clickhouse://user:password@host:9000/database"`
	Library        string   `env:"LIBCHDB" flag:"-" help:"the ClickHouse library, where it is not in the user's cache"`
	Registry       registrySettings
	SubjectKey     subjectKeySettings
	Partitions     int `env:"PARTITIONS" default:"12" help:"partitions of each topic; cannot be changed later"`
	Replication    int `env:"REPLICATION" default:"1" help:"copies of each partition, on other brokers than the embedded one"`
	Fold           foldSettings
	FlushInterval  time.Duration `env:"SINK_FLUSH_INTERVAL" default:"200ms" help:"how long rows wait for others before they are written to the history"`
	DiskReserve    int           `env:"DISK_RESERVE_MIB" default:"256" help:"free space, in MiB, below which the embedded broker takes no records; -1 = no limit"`
	Output         output
}

// Validate checks what fields alone cannot tell.
func (s *upSettings) Validate() []config.Fault {
	faults := brokerFaults(s.Brokers)
	if s.DSN != "" {
		faults = append(faults, dsnFaults(s.DSN)...)
	}
	faults = append(faults, rangeFault("ASSENT_PARTITIONS (--partitions)", s.Partitions, 1, 1024)...)
	faults = append(faults, rangeFault("ASSENT_REPLICATION (--replication)", s.Replication, 1, 16)...)
	faults = append(faults, rangeFault("ASSENT_STRIPES (--stripes)", s.Fold.Stripes, 1, max(1, s.Partitions))...)
	if s.FlushInterval <= 0 || s.FlushInterval > time.Minute {
		faults = append(faults, config.Fault{Setting: "ASSENT_SINK_FLUSH_INTERVAL (--sink-flush-interval)", Message: fmt.Sprintf("%s is not between 1ms and 1m", s.FlushInterval)})
	}
	if len(s.Brokers) == 0 && s.Replication != 1 {
		faults = append(faults, config.Fault{Setting: "ASSENT_REPLICATION (--replication)", Message: "the embedded broker keeps one copy: leave it at 1, or name other brokers"})
	}
	return faults
}

func rangeFault(name string, got, least, most int) []config.Fault {
	if got < least || got > most {
		return []config.Fault{{Setting: name, Message: fmt.Sprintf("%d is not between %d and %d", got, least, most)}}
	}
	return nil
}

func (p *program) upCommand() *cobra.Command {
	return command(p, &cobra.Command{
		Use:   "up",
		Short: "All roles in one process, on embedded engines: the laptop and single-node install",
		Long: `Runs every role in one process, with an embedded broker and an embedded ClickHouse.
Data lives under --data-dir. Without registry files it runs a sample registry and a
built-in receiver, whose page shows each webhook as it arrives.

ASSENT_KAFKA_BROKERS and ASSENT_CLICKHOUSE_DSN replace the embedded engines, each on its own.`,
	}, p.up)
}

func (p *program) up(ctx context.Context, s *upSettings, _ []string) error {
	started := time.Now()
	v, err := p.newServing(&s.HTTP)
	if err != nil {
		return err
	}
	if err := p.upOn(ctx, v, s, started); err != nil {
		v.close()
		return err
	}
	return nil
}

func (p *program) upOn(ctx context.Context, v *serving, s *upSettings, started time.Time) (err error) {
	files, err := p.upRegistry(v, s)
	if err != nil {
		return err
	}
	dir, err := datadir.Open(ctx, s.Data.Dir, lockWait)
	if err != nil {
		return usageOr(err)
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	subjects, err := upSubjects(s, dir)
	if err != nil {
		return err
	}
	e, err := p.openEngines(ctx, s, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, e.close(p.log)) }()
	if err := p.upRoles(ctx, v, s, e, files, subjects); err != nil {
		return err
	}
	v.add(daemon.Service{Name: "announcement", Run: func(ctx context.Context) error {
		if err := v.awaitReady(ctx); err != nil {
			return nil //nolint:nilerr // it was asked to stop
		}
		err := p.announce(v, s, e, time.Since(started))
		<-ctx.Done()
		return err
	}}, nil)
	p.log.Info("serving", "url", v.url(), "kafka", e.brokers)
	if len(files.store.Current().Downstreams()) == 0 {
		p.log.Warn("no downstream is declared: withdrawals are recorded and reach nobody", "setting", "ASSENT_DOWNSTREAMS")
	}
	return v.run(ctx)
}

// upRoles provisions topics and tables, and adds every role.
func (p *program) upRoles(ctx context.Context, v *serving, s *upSettings, e *engines, files *registryFiles, subjects *intake.Pseudonymiser) error {
	client, err := v.connect(e.brokers, s.TLS, "up")
	if err != nil {
		return err
	}
	names := topic.Names{Prefix: s.Prefix}
	prepared := make(chan error, 1)
	go func() { prepared <- migrate(ctx, e.dsn) }()
	_, err = client.Provision(ctx, names.Specs(topic.Layout{Partitions: s.Partitions, Replication: s.Replication}), false)
	if err := errors.Join(err, <-prepared); err != nil {
		return err
	}
	if err := v.addSink(client, names, e.dsn, s.FlushInterval, subjects.Subject); err != nil {
		return err
	}
	if s.Fold.StateDir == "" {
		s.Fold.StateDir = e.dir.Path(stateFolder)
	}
	if err := v.addProcessor(client, names, files.store, subjects, &s.Fold); err != nil {
		return err
	}
	dispatcher, err := v.addFanout(client, names, files, s.Fold.Stripes)
	if err != nil {
		return err
	}
	if err := v.addGateway(client, names, files.store, subjects); err != nil {
		return err
	}
	if e.broker != nil {
		v.health.Add("broker", e.broker.Health)
	}
	if e.clickhouse != nil {
		v.health.Add("clickhouse", e.clickhouse.Healthy)
	}
	demo.Register(v.mux)
	v.add(p.reloader(files, dispatcher.Reload), nil)
	return nil
}

// migrate brings the history's tables up to date.
func migrate(ctx context.Context, dsn string) error {
	db, err := table.Open(dsn)
	if err != nil {
		return usageError{err}
	}
	defer db.Close()
	_, err = db.Migrate(ctx, false)
	return err
}

// The built-in receiver, as a downstream.
const (
	receiverSecret      = "ASSENT_BUILT_IN_RECEIVER" //nolint:gosec // a name
	receiverDownstreams = `tenant: default
downstreams:
  - name: receiver
    purposes: ["*"]
    changes: all
    delivery:
      webhook: {url: "%s/demo/receiver/hook", internal: true, secrets: ["env:%s"]}
`
)

// upRegistry reads the registry files; with none at all it takes the sample
// purposes, and the built-in receiver as the one downstream.
func (p *program) upRegistry(v *serving, s *upSettings) (*registryFiles, error) {
	if len(s.Registry.Purposes)+len(s.Registry.Downstreams) > 0 {
		return p.openRegistry(func() (*registry.Registry, error) { return s.Registry.open(registry.Options{SamplePurposes: true}) }, p.lookupEnv)
	}
	secret, key, err := newReceiverKey()
	if err != nil {
		return nil, err
	}
	receiver.New(key, time.Now).Register(v.mux)
	builtIn := registry.Source{Name: "built-in receiver", Data: fmt.Appendf(nil, receiverDownstreams, v.url(), receiverSecret)}
	return p.openRegistry(func() (*registry.Registry, error) {
		return registry.LoadBytes(nil, []registry.Source{builtIn}, registry.Options{SamplePurposes: true})
	}, func(name string) (string, bool) {
		if name == receiverSecret {
			return secret, true
		}
		return p.lookupEnv(name)
	})
}

func newReceiverKey() (secret string, key webhook.Key, err error) {
	var b [32]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", key, err
	}
	secret = "whsec_" + base64.StdEncoding.EncodeToString(b[:])
	key, err = webhook.ParseKey(secret)
	return secret, key, err
}

// announce says on stdout that everything works, and where.
func (p *program) announce(v *serving, s *upSettings, e *engines, took time.Duration) error {
	clickhouseAddr, where := "", "another's"
	if e.clickhouse != nil {
		clickhouseAddr = e.clickhouse.Addr()
		where = clickhouseAddr + " (with its password: " + e.dir.Path(dsnFile) + ")"
	}
	if s.Output.Output == "json" {
		return p.printLine(map[string]any{"ready": true, "ready_in_seconds": took.Seconds(), "http": v.url(), "kafka": e.brokers[0], "clickhouse": clickhouseAddr, "data_dir": s.Data.Dir})
	}
	_, err := fmt.Fprintf(p.stdout, `assent is ready (%.1f s)

  choices page   %[2]s/demo
  HTTP           %[2]s
  Kafka          %[3]s
  ClickHouse     %[4]s
  data           %[5]s

Open to every program on this machine, since there are no keys; stop it with Ctrl-C.
`, took.Seconds(), v.url(), e.brokers[0], where, s.Data.Dir)
	return err
}
