package disk

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"

	"github.com/assent-dev/assent/internal/embedded/datadir"
)

const (
	entryHeadBytes = 10
	// maxEntryBytes bounds what a search for the next readable entry tries.
	// The longest that the engine writes is a commit with its metadata, 4 KiB.
	maxEntryBytes = 1 << 20
)

// producerEntry is an entry of pids.log.
type producerEntry struct {
	Type  string `json:"type"`
	PID   int64  `json:"pid"`
	Epoch int16  `json:"epoch"`
}

// decodeEntry returns the size of the entry at the begin of raw, 0 when there
// is none that can be read.
func decodeEntry(raw []byte) int {
	if len(raw) < entryHeadBytes {
		return 0
	}
	length := int64(binary.LittleEndian.Uint32(raw))
	if length < 2 || length > maxEntryBytes || 8+length > int64(len(raw)) {
		return 0
	}
	size := int(8 + length)
	if binary.LittleEndian.Uint32(raw[4:]) != crc32.Checksum(raw[8:size], castagnoli) {
		return 0
	}
	return size
}

// readableEntries returns raw without the bytes that belong to no entry, and
// how many those were.
func readableEntries(raw []byte) (kept []byte, torn int64) {
	for at := 0; at < len(raw); {
		size := decodeEntry(raw[at:])
		if size == 0 {
			at++
			torn++
			continue
		}
		kept = append(kept, raw[at:at+size]...)
		at += size
	}
	return kept, torn
}

// mendEntries takes the unreadable bytes out of an entry log. The engine itself
// ignores everything behind the first of them, also what it appended later.
func mendEntries(path string) (torn int64, err error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	kept, torn := readableEntries(raw)
	if torn == 0 {
		return 0, nil
	}
	return torn, datadir.WriteFile(path, kept)
}

// producerEpochs reads the newest epoch of each producer in pids.log.
func producerEpochs(path string) (map[int64]int16, error) {
	raw, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	epochs := make(map[int64]int16)
	for size := decodeEntry(raw); size > 0; size = decodeEntry(raw) {
		var e producerEntry
		if err := json.Unmarshal(raw[entryHeadBytes:size], &e); err == nil {
			epochs[e.PID] = e.Epoch
		}
		raw = raw[size:]
	}
	return epochs, nil
}

// fenceProducers appends an entry to pids.log for each producer, with its new
// epoch. "timeout" is the engine's word for an abort that the producer did not
// ask for.
func fenceProducers(path string, epochs map[int64]int16) error {
	var buf []byte
	for pid, epoch := range epochs {
		data, err := json.Marshal(producerEntry{Type: "timeout", PID: pid, Epoch: epoch})
		if err != nil {
			return fmt.Errorf("encode producer entry: %w", err)
		}
		buf = appendEntry(buf, data)
	}
	return appendFile(path, buf)
}

func appendEntry(buf, data []byte) []byte {
	at := len(buf)
	buf = binary.LittleEndian.AppendUint32(buf, uint32(2+len(data)))
	buf = append(buf, 0, 0, 0, 0)
	buf = binary.LittleEndian.AppendUint16(buf, engineVersion)
	buf = append(buf, data...)
	binary.LittleEndian.PutUint32(buf[at+4:], crc32.Checksum(buf[at+8:], castagnoli))
	return buf
}
