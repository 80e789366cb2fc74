package chdb

import (
	"fmt"
	"unsafe"

	"github.com/ebitengine/purego"
)

// Library is the loaded shared library. It stays loaded until the process ends.
type Library struct {
	version           func() *byte
	setSignalHandlers func(enabled int32)

	connect   func(argc int32, argv unsafe.Pointer) unsafe.Pointer
	closeConn func(conn unsafe.Pointer)

	query       func(conn unsafe.Pointer, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr) unsafe.Pointer
	queryParams paramsFunc

	streamQuery       func(conn unsafe.Pointer, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr) unsafe.Pointer
	streamQueryParams paramsFunc
	streamFetch       func(conn, stream unsafe.Pointer) unsafe.Pointer
	streamCancel      func(conn, stream unsafe.Pointer)

	insert        func(conn unsafe.Pointer, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr) unsafe.Pointer
	insertAppend  func(insert, data unsafe.Pointer, length uintptr) int32
	insertDone    func(insert unsafe.Pointer) unsafe.Pointer
	insertCancel  func(insert unsafe.Pointer)
	insertError   func(insert unsafe.Pointer) *byte
	insertDestroy func(insert unsafe.Pointer)

	resultBuffer       func(result unsafe.Pointer) unsafe.Pointer
	resultLength       func(result unsafe.Pointer) uintptr
	resultRowsRead     func(result unsafe.Pointer) uint64
	resultBytesRead    func(result unsafe.Pointer) uint64
	resultRowsWritten  func(result unsafe.Pointer) uint64
	resultBytesWritten func(result unsafe.Pointer) uint64
	resultError        func(result unsafe.Pointer) *byte
	resultDestroy      func(result unsafe.Pointer)

	classify func(conn unsafe.Pointer, sql unsafe.Pointer, sqlLen uintptr, database unsafe.Pointer, databaseLen uintptr, out unsafe.Pointer) int32
}

type paramsFunc = func(conn unsafe.Pointer, sql unsafe.Pointer, sqlLen uintptr, format unsafe.Pointer, formatLen uintptr,
	names, nameLens, values, valueLens unsafe.Pointer, count uintptr) unsafe.Pointer

// Load maps the library at path into the process and resolves every function that the package uses.
// The engine's own signal handlers are switched off: Go's stay in place.
func Load(path string) (*Library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("load libchdb from %s: %w; fetch it again with `make build`", path, err)
	}
	lib := &Library{}
	for name, target := range map[string]any{
		"chdb_version":                     &lib.version,
		"chdb_set_signal_handlers_enabled": &lib.setSignalHandlers,
		"chdb_connect":                     &lib.connect,
		"chdb_close_conn":                  &lib.closeConn,
		"chdb_query_n":                     &lib.query,
		"chdb_query_with_params_n":         &lib.queryParams,
		"chdb_stream_query_n":              &lib.streamQuery,
		"chdb_stream_query_with_params_n":  &lib.streamQueryParams,
		"chdb_stream_fetch_result":         &lib.streamFetch,
		"chdb_stream_cancel_query":         &lib.streamCancel,
		"chdb_stream_insert_n":             &lib.insert,
		"chdb_stream_append":               &lib.insertAppend,
		"chdb_stream_done":                 &lib.insertDone,
		"chdb_stream_cancel_insert":        &lib.insertCancel,
		"chdb_stream_insert_error":         &lib.insertError,
		"chdb_destroy_insert_stream":       &lib.insertDestroy,
		"chdb_result_buffer":               &lib.resultBuffer,
		"chdb_result_length":               &lib.resultLength,
		"chdb_result_storage_rows_read":    &lib.resultRowsRead,
		"chdb_result_storage_bytes_read":   &lib.resultBytesRead,
		"chdb_result_rows_written":         &lib.resultRowsWritten,
		"chdb_result_bytes_written":        &lib.resultBytesWritten,
		"chdb_result_error":                &lib.resultError,
		"chdb_destroy_query_result":        &lib.resultDestroy,
		"chdb_classify_query_n":            &lib.classify,
	} {
		symbol, err := purego.Dlsym(handle, name)
		if err != nil {
			return nil, fmt.Errorf("load libchdb from %s: it has no %s; release %s is needed", path, name, Version)
		}
		purego.RegisterFunc(target, symbol)
	}
	lib.setSignalHandlers(0)
	return lib, nil
}

// EngineVersion returns the version that the loaded library reports, such as "26.7.3".
func (l *Library) EngineVersion() string { return goString(l.version()) }

// goString copies a C string; nil gives "".
func goString(p *byte) string {
	if p == nil {
		return ""
	}
	length := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), length)) != 0 {
		length++
	}
	return string(unsafe.Slice(p, length))
}

// stringPointer returns the address and length of s; s must be kept alive by the caller over the call.
func stringPointer(s string) (unsafe.Pointer, uintptr) {
	return unsafe.Pointer(unsafe.StringData(s)), uintptr(len(s))
}
