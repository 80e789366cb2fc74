package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/internal/registry"
	"github.com/assent-dev/assent/internal/topic"
	"github.com/assent-dev/assent/producer/intake"
)

// The settings that several commands share. Each is documented by its tags;
// --help shows them.

type kafkaSettings struct {
	Brokers []string `env:"KAFKA_BROKERS" default:"127.0.0.1:9092" help:"addresses of Kafka brokers, host:port, separated by commas"`
	Prefix  string   `env:"TOPIC_PREFIX" help:"put before each topic and group name, for several installations on one broker"`
	TLS     bool     `env:"KAFKA_TLS" help:"speak TLS to the brokers"`
}

// Validate checks that there is a broker to speak to.
func (k *kafkaSettings) Validate() []config.Fault {
	var faults []config.Fault
	if len(k.Brokers) == 0 {
		faults = append(faults, config.Fault{Setting: "ASSENT_KAFKA_BROKERS (--kafka-brokers)", Message: "name at least one broker as host:port"})
	}
	return append(faults, brokerFaults(k.Brokers)...)
}

func brokerFaults(brokers []string) []config.Fault {
	var faults []config.Fault
	for _, b := range brokers {
		if _, _, err := net.SplitHostPort(b); err != nil {
			faults = append(faults, config.Fault{Setting: "ASSENT_KAFKA_BROKERS (--kafka-brokers)", Message: fmt.Sprintf("%q is not host:port", b)})
		}
	}
	return faults
}

func tlsConfig(on bool) *tls.Config {
	if !on {
		return nil
	}
	return &tls.Config{MinVersion: tls.VersionTLS12}
}

func (k *kafkaSettings) names() topic.Names { return topic.Names{Prefix: k.Prefix} }

type clickhouseSettings struct {
	DSN string `env:"CLICKHOUSE_DSN" default:"clickhouse://default@127.0.0.1:9000/assent" flag:"-" help:"where ClickHouse is: clickhouse://user:password@host:9000/database"`
}

// Validate checks the DSN's form, without repeating its password.
func (c *clickhouseSettings) Validate() []config.Fault { return dsnFaults(c.DSN) }

func dsnFaults(dsn string) []config.Fault {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "clickhouse" || u.Host == "" || strings.Trim(u.Path, "/") == "" {
		return []config.Fault{{Setting: "ASSENT_CLICKHOUSE_DSN", Message: "want clickhouse://user:password@host:9000/database"}}
	}
	return nil
}

type httpSettings struct {
	Addr      string `env:"HTTP_ADDR" default:"127.0.0.1:8080" help:"where to serve HTTP, host:port; port 0 = any free port"`
	AdminAddr string `env:"ADMIN_ADDR" help:"where to serve /metrics, /healthz and /readyz; with the rest when empty"`
	AllowOpen bool   `env:"ALLOW_OPEN" help:"serve other hosts although there are no keys yet: whoever reaches the port may use it"`
}

// Validate refuses to serve other hosts without being told to.
func (h *httpSettings) Validate() []config.Fault {
	var faults []config.Fault
	check := func(name, addr string) {
		host, _, err := net.SplitHostPort(addr)
		switch {
		case err != nil:
			faults = append(faults, config.Fault{Setting: name, Message: fmt.Sprintf("%q is not host:port", addr)})
		case !isLoopback(host) && !h.AllowOpen:
			faults = append(faults, config.Fault{Setting: name, Message: fmt.Sprintf("%q is reachable from other hosts, and there are no keys yet: use 127.0.0.1, or set ASSENT_ALLOW_OPEN=true behind something that lets nobody else in", addr)})
		}
	}
	check("ASSENT_HTTP_ADDR (--http-addr)", h.Addr)
	if h.AdminAddr != "" {
		check("ASSENT_ADMIN_ADDR (--admin-addr)", h.AdminAddr)
	}
	return faults
}

func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.IsLoopback()
}

type registrySettings struct {
	Purposes    []string `env:"PURPOSES" help:"purpose registry files (purposes.yaml), separated by commas"`
	Downstreams []string `env:"DOWNSTREAMS" help:"files of the systems that must obey (downstreams.yaml), separated by commas"`
}

// open reads the files; every fault in them at once.
func (r *registrySettings) open(opt registry.Options) (*registry.Registry, error) {
	reg, err := registry.Load(r.Purposes, r.Downstreams, opt)
	if err != nil {
		return nil, usageError{fmt.Errorf("the registry files are faulty:\n%s", registry.Explain(err))}
	}
	return reg, nil
}

// purposesRequired is for roles that run apart: only `up` has a sample registry.
func (r *registrySettings) purposesRequired() []config.Fault {
	if len(r.Purposes) == 0 {
		return []config.Fault{{Setting: "ASSENT_PURPOSES (--purposes)", Message: "name the purpose registry files"}}
	}
	return nil
}

type subjectKeySettings struct {
	Key string `env:"SUBJECT_KEY" flag:"-" help:"the key that makes pseudonymous ids out of addresses: 64 hex digits, the same for all roles"`
}

// Validate checks the key's form; where it may be absent is the command's matter.
func (s *subjectKeySettings) Validate() []config.Fault {
	if s.Key == "" {
		return nil
	}
	if _, err := intake.ParseKey(s.Key); err != nil {
		return []config.Fault{{Setting: "ASSENT_SUBJECT_KEY", Message: err.Error()}}
	}
	return nil
}

// required is for roles that run apart: each making its own key would give one
// address a different id in each of them.
func (s *subjectKeySettings) required() []config.Fault {
	if s.Key == "" {
		return []config.Fault{{Setting: "ASSENT_SUBJECT_KEY", Message: "is needed, and the same for all roles: 64 hex digits, such as from openssl rand -hex 32"}}
	}
	return nil
}

type dataSettings struct {
	Dir string `env:"DATA_DIR" default:"./data" help:"folder of the embedded engines' data and of keys"`
}

func (d *dataSettings) subjectKeyFile() string { return filepath.Join(d.Dir, "keys", "subject.hex") }

// urlSettings say where a running Assent is, for commands that ask it.
type urlSettings struct {
	URL string `env:"URL" default:"http://127.0.0.1:8080" help:"address of a running assent"`
}

// Validate checks the URL's form.
func (u *urlSettings) Validate() []config.Fault {
	parsed, err := url.Parse(u.URL)
	if err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Host == "" {
		return []config.Fault{{Setting: "ASSENT_URL (--url)", Message: fmt.Sprintf("%q is not an address such as http://127.0.0.1:8080", u.URL)}}
	}
	return nil
}

// stopGrace bounds the time from SIGTERM to exit.
const stopGrace = 9 * time.Second
