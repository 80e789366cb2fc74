package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/embedded/broker"
	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/clickhouse"
	"github.com/assent-dev/assent/internal/embedded/datadir"
)

// lockWait is how long `up` waits for another process to let go of the data directory.
const lockWait = 15 * time.Second

// orphanWait is how long the embedded ClickHouse waits for its own folder. The data
// directory is ours by then, so only a child whose parent was killed can be in there; the
// system ends it at once, but on a machine that is busy with its disk that has taken longer
// than lockWait.
const orphanWait = 45 * time.Second

// The folders of the data directory that have data of the pipeline in them.
const (
	kafkaFolder      = "kafka"
	clickhouseFolder = "clickhouse"
	stateFolder      = "state" // of the processor
)

// engines are the broker and the ClickHouse that the roles work with: embedded
// ones, or others' where the settings name them, each on its own.
type engines struct {
	dir        *datadir.Dir
	broker     *broker.Broker     // nil = another's
	clickhouse *clickhouse.Server // nil = another's

	brokers []string
	dsn     string
}

// openEngines starts what is embedded, both at the same time: the slower one
// decides how long it takes. dir stays the caller's, and is closed after them.
func (p *program) openEngines(ctx context.Context, s *upSettings, dir *datadir.Dir) (*engines, error) {
	e := &engines{dir: dir, brokers: s.Brokers, dsn: s.DSN}
	var wg sync.WaitGroup
	var brokerErr, clickhouseErr error
	if len(e.brokers) == 0 {
		wg.Go(func() { brokerErr = p.openBroker(ctx, e, s) })
	}
	if e.dsn == "" {
		wg.Go(func() { clickhouseErr = p.openClickHouse(ctx, e, s) })
	}
	wg.Wait()
	if err := errors.Join(brokerErr, clickhouseErr); err != nil {
		return nil, errors.Join(err, e.close(p.log))
	}
	return e, nil
}

func (p *program) openBroker(ctx context.Context, e *engines, s *upSettings) error {
	b, err := broker.Open(ctx, broker.Options{
		Dir: e.dir.Path(kafkaFolder), Addr: s.KafkaAddr, Logger: p.log, CompactOnStart: true, ReserveBytes: int64(s.DiskReserve) << 20,
	})
	if err != nil {
		var addr *broker.AddrError
		if errors.As(err, &addr) {
			return usageError{err}
		}
		return err
	}
	e.broker, e.brokers = b, []string{b.Addr()}
	return nil
}

func (p *program) openClickHouse(ctx context.Context, e *engines, s *upSettings) error {
	library, err := chdb.Locate(s.Library, chdb.CacheDir(func(name string) string { return p.env[name] }))
	if err != nil {
		return usageError{err}
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find the own binary, which runs the embedded ClickHouse: %w", err)
	}
	server, err := clickhouse.Start(ctx, clickhouse.Options{
		DataDir: e.dir.Path(clickhouseFolder), Addr: s.ClickHouseAddr, Library: library, Database: "assent",
		Executable: self, Args: []string{clickhouse.Command}, Env: p.childEnv(), LockWait: orphanWait, Logger: p.log,
	})
	if errors.Is(err, clickhouse.ErrListen) {
		return usageError{fmt.Errorf("--clickhouse-addr: %w", err)}
	}
	if err != nil {
		return usageOr(err)
	}
	e.clickhouse, e.dsn = server, server.DSN()
	return e.tellDSN()
}

// dsnFile is where the address of the embedded ClickHouse stands while it runs,
// with the password that was drawn for this run, for other commands of the same
// user.
const dsnFile = "clickhouse.dsn"

func (e *engines) tellDSN() error {
	path := e.dir.Path(dsnFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) { // its rights may have been widened
		return fmt.Errorf("write the address of the embedded ClickHouse: %w", err)
	}
	if err := os.WriteFile(path, []byte(e.dsn+"\n"), 0o600); err != nil {
		return fmt.Errorf("write the address of the embedded ClickHouse: %w", err)
	}
	return nil
}

// childEnv is the environment of the ClickHouse process: what finds files, none
// of our settings or secrets.
func (p *program) childEnv() []string {
	env := append([]string(nil), p.selfEnv...)
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "LD_LIBRARY_PATH"} {
		if value, ok := p.env[name]; ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// close stops the engines; the roles have stopped before.
func (e *engines) close(log *slog.Logger) error {
	var wg sync.WaitGroup
	var brokerErr, clickhouseErr error
	if e.broker != nil {
		wg.Go(func() { brokerErr = e.broker.Close() })
	}
	if e.clickhouse != nil {
		wg.Go(func() { clickhouseErr = e.clickhouse.Close() })
	}
	wg.Wait()
	if brokerErr != nil {
		log.Error("the embedded broker did not close cleanly; its next start checks its files", "error", brokerErr)
	}
	return errors.Join(brokerErr, clickhouseErr)
}

// usageOr marks the errors that the operator mends by another setting.
func usageOr(err error) error {
	var locked *datadir.LockedError
	var newer *datadir.NewerVersionError
	var foreign *datadir.ForeignError
	if errors.As(err, &locked) || errors.As(err, &newer) || errors.As(err, &foreign) || errors.Is(err, clickhouse.ErrDirectoryInUse) {
		return usageError{err}
	}
	return err
}
