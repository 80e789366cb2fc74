package chdb

import (
	"regexp"
	"strconv"
	"strings"
)

// Error is an exception of the engine.
type Error struct {
	Code    int    // ClickHouse's error code, 0 where the engine gave none
	Message string // without code, class name and version
}

func (e *Error) Error() string {
	return "clickhouse: code " + strconv.Itoa(e.Code) + ": " + e.Message
}

var (
	errorHead = regexp.MustCompile(`^(?:Code: (\d+)\. )?(?:DB::Exception: )?`)
	// The engine ends a message with the symbolic name of its code, and sometimes its version.
	errorTail = regexp.MustCompile(`\s*\([A-Z][A-Z0-9_]+\)(?:\s*\(version [^()]*(?:\([^()]*\))?\s*\))?\s*$`)
)

// parseError reads the text form of an engine exception: "Code: 60. DB::Exception: text. (UNKNOWN_TABLE)".
func parseError(text string) *Error {
	text = strings.TrimSpace(text)
	head := errorHead.FindStringSubmatchIndex(text)
	var code int
	if head[2] >= 0 {
		code, _ = strconv.Atoi(text[head[2]:head[3]]) // digits only; out of range stays 0
	}
	message := errorTail.ReplaceAllString(text[head[1]:], "")
	return &Error{Code: code, Message: message}
}
