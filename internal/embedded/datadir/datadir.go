package datadir

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// Format is the version of the layout that this program reads and writes.
const Format = 1

const (
	lockFile    = "LOCK"
	pidFile     = "LOCK.pid"
	versionFile = "VERSION"

	lockRetryEvery = 50 * time.Millisecond
)

// Dir is a data directory that this process owns until Close.
type Dir struct {
	path string
	lock *flock.Flock
}

// LockedError says that another process uses the directory.
type LockedError struct {
	Path   string
	PID    int // of the other process; 0 when it is not known
	Waited time.Duration
}

func (e *LockedError) Error() string {
	who := "another process"
	if e.PID > 0 {
		who = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("data directory %s is in use by %s (waited %v): stop that one, or choose another --data-dir",
		e.Path, who, e.Waited.Round(time.Millisecond))
}

// NewerVersionError says that a newer program wrote the directory. It was not
// changed.
type NewerVersionError struct {
	Path   string
	Found  int    // the directory's format
	Known  int    // the newest format that this program reads
	Writer string // version of the program that wrote it
}

func (e *NewerVersionError) Error() string {
	return fmt.Sprintf("data directory %s has format %d, written by assent %s; this program reads up to format %d: start that version or a newer one, or choose another --data-dir",
		e.Path, e.Found, e.Writer, e.Known)
}

// ForeignError says that the directory holds something that is not ours.
type ForeignError struct {
	Path  string
	Entry string // one thing that is there
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("data directory %s holds %q and no VERSION file, so it is not one of ours: choose an empty or a new directory as --data-dir",
		e.Path, e.Entry)
}

// version is the content of VERSION.
type version struct {
	Format int    `json:"format"`
	Writer string `json:"writer"`
}

// Open makes the directory where it is missing (mode 0700), waits up to wait for
// another process to release it, and checks its format. Errors: [*LockedError],
// [*NewerVersionError], [*ForeignError], ctx's error, and those of the file
// system. The directory belongs to the caller until Close.
func Open(ctx context.Context, path string, wait time.Duration) (*Dir, error) {
	if path == "" {
		return nil, errors.New("open data directory: no path given")
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", path, err)
	}
	if err := os.MkdirAll(abs, 0o700); err != nil {
		return nil, fmt.Errorf("open data directory %s: %w", abs, err)
	}
	d := &Dir{path: abs, lock: flock.New(filepath.Join(abs, lockFile))}
	if err := d.acquire(ctx, wait); err != nil {
		return nil, err
	}
	if err := d.checkVersion(); err != nil {
		return nil, errors.Join(err, d.lock.Close())
	}
	return d, nil
}

// Path joins elem to the directory's absolute path. It makes nothing.
func (d *Dir) Path(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close releases the directory. Closing twice is fine.
func (d *Dir) Close() error {
	if !d.lock.Locked() {
		return nil
	}
	// The hint goes first: once the lock is free it may be another's.
	err := os.Remove(d.Path(pidFile))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err = errors.Join(err, d.lock.Close()); err != nil {
		return fmt.Errorf("release data directory %s: %w", d.path, err)
	}
	return nil
}

func (d *Dir) acquire(ctx context.Context, wait time.Duration) error {
	began := time.Now()
	waitCtx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	got, err := d.lock.TryLock() // also when wait is zero
	if err == nil && !got {
		got, err = d.lock.TryLockContext(waitCtx, lockRetryEvery)
	}
	switch {
	case got:
		// Nothing depends on the hint, so nothing fails for it.
		_ = os.WriteFile(d.Path(pidFile), []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600)
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("wait for data directory %s: %w", d.path, context.Cause(ctx))
	case err == nil || errors.Is(err, context.DeadlineExceeded):
		return &LockedError{Path: d.path, PID: d.holder(), Waited: time.Since(began)}
	default:
		return fmt.Errorf("lock data directory %s: %w", d.path, err)
	}
}

func (d *Dir) holder() int {
	raw, err := os.ReadFile(d.Path(pidFile))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid < 1 {
		return 0
	}
	return pid
}

func (d *Dir) checkVersion() error {
	path := d.Path(versionFile)
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.checkEmpty(); err != nil {
			return err
		}
		return d.writeVersion()
	}
	if err != nil {
		return fmt.Errorf("open data directory %s: %w", d.path, err)
	}
	var found version
	if err := json.Unmarshal(raw, &found); err != nil || found.Format < 1 {
		return fmt.Errorf("read %s: it is no version file of assent: restore it from a copy, or choose another --data-dir", path)
	}
	if found.Format > Format {
		return &NewerVersionError{Path: d.path, Found: found.Format, Known: Format, Writer: found.Writer}
	}
	if found.Writer != writer() {
		return d.writeVersion()
	}
	return nil
}

// checkEmpty protects a directory that was named by mistake.
func (d *Dir) checkEmpty() error {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return fmt.Errorf("open data directory %s: %w", d.path, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case lockFile, pidFile, versionFile + ".tmp", "lost+found":
		default:
			return &ForeignError{Path: d.path, Entry: e.Name()}
		}
	}
	return nil
}

func (d *Dir) writeVersion() error {
	data, err := json.Marshal(version{Format: Format, Writer: writer()})
	if err == nil {
		err = WriteFile(d.Path(versionFile), append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write version of data directory %s: %w", d.path, err)
	}
	return nil
}

// writer is the version of the running program, "(devel)" outside a release.
func writer() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
