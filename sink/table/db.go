package table

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
)

const (
	dialTimeout  = 5 * time.Second
	readTimeout  = 60 * time.Second
	maxOpenConns = 16
)

// DB is a pool of connections to one database. For concurrent use.
type DB struct {
	conn     driver.Conn
	database string
}

// Open reads a DSN, clickhouse://user:password@host:9000/database. It does no
// I/O: the first query connects. An error never shows the password.
func Open(dsn string) (*DB, error) {
	options, err := clickhouse.ParseDSN(dsn)
	if err != nil || options.Auth.Database == "" || !strings.HasPrefix(dsn, "clickhouse://") { // the driver takes any scheme
		return nil, errors.New("ClickHouse: want a DSN such as clickhouse://user:password@host:9000/database")
	}
	options.DialTimeout = dialTimeout
	options.ReadTimeout = readTimeout
	options.MaxOpenConns = maxOpenConns
	options.MaxIdleConns = maxOpenConns
	options.ConnMaxLifetime = time.Hour
	options.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	if onLoopback(options.Addr) {
		options.Compression.Method = clickhouse.CompressionNone // costs more than the wire
	}
	conn, err := clickhouse.Open(options)
	if err != nil {
		return nil, fmt.Errorf("ClickHouse: %w", err)
	}
	return &DB{conn: conn, database: options.Auth.Database}, nil
}

func onLoopback(addrs []string) bool {
	for _, a := range addrs {
		host, _, err := net.SplitHostPort(a)
		if err != nil {
			return false
		}
		if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
			return false
		}
	}
	return true
}

// Close closes the pool.
func (d *DB) Close() error { return d.conn.Close() }

// Ping asks whether ClickHouse answers.
func (d *DB) Ping(ctx context.Context) error { return Explain(d.conn.Ping(ctx)) }

// Skew is how far ClickHouse's clock is ahead of ours.
func (d *DB) Skew(ctx context.Context) (time.Duration, error) {
	before := time.Now()
	var theirs time.Time
	if err := d.conn.QueryRow(ctx, "SELECT now64(3)").Scan(&theirs); err != nil {
		return 0, Explain(err)
	}
	ours := before.Add(time.Since(before) / 2)
	return theirs.Sub(ours), nil
}

// Codes of ClickHouse's exceptions that say what to do.
const (
	codeUnknownTable       = 60
	codeUnknownDatabase    = 81
	codeAuthentication     = 516
	codeUnknownUser        = 192
	codeNotEnoughPrivilege = 497
	codeViolatedConstraint = 469
	codeNoSuchColumn       = 16
	codeUnknownIdentifier  = 47
)

// Explain adds to an error what an operator can do about it.
func Explain(err error) error {
	var e *clickhouse.Exception
	if !errors.As(err, &e) {
		if err != nil {
			return fmt.Errorf("ClickHouse: %w", err)
		}
		return nil
	}
	hint := ""
	switch e.Code {
	case codeUnknownTable, codeNoSuchColumn, codeUnknownIdentifier:
		hint = "; run `assent migrate`"
	case codeUnknownDatabase:
		hint = "; create the database, then run `assent migrate`"
	case codeAuthentication, codeUnknownUser:
		hint = "; check user and password in ASSENT_CLICKHOUSE_DSN"
	case codeNotEnoughPrivilege:
		hint = "; the user needs INSERT and SELECT (and CREATE for `assent migrate`)"
	}
	return fmt.Errorf("ClickHouse: %w%s", err, hint)
}

// ErrTooLate says that an INSERT was refused because its deadline had passed:
// none of its rows is there by it.
var ErrTooLate = errors.New("the deadline of the block has passed")

// insertError tells a refusal by the deadline from everything else, whose
// outcome is unknown.
func insertError(err error) error {
	var e *clickhouse.Exception
	if errors.As(err, &e) && e.Code == codeViolatedConstraint {
		return fmt.Errorf("%w: %w", ErrTooLate, err)
	}
	return Explain(err)
}
