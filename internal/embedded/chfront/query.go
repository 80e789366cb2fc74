package chfront

import (
	"context"
	"errors"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/native"
	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// tagSetting marks the queries of a session: the one setting that changes nothing and is seen in
// system.processes. (The engine takes no query ids from outside, and has no query cache.)
const tagSetting = "query_cache_tag"

// runWithSettings runs a query between setting its settings and taking them back.
func (c *session) runWithSettings(ctx context.Context, q *clientQuery) error {
	statement, err := sqltext.Lex(q.text)
	if err != nil {
		return asException(err)
	}
	params, err := parseParams(q.params)
	if err != nil {
		return err
	}
	class, err := c.check(statement)
	if err != nil {
		return err
	}
	restore, err := c.applySettings(q.settings)
	if err != nil {
		return err
	}
	stop := c.server.killWhenDone(ctx, c.tag)
	err = c.run(ctx, q, statement, class, params)
	stop()
	if restoreErr := restore(); err == nil {
		err = restoreErr
	}
	return err
}

// check refuses what is not one statement, and what the engine would do outside its access control.
func (c *session) check(s sqltext.Statement) (chdb.Class, error) {
	analysis, err := c.engine.Classify(s.Text())
	if err != nil {
		return 0, err
	}
	switch {
	case analysis.Statements == 0:
		return 0, c.explainSyntax(s)
	case analysis.Statements > 1:
		return 0, refuse(sqltext.CodeSyntax, "Syntax error: %d statements in one query; send one at a time", analysis.Statements)
	}
	return analysis.Class, asException(s.Guard(tagSetting))
}

// asException makes a refusal look like an exception of the engine.
func asException(err error) error {
	var refusal *sqltext.Refusal
	if errors.As(err, &refusal) {
		return refuse(refusal.Code, "%s", refusal.Message)
	}
	return err
}

// explainSyntax gets the parser's own message for a text that does not parse, without running any of it.
func (c *session) explainSyntax(s sqltext.Statement) error {
	if s.IsEmpty() {
		return refuse(sqltext.CodeSyntax, "Syntax error: the query is empty")
	}
	text := chdb.Param{Name: "q", Value: sqltext.EscapeParam(s.Text())}
	if _, err := c.server.adminText("SELECT formatQuery({q:String})", text); err != nil {
		return err
	}
	return refuse(sqltext.CodeSyntax, "Syntax error: the text is not one statement")
}

// run executes a checked statement and sends everything but the end of the answer.
func (c *session) run(ctx context.Context, q *clientQuery, s sqltext.Statement, class chdb.Class, params []chdb.Param) error {
	insert, form := s.Insert()
	switch form {
	case sqltext.InsertFromClient:
		if len(params) > 0 {
			return refuse(codeNotImplemented, "parameters in an INSERT of blocks are not supported by the embedded ClickHouse")
		}
		return c.insert(ctx, q, insert)
	case sqltext.InsertRefused:
		return refuse(codeNotImplemented, "this form of INSERT is not supported by the embedded ClickHouse: "+
			"send blocks, VALUES or a SELECT into a table")
	case sqltext.InsertInline:
		return c.materialize(q, s.Trimmed(), params, false)
	}
	text := s.WithoutFormat()
	if class == chdb.ReadOnly && s.Streams() {
		return c.stream(ctx, q, text, params)
	}
	if err := c.materialize(q, text, params, class == chdb.ReadOnly); err != nil {
		return err
	}
	if s.Verb() == "USE" {
		return c.learnDatabase()
	}
	return nil
}

func (c *session) learnDatabase() error {
	result, err := c.engine.Query("SELECT currentDatabase()", "RawBLOB")
	if err != nil {
		return err
	}
	defer result.Release()
	c.database = string(result.Data())
	return nil
}

// answer turns the engine's output into data packets: a header of no rows, then the blocks.
type answer struct {
	session *session
	query   *clientQuery
	started time.Time
	known   native.Header // types to show instead of the engine's, where they differ
	// describe finds the header where no block tells it, and the zones that DateTime columns have lost.
	describe func() (native.Header, error)

	headerSent          bool
	rows, blocks, bytes uint64
	buf                 []byte
}

// stream runs a SELECT and sends its blocks as they come.
func (c *session) stream(ctx context.Context, q *clientQuery, text string, params []chdb.Param) error {
	a := answer{session: c, query: q, started: time.Now(), describe: func() (native.Header, error) { return c.describeSelect(text, params) }}
	stream, err := c.engine.Stream(text, "Native", params...)
	if err != nil {
		return err
	}
	defer stream.Close()
	for {
		if ctx.Err() != nil {
			return refuse(codeCancelled, "Query was cancelled")
		}
		part, err := stream.Next()
		if err != nil {
			return err
		}
		if part == nil {
			break
		}
		err = a.send(part)
		part.Release()
		if err != nil {
			return err
		}
		if err := c.w.flush(); err != nil {
			return err
		}
	}
	return a.finish()
}

// materialize runs a statement whose output, if any, comes in one piece. A statement that reads is answered by
// a header even where it has no rows.
func (c *session) materialize(q *clientQuery, text string, params []chdb.Param, reads bool) error {
	a := answer{session: c, query: q, started: time.Now(), describe: func() (native.Header, error) {
		if !reads {
			return nil, nil
		}
		return c.describeByRunning(text, params)
	}}
	result, err := c.engine.Query(text, "Native", params...)
	if err != nil {
		return err
	}
	defer result.Release()
	if err := a.send(result); err != nil {
		return err
	}
	return a.finish()
}

// send forwards every block of a result.
func (a *answer) send(result *chdb.Result) error {
	for data := result.Data(); len(data) > 0; {
		block, rest, err := a.session.blocks.FromEngine(a.buf, data, a.known)
		if err != nil {
			return refuse(codeNotImplemented, "%v", err)
		}
		if a.known == nil && block.HasType("DateTime") {
			if a.known, err = a.describe(); err == nil && len(a.known) == len(block.Header) {
				continue // read the same block once more, with the zones in place
			}
			a.known = native.Header{} // the instants are right all the same
		}
		if !a.headerSent {
			if err := a.sendHeader(block.Header); err != nil {
				return err
			}
		}
		data, a.buf = rest, block.Bytes
		a.rows, a.blocks, a.bytes = a.rows+uint64(block.Rows), a.blocks+1, a.bytes+uint64(len(block.Bytes))
		if err := a.session.w.block(block.Bytes, a.query.compressed); err != nil {
			return err
		}
	}
	return a.progress(result.Stats())
}

func (a *answer) sendHeader(h native.Header) error {
	a.headerSent = true
	return a.session.w.block(native.AppendEmptyBlock(nil, h), a.query.compressed)
}

func (a *answer) progress(stats chdb.Stats) error {
	return a.session.w.progress(proto.Progress{
		Rows: stats.ReadRows, Bytes: stats.ReadBytes, WroteRows: stats.WrittenRows, WroteBytes: stats.WrittenBytes,
		ElapsedNs: uint64(time.Since(a.started)),
	})
}

// finish sends the header of an answer without rows, and the profile.
func (a *answer) finish() error {
	if !a.headerSent {
		head, err := a.describe()
		if err != nil {
			return err
		}
		if len(head) == 0 {
			return nil
		}
		if err := a.sendHeader(head); err != nil {
			return err
		}
	}
	profile := proto.Profile{Rows: a.rows, Blocks: a.blocks, Bytes: a.bytes}
	return a.session.w.packet(func(b *proto.Buffer) { profile.EncodeAware(b, revision) })
}
