package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/assent-dev/assent/internal/daemon"
	"github.com/assent-dev/assent/internal/kafka"
)

// serving is what one process serves: its HTTP interface, its health, and the
// roles behind them.
type serving struct {
	p       *program
	mux     *http.ServeMux
	metrics *prometheus.Registry
	health  *daemon.Health
	clients []*kafka.Client

	listener, admin net.Listener // admin may be nil
	roles           daemon.Layer
}

// newServing opens the listeners first: a port that is taken is told before
// anything else starts.
func (p *program) newServing(h *httpSettings) (*serving, error) {
	v := &serving{p: p, mux: http.NewServeMux(), metrics: prometheus.NewRegistry()}
	v.metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	v.health = daemon.NewHealth(v.metrics)
	var err error
	if v.listener, err = daemon.Listen(h.Addr, "--http-addr"); err != nil {
		return nil, usageError{err}
	}
	adminMux := v.mux
	if h.AdminAddr != "" {
		if v.admin, err = daemon.Listen(h.AdminAddr, "--admin-addr"); err != nil {
			_ = v.listener.Close()
			return nil, usageError{err}
		}
		adminMux = http.NewServeMux()
	}
	v.health.Register(adminMux)
	if v.admin != nil {
		v.add(daemon.Service{Name: "admin", Run: func(ctx context.Context) error { return daemon.Serve(ctx, v.admin, adminMux) }}, nil)
	}
	return v, nil
}

// url is where the process serves.
func (v *serving) url() string { return "http://" + v.listener.Addr().String() }

// add runs a role; ready, if any, is what /readyz asks.
func (v *serving) add(s daemon.Service, ready func() error) {
	v.roles = append(v.roles, s)
	if ready != nil {
		v.health.Add(s.Name, ready)
	}
}

// connect makes a Kafka client that lives as long as the process.
func (v *serving) connect(brokers []string, useTLS bool, name string) (*kafka.Client, error) {
	c, err := kafka.New(kafka.Config{Brokers: brokers, ClientID: "assent-" + name, TLS: tlsConfig(useTLS), Logger: v.p.log})
	if err != nil {
		return nil, usageError{err}
	}
	v.clients = append(v.clients, c)
	return c, nil
}

// run serves until ctx ends: the roles below, HTTP above them, so that HTTP
// stops first.
func (v *serving) run(ctx context.Context) error {
	http := daemon.Layer{{
		Name: "http",
		Run:  func(ctx context.Context) error { return daemon.Serve(ctx, v.listener, v.mux) },
	}}
	err := daemon.Run(ctx, v.p.log, stopGrace, v.roles, http)
	for _, c := range v.clients {
		err = errors.Join(err, c.Close())
	}
	return err
}

// close gives the listeners back when the process does not come to serve.
func (v *serving) close() {
	_ = v.listener.Close()
	if v.admin != nil {
		_ = v.admin.Close()
	}
	for _, c := range v.clients {
		_ = c.Close()
	}
}

// awaitReady asks the roles until all can work.
func (v *serving) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	complain := time.NewTicker(10 * time.Second)
	defer complain.Stop()
	for {
		waiting := v.health.Waiting()
		if len(waiting) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-complain.C:
			v.p.log.Info("not ready yet", "waiting", fmt.Sprint(waiting))
		case <-tick.C:
		}
	}
}
