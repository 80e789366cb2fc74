package chfront

import (
	"strings"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// applySettings gives the engine session a query's settings, and returns what takes them back. The engine knows
// no settings of one query, only those of a session.
func (c *session) applySettings(settings []setting) (restore func() error, err error) {
	if len(settings) == 0 {
		return func() error { return nil }, nil
	}
	set, reset := make([]string, len(settings)), make([]string, len(settings))
	for i, s := range settings {
		switch {
		case !sqltext.IsSettingName(s.name):
			return nil, refuse(codeUnknownSetting, "Unknown setting %q", s.name)
		case s.name == tagSetting:
			return nil, refuse(sqltext.CodeAccessDenied, "the setting %s is reserved", tagSetting)
		}
		value := s.value
		if strings.HasPrefix(value, "'") { // a custom setting comes as a quoted literal
			if unquoted, ok := sqltext.Unquote(value); ok {
				value = unquoted
			}
		}
		set[i] = s.name + " = " + sqltext.QuoteString(value)
		reset[i] = s.name + " = DEFAULT"
		if base, ok := c.server.baseline[s.name]; ok {
			reset[i] = s.name + " = " + sqltext.QuoteString(base)
		}
	}
	restore = func() error {
		if c.engine.Exec("SET "+strings.Join(reset, ", ")) == nil {
			return nil
		}
		// Some settings, such as readonly, forbid their own change: take a new session.
		return c.reopen()
	}
	if err := c.engine.Exec("SET " + strings.Join(set, ", ")); err != nil {
		// Which of them came through is not known.
		if reopenErr := c.reopen(); reopenErr != nil {
			return nil, reopenErr
		}
		return nil, err
	}
	return restore, nil
}

// reopen replaces the engine session by a new one in the same database.
func (c *session) reopen() error {
	engine, err := c.server.openSession(c.database, c.tag)
	if err != nil {
		return err
	}
	c.engine.Close()
	c.engine = engine
	return nil
}

// parseParams reads the values of {name:Type} placeholders, which come as quoted literals.
func parseParams(params []setting) ([]chdb.Param, error) {
	if len(params) == 0 {
		return nil, nil
	}
	parsed := make([]chdb.Param, len(params))
	for i, p := range params {
		value, ok := sqltext.Unquote(p.value)
		if !ok {
			return nil, refuse(codeUnexpectedPacket, "the value of parameter %q is not a quoted literal", p.name)
		}
		parsed[i] = chdb.Param{Name: p.name, Value: value}
	}
	return parsed, nil
}
