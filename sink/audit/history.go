package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/assent-dev/assent/consent"
	"github.com/assent-dev/assent/internal/kafka"
	"github.com/assent-dev/assent/schemas"
	"github.com/assent-dev/assent/schemas/jsonform"
	"github.com/assent-dev/assent/sink/table"
)

// Item is one thing of a subject's history.
type Item struct {
	Kind       Kind
	RecordedAt consent.Instant
	Position   kafka.Position
	// Conflicting: the same event_id came with several contents.
	Conflicting bool
	Body        json.RawMessage // the event, change or delivery
}

// Kind is what an item is.
type Kind uint8

// The kinds, in the order in which they stand when recorded at the same time.
const (
	KindEvent Kind = iota
	KindChange
	KindDelivery
)

var kinds = [...]string{"event", "change", "delivery"}

func (k Kind) String() string { return kinds[k] }

// ParseKind reads event, change or delivery.
func ParseKind(s string) (Kind, bool) {
	for i, name := range kinds {
		if s == name {
			return Kind(i), true
		}
	}
	return 0, false
}

// Query asks for a page of a subject's history.
type Query struct {
	Tenant  consent.Tenant
	Subject consent.Subject
	Kinds   []Kind // none = all
	After   Cursor // zero = from the beginning
	Limit   int
}

// History reads the history.
type History struct{ db *table.DB }

// NewHistory reads from db.
func NewHistory(db *table.DB) *History { return &History{db} }

const queryTimeout = 20 * time.Second

// What each kind is read from. An event counts once for each content, a change
// and a delivery once for each id: the first record of it stands for all.
var sources = [...]string{
	KindEvent: `SELECT toUInt8(0) AS rank, recorded_at, topic, partition, offset, record,
	event_id IS NOT NULL AND count() OVER (PARTITION BY event_id) > 1 AS conflicting
FROM (
	SELECT recorded_at, topic, partition, offset, record, event_id FROM events
	WHERE tenant = @tenant AND subject = @subject AND decode_error = ''
	ORDER BY recorded_at, topic, partition, offset LIMIT 1 BY event_id, digest
)`,
	KindChange: `SELECT toUInt8(1) AS rank, recorded_at, topic, partition, offset, record, false AS conflicting FROM changes
WHERE tenant = @tenant AND subject = @subject AND decode_error = ''
ORDER BY recorded_at, topic, partition, offset LIMIT 1 BY change_id`,
	KindDelivery: `SELECT toUInt8(2) AS rank, recorded_at, topic, partition, offset, record, false AS conflicting FROM deliveries
WHERE tenant = @tenant AND subject = @subject AND decode_error = ''
ORDER BY recorded_at, topic, partition, offset LIMIT 1 BY delivery_id`,
}

// Page gives up to q.Limit items, oldest first, and the cursor behind them; more
// is false at the end.
func (h *History) Page(ctx context.Context, q Query) (items []Item, next Cursor, more bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	rows, err := h.db.Select(ctx, pageSQL(q.Kinds), map[string]any{
		"tenant": string(q.Tenant), "subject": q.Subject,
		"at": int64(q.After.RecordedAt), "rank": uint8(q.After.Kind), "topic": q.After.Position.Topic,
		"partition": q.After.Position.Index, "offset": int64(q.After.Position.Offset),
		"begin": q.After == Cursor{}, "limit": q.Limit + 1,
	})
	if err != nil {
		return nil, next, false, err
	}
	defer rows.Close()
	for rows.Next() {
		if len(items) == q.Limit {
			more = true
			break
		}
		var rank uint8
		var at time.Time
		var record string
		var item Item
		var offset int64
		if err := rows.Scan(&rank, &at, &item.Position.Topic, &item.Position.Index, &offset, &record, &item.Conflicting); err != nil {
			return nil, next, false, err
		}
		item.Kind, item.RecordedAt, item.Position.Offset = Kind(rank), consent.InstantOf(at), kafka.LastOffset(offset)
		if item.Body, err = render(item.Kind, []byte(record)); err != nil {
			return nil, next, false, fmt.Errorf("decode the history's row at %s: %w", item.Position, err)
		}
		items = append(items, item)
	}
	if err := rows.Err(); err != nil && !more {
		return nil, next, false, err
	}
	if len(items) > 0 {
		last := items[len(items)-1]
		next = Cursor{RecordedAt: last.RecordedAt, Kind: last.Kind, Position: last.Position}
	}
	return items, next, more, nil
}

func pageSQL(only []Kind) string {
	var parts []string
	for k, source := range sources {
		if len(only) == 0 || slices.Contains(only, Kind(k)) { // once, however often it is asked for
			parts = append(parts, "SELECT * FROM ("+source+")")
		}
	}
	union := strings.Join(parts, "\nUNION ALL\n")
	return `SELECT rank, recorded_at, topic, partition, offset, record, toBool(conflicting) FROM (` + union + `)
WHERE @begin OR (toUnixTimestamp64Milli(recorded_at), rank, topic, partition, offset) >
	(@at, @rank, @topic, @partition, @offset)
ORDER BY toUnixTimestamp64Milli(recorded_at), rank, topic, partition, offset
LIMIT @limit`
}

// render gives the JSON form of a record.
func render(k Kind, record []byte) (json.RawMessage, error) {
	switch k {
	case KindEvent:
		e, err := schemas.DecodeEvent(record)
		if err != nil {
			return nil, err
		}
		return jsonform.AppendEvent(nil, &e), nil
	case KindChange:
		c, err := schemas.DecodeChange(record)
		if err != nil {
			return nil, err
		}
		return jsonform.AppendChange(nil, &c), nil
	default:
		d, err := schemas.DecodeDelivery(record)
		if err != nil {
			return nil, err
		}
		return jsonform.AppendDelivery(nil, &d), nil
	}
}
