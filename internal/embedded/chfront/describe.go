package chfront

import (
	"github.com/assent-dev/assent/internal/embedded/chdb"
	"github.com/assent-dev/assent/internal/embedded/chfront/native"
)

// describeSelect asks the engine for the columns of a SELECT. It uses a session of its own, since the query may
// still hold the client's one; settings and temporary tables of that one are not seen.
func (c *session) describeSelect(text string, params []chdb.Param) (native.Header, error) {
	scratch, err := c.server.openSession(c.database, c.tag)
	if err != nil {
		return nil, err
	}
	defer scratch.Close()
	return describe(scratch, text, params)
}

// describe returns the columns of a SELECT, which is not run.
func describe(conn *chdb.Conn, text string, params []chdb.Param) (native.Header, error) {
	const settings = "\n) SETTINGS describe_include_subcolumns = 0, describe_compact_output = 1"
	result, err := conn.Query("DESCRIBE TABLE ("+text+settings, "RowBinary", params...)
	if err != nil {
		return nil, err
	}
	defer result.Release()
	return native.Describe(result.Data())
}

// describeByRunning returns the columns of a SHOW, EXPLAIN or the like, by running it once more in a format that
// tells them.
func (c *session) describeByRunning(text string, params []chdb.Param) (native.Header, error) {
	result, err := c.engine.Query(text, "RowBinaryWithNamesAndTypes", params...)
	if err != nil {
		return nil, err
	}
	defer result.Release()
	return native.NamesAndTypes(result.Data())
}
