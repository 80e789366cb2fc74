package store

import (
	"bytes"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// What was gathered comes to the engine sorted, each key once, as its last writing left it:
// also where keys are short, or one is the beginning of another.
func TestGathering_HasTheLastWordOnEachKeyInTheirOrder(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 7))
		common := bytes.Repeat([]byte("k"), r.IntN(20))
		var g gathering
		want := make(map[string]string) // key of the engine → value, "-" = removed
		due := make(map[string]int64)   // what a row's last writing said
		for range r.IntN(400) {
			key := slices.Clone(common)
			for range r.IntN(11) {
				key = append(key, "ab\x00\xff"[r.IntN(4)])
			}
			row := Row{Key: key, WasExpires: due[string(key)]}
			rowKey := string(appendRowKey(nil, key))
			if row.WasExpires != 0 {
				want[string(appendIndexKey(nil, row.WasExpires, key))] = "-"
			}
			if want[rowKey], due[string(key)] = "-", 0; r.IntN(4) > 0 {
				row.Value = fmt.Append([]byte{}, r.IntN(1000))
				want[rowKey] = string(row.Value)
				if row.Expires = int64(r.IntN(5)); row.Expires != 0 {
					want[string(appendIndexKey(nil, row.Expires, key))] = ""
				}
				due[string(key)] = row.Expires
			}
			g.add([]Row{row}, Mark{})
		}
		var keys []string
		for _, changes := range [][]change{g.rows, g.index} {
			for _, c := range sorted(changes, g.text) {
				key, value := string(c.keyIn(g.text)), string(c.valueIn(g.text))
				if c.value < 0 {
					value = "-"
				}
				if value != want[key] {
					t.Fatalf("seed %d: %q is %q, want %q", seed, key, value, want[key])
				}
				keys = append(keys, key)
			}
		}
		if wanted := slices.Sorted(maps.Keys(want)); !slices.Equal(keys, wanted) {
			t.Fatalf("seed %d: keys\n%q, want\n%q", seed, keys, wanted)
		}
	}
}
