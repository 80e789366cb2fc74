package disk

import (
	"encoding/binary"
	"hash/crc32"
)

const indexEntryBytes = 15

// appendIndexEntry appends the entry of b. Its time stays 0: the engine
// computes it when it loads.
func appendIndexEntry(buf []byte, b *Batch) []byte {
	var e [indexEntryBytes]byte
	e[0] = engineVersion
	binary.LittleEndian.PutUint32(e[2:], uint32(b.PartitionLeaderEpoch))
	if b.Transactional() && !b.Control() {
		e[14] = 1
	}
	e[1] = byte(crc32.Checksum(e[2:], castagnoli))
	return append(buf, e[:]...)
}

// indexFits says whether raw is an index of n batches with every entry whole.
func indexFits(raw []byte, n int) bool {
	if len(raw) != n*indexEntryBytes {
		return false
	}
	for ; len(raw) > 0; raw = raw[indexEntryBytes:] {
		if raw[1] != byte(crc32.Checksum(raw[2:indexEntryBytes], castagnoli)) {
			return false
		}
	}
	return true
}
