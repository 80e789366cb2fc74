package chdb

import (
	"errors"
	"fmt"
	"runtime"
	"unsafe"
)

// ErrClosed is the answer of a Conn, Stream or Insert after Close.
var ErrClosed = errors.New("chdb: connection is closed")

// Conn is one session of the engine. It runs one statement at a time and is not safe for concurrent use.
type Conn struct {
	lib    *Library
	handle unsafe.Pointer // chdb_connection *, owned
}

// Connect opens a session; the first one starts the engine. Arguments are the engine's command line without
// the program name, such as "--path=/data" and "--config-file=/data/config.xml"; every session of a process
// must give the same path. Why a session cannot be opened stands on the process's standard error.
func (l *Library) Connect(args ...string) (*Conn, error) {
	argv := make([]*byte, 0, len(args)+2)
	for _, arg := range append([]string{"chdb"}, args...) {
		argv = append(argv, unsafe.SliceData(append([]byte(arg), 0)))
	}
	argc := len(argv)
	argv = append(argv, nil)
	handle := l.connect(int32(argc), unsafe.Pointer(unsafe.SliceData(argv)))
	runtime.KeepAlive(argv)
	if handle == nil {
		return nil, errors.New("chdb: the engine refused to open a session; its reason stands on standard error")
	}
	return &Conn{lib: l, handle: handle}, nil
}

// Close ends the session. Closing the last one stops the engine. Close twice is fine.
func (c *Conn) Close() {
	if c.handle != nil {
		c.lib.closeConn(c.handle)
		c.handle = nil
	}
}

// session is what the C functions call chdb_connection: the pointer behind the handle.
func (c *Conn) session() unsafe.Pointer { return *(*unsafe.Pointer)(c.handle) }

// Param is a value for a {name:Type} placeholder. Value is in the engine's escaped text form (a backslash
// before control characters, \N for NULL), as the native protocol's clients send it.
type Param struct{ Name, Value string }

// Query runs one statement and holds its whole output, in the named format, in memory.
// An exception of the engine is an *Error.
func (c *Conn) Query(sql, format string, params ...Param) (*Result, error) {
	if c.handle == nil {
		return nil, ErrClosed
	}
	return c.lib.result(c.call(c.lib.query, c.lib.queryParams, sql, format, params))
}

// Exec runs one statement and drops its output.
func (c *Conn) Exec(sql string) error {
	result, err := c.Query(sql, "Null")
	if err != nil {
		return err
	}
	result.Release()
	return nil
}

func (c *Conn) call(plain func(unsafe.Pointer, unsafe.Pointer, uintptr, unsafe.Pointer, uintptr) unsafe.Pointer,
	bound paramsFunc, sql, format string, params []Param,
) unsafe.Pointer {
	sqlPtr, sqlLen := stringPointer(sql)
	formatPtr, formatLen := stringPointer(format)
	defer runtime.KeepAlive(sql)
	defer runtime.KeepAlive(format)
	if len(params) == 0 {
		return plain(c.session(), sqlPtr, sqlLen, formatPtr, formatLen)
	}
	// An empty Go string has no address of its own; the engine wants one.
	empty := []byte{0}
	names, values := make([]unsafe.Pointer, len(params)), make([]unsafe.Pointer, len(params))
	nameLens, valueLens := make([]uintptr, len(params)), make([]uintptr, len(params))
	for i, p := range params {
		names[i], nameLens[i] = stringPointer(p.Name)
		values[i], valueLens[i] = stringPointer(p.Value)
		if p.Value == "" {
			values[i] = unsafe.Pointer(unsafe.SliceData(empty))
		}
	}
	defer runtime.KeepAlive(params)
	defer runtime.KeepAlive(empty)
	return bound(c.session(), sqlPtr, sqlLen, formatPtr, formatLen,
		unsafe.Pointer(unsafe.SliceData(names)), unsafe.Pointer(unsafe.SliceData(nameLens)),
		unsafe.Pointer(unsafe.SliceData(values)), unsafe.Pointer(unsafe.SliceData(valueLens)), uintptr(len(params)))
}

// Class is what a statement does to what outlives it.
type Class uint32

// The classes, in the order of the library's header.
const (
	ReadOnly       Class = iota // SELECT, SHOW, DESCRIBE, EXPLAIN, EXISTS, CHECK
	Mutating                    // INSERT, CREATE, ALTER, DROP, ... inside databases
	MutatingGlobal              // functions, named collections, access management, the system database
	Control                     // USE, SET, SYSTEM, BACKUP, KILL, and writes that leave the engine
	Unknown                     // does not parse
)

// Analysis is the engine's reading of a text that was not run.
type Analysis struct {
	Statements int // 0 where the text does not parse
	Class      Class
}

// Classify parses sql with the session's parser and settings, and runs nothing.
func (c *Conn) Classify(sql string) (Analysis, error) {
	if c.handle == nil {
		return Analysis{}, ErrClosed
	}
	out := struct{ size, statements, flags, class uint32 }{size: 16}
	sqlPtr, sqlLen := stringPointer(sql)
	state := c.lib.classify(c.session(), sqlPtr, sqlLen, nil, 0, unsafe.Pointer(&out))
	runtime.KeepAlive(sql)
	if state != 0 {
		return Analysis{}, fmt.Errorf("chdb: classify statement: state %d", state)
	}
	return Analysis{Statements: int(out.statements), Class: Class(out.class)}, nil
}
