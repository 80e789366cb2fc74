package gateway

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// BenchmarkGateway measures events/s over HTTP to a broker in the same process,
// with 16 senders, on whatever cores there are: one event a request, and a
// thousand.
func BenchmarkGateway(b *testing.B) {
	for _, size := range []int{1, 1000} {
		b.Run(fmt.Sprintf("events=%d", size), func(b *testing.B) {
			r := newRig(b)
			client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}
			b.Cleanup(client.CloseIdleConnections)
			var subject atomic.Int64
			head, tail, _ := strings.Cut(grantJSON("subject", `"user:#"`)+"\n", "#")
			b.SetParallelism(8)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					var body strings.Builder
					for range size {
						body.WriteString(head)
						body.WriteString(strconv.Itoa(int(subject.Add(1) % 100_000)))
						body.WriteString(tail)
					}
					media := "application/json"
					if size > 1 {
						media = "application/x-ndjson"
					}
					response, err := client.Post(r.url+"/v1/events", media, strings.NewReader(body.String()))
					if err != nil {
						b.Error(err)
						return
					}
					answer, err := io.ReadAll(response.Body)
					_ = response.Body.Close()
					if err != nil || response.StatusCode/100 != 2 || (size > 1 && !strings.Contains(string(answer), `"rejected":0}`)) {
						b.Errorf("answered %d, %v", response.StatusCode, err)
					}
				}
			})
			b.ReportMetric(float64(b.N*size)/b.Elapsed().Seconds(), "events/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}
