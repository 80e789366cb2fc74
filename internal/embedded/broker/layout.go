package broker

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/assent-dev/assent/internal/embedded/datadir"
)

// layout names what lies in the broker's directory; see the package's comment.
type layout struct{ dir string }

func (l layout) log() string         { return filepath.Join(l.dir, "log") }
func (l layout) work() string        { return filepath.Join(l.dir, "log.work") }
func (l layout) compacted() string   { return filepath.Join(l.dir, "log.compacted") }
func (l layout) replaced() string    { return filepath.Join(l.dir, "log.replaced") }
func (l layout) cleanMark() string   { return filepath.Join(l.dir, "CLEAN") }
func (l layout) compactMark() string { return filepath.Join(l.log(), "assent_compacted.json") }

// cleanMark is the content of CLEAN.
type cleanMark struct {
	ClosedAt time.Time `json:"closed_at"`
}

// settle finishes or takes back a compaction that was interrupted.
func (l layout) settle() error {
	switch exists, err := isThere(l.log()); {
	case err != nil:
		return err
	case !exists:
		// The old log was moved away and the new one was not yet in its
		// place: the old one is whole, so it comes back.
		err := os.Rename(l.replaced(), l.log())
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil {
			if err := datadir.SyncDir(l.dir); err != nil {
				return err
			}
		}
	}
	return errors.Join(os.RemoveAll(l.work()), os.RemoveAll(l.compacted()), os.RemoveAll(l.replaced()))
}

func (l layout) wasClosed() (bool, error) { return isThere(l.cleanMark()) }

func (l layout) markClosed() error {
	data, err := json.Marshal(cleanMark{ClosedAt: time.Now().UTC()})
	if err != nil {
		return fmt.Errorf("encode the mark of a clean close: %w", err)
	}
	return datadir.WriteFile(l.cleanMark(), data)
}

func (l layout) markOpened() error {
	if err := os.Remove(l.cleanMark()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return datadir.SyncDir(l.dir)
}

func isThere(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// syncTree syncs every directory below root, and the files for which file is
// true.
func syncTree(root string, file func(path string) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return datadir.SyncDir(path)
		}
		if !file(path) {
			return nil
		}
		f, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		return errors.Join(f.Sync(), f.Close())
	})
}
