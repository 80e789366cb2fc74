package chdb

import (
	"errors"
	"runtime"
	"unsafe"
)

// Result is the output of a statement, or of a part of it.
type Result struct {
	lib    *Library
	handle unsafe.Pointer
}

// Stats counts what the engine did for a result: rows and bytes read from storage, rows and bytes written.
type Stats struct{ ReadRows, ReadBytes, WrittenRows, WrittenBytes uint64 }

// result takes over a handle from C, and turns an exception that it carries into an *Error.
func (l *Library) result(handle unsafe.Pointer) (*Result, error) {
	if handle == nil {
		return nil, errors.New("chdb: the engine returned no result")
	}
	if text := l.resultError(handle); text != nil {
		err := parseError(goString(text))
		l.resultDestroy(handle)
		return nil, err
	}
	return &Result{lib: l, handle: handle}, nil
}

// Data returns the output. The bytes are C memory: read them before Release, never write or keep them.
func (r *Result) Data() []byte {
	length := r.lib.resultLength(r.handle)
	if length == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(r.lib.resultBuffer(r.handle)), length)
}

// Stats returns the counters of this result.
func (r *Result) Stats() Stats {
	return Stats{
		ReadRows: r.lib.resultRowsRead(r.handle), ReadBytes: r.lib.resultBytesRead(r.handle),
		WrittenRows: r.lib.resultRowsWritten(r.handle), WrittenBytes: r.lib.resultBytesWritten(r.handle),
	}
}

// Release frees the result. Release twice is fine.
func (r *Result) Release() {
	if r.handle != nil {
		r.lib.resultDestroy(r.handle)
		r.handle = nil
	}
}

// Stream is a SELECT whose output comes in parts. Its Conn runs nothing else until Close.
type Stream struct {
	conn   *Conn
	handle unsafe.Pointer
	ended  bool
}

// Stream starts a SELECT. Only a SELECT: the engine runs nothing else in parts.
func (c *Conn) Stream(sql, format string, params ...Param) (*Stream, error) {
	if c.handle == nil {
		return nil, ErrClosed
	}
	handle := c.call(c.lib.streamQuery, c.lib.streamQueryParams, sql, format, params)
	if _, err := c.lib.result(handle); err != nil {
		return nil, err
	}
	return &Stream{conn: c, handle: handle}, nil
}

// Next returns the next part, nil after the last one. The caller releases it.
func (s *Stream) Next() (*Result, error) {
	if s.handle == nil || s.conn.handle == nil {
		return nil, ErrClosed
	}
	if s.ended {
		return nil, nil
	}
	part, err := s.conn.lib.result(s.conn.lib.streamFetch(s.conn.session(), s.handle))
	if err != nil {
		s.ended = true
		return nil, err
	}
	if s.conn.lib.resultLength(part.handle) == 0 {
		part.Release()
		s.ended = true
		return nil, nil
	}
	return part, nil
}

// Close gives up what has not been read and frees the stream. Close twice is fine.
func (s *Stream) Close() {
	if s.handle == nil {
		return
	}
	if !s.ended && s.conn.handle != nil {
		s.conn.lib.streamCancel(s.conn.session(), s.handle)
	}
	s.conn.lib.resultDestroy(s.handle)
	s.handle = nil
}

// Insert is an INSERT whose rows come in parts. Its Conn runs nothing else until Close.
type Insert struct {
	conn   *Conn
	handle unsafe.Pointer
}

// Insert starts an INSERT; sql carries neither FORMAT nor rows. Rows follow by Append, and are committed by Done.
func (c *Conn) Insert(sql, format string) (*Insert, error) {
	if c.handle == nil {
		return nil, ErrClosed
	}
	sqlPtr, sqlLen := stringPointer(sql)
	formatPtr, formatLen := stringPointer(format)
	handle := c.lib.insert(c.session(), sqlPtr, sqlLen, formatPtr, formatLen)
	runtime.KeepAlive(sql)
	runtime.KeepAlive(format)
	if handle == nil {
		return nil, errors.New("chdb: the engine returned no insert")
	}
	if text := c.lib.insertError(handle); text != nil {
		err := parseError(goString(text))
		c.lib.insertDestroy(handle)
		return nil, err
	}
	return &Insert{conn: c, handle: handle}, nil
}

// Append hands over rows in the insert's format; the engine copies them, and may make the caller wait.
// False means that the insert has failed: Done tells why.
func (i *Insert) Append(data []byte) bool {
	if len(data) == 0 {
		return true
	}
	state := i.conn.lib.insertAppend(i.handle, unsafe.Pointer(unsafe.SliceData(data)), uintptr(len(data)))
	runtime.KeepAlive(data)
	return state == 0
}

// Done commits the rows and returns how many were written, materialized views included.
func (i *Insert) Done() (Stats, error) {
	if i.handle == nil {
		return Stats{}, ErrClosed
	}
	result, err := i.conn.lib.result(i.conn.lib.insertDone(i.handle))
	if err != nil {
		return Stats{}, err
	}
	defer result.Release()
	return result.Stats(), nil
}

// Close gives up an insert that was not done and frees it. Close twice is fine.
func (i *Insert) Close() {
	if i.handle != nil {
		i.conn.lib.insertDestroy(i.handle)
		i.handle = nil
	}
}
