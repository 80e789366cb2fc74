package table

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
)

// filler sets fields to random values. Round 0 and up sets all of them, and goes
// through the words of each enum; with sparse, any of them may stay absent.
type filler struct {
	*rand.Rand
	round  int
	sparse bool
}

func newFiller(t testing.TB) *filler {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	return &filler{Rand: rand.New(rand.NewPCG(seed, 1))}
}

func (f *filler) from(alphabet string, low, high int) string {
	letters := []rune(alphabet)
	out := make([]rune, low+f.IntN(high-low+1))
	for i := range out {
		out[i] = letters[f.IntN(len(letters))]
	}
	return string(out)
}

const (
	lower = "abcdefghijklmnopqrstuvwxyz0123456789-"
	odd   = "azAZ09 äß日本🙂\n\t\"'\\@{}%\u2028<&\u0000"
)

// instant is any time that a record can hold, its bounds too.
func (f *filler) instant() int64 {
	low, high := time.Date(1900, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli(), time.Date(9999, 12, 31, 23, 59, 59, 999_000_000, time.UTC).UnixMilli()
	switch f.IntN(6) {
	case 0:
		return low
	case 1:
		return high
	case 2:
		return low + f.Int64N(high-low)
	}
	return 1 + f.Int64N(4_000_000_000_000)
}

// fill sets v, which is addressable, and everything in it.
func (f *filler) fill(v reflect.Value) {
	switch v.Interface().(type) {
	case *consent.Original:
		return // is for the fold; no record holds it
	case consent.Tenant:
		v.SetString(f.from(lower, 1, 64))
		return
	case consent.Subject:
		v.SetString(f.from("ABCabcxyz0189._~:@=-", 3, 256))
		return
	case consent.Purpose:
		v.SetString(f.from("abcxyz089_-", 1, 9) + "." + f.from("abcxyz089_-", 1, 9))
		return
	}
	if f.sparse && f.IntN(3) == 0 && v.Kind() != reflect.Struct {
		return
	}
	switch x := v.Interface().(type) {
	case consent.Jurisdiction:
		v.SetString([]string{"DE", "US-CA", "FR"}[f.IntN(3)])
		return
	case consent.Instant:
		v.SetInt(f.instant())
		return
	case consent.Tri:
		v.SetUint(uint64([]consent.Tri{consent.Allowed, consent.Denied}[f.IntN(2)]))
		return
	case fmt.Stringer:
		if v.Kind() == reflect.Uint8 {
			v.SetUint(uint64(1 + f.round%words(x)))
			return
		}
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			f.fill(v.Field(i))
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		f.fill(v.Elem())
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1+f.IntN(3), 3))
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			f.fill(v.Index(i))
		}
	case reflect.String:
		v.SetString(f.from(odd, 1, 30))
	case reflect.Bool:
		v.SetBool(f.IntN(2) == 0)
	case reflect.Uint8:
		v.SetUint(uint64(1 + f.IntN(255)))
	case reflect.Int32:
		v.SetInt(1 + f.Int64N(1<<31-1))
	case reflect.Int64:
		v.SetInt(1 + f.Int64N(1<<53)) // what a JSON number holds
	default:
		panic("no filler for " + v.Type().String())
	}
}

// words counts the words of an enum whose String gives "unknown" for the rest.
func words(x fmt.Stringer) (n int) {
	v := reflect.New(reflect.TypeOf(x)).Elem()
	for n = 1; ; n++ {
		if v.SetUint(uint64(n)); v.Interface().(fmt.Stringer).String() == "unknown" {
			return n - 1
		}
	}
}

// sample is a table with rows of random records, and their JSON forms.
type sample struct {
	table *Table
	rows  []Row
	forms [][]byte
}

const (
	fullRounds   = 60
	sparseRounds = 60
)

// sampleOf makes the rows of a table. A record goes through its bytes, as it does
// on its way through Kafka.
func sampleOf[R any](t testing.TB, f *filler, table *Table, encode func([]byte, *R) ([]byte, error), form func([]byte, *R) []byte, decoded func(*Row) *R) sample {
	t.Helper()
	s := sample{table: table}
	for round := range fullRounds + sparseRounds {
		var r R
		f.round, f.sparse = round, round >= fullRounds
		f.fill(reflect.ValueOf(&r).Elem())
		value, err := encode(nil, &r)
		if err != nil {
			t.Fatal(err)
		}
		row := table.NewRow(&kafka.Message{Position: kafka.Position{Partition: part, Offset: kafka.LastOffset(round)}, Key: []byte("k"), Value: value, Time: time.UnixMilli(int64(1_767_225_600_000 + round))})
		if row.DecodeError != "" {
			t.Fatalf("%s: %s", table.Name, row.DecodeError)
		}
		s.rows = append(s.rows, row)
		s.forms = append(s.forms, form(nil, decoded(&row)))
	}
	return s
}

// letterForm is a dead letter as its columns have it: there is no JSON form of
// consent.deadletters, so its names are pinned here.
func letterForm(_ []byte, l *schemas.DeadLetter) []byte {
	keys, values := []string{}, []string{}
	for _, h := range l.Headers {
		keys, values = append(keys, h.Key), append(values, hex.EncodeToString(h.Value))
	}
	b, err := json.Marshal(map[string]any{
		"origin_topic": l.Topic, "origin_partition": l.Partition, "origin_offset": l.Offset, "code": l.Code, "reason": l.Reason, "role": l.Role, "downstream": l.Downstream,
		"at": l.At.String(), "origin_key": hex.EncodeToString(l.Key), "origin_value": hex.EncodeToString(l.Value), "origin_header_keys": keys, "origin_header_values": values, "partial": l.Partial,
	})
	if err != nil {
		panic(err)
	}
	return b
}

func samples(t testing.TB) []sample {
	f := newFiller(t)
	return []sample{
		sampleOf(t, f, Events, schemas.EncodeEvent, jsonform.AppendEvent, func(r *Row) *consent.Event { return r.Event }),
		sampleOf(t, f, Changes, schemas.EncodeChange, jsonform.AppendChange, func(r *Row) *consent.Change { return r.Change }),
		sampleOf(t, f, Deliveries, schemas.EncodeDelivery, jsonform.AppendDelivery, func(r *Row) *schemas.Delivery { return r.Delivery }),
		sampleOf(t, f, DeadLetters, schemas.EncodeDeadLetter, letterForm, func(r *Row) *schemas.DeadLetter { return r.Letter }),
	}
}

// flatten gives nested fields the names that SQL has: notice.id is notice_id.
func flatten(prefix string, tree map[string]any, into map[string]any) map[string]any {
	for name, value := range tree {
		if nested, is := value.(map[string]any); is {
			flatten(prefix+name+"_", nested, into)
			continue
		}
		into[prefix+name] = value
	}
	return into
}

// renamed lists the JSON names that are no good names of columns; "" has no
// column, since another one says it.
var renamed = map[string]map[string]string{
	"changes": {"from": "from_status", "to": "to_status", "type": ""},
}

// onlySQL lists what has no field in the JSON form.
var onlySQL = []string{"topic", "partition", "offset", "recorded_at", "key", "record", "decode_error", "digest"}

// absent is how SQL shows what JSON leaves out.
func absent(c column) any {
	switch c.empty.(type) {
	case []string:
		return ""
	case []bool:
		return false
	case []int32, []int64:
		return 0.0
	case [][]string:
		return []any{}
	}
	return nil
}

// TestColumns_HoldRandomRecordsAsTheirJSONFormsDo holds every column of every
// table against the JSON form, which is made by other code: names, words, what
// is absent, and that no two columns are swapped.
func TestColumns_HoldRandomRecordsAsTheirJSONFormsDo(t *testing.T) {
	db := migrated(t)
	for _, s := range samples(t) {
		if err := db.Insert(t.Context(), s.table, s.rows, "random", later()); err != nil {
			t.Fatal(err)
		}
		got := asJSON(t, db, s.table)
		if len(got) != len(s.rows) {
			t.Fatalf("%s: %d rows, want %d", s.table.Name, len(got), len(s.rows))
		}
		seen := map[string]bool{}
		for i, form := range s.forms {
			var tree map[string]any
			if err := json.Unmarshal(form, &tree); err != nil {
				t.Fatal(err)
			}
			flat := flatten("", tree, map[string]any{})
			for from, to := range renamed[s.table.Name] {
				if flat[to] = flat[from]; to == "" {
					delete(flat, to)
				}
				delete(flat, from)
			}
			if s.rows[i].Event != nil {
				flat["digest"] = hex.EncodeToString(s.rows[i].Event.Digest[:])
			}
			compareRow(t, s.table, i, got[i], flat, seen)
		}
		for _, c := range s.table.columns {
			if !seen[c.name] && !strings.Contains(" "+strings.Join(onlySQL, " ")+" ", " "+c.name+" ") {
				t.Errorf("%s.%s has no field of that name in JSON", s.table.Name, c.name)
			}
		}
	}
}

func compareRow(t *testing.T, table *Table, i int, got, want map[string]any, seen map[string]bool) {
	t.Helper()
	known := map[string]bool{}
	for _, c := range table.columns {
		known[c.name] = true
		w, there := want[c.name]
		if seen[c.name] = seen[c.name] || there; !there {
			if strings.Contains(" "+strings.Join(onlySQL, " ")+" ", " "+c.name+" ") {
				continue
			}
			w = absent(c)
		}
		if _, isTime := c.empty.([]*time.Time); isTime && w != nil {
			w = timeInSQL(w.(string))
		}
		if !reflect.DeepEqual(got[c.name], w) {
			t.Errorf("%s.%s of row %d is %#v in SQL, %#v in JSON", table.Name, c.name, i, got[c.name], w)
		}
	}
	for name := range want {
		if !known[name] {
			t.Errorf("%s: the JSON field %s has no column", table.Name, name)
		}
	}
}

// timeInSQL turns JSON's form of a time into SQL's; later than a column can hold
// is its bound.
func timeInSQL(text string) any {
	switch {
	case text == "":
		return nil
	case text > "2262-04-11T23:47:16.000Z":
		return "2262-04-11 23:47:16.000"
	}
	return strings.TrimSuffix(strings.Replace(text, "T", " ", 1), "Z")
}

// asJSON gives the rows by offset, with values as JSON has them; bytes are hex.
func asJSON(t testing.TB, db *DB, table *Table) []map[string]any {
	t.Helper()
	var selected []string
	for _, c := range table.columns {
		expression := c.name
		switch c.name {
		case "key", "record", "origin_key", "origin_value":
			expression = "lower(hex(" + c.name + "))"
		case "origin_header_values":
			expression = "arrayMap(x -> lower(hex(x)), " + c.name + ")"
		}
		selected = append(selected, "ifNull(toJSONString("+expression+"), 'null')")
	}
	rows, err := db.conn.Query(t.Context(), "SELECT ["+strings.Join(selected, ", ")+"] FROM "+table.Name+" ORDER BY offset")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all []map[string]any
	for rows.Next() {
		var texts []string
		if err := rows.Scan(&texts); err != nil {
			t.Fatal(err)
		}
		row := map[string]any{}
		for i, text := range texts {
			var value any
			if err := json.Unmarshal([]byte(text), &value); err != nil {
				t.Fatalf("%s.%s: %q: %v", table.Name, table.columns[i].name, text, err)
			}
			row[table.columns[i].name] = value
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// TestFiller_LeavesNoFieldOut keeps the test above from passing by what it does
// not set.
func TestFiller_LeavesNoFieldOut(t *testing.T) {
	f := newFiller(t)
	for _, record := range []any{&consent.Event{}, &consent.Change{}, &schemas.Delivery{}, &schemas.DeadLetter{}} {
		f.fill(reflect.ValueOf(record).Elem())
		unset(t, reflect.TypeOf(record).Elem().Name(), reflect.ValueOf(record).Elem())
	}
}

func unset(t *testing.T, path string, v reflect.Value) {
	t.Helper()
	if v.Type() == reflect.TypeFor[*consent.Original]() {
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		return
	case reflect.Pointer:
		if !v.IsNil() {
			unset(t, path, v.Elem())
			return
		}
	case reflect.Struct:
		for i := range v.NumField() {
			unset(t, path+"."+v.Type().Field(i).Name, v.Field(i))
		}
		return
	}
	if v.IsZero() {
		t.Errorf("%s is not set", path)
	}
}
