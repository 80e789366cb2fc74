package sink

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// alarms is how many partitions were stopped.
func (r *rig) alarms() float64 { return value(r.metrics.alarms) }

func value(c prometheus.Counter) float64 {
	var m dto.Metric
	if err := c.Write(&m); err != nil {
		return -1
	}
	return m.GetCounter().GetValue()
}

// deleteGroup does what a broker does to a group that was empty for long.
func deleteGroup(t *testing.T, w *world, admin *kgo.Client) {
	t.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{w.names.SinkGroup()}
	w.eventually("the group is deleted", func() bool {
		resp, err := req.RequestWith(w.ctx, admin)
		return err == nil && len(resp.Groups) == 1 && resp.Groups[0].ErrorCode == 0
	})
}
