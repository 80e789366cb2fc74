package clickhouse

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// detachStdin moves standard input to another file number and puts /dev/null in its place: the engine reads
// standard input when an INSERT brings no rows, and must not eat the life line.
func detachStdin(stdin *os.File) (*os.File, error) {
	copied, err := unix.FcntlInt(stdin.Fd(), unix.F_DUPFD_CLOEXEC, listenerFD+1)
	if err != nil {
		return nil, fmt.Errorf("duplicate standard input: %w", err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	if err := unix.Dup2(int(null.Fd()), int(stdin.Fd())); err != nil {
		return nil, fmt.Errorf("replace standard input: %w", err)
	}
	return os.NewFile(uintptr(copied), "stdin"), nil
}
