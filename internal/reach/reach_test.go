package reach

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("away")

func TestWatch_AsksAtOnceUnlessItKnowsAndTellsEachChangeOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var asked []time.Duration
		var told []error
		w := Watch{
			Timeout: 5 * time.Second, Every: 2 * time.Second, Again: 500 * time.Millisecond,
			Probe: func(context.Context) error {
				at := time.Since(began)
				asked = append(asked, at)
				if at > time.Second && at < 3200*time.Millisecond {
					return errAway
				}
				return nil
			},
			Changed: func(err error) { told = append(told, err) },
		}
		if known, _ := w.Found(); known {
			t.Error("it knows something before it has asked")
		}
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(3100 * time.Millisecond)
		if known, err := w.Found(); !known || !errors.Is(err, errAway) {
			t.Errorf("found %v, %v", err, known)
		}
		time.Sleep(900 * time.Millisecond)
		cancel()
		synctest.Wait()
		const ms = time.Millisecond
		if want := []time.Duration{0, 2000 * ms, 2500 * ms, 3000 * ms, 3500 * ms}; !slices.Equal(asked, want) {
			t.Errorf("asked at %v, want %v", asked, want)
		}
		if want := []error{errAway, nil}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

func TestWatch_WhatHangsIsAwayAndWhatIsNotedIsNotAskedForAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := Watch{
			Timeout: 5 * time.Second, Every: 2 * time.Second, Again: time.Second,
			Probe:   func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
			Changed: func(error) {},
		}
		w.Note(nil)
		ctx, cancel := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(6 * time.Second)
		if known, err := w.Found(); !known || err != nil {
			t.Errorf("before the time-out of the first question: %v, %v", err, known)
		}
		time.Sleep(2 * time.Second)
		if _, err := w.Found(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("of an engine that hangs: %v", err)
		}
		cancel()
		synctest.Wait()
		if _, err := w.Found(); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the end of the watch is no finding: %v", err)
		}
	})
}
