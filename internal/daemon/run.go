package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// Service is one part that runs until its context ends.
type Service struct {
	Name string
	// Run blocks until ctx ends, then cleans up without inheriting ctx, and
	// returns nil. An error stops every other service.
	Run func(ctx context.Context) error
}

// Layer is a set of services that start and stop together.
type Layer []Service

// Run runs the layers until ctx ends or a service returns. grace bounds the
// whole stop; each layer may take an equal share of what is left.
func Run(ctx context.Context, log *slog.Logger, grace time.Duration, layers ...Layer) error {
	first := make(chan error, 1)
	running := make([]*layer, 0, len(layers))
	for _, services := range layers {
		running = append(running, start(services, first))
	}

	var errs []error
	select {
	case <-ctx.Done():
		log.Info("stopping")
	case err := <-first:
		if err != nil {
			log.Error("a part failed; stopping the others", "error", err)
			errs = append(errs, err)
		}
	}

	deadline := time.Now().Add(grace)
	for i := len(running) - 1; i >= 0; i-- {
		share := time.Until(deadline) / time.Duration(i+1)
		if err := running[i].stop(share); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

type layer struct {
	cancel context.CancelFunc
	done   chan struct{}

	mu      sync.Mutex
	pending map[string]bool
}

func start(services Layer, first chan<- error) *layer {
	// Not the caller's context: a layer stops when it is its turn.
	ctx, cancel := context.WithCancel(context.Background())
	l := &layer{cancel: cancel, done: make(chan struct{}), pending: map[string]bool{}}
	var all sync.WaitGroup
	for _, s := range services {
		l.pending[s.Name] = true
		all.Add(1)
		go func() {
			defer all.Done()
			err := s.Run(ctx)
			l.mu.Lock()
			delete(l.pending, s.Name)
			l.mu.Unlock()
			if err != nil && !errors.Is(err, context.Canceled) {
				err = fmt.Errorf("%s: %w", s.Name, err)
			} else {
				err = nil
			}
			if err == nil && ctx.Err() != nil {
				return // it was asked to stop, and did
			}
			select {
			case first <- err:
			default:
			}
		}()
	}
	go func() { all.Wait(); close(l.done) }()
	return l
}

func (l *layer) stop(within time.Duration) error {
	l.cancel()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-l.done:
		return nil
	case <-timer.C:
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var names []string
	for name := range l.pending {
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("gave up waiting for %s after %s", strings.Join(names, ", "), within.Round(time.Millisecond))
}
