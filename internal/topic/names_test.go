package topic

import (
	"strconv"
	"testing"

	"github.com/assent-dev/assent/consent"
)

// Other programs hold on to these names: they are written out here.
func TestNames_AreThePromisedOnesBehindThePrefix(t *testing.T) {
	for _, prefix := range []string{"", "eu.", "staging-"} {
		n := Names{Prefix: prefix}
		for got, want := range map[string]string{
			n.Intake(): "consent.intake", n.Events(): "consent.events", n.State(): "consent.state", n.Changes(): "consent.changes",
			n.Deliveries(): "consent.deliveries", n.DeadLetters(): "consent.deadletters", n.Owners(): "consent.owners",
			n.IntakeGroup(): "assent-intake", n.ProcessorGroup(): "assent-processor", n.SinkGroup(): "assent-sink", n.FanoutGroup("shop", "crm"): "assent-fanout.shop.crm",
		} {
			if got != prefix+want {
				t.Errorf("%s, want %s", got, prefix+want)
			}
		}
	}
}

// Neither part of a downstream's group can hold the dot between them.
func TestFanoutGroup_IsOfOneDownstreamOnly(t *testing.T) {
	seen := map[string]string{}
	for _, tenant := range []consent.Tenant{"a", "a-b", "b"} {
		for _, downstream := range []string{"a", "b", "a-b", "b-a"} {
			g, of := Names{}.FanoutGroup(tenant, downstream), string(tenant)+" "+downstream
			if seen[g] != "" {
				t.Errorf("%s is of %s and of %s", g, seen[g], of)
			}
			seen[g] = of
		}
	}
}

func TestSpecs_TakeALargestEventAndADeadLetterAroundIt(t *testing.T) {
	const atLeast = 1<<20 + 64<<10 // a record of the largest size, its key and headers
	for _, s := range (Names{}).Specs(Layout{Partitions: 12, Replication: 1}) {
		if n, err := strconv.Atoi(s.Config["max.message.bytes"]); err != nil || n < atLeast {
			t.Errorf("%s takes records of %s bytes", s.Name, s.Config["max.message.bytes"])
		}
		if len(s.Config) != 5 {
			t.Errorf("%s: settings that no test knows: %v", s.Name, s.Config)
		}
	}
}

// Specs makes a map for each topic: to change one must not change another.
func TestSpecs_ShareNoSettings(t *testing.T) {
	specs := (Names{}).Specs(Layout{Partitions: 1, Replication: 1})
	for i := range specs {
		specs[i].Config["retention.ms"] = strconv.Itoa(i)
	}
	for i, s := range specs {
		if s.Config["retention.ms"] != strconv.Itoa(i) {
			t.Errorf("%s shares its settings", s.Name)
		}
	}
}

func TestHeaders_FallBackAndNameWhatIsTold(t *testing.T) {
	find := func(e *consent.Event, key string) string {
		for _, h := range EventHeaders(e, "") {
			if h.Key == key {
				return string(h.Value)
			}
		}
		return "(none)"
	}
	e := consent.Event{Source: "shop-web/3.2", OccurredAt: 1_767_225_600_000, ReceivedAt: 1_767_225_700_000, Tenant: "t", Action: consent.Grant}
	for key, want := range map[string]string{"ce_source": "shop-web/3.2", "ce_time": "2026-01-01T00:00:00.000Z", "ce_type": "consent.grant", "traceparent": "(none)"} {
		if got := find(&e, key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	c := consent.Change{ID: consent.UUID{2}, Tenant: "shop", To: consent.Withdrawn, Timestamp: 1_767_225_600_000}
	want := map[string]string{"ce_id": c.ID.String(), "ce_type": "consent.withdrawn", "ce_source": "assent", "ce_specversion": "1.0", "ce_time": "2026-01-01T00:00:00.000Z", "tenant": "shop"}
	headers, _ := AppendChangeHeaders(nil, []byte("what stood there"), &c)
	for _, h := range headers {
		if want[h.Key] != string(h.Value) {
			t.Errorf("%s is %s, want %s", h.Key, h.Value, want[h.Key])
		}
		delete(want, h.Key)
	}
	if len(want) != 0 {
		t.Errorf("missing: %v", want)
	}
}
