package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
)

// AddrError says that the broker cannot listen where it was told to. The user
// has to choose another address.
type AddrError struct {
	Addr string
	Err  error
	hint string
}

func (e *AddrError) Error() string {
	return fmt.Sprintf("kafka address %q: %v: %s", e.Addr, e.Err, e.hint)
}

func (e *AddrError) Unwrap() error { return e.Err }

var errNotLoopback = errors.New("not a loopback address")

const (
	hintLoopback = "the embedded broker lets everyone in who reaches it, so it listens on this machine only: use 127.0.0.1 or [::1] with a port (0 = any free one); for other machines run Apache Kafka and set ASSENT_KAFKA_BROKERS"
	hintTaken    = "stop the program that uses it, or choose another --kafka-addr (port 0 = any free one)"
	hintOther    = "choose another --kafka-addr, for example 127.0.0.1:0"
)

// checkAddr returns the numeric form of addr, which must be host:port with a
// loopback host. Names are not looked up, "localhost" is 127.0.0.1.
func checkAddr(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", &AddrError{addr, errors.New("not of the form host:port"), hintOther}
	}
	if host == "localhost" {
		host = "127.0.0.1"
	}
	ip := net.ParseIP(host)
	if ip == nil || !ip.IsLoopback() {
		return "", &AddrError{addr, errNotLoopback, hintLoopback}
	}
	return net.JoinHostPort(host, port), nil
}

// listen binds addr. The port stays this one for the life of the broker, and
// the listener's address is what clients are told to connect to.
func listen(addr string) (net.Listener, error) {
	numeric, err := checkAddr(addr)
	if err != nil {
		return nil, err
	}
	ln, err := new(net.ListenConfig).Listen(context.Background(), "tcp", numeric)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &AddrError{addr, syscall.EADDRINUSE, hintTaken}
	case err != nil:
		return nil, &AddrError{addr, err, hintOther}
	}
	return ln, nil
}
