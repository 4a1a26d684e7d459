package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"lockstep/compile"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/duckdb/duckdb-go/v2"
)

// Session is one connection to a DuckDB database with the prelude loaded, and
// the way in and out of it as Arrow. It is for one goroutine.
type Session struct {
	conn  driver.Conn
	arrow *duckdb.Arrow
	own   *duckdb.Connector // closed with the session; nil: the database is shared
	view  string            // name under which rows come in
	// private is the database that this session attached for itself; empty: the
	// instance's own.
	private string
}

// Options limit a database. Zero values leave DuckDB's own.
type Options struct {
	MemoryLimit string // "1GB"
	Threads     int
	TempDir     string // where it spills
}

// dsn writes options as DuckDB's connection string.
func (o Options) dsn() string {
	var parts []string
	if o.MemoryLimit != "" {
		parts = append(parts, "memory_limit="+o.MemoryLimit)
	}
	if o.Threads > 0 {
		parts = append(parts, fmt.Sprintf("threads=%d", o.Threads))
	}
	if o.TempDir != "" {
		parts = append(parts, "temp_directory="+o.TempDir)
	}
	if len(parts) == 0 {
		return ""
	}
	return "?" + strings.Join(parts, "&")
}

// Connector opens a database in memory for several sessions.
func (o Options) Connector() (*duckdb.Connector, error) {
	connector, err := duckdb.NewConnector(o.dsn(), nil)
	if err != nil {
		return nil, fmt.Errorf("cannot open DuckDB: %w", err)
	}
	return connector, nil
}

// OpenMemory opens a private database in memory.
func OpenMemory(ctx context.Context, o Options) (*Session, error) {
	connector, err := o.Connector()
	if err != nil {
		return nil, err
	}
	s, err := NewSession(ctx, connector)
	if err != nil {
		connector.Close()
		return nil, err
	}
	s.own = connector
	return s, nil
}

// NewSession opens a further connection to a database.
func NewSession(ctx context.Context, connector *duckdb.Connector) (*Session, error) {
	conn, err := connector.Connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to DuckDB: %w", err)
	}
	s := &Session{conn: conn, view: fmt.Sprintf("rows_of_session_%d", sessions.Add(1))}
	if s.arrow, err = duckdb.NewArrowFromConn(conn); err != nil {
		conn.Close()
		return nil, fmt.Errorf("cannot connect to DuckDB: %w", err)
	}
	for _, q := range compile.Prelude {
		if err := s.Exec(ctx, q); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close closes the connection, and a private database with it.
func (s *Session) Close() error {
	err := errors.Join(s.detach(), s.conn.Close())
	if s.own != nil {
		err = errors.Join(err, s.own.Close())
	}
	return err
}

// Exec runs statements without a result.
func (s *Session) Exec(ctx context.Context, query string, args ...any) error {
	named := make([]driver.NamedValue, len(args))
	for i, a := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: a}
	}
	if _, err := s.conn.(driver.ExecerContext).ExecContext(ctx, query, named); err != nil {
		return fmt.Errorf("cannot run %q: %w", shorten(query), err)
	}
	return nil
}

// Query gives the result as a stream of record batches; release it.
func (s *Session) Query(ctx context.Context, query string, args ...any) (array.RecordReader, error) {
	r, err := s.arrow.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("cannot run %q: %w", shorten(query), err)
	}
	return r, nil
}

// CheckReadOnly refuses what is not one statement that reads.
func (s *Session) CheckReadOnly(query string) error {
	stmt, err := s.conn.Prepare(query)
	if err != nil {
		return err
	}
	defer stmt.Close()
	switch kind, err := stmt.(*duckdb.Stmt).StatementType(); {
	case err != nil:
		return err
	case kind == duckdb.STATEMENT_TYPE_SELECT, kind == duckdb.STATEMENT_TYPE_EXPLAIN:
		return nil
	}
	return errors.New("only statements that read are allowed: SELECT, DESCRIBE, SHOW, EXPLAIN")
}

// Each runs a query and hands over its record batches; they are valid during
// the call only.
func (s *Session) Each(ctx context.Context, query string, f func(arrow.RecordBatch) error) error {
	r, err := s.Query(ctx, query)
	if err != nil {
		return err
	}
	defer r.Release()
	for r.Next() {
		if err := f(r.RecordBatch()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("cannot read the result of %q: %w", shorten(query), err)
	}
	return nil
}

// All runs a query and keeps its record batches.
func (s *Session) All(ctx context.Context, query string) ([]arrow.RecordBatch, error) {
	var out []arrow.RecordBatch
	err := s.Each(ctx, query, func(rec arrow.RecordBatch) error {
		rec.Retain()
		out = append(out, rec)
		return nil
	})
	return out, err
}

// Int runs a query that gives one whole number.
func (s *Session) Int(ctx context.Context, query string) (int64, error) {
	var n int64
	err := s.Each(ctx, "SELECT CAST(("+query+") AS BIGINT)", func(rec arrow.RecordBatch) error {
		n = rec.Column(0).(*array.Int64).Value(0)
		return nil
	})
	return n, err
}

var sessions atomic.Int64

// Insert adds record batches to a table. Their columns must be the table's, in
// its order.
func (s *Session) Insert(ctx context.Context, table string, schema *arrow.Schema, batches ...arrow.RecordBatch) error {
	if len(batches) == 0 {
		return nil
	}
	reader, err := array.NewRecordReader(schema, batches)
	if err != nil {
		return fmt.Errorf("cannot insert into %s: %w", table, err)
	}
	defer reader.Release()
	return s.InsertReader(ctx, table, reader)
}

// InsertReader is Insert for a stream.
func (s *Session) InsertReader(ctx context.Context, table string, reader array.RecordReader) error {
	return s.InsertSelect(ctx, table, "*", reader)
}

// InsertSelect inserts expressions over the columns of a stream.
func (s *Session) InsertSelect(ctx context.Context, table, exprs string, reader array.RecordReader) error {
	// Registering replaces the view of the last insert: one statement less
	// than dropping it, and nobody else looks at it.
	release, err := s.arrow.RegisterView(reader, s.view)
	if err != nil {
		return fmt.Errorf("cannot insert into %s: %w", table, err)
	}
	defer release()
	err = s.Exec(ctx, "INSERT INTO "+table+" SELECT "+exprs+" FROM "+s.view)
	if err == nil {
		err = reader.Err()
	}
	if err != nil {
		return fmt.Errorf("cannot insert into %s: %w", table, err)
	}
	return nil
}

// CreateTable makes an empty table, and its namespace when that is new.
func (s *Session) CreateTable(ctx context.Context, name string, columns []project.Column) error {
	namespace, _, _ := strings.Cut(name, ".")
	if err := s.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+namespace); err != nil {
		return err
	}
	return s.Exec(ctx, "CREATE OR REPLACE TABLE "+name+" ("+compile.ColumnsSQL(columns)+")")
}

// CreateSeeds makes the seeds' tables.
func (s *Session) CreateSeeds(ctx context.Context, p *project.Project) error {
	for _, seed := range p.Seeds {
		if err := s.CreateTable(ctx, seed.Name, seed.Columns); err != nil {
			return err
		}
		for _, row := range seed.Rows {
			args := make([]any, len(row))
			for i, v := range row {
				args[i] = v
			}
			marks := strings.TrimSuffix(strings.Repeat("?,", len(row)), ",")
			if err := s.Exec(ctx, "INSERT INTO "+seed.Name+" VALUES ("+marks+")", args...); err != nil {
				return err
			}
		}
	}
	return nil
}

func shorten(query string) string {
	query = strings.Join(strings.Fields(query), " ")
	if len(query) > 160 {
		return query[:157] + "..."
	}
	return query
}
