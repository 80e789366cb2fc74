package fanout

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"github.com/assent-dev/assent/internal/registry"
)

// errPrivateAddress: the name in a downstream's URL leads into a private range,
// and the downstream is not declared internal.
var errPrivateAddress = errors.New("the address is in a private range: declare the downstream internal if that is meant")

const (
	dialTimeout     = 5 * time.Second
	keepAliveIdle   = 90 * time.Second
	tlsTimeout      = 5 * time.Second
	maxResponseHead = 64 << 10
)

// newClient makes the HTTP client of one lane. It follows no redirects, uses no
// proxy, and unless internal is set connects to no private address: the check
// is made on the address that is dialled, so that a name which resolves
// differently the second time gains nothing.
func newClient(concurrency int, internal bool) *http.Client {
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !internal {
		dialer.ControlContext = refusePrivate
	}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			TLSHandshakeTimeout:    tlsTimeout,
			MaxIdleConns:           concurrency,
			MaxIdleConnsPerHost:    concurrency,
			MaxConnsPerHost:        concurrency,
			IdleConnTimeout:        keepAliveIdle,
			MaxResponseHeaderBytes: maxResponseHead,
			ForceAttemptHTTP2:      true,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

func refusePrivate(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial an address that cannot be read: %w", err)
	}
	if registry.Internal(at.Addr()) {
		return errPrivateAddress
	}
	return nil
}
