package main

import (
	"fmt"
	"net"
	"time"

	"github.com/assent-dev/assent/internal/config"
	"github.com/assent-dev/assent/processor/owner"
)

// foldSettings are those of the processor, alone or in `up`.
type foldSettings struct {
	Stripes    int           `env:"STRIPES" default:"4" help:"shares that the partitions are dealt into, the same for all processors"`
	Pace       time.Duration `env:"PACE" default:"20ms" help:"how far apart the transactions of a busy stripe begin, at least; an idle one commits at once"`
	StateDir   string        `env:"STATE_DIR" help:"folder of the local copies of states, so that a restart reads only what came since; when empty, state in the data folder, for a role ./data/state"`
	CacheMiB   int           `env:"STATE_CACHE_MIB" default:"512" help:"memory, in MiB, for the states that are in use; the others are read from the folder. The process takes up to about three times as much"`
	PeerURL    string        `env:"PEER_URL" help:"where the other processors reach this one, as http://host:port; the HTTP address when empty and on this machine"`
	PeerSecret string        `env:"PEER_SECRET" flag:"-" help:"what processors show each other, the same for all, at least 16 bytes; without it only those on this machine are answered"`
}

// Validate checks what fields alone cannot tell.
func (s *foldSettings) Validate() []config.Fault {
	faults := rangeFault("ASSENT_STRIPES (--stripes)", s.Stripes, 1, 1024)
	faults = append(faults, rangeFault("ASSENT_STATE_CACHE_MIB (--state-cache-mib)", s.CacheMiB, 1, 1<<20)...)
	if s.Pace <= 0 || s.Pace > time.Second {
		faults = append(faults, config.Fault{Setting: "ASSENT_PACE (--pace)", Message: fmt.Sprintf("%s is not between 1ms and 1s", s.Pace)})
	}
	if s.PeerURL != "" && owner.CheckAddress(s.PeerURL) != nil {
		faults = append(faults, config.Fault{Setting: "ASSENT_PEER_URL (--peer-url)", Message: fmt.Sprintf("%q is not an address such as http://10.0.0.7:8080", s.PeerURL)})
	}
	if n := len(s.PeerSecret); n > 0 && n < owner.MinSecretBytes {
		faults = append(faults, config.Fault{Setting: "ASSENT_PEER_SECRET", Message: fmt.Sprintf("has %d bytes, want at least %d, such as from openssl rand -hex 16", n, owner.MinSecretBytes)})
	}
	return faults
}

// reachable asks for what processors on several machines need to find each other.
func (s *foldSettings) reachable(httpAddr string) []config.Fault {
	if host, _, err := net.SplitHostPort(httpAddr); err != nil || isLoopback(host) {
		return nil
	}
	var faults []config.Fault
	if s.PeerURL == "" {
		faults = append(faults, config.Fault{Setting: "ASSENT_PEER_URL (--peer-url)", Message: fmt.Sprintf("is needed where HTTP is served at %s: say at which address the other processors reach this one", httpAddr)})
	}
	if s.PeerSecret == "" {
		faults = append(faults, config.Fault{Setting: "ASSENT_PEER_SECRET", Message: "is needed where other machines ask: the same for all processors, such as from openssl rand -hex 16"})
	}
	return faults
}

// peerURL is what this process tells the others; empty where they cannot reach it.
func (s *foldSettings) peerURL(v *serving) string {
	if s.PeerURL != "" {
		return s.PeerURL
	}
	if host, _, err := net.SplitHostPort(v.listener.Addr().String()); err != nil || !isLoopback(host) {
		return ""
	}
	return v.url()
}
