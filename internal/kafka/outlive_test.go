package kafka

import (
	"context"
	"testing"
	"time"
)

func TestOutlive_EndsSomeTimeAfterItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	out, done := Outlive(ctx, 20*time.Millisecond)
	defer done()
	began := time.Now()
	cancel()
	if out.Err() != nil {
		t.Error("ended at once")
	}
	<-out.Done()
	if took := time.Since(began); took < 20*time.Millisecond {
		t.Errorf("ended after %s", took)
	}
}
