package main

import (
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/embedded/datadir"
)

var (
	oneKey     = strings.Repeat("0123456789abcdef", 4)
	anotherKey = strings.Repeat("fedcba9876543210", 4)
)

// keyed is a data directory, and what `up` makes of its subject key at each start.
type keyed struct {
	t   *testing.T
	dir string
}

func newKeyed(t *testing.T) *keyed { return &keyed{t, filepath.Join(t.TempDir(), "data")} }

// id starts under the key of the environment, "" = none, and gives an address's id.
func (k *keyed) id(environment string) (consent.Subject, error) {
	k.t.Helper()
	dir, err := datadir.Open(k.t.Context(), k.dir, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	defer dir.Close()
	subjects, err := upSubjects(&upSettings{Data: dataSettings{Dir: k.dir}, SubjectKey: subjectKeySettings{Key: environment}}, dir)
	if err != nil {
		return "", err
	}
	return subjects.Subject("jane@shop.example")
}

func (k *keyed) mustID(environment string) consent.Subject {
	k.t.Helper()
	id, err := k.id(environment)
	if err != nil {
		k.t.Fatal(err)
	}
	return id
}

func (k *keyed) refuses(environment string, words ...string) {
	k.t.Helper()
	_, err := k.id(environment)
	var usage usageError
	if !errors.As(err, &usage) {
		k.t.Fatalf("got %v, want a usage error", err)
	}
	for _, w := range append(words, k.dir, "could be allowed") {
		if !strings.Contains(err.Error(), w) {
			k.t.Errorf("the error does not say %q: %v", w, err)
		}
	}
}

// write puts a file there, as an engine or a person does.
func (k *keyed) write(text string, path ...string) {
	k.t.Helper()
	at := filepath.Join(append([]string{k.dir}, path...)...)
	if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, []byte(text), 0o600)); err != nil {
		k.t.Fatal(err)
	}
}

func (k *keyed) remove(path ...string) {
	k.t.Helper()
	if err := os.RemoveAll(filepath.Join(append([]string{k.dir}, path...)...)); err != nil {
		k.t.Fatal(err)
	}
}

// old makes it one with data of a version that kept no fingerprint.
func (k *keyed) old(key string) {
	k.t.Helper()
	k.mustID(oneKey) // VERSION
	k.remove(fingerprintFile)
	k.write("a record", "kafka", "log", "0.log")
	if key != "" {
		k.write(key+"\n", "keys", "subject.hex")
	}
}

func TestSubjectKey_IsMadeOnceAndTheDataIsReadUnderNoOther(t *testing.T) {
	k := newKeyed(t)
	id := k.mustID("")
	k.write("a record", "kafka", "log", "0.log")
	if again := k.mustID(""); again != id {
		t.Errorf("the second start makes %s of an address, the first made %s", again, id)
	}
	k.refuses(anotherKey, "ASSENT_SUBJECT_KEY", "unset it")
	text, err := os.ReadFile(filepath.Join(k.dir, "keys", "subject.hex"))
	if err != nil {
		t.Fatal(err)
	}
	k.remove("keys")
	k.refuses("", "subject.hex", "restore keys/", "set ASSENT_SUBJECT_KEY")
	if _, err := os.Stat(filepath.Join(k.dir, "keys")); err == nil {
		t.Error("a key was made")
	}
	if again := k.mustID(strings.TrimSpace(string(text))); again != id {
		t.Error("the key that was used does not serve from the environment")
	}
	k.write(anotherKey, "keys", "subject.hex")
	k.refuses("", "subject.hex is not the key", "restore keys/")
}

func TestSubjectKey_OfTheEnvironmentIsNotForgotten(t *testing.T) {
	k := newKeyed(t)
	k.mustID(oneKey)
	k.refuses("", "set ASSENT_SUBJECT_KEY") // even before anything was recorded
	k.refuses(anotherKey, "set it to the key that was used")
	k.mustID(oneKey)
}

func TestSubjectKey_OfDataWithoutAFingerprintIsNoted(t *testing.T) {
	for name, environment := range map[string]string{"in the file": "", "in both": oneKey} {
		t.Run(name, func(t *testing.T) {
			k := newKeyed(t)
			k.old(oneKey)
			k.mustID(environment)
			k.refuses(anotherKey, "unset it")
		})
	}
	t.Run("in the environment", func(t *testing.T) {
		k := newKeyed(t)
		k.old("")
		k.mustID(oneKey)
		k.refuses(anotherKey, "set it to the key that was used")
	})
	t.Run("nowhere", func(t *testing.T) {
		k := newKeyed(t)
		k.old("")
		k.refuses("", "restore keys/", "set ASSENT_SUBJECT_KEY")
	})
	t.Run("two of them", func(t *testing.T) {
		k := newKeyed(t)
		k.old(oneKey)
		k.refuses(anotherKey, "move the file away")
	})
}

// A crash behind the key and before its fingerprint.
func TestSubjectKey_WithoutDataAndWithoutAFingerprintIsTaken(t *testing.T) {
	k := newKeyed(t)
	id := k.mustID("")
	k.remove(fingerprintFile)
	if again := k.mustID(""); again != id {
		t.Errorf("the next start makes %s of an address, the first made %s", again, id)
	}
	k.refuses(anotherKey, "unset it")
}

func TestUp_RefusesASubjectKeyThatItsDataWasNotWrittenUnder(t *testing.T) {
	dir := t.TempDir()
	env := []string{"ASSENT_SUBJECT_KEY=" + oneKey}
	u := startUp(t, dir, env)
	u.mustPost("/v1/events", map[string]any{"subject": "jane@shop.example", "purpose": "analytics", "action": "withdraw"}, nil, http.StatusAccepted)
	u.stop()
	for _, environment := range [][]string{nil, {"ASSENT_SUBJECT_KEY=" + anotherKey}} {
		code, _, stderr := assent(t, environment, "up", "--data-dir="+dir, "--http-addr=127.0.0.1:0", "--kafka-addr=127.0.0.1:0", "--clickhouse-addr=127.0.0.1:0")
		wantRefusal(t, code, stderr, "ASSENT_SUBJECT_KEY", dir)
	}
	u = startUp(t, dir, env)
	var d struct{ Status string }
	u.mustGet("/v1/decisions?subject=jane@shop.example&purpose=analytics&jurisdiction=US", &d)
	if d.Status != "withdrawn" {
		t.Errorf("under its key again the decision is %s", d.Status)
	}
	u.stop()
}
