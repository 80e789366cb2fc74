package store

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// gathering is what Write and Load brought and the engine does not have yet. It comes
// to the engine sorted, each key once: where it is as much as a table, the engine makes
// one of it without sorting it into a memtable first, which costs more than anything
// else here.
type gathering struct {
	mu    sync.Mutex
	text  []byte   // keys and values
	rows  []change // in the order of their writing; keys of rows and of the index apart,
	index []change // since keys of one kind begin alike
	mark  Mark
	holds atomic.Bool // whether there is anything, without mu
}

// change is one key of the engine that is to be set or removed. Its key stands in the text
// at at, and behind it the value.
type change struct {
	at         int
	key, value int32 // lengths; a value of -1 = removed
	rank       uint64
}

func (c *change) keyIn(text []byte) []byte { return text[c.at : c.at+int(c.key)] }

func (c *change) valueIn(text []byte) []byte {
	from := c.at + int(c.key)
	return text[from : from+int(max(0, c.value))]
}

func (g *gathering) reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.drop()
}

// drop forgets what was gathered, and keeps the memory.
func (g *gathering) drop() {
	g.text, g.rows, g.index = g.text[:0], g.rows[:0], g.index[:0]
	g.holds.Store(false)
}

// add takes rows and the mark in. Under mu.
func (g *gathering) add(rows []Row, m Mark) {
	for i := range rows {
		r := &rows[i]
		expires := r.Expires
		if r.Value == nil {
			expires = 0
		}
		if r.WasExpires != 0 && r.WasExpires != expires {
			g.indexed(r.WasExpires, r.Key, -1)
		}
		if expires != 0 {
			g.indexed(expires, r.Key, 0)
		}
		at, value := len(g.text), int32(-1)
		g.text = appendRowKey(g.text, r.Key)
		key := len(g.text) - at
		if r.Value != nil {
			g.text, value = append(g.text, r.Value...), int32(len(r.Value))
		}
		g.rows = append(g.rows, change{at: at, key: int32(key), value: value})
	}
	g.mark = m
	g.holds.Store(true)
}

func (g *gathering) indexed(expires int64, key []byte, value int32) {
	at := len(g.text)
	g.text = appendIndexKey(g.text, expires, key)
	g.index = append(g.index, change{at: at, key: int32(len(g.text) - at), value: value})
}

// batch makes one of all that was gathered, with the mark. Under mu.
func (g *gathering) batch(db *pebble.DB, retain int) (*pebble.Batch, error) {
	size := batchHead + len(g.text) + changeHead*(len(g.rows)+len(g.index)) + markBytes
	// Else it grows by doubling; and memory that is new each time costs more than the copying.
	b := db.NewBatchWithSize(size, pebble.WithMaxRetainedSizeBytes(retain))
	op := b.SetDeferred(len(markKey), markBytes)
	copy(op.Key, markKey)
	g.mark.appendTo(op.Value[:0])
	if err := op.Finish(); err != nil {
		return nil, err
	}
	for _, changes := range [][]change{g.rows, g.index} {
		for _, c := range sorted(changes, g.text) {
			if err := c.putInto(b, g.text); err != nil {
				return nil, err
			}
		}
	}
	return b, nil
}

// What a batch takes beside keys and values: about.
const (
	batchHead  = 64
	changeHead = 12
)

func (c *change) putInto(b *pebble.Batch, text []byte) error {
	var op *pebble.DeferredBatchOp
	if c.value < 0 {
		op = b.DeleteDeferred(int(c.key))
	} else {
		op = b.SetDeferred(int(c.key), int(c.value))
		copy(op.Value, c.valueIn(text))
	}
	copy(op.Key, c.keyIn(text))
	return op.Finish()
}

// sorted sorts changes by key, and leaves the last one of each.
func sorted(changes []change, text []byte) []change {
	if len(changes) == 0 {
		return changes
	}
	common := len(changes[0].keyIn(text))
	for i := range changes {
		common = commonLength(changes[0].keyIn(text)[:common], changes[i].keyIn(text))
	}
	for i := range changes {
		changes[i].rank = rank(changes[i].keyIn(text)[common:])
	}
	slices.SortFunc(changes, func(a, b change) int {
		if a.rank != b.rank {
			return cmp.Compare(a.rank, b.rank)
		}
		// What was written later stands first.
		return cmp.Or(bytes.Compare(a.keyIn(text)[common:], b.keyIn(text)[common:]), cmp.Compare(b.at, a.at))
	})
	return slices.CompactFunc(changes, func(a, b change) bool {
		return a.rank == b.rank && bytes.Equal(a.keyIn(text), b.keyIn(text))
	})
}

func commonLength(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// rank orders nearly as the bytes do: of two keys, a smaller rank is of the smaller one.
func rank(key []byte) uint64 {
	var head [8]byte
	copy(head[:], key)
	return binary.BigEndian.Uint64(head[:])
}
