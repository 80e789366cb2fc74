package disk

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// batch is a batch of one record at offset.
func batch(offset int64, value string, change ...func(*kmsg.RecordBatch)) []byte {
	rec := kmsg.NewRecord()
	rec.Value = []byte(value)
	rec.Length = int32(len(rec.AppendTo(nil)) - 1)
	b := kmsg.RecordBatch{
		FirstOffset: offset, PartitionLeaderEpoch: 3, Magic: 2, NumRecords: 1,
		ProducerID: -1, ProducerEpoch: -1, FirstSequence: -1, Records: rec.AppendTo(nil),
	}
	for _, fn := range change {
		fn(&b)
	}
	raw := b.AppendTo(nil)
	binary.BigEndian.PutUint32(raw[lengthAt:], uint32(len(raw)-lengthAt-4))
	binary.BigEndian.PutUint32(raw[crcAt:], crc32.Checksum(raw[attrsAt:], castagnoli))
	return raw
}

// inTransaction makes it a batch of a transaction of producer id.
func inTransaction(id int64, epoch int16) func(*kmsg.RecordBatch) {
	return func(b *kmsg.RecordBatch) { b.Attributes, b.ProducerID, b.ProducerEpoch = attrTransactional, id, epoch }
}

func index(t *testing.T, batches ...[]byte) []byte {
	t.Helper()
	var out []byte
	for _, raw := range batches {
		b, err := DecodeBatch(raw)
		if err != nil {
			t.Fatal(err)
		}
		out = appendIndexEntry(out, &b)
	}
	return out
}

// write makes files below dir, and their folders.
func write(t *testing.T, dir string, files map[string][]byte) {
	t.Helper()
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func repair(t *testing.T, dir string) Mended {
	t.Helper()
	m, err := Repair(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Repair(dir)
	if err != nil || again != (Mended{}) {
		t.Errorf("repaired twice: %+v, %v", again, err)
	}
	if err := Check(dir); err != nil {
		t.Errorf("checked after repair: %v", err)
	}
	return m
}

func producer(id int64, epoch int16) []byte {
	data, _ := json.Marshal(producerEntry{Type: "init", PID: id, Epoch: epoch})
	return appendEntry(nil, data)
}

func TestRepair_CutsTheTornBatchOfTheLastSegmentAndNothingElse(t *testing.T) {
	whole := append(batch(0, "a"), batch(1, "b")...)
	next := batch(2, "c")
	tails := map[string][]byte{
		"one byte":        next[:1],
		"half a header":   next[:30],
		"all but a byte":  next[:len(next)-1],
		"zeros":           make([]byte, len(next)),
		"a wrong byte":    append(append([]byte{}, next[:len(next)-1]...), 0xff),
		"a torn 2nd copy": append(append([]byte{}, next[:20]...), batch(1, "b")...),
	}
	for name, tail := range tails {
		dir := t.TempDir()
		write(t, dir, map[string][]byte{
			"partitions/events-0/0.dat": append(append([]byte{}, whole...), tail...),
			"partitions/events-0/0.idx": index(t, batch(0, "a"), batch(1, "b")),
		})
		if err := Check(dir); err == nil {
			t.Errorf("%s: passes the check of a clean close", name)
		}
		if m := repair(t, dir); m != (Mended{TornBatches: 1}) {
			t.Errorf("%s: %+v", name, m)
		}
		if got := read(t, dir, "partitions/events-0/0.dat"); !bytes.Equal(got, whole) {
			t.Errorf("%s: %d bytes are left, want %d", name, len(got), len(whole))
		}
	}
}

func TestRepair_RefusesDamageInFrontOfReadableBatches(t *testing.T) {
	damage := func(raw []byte) []byte {
		raw = bytes.Clone(raw)
		raw[len(raw)-1] ^= 1
		return raw
	}
	cases := map[string]map[string][]byte{
		"a batch behind it": {
			"partitions/my%2Ftopic-1/0.dat": bytes.Join([][]byte{batch(0, "a"), damage(batch(1, "b")), batch(2, "c")}, nil),
		},
		"a segment behind it": {
			"partitions/my%2Ftopic-1/0.dat": append(batch(0, "a"), damage(batch(1, "b"))...),
			"partitions/my%2Ftopic-1/2.dat": batch(2, "c"),
		},
		"an offset twice": {
			"partitions/my%2Ftopic-1/0.dat": bytes.Join([][]byte{batch(0, "a"), batch(0, "b"), batch(1, "c")}, nil),
		},
	}
	for name, files := range cases {
		dir := t.TempDir()
		write(t, dir, files)
		for tool, fn := range map[string]func(string) error{"check": Check, "repair": func(d string) error { _, err := Repair(d); return err }} {
			err := fn(dir)
			var corrupt *CorruptError
			if !errors.As(err, &corrupt) || corrupt.Position != (Position{"my/topic", 1, 1}) {
				t.Errorf("%s, %s: err = %v", name, tool, err)
				continue
			}
			if !strings.Contains(err.Error(), "my/topic/1@1") || !strings.Contains(err.Error(), "restore") {
				t.Errorf("%s, %s: %q names no position or nothing to do", name, tool, err)
			}
		}
		for file, want := range files {
			if !bytes.Equal(read(t, dir, file), want) {
				t.Errorf("%s: %s was changed", name, file)
			}
		}
	}
}

func TestRepair_RebuildsAnIndexThatDoesNotFit(t *testing.T) {
	batches := [][]byte{batch(0, "a"), batch(1, "b", inTransaction(7, 0)), abortMarker(2, 3, 7, 0, 1)}
	want := index(t, batches...)
	if want[indexEntryBytes+14] != 1 || want[14] != 0 || want[2*indexEntryBytes+14] != 0 {
		t.Fatal("the flag of a transaction is wrong")
	}
	wrong := bytes.Clone(want)
	wrong[20] ^= 1
	for name, found := range map[string][]byte{
		"none": nil, "short": want[:indexEntryBytes], "torn": want[:40], "long": append(bytes.Clone(want), want[:15]...), "wrong": wrong,
	} {
		dir := t.TempDir()
		write(t, dir, map[string][]byte{"partitions/a-0/0.dat": bytes.Join(batches, nil)})
		if found != nil {
			write(t, dir, map[string][]byte{"partitions/a-0/0.idx": found})
		}
		if m := repair(t, dir); m != (Mended{IndexesRebuilt: 1}) {
			t.Errorf("%s: %+v", name, m)
		}
		if got := read(t, dir, "partitions/a-0/0.idx"); !bytes.Equal(got, want) {
			t.Errorf("%s: index % x, want % x", name, got, want)
		}
	}
}

func TestRepair_KeepsEveryReadableLogEntryAlsoBehindATornOne(t *testing.T) {
	dir := t.TempDir()
	one, two, three := producer(1, 0), producer(2, 5), producer(1, 9)
	torn := one[:len(one)-3]
	write(t, dir, map[string][]byte{
		"pids.log":   bytes.Join([][]byte{one, torn, two, {0, 0, 0, 0, 0, 0}, three, torn[:4]}, nil),
		"groups.log": bytes.Join([][]byte{one, two}, nil),
	})
	m := repair(t, dir)
	if want := int64(len(torn) + 6 + 4); m.TornLogBytes != want {
		t.Errorf("%d torn bytes, want %d", m.TornLogBytes, want)
	}
	if got := read(t, dir, "pids.log"); !bytes.Equal(got, bytes.Join([][]byte{one, two, three}, nil)) {
		t.Errorf("pids.log = %q", got)
	}
	epochs, err := producerEpochs(filepath.Join(dir, "pids.log"))
	if err != nil || len(epochs) != 2 || epochs[1] != 9 || epochs[2] != 5 {
		t.Errorf("epochs = %v, %v", epochs, err)
	}
}

func TestRepair_AbortsOpenTransactionsAndFencesTheirProducers(t *testing.T) {
	dir := t.TempDir()
	ended := abortMarker(1, 3, 8, 0, 1)
	open := [][]byte{batch(0, "a", inTransaction(7, 2)), batch(1, "b", inTransaction(9, 0))}
	closed := [][]byte{batch(0, "a", inTransaction(8, 0)), ended}
	write(t, dir, map[string][]byte{
		"pids.log":             bytes.Join([][]byte{producer(7, 4), producer(8, 0), producer(9, math.MaxInt16)}, nil),
		"partitions/a-0/0.dat": bytes.Join(open, nil), "partitions/a-0/0.idx": index(t, open...),
		"partitions/b-0/0.dat": open[0], "partitions/b-0/0.idx": index(t, open[0]),
		"partitions/c-0/0.dat": bytes.Join(closed, nil), "partitions/c-0/0.idx": index(t, closed...),
	})
	if m := repair(t, dir); m != (Mended{AbortedTransactions: 2}) {
		t.Errorf("%+v", m)
	}
	epochs, err := producerEpochs(filepath.Join(dir, "pids.log"))
	if err != nil || epochs[7] != 5 || epochs[8] != 0 || epochs[9] != math.MaxInt16 {
		t.Errorf("epochs = %v, %v", epochs, err)
	}
	for topic, want := range map[string]int{"a": 4, "b": 2, "c": 2} {
		var offsets []int64
		aborted := 0
		err := ScanPartition(dir, topic, 0, func(b *Batch) error {
			offsets = append(offsets, b.FirstOffset)
			if b.Control() && !b.Commits() && b.PartitionLeaderEpoch == 3 {
				aborted++
			}
			return nil
		})
		if err != nil || len(offsets) != want || offsets[want-1] != int64(want-1) {
			t.Errorf("%s: offsets %v, %v", topic, offsets, err)
		}
		if aborted == 0 {
			t.Errorf("%s: no marker", topic)
		}
	}
}

func TestExists_RefusesRecordsWithoutTheFileThatNamesThem(t *testing.T) {
	meta, list := []byte(`{"version":1,"cluster_id":"x"}`), []byte(`{"version":1,"topics":[]}`)
	segment := batch(0, "a")
	for name, c := range map[string]struct {
		files  map[string][]byte
		exists bool
		err    string
	}{
		"nothing":     {nil, false, ""},
		"whole":       {map[string][]byte{"meta.json": meta, "topics.json": list, "partitions/a-0/0.dat": segment}, true, ""},
		"first start": {map[string][]byte{"meta.json": meta}, true, ""},
		"no meta":     {map[string][]byte{"topics.json": list, "partitions/a-0/0.dat": segment}, false, "meta.json"},
		"no topics":   {map[string][]byte{"meta.json": meta, "partitions/a-0/0.dat": segment}, true, "topics.json"},
		"newer":       {map[string][]byte{"meta.json": []byte(`{"version":2}`)}, false, "version 2"},
		"no JSON":     {map[string][]byte{"meta.json": {}}, false, "meta.json"},
	} {
		dir := t.TempDir()
		write(t, dir, c.files)
		exists, err := Exists(dir)
		if exists != c.exists || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %v, %v", name, exists, err)
		}
	}
}

func TestForgetMembers_KeepsOpenTransactions(t *testing.T) {
	dir := t.TempDir()
	if err := ForgetMembers(dir); err != nil {
		t.Fatalf("with no file: %v", err)
	}
	write(t, dir, map[string][]byte{"session_state.json": []byte(
		`{"shutdownAt":"2026-01-02T03:04:05Z","classicGroups":{"g":{}},"fetchSessions":{"0":[]},"inProgressTxns":[{"pid":7}]}`)})
	if err := ForgetMembers(dir); err != nil {
		t.Fatal(err)
	}
	if got := string(read(t, dir, "session_state.json")); strings.Contains(got, "lassic") || strings.Contains(got, "fetch") ||
		!strings.Contains(got, `"inProgressTxns":[{"pid":7}]`) || !strings.Contains(got, "shutdownAt") {
		t.Errorf("session_state.json = %s", got)
	}
}

func FuzzDecodeBatch_NeverPanics(f *testing.F) {
	f.Add(batch(0, "a"))
	f.Add(abortMarker(1, 0, 2, 3, 4))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := DecodeBatch(raw)
		if err != nil {
			return
		}
		b.Commits()
		if !bytes.HasPrefix(raw, b.Raw) || b.LastOffset() < b.FirstOffset {
			t.Fatalf("batch %d to %d of %d bytes", b.FirstOffset, b.LastOffset(), len(b.Raw))
		}
	})
}

func FuzzReadableEntries_LosesNoByteAndKeepsOnlyWhatReads(f *testing.F) {
	f.Add(producer(1, 2), producer(3, 4), 5)
	f.Fuzz(func(t *testing.T, a, b []byte, cut int) {
		whole := appendEntry(nil, b[:min(len(b), 1<<10)])
		raw := append(append(a[:max(0, min(len(a), cut))], whole...), a...)
		kept, torn := readableEntries(raw)
		if int64(len(kept))+torn != int64(len(raw)) {
			t.Fatalf("%d kept, %d torn, of %d", len(kept), torn, len(raw))
		}
		if !bytes.Contains(kept, whole) {
			t.Fatal("a readable entry was lost")
		}
		if again, torn := readableEntries(kept); torn != 0 || !bytes.Equal(again, kept) {
			t.Fatal("what was kept does not read")
		}
	})
}
