package replay

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"lockstep/project"
)

// maxGrowth bounds how far preparing may go beyond its memory limit.
const maxGrowth = 4

const (
	keyColumn = "_key" // text of the key, in a spool
	// A row group of a spool is what a reader skips over and holds in memory.
	spoolRowGroup = 32 << 10
)

func sortedByTopic(sources []*project.Source) []*project.Source {
	return slices.SortedFunc(slices.Values(sources), func(a, b *project.Source) int { return cmp.Compare(a.Topic, b.Topic) })
}

// prepare makes the spools of all topics in dir: raw tables, the project's
// shared scripts, then each topic's query, sorted into a Parquet file. DuckDB
// keeps to the memory limit and spills into dir.
func prepare(ctx context.Context, c Config, dir string) error {
	p, err := newPreparer(ctx, c, dir)
	if err != nil {
		return err
	}
	defer p.close()
	if c.Data != "" {
		err = p.load(ctx)
	} else {
		err = p.generate(ctx)
	}
	if err != nil {
		return err
	}
	if err := p.scripts(ctx); err != nil {
		return err
	}
	for _, s := range c.sources() {
		c.Progress(Progress{Phase: Preparing, Detail: s.Topic})
		if err := p.spool(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

type preparer struct {
	Config
	dir  string
	db   *sql.DB
	conn *sql.Conn
}

func newPreparer(ctx context.Context, c Config, dir string) (*preparer, error) {
	p := &preparer{Config: c, dir: dir}
	connector, err := duckdb.NewConnector("", nil) // in memory, which spills as well
	if err != nil {
		return nil, fmt.Errorf("cannot open a database to prepare events in %s: %w", dir, err)
	}
	p.db = sql.OpenDB(connector)
	if p.conn, err = p.db.Conn(ctx); err != nil {
		p.db.Close()
		return nil, fmt.Errorf("cannot open a database to prepare events in %s: %w", dir, err)
	}
	settings := fmt.Sprintf(`SET memory_limit = '%dMiB'; SET threads = %d; SET temp_directory = %s;
		SET preserve_insertion_order = false; SET TimeZone = 'UTC'; CREATE SCHEMA raw`,
		max(c.MemoryLimit>>20, 64), c.Threads, literal(filepath.Join(dir, "spill")))
	if _, err := p.conn.ExecContext(ctx, settings); err != nil {
		p.close()
		return nil, fmt.Errorf("cannot set up a database to prepare events: %w", err)
	}
	return p, nil
}

// close gives back memory and disk: only the spools stay.
func (p *preparer) close() {
	err := errors.Join(p.conn.Close(), p.db.Close(), os.RemoveAll(filepath.Join(p.dir, "spill")))
	if err != nil {
		p.Log.Warn("cannot clean up after preparing events", "dir", p.dir, "err", err)
	}
}

// exec runs a script as one transaction. Most operators of DuckDB spill, but
// some need a working set that grows slowly with the data: a script that runs
// out of memory is run again with twice as much, up to maxGrowth times the
// limit.
func (p *preparer) exec(ctx context.Context, script, what string) error {
	for growth := int64(2); ; growth *= 2 {
		err := p.transact(ctx, script)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !outOfMemory(err) {
			return fmt.Errorf("cannot %s: %w", what, err)
		}
		if growth > maxGrowth {
			return fmt.Errorf("cannot %s within %d MB: %w; give replay more memory, or less data", what, p.MemoryLimit*growth/2>>20, err)
		}
		limit := p.MemoryLimit * growth >> 20
		p.Log.Info("preparing events needs more memory", "step", what, "limit_mb", limit)
		if _, err := p.conn.ExecContext(ctx, fmt.Sprintf("SET memory_limit = '%dMiB'", limit)); err != nil {
			return fmt.Errorf("cannot %s: %w", what, err)
		}
	}
}

func (p *preparer) transact(ctx context.Context, script string) error {
	tx, err := p.conn.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, script); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func outOfMemory(err error) bool {
	var d *duckdb.Error
	return errors.As(err, &d) && d.Type == duckdb.ErrorTypeOutOfMemory
}

// load reads the raw files, each once: what is checked is what is loaded.
func (p *preparer) load(ctx context.Context) error {
	return eachRaw(p.Data, p.Project.RawFiles, func(r *rawReader) error {
		p.Progress(Progress{Phase: Checking, Detail: r.raw.File})
		if r.done {
			return nil
		}
		return p.conn.Raw(func(dc any) error {
			a, err := duckdb.NewArrowFromConn(dc.(driver.Conn))
			if err != nil {
				return fmt.Errorf("cannot load %s: %w", r.raw.File, err)
			}
			release, err := a.RegisterView(r, "_file")
			if err != nil {
				return fmt.Errorf("cannot load %s: %w", r.raw.File, err)
			}
			defer release()
			load := fmt.Sprintf("CREATE TABLE raw.%s AS SELECT * FROM _file", quoted(r.raw.Name))
			_, err = dc.(driver.ExecerContext).ExecContext(ctx, load, nil)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				return fmt.Errorf("cannot load %s: %w", r.raw.File, err)
			}
			return nil
		})
	})
}

// scripts runs sources/_*.sql in order of name: what queries share.
func (p *preparer) scripts(ctx context.Context) error {
	files, err := fs.Glob(p.Project.FS, "sources/_*.sql")
	if err != nil {
		return fmt.Errorf("cannot list sources/_*.sql: %w", err)
	}
	for _, f := range files {
		p.Progress(Progress{Phase: Preparing, Detail: path.Base(f)})
		script, err := fs.ReadFile(p.Project.FS, f)
		if err != nil {
			return fmt.Errorf("cannot read %s: %w", f, err)
		}
		if err := p.exec(ctx, string(script), "run "+f); err != nil {
			return err
		}
	}
	return nil
}

// spool sorts a topic's events into its file. Rows that tie in time, key and
// line are ordered by a hash of all fields: the order never depends on how
// DuckDB happened to run.
func (p *preparer) spool(ctx context.Context, s *project.Source) error {
	query, err := fs.ReadFile(p.Project.FS, s.Query)
	if err != nil {
		return fmt.Errorf("cannot read the query of topic %s: %w", s.Topic, err)
	}
	names := make([]string, len(s.Fields))
	casts := make([]string, len(s.Fields))
	for i, f := range s.Fields {
		names[i] = quoted(f.Name)
		casts[i] = fmt.Sprintf("CAST(%s AS %s) AS %s", names[i], f.Type.DuckDB(), names[i])
	}
	sorted := fmt.Sprintf(`SET preserve_insertion_order = true; COPY (
		WITH events AS (SELECT %s, CAST(%s AS VARCHAR) AS %s, CAST(%s AS BIGINT) AS %s FROM (%s
		))
		SELECT %s, %s FROM events
		ORDER BY %s NULLS FIRST, %s NULLS FIRST, %s NULLS FIRST, hash(%s)
		) TO %s (FORMAT parquet, COMPRESSION snappy, ROW_GROUP_SIZE %d); SET preserve_insertion_order = false`,
		strings.Join(casts, ", "), quoted(s.Key), keyColumn, sourceLine, sourceLine, trimSQL(query),
		strings.Join(names, ", "), keyColumn,
		quoted(s.EventTime), keyColumn, sourceLine, strings.Join(names, ", "),
		literal(spoolFile(p.dir, s)), spoolRowGroup)
	if err := p.exec(ctx, sorted, fmt.Sprintf("make the events of topic %s with %s", s.Topic, s.Query)); err != nil {
		return err
	}
	return p.checkRequired(ctx, s)
}

// checkRequired refuses events without a key, or without a value that the
// schema demands, before anything is sent.
func (p *preparer) checkRequired(ctx context.Context, s *project.Source) error {
	e, err := newEncoder(s)
	if err != nil {
		return err
	}
	for _, field := range append(e.required(), s.Key) {
		var missing int64
		count := fmt.Sprintf("SELECT count(*) - count(%s) FROM read_parquet(%s)", quoted(field), literal(spoolFile(p.dir, s)))
		if err := p.conn.QueryRowContext(ctx, count).Scan(&missing); err != nil {
			return fmt.Errorf("cannot read the events of topic %s: %w", s.Topic, err)
		}
		if missing > 0 {
			return fmt.Errorf("cannot replay topic %s: %d of its events have no %s, which each needs; correct the input or leave them out in %s", s.Topic, missing, field, s.Query)
		}
	}
	return nil
}

// trimSQL drops the semicolon at the end, so that the query can stand in
// another one.
func trimSQL(query []byte) string { return strings.TrimRight(strings.TrimSpace(string(query)), ";") }

func quoted(name string) string                      { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
func literal(text string) string                     { return `'` + strings.ReplaceAll(text, `'`, `''`) + `'` }
func spoolFile(dir string, s *project.Source) string { return filepath.Join(dir, s.Topic+".parquet") }
