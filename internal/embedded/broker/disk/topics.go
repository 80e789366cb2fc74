package disk

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/assent-dev/assent/internal/embedded/datadir"
)

// engineVersion is the version of the engine's files that this package knows.
const engineVersion = 1

const (
	metaFile      = "meta.json"
	topicsFile    = "topics.json"
	groupsLog     = "groups.log"
	producersLog  = "pids.log"
	snapshotFile  = "snapshot.json"
	windowsFile   = "seq_windows.json"
	sessionFile   = "session_state.json"
	partitionsDir = "partitions"
)

// Topic is a topic as topics.json has it.
type Topic struct {
	Name       string            `json:"name"`
	ID         json.RawMessage   `json:"id"`
	Partitions int32             `json:"partitions"`
	Replicas   int               `json:"replicas"`
	Configs    map[string]string `json:"configs,omitempty"`
}

// Compacted says whether the topic's cleanup policy is compaction.
func (t *Topic) Compacted() bool { return strings.Contains(t.Configs["cleanup.policy"], "compact") }

type topics struct {
	Version int     `json:"version"`
	Topics  []Topic `json:"topics"`
}

// ReadTopics returns the topics of a data directory.
func ReadTopics(dir string) ([]Topic, error) {
	var t topics
	if err := readJSON(filepath.Join(dir, topicsFile), &t); err != nil {
		return nil, err
	}
	if t.Version != engineVersion {
		return nil, fmt.Errorf("read %s: version %d, this program knows %d", filepath.Join(dir, topicsFile), t.Version, engineVersion)
	}
	return t.Topics, nil
}

// WriteTopics replaces topics.json.
func WriteTopics(dir string, list []Topic) error {
	data, err := json.Marshal(topics{Version: engineVersion, Topics: list})
	if err != nil {
		return fmt.Errorf("encode topics: %w", err)
	}
	return datadir.WriteFile(filepath.Join(dir, topicsFile), data)
}

// Exists says whether dir holds an engine's files. It is an error when records
// are there without the file that says which topics they belong to: the engine
// would begin with nothing and write over what is left.
func Exists(dir string) (bool, error) {
	var meta struct {
		Version int `json:"version"`
	}
	path := filepath.Join(dir, metaFile)
	err := readJSON(path, &meta)
	if errors.Is(err, fs.ErrNotExist) {
		return false, incomplete(dir, metaFile, topicsFile, partitionsDir)
	}
	if err != nil {
		return false, err
	}
	if meta.Version != engineVersion {
		return false, fmt.Errorf("read %s: version %d, this program knows %d: use the program that wrote it, or another data directory", path, meta.Version, engineVersion)
	}
	if _, err := os.Stat(filepath.Join(dir, topicsFile)); err == nil || !errors.Is(err, fs.ErrNotExist) {
		return true, err
	}
	return true, incomplete(dir, topicsFile, partitionsDir)
}

func incomplete(dir, missing string, present ...string) error {
	for _, name := range present {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			return fmt.Errorf("read %s: %s is there, %s is not: restore the directory from a copy, or move it away and start anew", dir, name, missing)
		}
	}
	return nil
}

// ForgetSequences removes what a clean close remembered of the sequences of
// idempotent producers. To be called when a write failed: the engine then
// counts a batch as seen that it never stored, and would acknowledge its retry.
func ForgetSequences(dir string) error { return remove(filepath.Join(dir, windowsFile)) }

// ForgetSession removes what a clean close remembered of members and of open transactions.
// To be called after Repair, which has ended them: the engine would open them again.
func ForgetSession(dir string) error { return remove(filepath.Join(dir, sessionFile)) }

// ForgetMembers removes the group members that a clean close remembered. They
// are connections of clients that are gone: a group that resumes would wait
// until their sessions end. Open transactions stay.
func ForgetMembers(dir string) error {
	path := filepath.Join(dir, sessionFile)
	var state map[string]json.RawMessage
	err := readJSON(path, &state)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, key := range []string{"classicGroups", "consumerGroups", "shareGroups", "fetchSessions"} {
		delete(state, key)
	}
	data, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	return datadir.WriteFile(path, data)
}

func readJSON(path string, v any) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	return nil
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
