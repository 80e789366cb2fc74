package topic

import (
	"strings"
	"testing"

	"github.com/assent-dev/assent/consent"
)

func TestSpecs_GiveEveryTopicTheSamePartitionsBrokerTimeAndItsRetention(t *testing.T) {
	n := Names{Prefix: "x."}
	kept := map[string]string{
		n.Intake(): "604800000", n.Events(): "-1", n.State(): "-1", n.Changes(): "2592000000", n.Deliveries(): "-1", n.DeadLetters(): "-1", n.Owners(): "-1",
	}
	specs := n.Specs(Layout{Partitions: 7, Replication: 3})
	if len(specs) != len(kept) {
		t.Fatalf("%d topics, want %d", len(specs), len(kept))
	}
	for _, s := range specs {
		partitions := 7
		if s.Name == n.Owners() {
			partitions = 1 // so that the last record of a key is the newest of all
		}
		if s.Partitions != partitions || s.Replication != 3 || !strings.HasPrefix(s.Name, "x.consent.") {
			t.Errorf("%+v", s)
		}
		if s.Config["message.timestamp.type"] != "LogAppendTime" || s.Config["min.insync.replicas"] != "2" {
			t.Errorf("%s: %v", s.Name, s.Config)
		}
		if s.Config["retention.ms"] != kept[s.Name] {
			t.Errorf("%s is kept for %s ms, want %s", s.Name, s.Config["retention.ms"], kept[s.Name])
		}
		if compacted := s.Config["cleanup.policy"] == "compact"; compacted != (s.Name == n.State() || s.Name == n.Owners()) {
			t.Errorf("%s: %s", s.Name, s.Config["cleanup.policy"])
		}
	}
	for replication, want := range map[int]string{1: "1", 2: "1", 3: "2", 5: "2"} {
		if got := n.Specs(Layout{Partitions: 1, Replication: replication})[0].Config["min.insync.replicas"]; got != want {
			t.Errorf("replication %d: min.insync.replicas %s, want %s", replication, got, want)
		}
	}
}

func TestHeaders_AreCloudEvents(t *testing.T) {
	e := consent.Event{ID: consent.UUID{1}, Tenant: "shop", Action: consent.Withdraw, ReceivedAt: 1_767_225_600_000}
	got := map[string]string{}
	for _, h := range EventHeaders(&e, "00-trace") {
		got[h.Key] = string(h.Value)
	}
	want := map[string]string{"ce_id": e.ID.String(), "ce_type": "consent.withdraw", "ce_source": "assent", "ce_specversion": "1.0", "ce_time": "2026-01-01T00:00:00.000Z", "tenant": "shop", "traceparent": "00-trace"}
	for k, v := range want {
		if got[k] != v {
			t.Errorf("%s = %q, want %q", k, got[k], v)
		}
	}
	if n := len(EventHeaders(&e, "")); n != 6 {
		t.Errorf("%d headers without a trace", n)
	}
	c := consent.Change{ID: consent.UUID{2}, To: consent.Granted, Timestamp: 1}
	if h, _ := AppendChangeHeaders(nil, nil, &c); string(h[1].Value) != "consent.granted" {
		t.Errorf("%s", h[1].Value)
	}
}

func TestNames_KeepInstallationsApart(t *testing.T) {
	a, b := Names{Prefix: "a."}, Names{Prefix: "b."}
	for _, pair := range [][2]string{{a.IntakeGroup(), b.IntakeGroup()}, {a.ProcessorGroup(), b.ProcessorGroup()}, {a.SinkGroup(), b.SinkGroup()}, {a.FanoutGroup("t", "crm"), b.FanoutGroup("t", "crm")}} {
		if pair[0] == pair[1] {
			t.Errorf("both are members of %s", pair[0])
		}
	}
	if a.FanoutGroup("t", "crm") == a.FanoutGroup("u", "crm") {
		t.Error("downstreams of two tenants share a group")
	}
}

func TestTransactionalID_IsOfOneStripeOfOneInstallation(t *testing.T) {
	if got := (Names{Prefix: "eu."}).TransactionalID(4, 3); got != "eu.assent-processor-4-3" {
		t.Errorf("%s: brokers' access rights name it", got)
	}
	seen := map[string]bool{}
	for _, prefix := range []string{"", "eu."} {
		for stripes := range 30 {
			for stripe := range stripes {
				id := Names{Prefix: prefix}.TransactionalID(stripes, stripe)
				if seen[id] {
					t.Errorf("%s is of two stripes: their owners would fence each other", id)
				}
				seen[id] = true
			}
		}
	}
}
