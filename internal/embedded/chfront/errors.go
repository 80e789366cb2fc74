package chfront

import (
	"fmt"

	"github.com/assent-dev/assent/internal/embedded/chdb"
)

// ClickHouse's error codes that this package gives by itself; all others come from the engine.
const (
	codeNotImplemented   = 48
	codeUnexpectedPacket = 101
	codeUnknownSetting   = 115
	codeTooMany          = 202
	codeNoSession        = 210 // NETWORK_ERROR: clients try another connection
	codeCancelled        = 394
	codeAuthentication   = 516
)

// refuse makes an exception that looks like one of the engine.
func refuse(code int, format string, args ...any) error {
	return &chdb.Error{Code: code, Message: fmt.Sprintf(format, args...)}
}
