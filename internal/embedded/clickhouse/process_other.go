//go:build !linux

package clickhouse

import "syscall"

// dieWithParent has no help from the kernel here: the end of standard input must do.
func dieWithParent() *syscall.SysProcAttr { return nil }
