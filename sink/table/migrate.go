package table

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
)

//go:embed ddl/*.sql
var ddl embed.FS

const migrationsTable = `CREATE TABLE IF NOT EXISTS schema_migrations
(
    version Int32,
    name String,
    applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
)
ENGINE = MergeTree
ORDER BY version
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1`

// migration is one file of ddl.
type migration struct {
	version    int
	name       string
	statements []string
}

// NewerSchemaError says that a newer Assent has migrated the database.
type NewerSchemaError struct{ Found, Known int }

func (e *NewerSchemaError) Error() string {
	return fmt.Sprintf("the history's tables have version %d, this program knows up to %d: run the newer version of assent", e.Found, e.Known)
}

func migrations() ([]migration, error) {
	names, err := fs.Glob(ddl, "ddl/*.sql") // sorted
	if err != nil {
		return nil, err
	}
	var all []migration
	for _, name := range names {
		text, err := ddl.ReadFile(name)
		if err != nil {
			return nil, err
		}
		base := strings.TrimSuffix(path.Base(name), ".sql")
		number, _, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != len(all)+1 {
			return nil, fmt.Errorf("migration %s is not number %d", name, len(all)+1)
		}
		all = append(all, migration{version, base, statements(string(text))})
	}
	return all, nil
}

// statements splits a file at semicolons that end a line, and drops comments.
func statements(text string) []string {
	var all []string
	var b strings.Builder
	for line := range strings.Lines(text) {
		trimmed := strings.TrimSpace(line)
		if trimmed == "" || strings.HasPrefix(trimmed, "--") {
			continue
		}
		if body, ends := strings.CutSuffix(trimmed, ";"); ends {
			b.WriteString(body)
			all = append(all, b.String())
			b.Reset()
			continue
		}
		b.WriteString(strings.TrimRight(line, "\n"))
		b.WriteByte('\n')
	}
	return all
}

// Version is the number of the newest migration that this program knows.
func Version() int {
	all, err := migrations()
	if err != nil {
		panic(err) // embedded files; a test reads them
	}
	return len(all)
}

// Applied gives the version of the database's tables, 0 when there are none.
func (d *DB) Applied(ctx context.Context) (int, error) {
	var exists uint8
	if err := d.conn.QueryRow(ctx, "EXISTS TABLE schema_migrations").Scan(&exists); err != nil {
		return 0, Explain(err)
	}
	if exists == 0 {
		return 0, nil
	}
	var version int32
	if err := d.conn.QueryRow(ctx, "SELECT max(version) FROM schema_migrations").Scan(&version); err != nil {
		return 0, Explain(err)
	}
	return int(version), nil
}

// Migrate brings the tables to this program's version and gives the names of
// what it applied; with dryRun, of what it would. Each statement can be repeated,
// so a migration that broke off goes on at the next call.
func (d *DB) Migrate(ctx context.Context, dryRun bool) ([]string, error) {
	all, err := migrations()
	if err != nil {
		return nil, err
	}
	applied, err := d.Applied(ctx)
	if err != nil {
		return nil, err
	}
	if applied > len(all) {
		return nil, &NewerSchemaError{Found: applied, Known: len(all)}
	}
	var names []string
	for _, m := range all[applied:] {
		names = append(names, m.name)
		if dryRun {
			continue
		}
		if err := d.apply(ctx, m); err != nil {
			return names, fmt.Errorf("migration %s: %w", m.name, err)
		}
	}
	return names, nil
}

func (d *DB) apply(ctx context.Context, m migration) error {
	if err := d.conn.Exec(ctx, migrationsTable); err != nil {
		return Explain(err)
	}
	for _, s := range m.statements {
		if err := d.conn.Exec(ctx, s); err != nil {
			return Explain(err)
		}
	}
	return Explain(d.conn.Exec(ctx, "INSERT INTO schema_migrations (version, name) VALUES (?, ?)", int32(m.version), m.name))
}
