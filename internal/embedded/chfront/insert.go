package chfront

import (
	"context"
	"fmt"
	"time"

	"github.com/ClickHouse/ch-go/proto"

	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/native"
	"github.com/assent-dev/assent/internal/embedded/chfront/sqltext"
)

// insert answers an INSERT whose rows the client sends: header, blocks up to an empty one, commit.
//
// The engine's insert is opened by the first block of rows, so that a client that prepares a batch for long
// holds nothing. After a failure the remaining blocks are still read, as the client expects.
func (c *session) insert(ctx context.Context, q *clientQuery, statement sqltext.Insert) error {
	head, err := c.describeInsert(statement)
	if err != nil {
		return err
	}
	if err := c.w.block(native.AppendEmptyBlock(nil, head), q.compressed); err != nil {
		return err
	}
	if err := c.w.flush(); err != nil {
		return err
	}
	started := time.Now()
	stats, err := c.takeRows(ctx, statement)
	if err != nil {
		return err
	}
	return c.w.progress(proto.Progress{
		WroteRows: stats.WrittenRows, WroteBytes: stats.WrittenBytes, ElapsedNs: uint64(time.Since(started)),
	})
}

// describeInsert returns the columns that the statement fills.
func (c *session) describeInsert(statement sqltext.Insert) (native.Header, error) {
	head, err := describe(c.engine, "SELECT "+statement.Columns+" FROM "+statement.Table, nil)
	if err == nil {
		return head, nil
	}
	// The engine's own insert knows the better code, such as 16 for a column that does not exist.
	insert, insertErr := c.engine.Insert(statement.SQL, "Native")
	if insertErr != nil {
		return nil, insertErr
	}
	insert.Close()
	return nil, err
}

// takeRows feeds the client's blocks to the engine and commits them.
func (c *session) takeRows(ctx context.Context, statement sqltext.Insert) (chdb.Stats, error) {
	var insert *chdb.Insert
	var failure error
	defer func() {
		if insert != nil {
			insert.Close()
		}
	}()
	for p := range c.packets {
		if p.code != proto.ClientCodeData {
			return chdb.Stats{}, fmt.Errorf("%w: packet %d in an insert", errProtocol, p.code)
		}
		switch {
		case len(p.block.Header) == 0: // the end
			if failure != nil || insert == nil {
				return chdb.Stats{}, failure
			}
			if ctx.Err() != nil {
				return chdb.Stats{}, refuse(codeCancelled, "Query was cancelled")
			}
			return insert.Done()
		case p.block.Rows == 0 || failure != nil:
			continue
		case insert == nil:
			if insert, failure = c.engine.Insert(statement.SQL, "Native"); failure != nil {
				continue
			}
		}
		if !insert.Append(p.block.Bytes) {
			if _, failure = insert.Done(); failure == nil {
				failure = refuse(codeCancelled, "the engine ended the insert early")
			}
		}
	}
	return chdb.Stats{}, c.readErr
}
