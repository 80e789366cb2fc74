package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/assent-dev/assent/internal/embedded/broker/disk"
	"github.com/twmb/franz-go/pkg/kfake"
)

// Defaults of Options.
const (
	DefaultReserveBytes      = 256 << 20
	DefaultCompactDirtyBytes = 16 << 20
)

// closeTimeout is far over what a close takes, and below the 10 s in which the
// program has to end.
const closeTimeout = 7 * time.Second

// Options say where a broker lives. Dir and Addr are required.
type Options struct {
	// Dir is the broker's own directory. It is made where it is missing, and
	// must belong to one process; [datadir.Open] sees to that.
	Dir string
	// Addr is host:port, the host a loopback address. Port 0 takes any free
	// port; clients are told the port that was taken.
	Addr string
	// Logger hears what the broker does. Default: nobody.
	Logger *slog.Logger

	// CompactOnStart lets Open compact, when the last close was clean and
	// half of the compacted topics' bytes are new.
	CompactOnStart bool
	// CompactDirtyBytes is how many bytes must be new at least.
	// Default: 16 MiB.
	CompactDirtyBytes int64
	// ReserveBytes is the free space below which the broker takes no records.
	// Negative: no limit. Default: 256 MiB.
	ReserveBytes int64
}

// seams are what tests replace.
type seams struct {
	free     func(dir string) (int64, error)
	step     func(name string) // called after each step of a compaction
	unsynced bool              // for benchmarks
}

// keepEverything are broker settings under which nothing that a client was told
// is stored goes away by itself. The cleaner's interval is 100 years: what it
// does in place does not survive a kill -9. The engine reads most of them as
// int32.
var keepEverything = map[string]string{
	"log.cleaner.backoff.ms":              "3155760000000",
	"log.retention.ms":                    "-1",
	"log.retention.bytes":                 "-1",
	"offsets.retention.minutes":           "2147483647", // 4,083 years
	"offsets.retention.check.interval.ms": "2147483647",
	"transactional.id.expiration.ms":      "2147483647", // 24 days after its last use, since the start
}

// Broker is an open embedded broker.
type Broker struct {
	layout    layout
	addr      string
	engine    *kfake.Cluster
	admission *admission

	closeWithin  time.Duration
	engineClosed chan struct{} // closed when the engine's Close has returned
	closing      sync.Once
	closeErr     error
}

// Open brings the broker's directory in order, listens, and serves. Errors:
// [*AddrError] when it cannot listen there, [*disk.CorruptError] when
// acknowledged records cannot be read, those of the file system, and ctx's.
// Close must be called on the broker that it returns.
func Open(ctx context.Context, opts Options) (*Broker, error) {
	return open(ctx, opts, seams{free: freeBytes, step: func(string) {}})
}

func open(ctx context.Context, opts Options, with seams) (*Broker, error) {
	opts = opts.withDefaults()
	if opts.Dir == "" {
		return nil, errors.New("open broker: no directory given")
	}
	ln, err := listen(opts.Addr)
	if err != nil {
		return nil, err
	}
	b := &Broker{
		layout: layout{opts.Dir},
		addr:   ln.Addr().String(),
		admission: &admission{
			log:     opts.Logger,
			dir:     opts.Dir,
			reserve: opts.ReserveBytes,
			free:    with.free,
		},
		closeWithin:  closeTimeout,
		engineClosed: make(chan struct{}),
	}
	err = b.prepare(ctx, opts, with)
	if err == nil {
		err = b.start(newGuardListener(ln, opts.Logger), opts, with)
	}
	if err != nil {
		_ = ln.Close() // the engine may have closed it
		return nil, fmt.Errorf("open broker in %s: %w", opts.Dir, err)
	}
	return b, nil
}

// Addr is the address to give to clients, with the real port.
func (b *Broker) Addr() string { return b.addr }

// Health is nil while the broker takes records. Otherwise it says what to do:
// with too little space it goes on by itself once there is room, after a failed
// write it has to be opened again.
func (b *Broker) Health() error { return b.admission.problem() }

// Close ends every connection, writes what a fast start needs, and marks the
// directory as closed in order. Clients should be gone before: what is being
// asked is not answered. Closing twice is fine.
func (b *Broker) Close() error {
	b.closing.Do(func() {
		err := b.closeEngine()
		if err == nil {
			err = b.finish()
		}
		if err != nil {
			b.closeErr = fmt.Errorf("close broker in %s: %w", b.layout.dir, err)
		}
	})
	return b.closeErr
}

// closeEngine does not wait for an engine that hangs: the process is to end. The
// directory then stays as it would after a kill.
func (b *Broker) closeEngine() error {
	go func() {
		defer close(b.engineClosed)
		b.engine.Close()
	}()
	select {
	case <-b.engineClosed:
		return nil
	case <-time.After(b.closeWithin):
		return fmt.Errorf("the engine did not stop within %v", b.closeWithin)
	}
}

func (b *Broker) finish() error {
	if failed := b.admission.failed.Load(); failed != nil {
		// No mark: the next Open looks at every file.
		return errors.Join(*failed, disk.ForgetSequences(b.layout.log()))
	}
	// The engine has synced its files and not the folders that name them.
	err := syncTree(b.layout.log(), func(string) bool { return false })
	if err != nil {
		return err
	}
	return b.layout.markClosed()
}

// prepare leaves a directory that the engine can load.
func (b *Broker) prepare(ctx context.Context, opts Options, with seams) error {
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return err
	}
	if err := b.layout.settle(); err != nil {
		return err
	}
	exists, err := disk.Exists(b.layout.log())
	if err != nil {
		return err
	}
	clean, err := b.layout.wasClosed()
	if err != nil {
		return err
	}
	switch {
	case !exists:
	case clean:
		err = b.checkClosed(ctx, opts, with)
	default:
		err = mend(b.layout.log(), opts.Logger)
	}
	if err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return b.layout.markOpened()
}

func (b *Broker) checkClosed(ctx context.Context, opts Options, with seams) error {
	if err := disk.Check(b.layout.log()); err != nil {
		return err
	}
	if opts.CompactOnStart {
		c := &compaction{b.layout, opts.Logger, opts.CompactDirtyBytes, opts.ReserveBytes, with.free, with.step}
		if err := c.run(ctx); err != nil {
			opts.Logger.Warn("the broker's log was not compacted", "dir", opts.Dir, "error", err)
			if err := b.layout.settle(); err != nil {
				return err
			}
		}
	}
	return disk.ForgetMembers(b.layout.log())
}

func mend(log string, logger *slog.Logger) error {
	began := time.Now()
	mended, err := disk.Repair(log)
	if err != nil {
		return err
	}
	logger.Info("the broker was not closed in order, its files were checked",
		"torn_batches", mended.TornBatches, "torn_log_bytes", mended.TornLogBytes, "indexes_rebuilt", mended.IndexesRebuilt,
		"aborted_transactions", mended.AbortedTransactions, "took", time.Since(began).Round(time.Millisecond))
	return disk.ForgetSession(log)
}

func (b *Broker) start(ln *guardListener, opts Options, with seams) error {
	engineOpts := []kfake.Opt{
		kfake.NumBrokers(1),
		kfake.ClusterID("assent"),
		kfake.DataDir(b.layout.log()),
		kfake.BrokerConfigs(keepEverything),
		kfake.MaxVersions(servedVersions()),
		kfake.ListenFn(func(string, string) (net.Listener, error) { return ln, nil }),
		kfake.WithLogger(&engineLog{log: opts.Logger, onWriteError: func(err error) {
			b.admission.fail(err)
			ln.hangUp() // the engine would answer that it is done, but for records
		}}),
	}
	if !with.unsynced {
		engineOpts = append(engineOpts, kfake.SyncWrites())
	}
	engine, err := kfake.NewCluster(engineOpts...)
	if err != nil {
		ln.release() // its accept loop runs already
		return err
	}
	b.engine = engine
	b.admission.install(engine)
	ln.release()
	return nil
}

func (o Options) withDefaults() Options {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.CompactDirtyBytes == 0 {
		o.CompactDirtyBytes = DefaultCompactDirtyBytes
	}
	switch {
	case o.ReserveBytes == 0:
		o.ReserveBytes = DefaultReserveBytes
	case o.ReserveBytes < 0:
		o.ReserveBytes = 0
	}
	return o
}
