package main

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/internal/logtest"
)

type pythonRecord struct {
	Partition int32             `json:"partition"`
	Key       string            `json:"key"`
	Headers   map[string]string `json:"headers"`
	Value     map[string]any    `json:"value"`
}

// A stranger's program, in another language with other libraries, publishes and
// reads with the .avsc files alone.
func TestPython_PublishesToIntakeAndReadsEventsChangesAndState(t *testing.T) {
	u := startUp(t, t.TempDir(), nil)
	python := installPython(t)
	root := moduleRoot(t)

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	notice := sampleNotice("marketing.email")
	cmd := exec.CommandContext(ctx, python, filepath.Join(root, "cmd/assent/testdata/python/interop.py"), u.Kafka, filepath.Join(root, "schemas"), notice["version"].(string))
	cmd.Stderr = &logtest.Buffer{}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, cmd.Stderr, u.log)
	}
	var saw struct {
		EventID    string           `json:"event_id"`
		Partitions map[string]int32 `json:"partitions"`
		Count      int              `json:"partition_count"`
		Events     []pythonRecord   `json:"events"`
		Changes    []pythonRecord   `json:"changes"`
		State      []pythonRecord   `json:"state"`
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v in %s", err, out)
	}

	if len(saw.Partitions) != 52 {
		t.Fatalf("the program published under %d keys, want 52", len(saw.Partitions))
	}
	for key, partition := range saw.Partitions {
		if ours := kafka.PartitionFor([]byte(key), saw.Count); ours != partition {
			t.Errorf("key %s: its partition is %d, ours %d", key, partition, ours)
		}
	}
	if len(saw.Events) != 2 || saw.Events[0].Value["event_id"] != saw.EventID || saw.Events[0].Value["action"] != "GRANT" {
		t.Fatalf("consent.events: %+v", saw.Events)
	}
	for _, e := range saw.Events {
		if e.Value["effective_at"] == nil || e.Value["policy"] == nil || e.Partition != saw.Partitions[e.Key] {
			t.Errorf("an event is not stamped, or in another partition: %+v", e)
		}
		if e.Headers["ce_specversion"] != "1.0" || e.Headers["ce_id"] == "" || e.Headers["tenant"] != "default" {
			t.Errorf("CloudEvents headers: %v", e.Headers)
		}
	}
	told := map[string]string{}
	for _, c := range saw.Changes {
		told[c.Value["purpose"].(string)] = c.Value["to"].(string)
	}
	want := map[string]string{"marketing.email": "GRANTED", "ads": "WITHDRAWN", "ads.personalisation": "WITHDRAWN"}
	for purpose, to := range want {
		if told[purpose] != to {
			t.Errorf("consent.changes: %s is %q, want %s", purpose, told[purpose], to)
		}
	}
	rows := map[string]string{}
	for _, s := range saw.State {
		rows[s.Value["purpose"].(string)], _ = s.Value["status"].(string)
	}
	if rows["marketing.email"] != "GRANTED" || rows["ads.personalisation"] != "WITHDRAWN" {
		t.Errorf("consent.state: %v", rows)
	}
	if _, whole := rows["*"]; !whole {
		t.Errorf("consent.state has no row of the whole subject: %v", rows)
	}

	var nobody struct {
		Decisions []struct {
			Status string `json:"status"`
		} `json:"decisions"`
	}
	u.mustGet("/v1/subjects/user:nobody/consents", &nobody)
	for _, d := range nobody.Decisions {
		if d.Status != "none" {
			t.Errorf("a grant without a notice was folded: %+v", nobody)
		}
	}
	u.stop()
}

// installPython makes a virtual environment with the pinned packages.
func installPython(t testing.TB) string {
	t.Helper()
	requirements := filepath.Join(moduleRoot(t), "cmd/assent/testdata/python/requirements.txt")
	stamp, err := os.ReadFile(requirements)
	if err != nil {
		t.Fatal(err)
	}
	dir := cacheDir(t, "python")
	venv := filepath.Join(dir, "venv")
	install(t, dir, string(stamp),
		exec.Command("python3", "-m", "venv", "--clear", venv),
		exec.Command(filepath.Join(venv, "bin", "pip"), "install", "--quiet", "--disable-pip-version-check", "-r", requirements))
	return filepath.Join(venv, "bin", "python")
}
