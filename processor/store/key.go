package store

import (
	"bytes"
	"encoding/binary"

	"github.com/cockroachdb/pebble/v2"
)

// First bytes of the engine's keys, in their order.
const (
	kindMark  = 'm'
	kindRow   = 'r'
	kindIndex = 'x'
)

// bar divides the parts of a row's key.
const bar = '|'

var (
	markKey   = []byte{kindMark}
	rowsBegin = []byte{kindRow}
	rowsEnd   = []byte{kindRow + 1}
	indexEnd  = []byte{kindIndex + 1}
)

// indexHead is the length of an index key before the row's key.
const indexHead = 1 + 8

func appendRowKey(dst, key []byte) []byte {
	return append(append(dst, kindRow), key...)
}

func appendIndexKey(dst []byte, expires int64, key []byte) []byte {
	dst = append(dst, kindIndex)
	dst = binary.BigEndian.AppendUint64(dst, uint64(expires)^1<<63)
	return append(dst, key...)
}

// splitIndexKey gives what appendIndexKey was made from.
func splitIndexKey(k []byte) (expires int64, key []byte, ok bool) {
	if len(k) < indexHead || k[0] != kindIndex {
		return 0, nil, false
	}
	return int64(binary.BigEndian.Uint64(k[1:]) ^ 1<<63), k[indexHead:], true
}

// subjectLength is the length of the part of an engine's key that says whose it is: of a
// row, up to and with the second bar; of anything else, all of it.
func subjectLength(k []byte) int {
	if len(k) == 0 || k[0] != kindRow {
		return len(k)
	}
	tenant := bytes.IndexByte(k, bar)
	if tenant < 0 {
		return len(k)
	}
	subject := bytes.IndexByte(k[tenant+1:], bar)
	if subject < 0 {
		return len(k)
	}
	return tenant + 1 + subject + 1
}

// order sorts as bytes do. It tells the engine where a subject's part ends, so that a
// table's filter answers "nothing of this subject" without a block being read.
//
// It may: a subject's part that is complete ends with the second bar, so none is the
// beginning of another one; one that is not complete is a whole key. So two keys with
// different parts differ within them, or the shorter is a part and sorts first.
//
// The name stands in each store: change it whenever what it says changes.
var order = func() *pebble.Comparer {
	c := *pebble.DefaultComparer
	c.Name = "assent.subject.1"
	c.Split = subjectLength
	c.ImmediateSuccessor = func(dst, part []byte) []byte {
		if n := len(part); n > 0 && part[n-1] == bar && subjectLength(part) == n && bytes.Count(part, []byte{bar}) == 2 {
			return append(append(dst, part[:n-1]...), bar+1)
		}
		return append(append(dst, part...), 0)
	}
	return &c
}()
