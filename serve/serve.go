// Package serve answers queries at one step across all tables.
//
// It reads what a manifest names (the batch layer's tables), the changes of
// every step since (from the speed layer) and the bronze rows that are not
// committed yet, and keeps all of it behind views in one DuckDB database in
// memory. A step is applied, and a manifest taken over, in one transaction; a
// query runs in one, so that it sees one step and can name it.
package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	ddb "github.com/duckdb/duckdb-go/v2"
)

// Config says what is served.
type Config struct {
	Program     *compile.Program
	Lake        *lake.Lake
	MemoryLimit int64  // bytes; 0: DuckDB's own
	TempDir     string // where DuckDB spills
	Readers     int    // queries at a time; 0: 4
	// Warm is how often tables that are asked for are copied into memory anew,
	// see warm.go; 0: 1 s, below 0: only when Warm is called.
	Warm time.Duration
}

// Server is the serving layer of one state. Its methods may be called at the
// same time.
type Server struct {
	cfg       Config
	connector *ddb.Connector
	readers   chan *duckdb.Session

	mu         sync.Mutex // the one writer
	writer     *duckdb.Session
	generation int // of the overlay's tables
	step       int64
	base       *lake.Manifest
	pending    *Bronze  // committed beyond the step served
	holds      []func() // of the snapshots behind the models' views
	bronzeHold []func() // of those behind the bronze views
	asOf       map[int64]*asOf
	frozen     *frozen
	warm       warm
}

type frozen struct {
	manifest int64
	why      string
}

// Bronze names snapshots of the bronze tables that hold all of a step, and
// maybe rows beyond it: End is where the step ends, by topic and topic partition.
type Bronze struct {
	Step   int64
	End    map[string]map[int32]int64
	Tables map[string]int64
}

// Open makes an empty server at step 0; see Reset and Apply.
func Open(ctx context.Context, c Config) (*Server, error) {
	if c.Readers == 0 {
		c.Readers = 4
	}
	o := duckdb.Options{TempDir: c.TempDir}
	if c.MemoryLimit > 0 {
		o.MemoryLimit = fmt.Sprintf("%dMiB", c.MemoryLimit>>20)
	}
	connector, err := o.Connector()
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: c, connector: connector, readers: make(chan *duckdb.Session, c.Readers), asOf: map[int64]*asOf{}}
	if err := s.open(ctx); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot open the serving layer: %w", err)
	}
	return s, nil
}

func (s *Server) open(ctx context.Context) (err error) {
	if s.writer, err = duckdb.NewSession(ctx, s.connector); err != nil {
		return err
	}
	for range s.cfg.Readers {
		r, err := duckdb.NewSession(ctx, s.connector)
		if err != nil {
			return err
		}
		s.readers <- r
	}
	setup := []string{
		"SET preserve_insertion_order = false",
		"SET parquet_metadata_cache = true",
		// Queries are other people's: they reach the lake's files and nothing else.
		fmt.Sprintf("SET allowed_directories = ['%s/']", strings.ReplaceAll(s.cfg.Lake.Dir(), "'", "''")),
		"SET enable_external_access = false",
		"CREATE SCHEMA overlay",
		"CREATE TABLE overlay.meta (step BIGINT, manifest BIGINT, generation BIGINT)",
		"INSERT INTO overlay.meta VALUES (0, 0, 0)",
	}
	for _, q := range setup {
		if err := s.writer.Exec(ctx, q); err != nil {
			return err
		}
	}
	if err := s.writer.CreateSeeds(ctx, s.cfg.Program.Project); err != nil {
		return err
	}
	if err := s.transaction(ctx, func() error { return s.takeOver(ctx, nil, 0, &Bronze{}) }); err != nil {
		return err
	}
	return s.startWarm(ctx)
}

// Close closes the database. Queries that still run fail.
func (s *Server) Close() error {
	errs := []error{s.stopWarm()}
	s.mu.Lock()
	defer s.mu.Unlock()
	for range cap(s.readers) {
		select {
		case r := <-s.readers:
			errs = append(errs, r.Close())
		case <-time.After(5 * time.Second):
		}
	}
	if s.writer != nil {
		errs = append(errs, s.writer.Close())
	}
	releaseAll(s.holds)
	releaseAll(s.bronzeHold)
	for _, a := range s.asOf {
		a.release()
	}
	return errors.Join(append(errs, s.connector.Close())...)
}

// transaction runs f on the writer, all or nothing.
func (s *Server) transaction(ctx context.Context, f func() error) error {
	if err := s.writer.Exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	if err := f(); err != nil {
		return errors.Join(err, s.writer.Exec(context.WithoutCancel(ctx), "ROLLBACK"))
	}
	return s.writer.Exec(ctx, "COMMIT")
}

// Step is the last step served.
func (s *Server) Step() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.step
}

// Base is the manifest under the changes; nil before the first batch.
func (s *Server) Base() *lake.Manifest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.base
}

// Reset serves a manifest as of its step, without changes; nil: nothing, as at
// the beginning.
func (s *Server) Reset(ctx context.Context, m *lake.Manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	step, bronze := int64(0), &Bronze{}
	if m != nil {
		step, bronze = m.Step, &Bronze{Step: m.Step, End: m.Offsets, Tables: m.Bronze}
	}
	return s.switchBase(ctx, m, step, bronze, false)
}

// Publish takes a manifest over: changes up to its step leave the overlay in
// the same atomic change.
func (s *Server) Publish(ctx context.Context, m lake.Manifest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.switchBase(ctx, &m, max(s.step, m.Step), nil, true)
}

func (s *Server) switchBase(ctx context.Context, m *lake.Manifest, step int64, bronze *Bronze, keep bool) error {
	generation, base := s.generation, s.base
	s.generation++
	s.base = m
	err := s.transaction(ctx, func() error {
		if err := s.moveOverlay(ctx, generation, keep); err != nil {
			return err
		}
		if err := s.dropCopies(ctx); err != nil {
			return err
		}
		return s.takeOver(ctx, m, step, bronze)
	})
	if err != nil {
		s.generation, s.base = generation, base
		return fmt.Errorf("cannot serve manifest %d: %w", idOf(m), err)
	}
	s.forgetCopies()
	s.step = step
	return nil
}

func idOf(m *lake.Manifest) int64 {
	if m == nil {
		return 0
	}
	return m.ID
}

// moveOverlay copies the changes above the new base into new tables and drops
// the old ones: DuckDB gives back the memory of a dropped table at once, that of
// deleted rows late.
func (s *Server) moveOverlay(ctx context.Context, from int, keep bool) error {
	after := int64(1<<63 - 1)
	if keep && s.base != nil {
		after = s.base.Step
	}
	for _, m := range s.incremental() {
		for _, name := range []func(string, int) string{rowsTable, scopesTable} {
			if err := s.copyAbove(ctx, name(m.Name, s.generation), name(m.Name, from), after); err != nil {
				return err
			}
		}
	}
	if keep {
		return nil // the bronze tail has its own base: see Committed
	}
	for _, src := range s.cfg.Program.Project.Sources {
		if err := s.writer.Exec(ctx, "TRUNCATE "+tailTable(src.Table())); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) copyAbove(ctx context.Context, to, from string, after int64) error {
	if err := s.writer.Exec(ctx, fmt.Sprintf("CREATE TABLE %s AS SELECT * FROM %s WHERE _step > %d", to, from, after)); err != nil {
		return err
	}
	return s.writer.Exec(ctx, "DROP TABLE "+from)
}

func (s *Server) incremental() []*compile.Model {
	var out []*compile.Model
	for _, m := range s.cfg.Program.Models {
		if m.Relation != nil {
			out = append(out, m)
		}
	}
	return out
}

// takeOver points every view at a manifest and the overlay.
func (s *Server) takeOver(ctx context.Context, m *lake.Manifest, step int64, bronze *Bronze) error {
	if s.generation == 0 {
		if err := s.createOverlay(ctx); err != nil {
			return err
		}
	}
	if bronze != nil {
		if err := s.bronzeViews(ctx, *bronze); err != nil {
			return err
		}
	}
	scans, err := s.scans(ctx, m)
	if err != nil {
		return err
	}
	after := int64(0)
	if m != nil {
		after = m.Step
	}
	for _, model := range s.cfg.Program.Models {
		text := "SELECT * FROM " + scans.sql[model.Name]
		switch {
		case model.Relation != nil:
			text = "SELECT * FROM " + servedSQL(model.Relation, scans.sql[model.Name], s.generation, after, newest)
		case model.Materialized == project.View:
			text = model.Select
		case scans.sql[model.Name] == "":
			text = "SELECT * FROM " + empty(model.Columns)
		}
		if err := createView(ctx, s.writer, "", model.Name, text); err != nil {
			return err
		}
	}
	releaseAll(s.holds)
	s.holds, s.warm.base = scans.holds, scans.sql
	return s.writer.Exec(ctx, fmt.Sprintf("UPDATE memory.overlay.meta SET step = %d, manifest = %d, generation = %d", step, idOf(m), s.generation))
}

func createView(ctx context.Context, d *duckdb.Session, catalog, name, text string) error {
	namespace, _, _ := strings.Cut(name, ".")
	if catalog != "" {
		catalog += "."
	}
	if err := d.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+catalog+namespace); err != nil {
		return err
	}
	return d.Exec(ctx, "CREATE OR REPLACE VIEW "+catalog+name+" AS "+text)
}

func (s *Server) createOverlay(ctx context.Context) error {
	step := project.Column{Name: "_step", Type: project.Type{Kind: project.Bigint}}
	create := func(table string, columns []project.Column) error {
		return s.writer.Exec(ctx, "CREATE TABLE "+table+" ("+compile.ColumnsSQL(append(append([]project.Column(nil), columns...), step))+")")
	}
	for _, m := range s.incremental() {
		if err := create(rowsTable(m.Name, 0), m.Columns); err != nil {
			return err
		}
		if err := create(scopesTable(m.Name, 0), m.Relation.Scope); err != nil {
			return err
		}
	}
	for _, src := range s.cfg.Program.Project.Sources {
		if err := create(tailTable(src.Table()), src.Columns()); err != nil {
			return err
		}
	}
	return nil
}

// scanned are the tables of a manifest as SQL, held until released.
type scanned struct {
	sql   map[string]string
	holds []func()
	rows  map[string]int64
	files map[string]int64
}

// scans plans the tables of a manifest that models of the program have.
func (s *Server) scans(ctx context.Context, m *lake.Manifest) (*scanned, error) {
	out := &scanned{sql: map[string]string{}, rows: map[string]int64{}, files: map[string]int64{}}
	if m == nil {
		return out, nil
	}
	for _, model := range s.cfg.Program.Models {
		id, ok := m.Tables[model.Name]
		if print := m.Fingerprints[model.Name]; !ok || (print != "" && print != model.Fingerprint) {
			continue // a batch model that changed has no rows until the next run
		}
		if err := out.add(ctx, s.cfg.Lake, model.Name, id, model.Columns); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (o *scanned) add(ctx context.Context, l *lake.Lake, table string, id int64, columns []project.Column) error {
	scan, err := l.Scan(ctx, table, id)
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", table, err)
	}
	if o.sql[table], err = scan.SQLAs(columns); err != nil {
		return fmt.Errorf("cannot read %s: %w", table, err)
	}
	o.rows[table], o.files[table] = scan.Rows, int64(len(scan.Files))
	o.holds = append(o.holds, scan.Hold())
	return nil
}

// Apply takes the changes of one step and its bronze rows.
func (s *Server) Apply(ctx context.Context, step int64, changes []duckdb.Changes, bronze engine.Tables) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if step <= s.step {
		return fmt.Errorf("cannot serve step %d: step %d is served already", step, s.step)
	}
	err := s.transaction(ctx, func() error {
		for _, c := range changes {
			if err := s.insert(ctx, scopesTable(c.Model, s.generation), step, c.Scopes); err != nil {
				return err
			}
			if err := s.insert(ctx, rowsTable(c.Model, s.generation), step, c.Rows); err != nil {
				return err
			}
		}
		for table, batches := range bronze {
			if err := s.insert(ctx, tailTable(table), step, batches...); err != nil {
				return err
			}
		}
		return s.writer.Exec(ctx, fmt.Sprintf("UPDATE memory.overlay.meta SET step = %d", step))
	})
	if err != nil {
		return fmt.Errorf("cannot serve step %d: %w", step, err)
	}
	s.step = step
	for _, c := range changes {
		s.warm.changed[c.Model] += c.Scopes.NumRows()
	}
	if s.pending != nil && s.pending.Step <= step {
		b := *s.pending
		s.pending = nil
		return s.committed(ctx, b)
	}
	return nil
}

func (s *Server) insert(ctx context.Context, table string, step int64, batches ...arrow.RecordBatch) error {
	if len(batches) == 0 || (len(batches) == 1 && batches[0].NumRows() == 0) {
		return nil
	}
	reader, err := array.NewRecordReader(batches[0].Schema(), batches)
	if err != nil {
		return err
	}
	defer reader.Release()
	return s.writer.InsertSelect(ctx, table, fmt.Sprintf("*, CAST(%d AS BIGINT)", step), reader)
}

// Committed says that bronze snapshots hold all of a step: its rows leave
// memory. It may be ahead of the step served; then it waits.
func (s *Server) Committed(ctx context.Context, b Bronze) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Step > s.step {
		s.pending = &b
		return nil
	}
	return s.committed(ctx, b)
}

func (s *Server) committed(ctx context.Context, b Bronze) error {
	err := s.transaction(ctx, func() error {
		for _, src := range s.cfg.Program.Project.Sources {
			table := tailTable(src.Table())
			if err := s.writer.Exec(ctx, fmt.Sprintf("CREATE TABLE %s_next AS SELECT * FROM %s WHERE _step > %d", table, table, b.Step)); err != nil {
				return err
			}
			if err := s.writer.Exec(ctx, "DROP TABLE "+table); err != nil {
				return err
			}
			name := table[strings.LastIndex(table, ".")+1:]
			if err := s.writer.Exec(ctx, fmt.Sprintf("ALTER TABLE %s_next RENAME TO %s", table, name)); err != nil {
				return err
			}
		}
		return s.bronzeViews(ctx, b)
	})
	if err != nil {
		return fmt.Errorf("cannot serve bronze at step %d: %w", b.Step, err)
	}
	return nil
}

func (s *Server) bronzeViews(ctx context.Context, b Bronze) error {
	scans := &scanned{sql: map[string]string{}, rows: map[string]int64{}, files: map[string]int64{}}
	for _, src := range s.cfg.Program.Project.Sources {
		base := empty(src.Columns())
		if id := b.Tables[src.Table()]; id != 0 {
			if err := scans.add(ctx, s.cfg.Lake, src.Table(), id, src.Columns()); err != nil {
				return err
			}
			base = scans.sql[src.Table()]
		}
		columns := names(src.Columns(), "")
		text := fmt.Sprintf("SELECT %s FROM %s WHERE %s UNION ALL SELECT %s FROM %s WHERE _step > %d", columns, base, duckdb.Below(b.End[src.Topic]), columns, tailTable(src.Table()), b.Step)
		if err := createView(ctx, s.writer, "", src.Table(), text); err != nil {
			return err
		}
	}
	releaseAll(s.bronzeHold) // or no snapshot of bronze would ever expire
	s.bronzeHold = scans.holds
	return nil
}

// Restored ends the filling of a server whose kept changes were applied: it
// stands at a step, bronze is committed up to one, and tail holds the bronze
// rows between the two.
func (s *Server) Restored(ctx context.Context, step int64, tail engine.Tables, b Bronze) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if b.Step > step {
		s.pending = &b
	}
	err := s.transaction(ctx, func() error {
		if b.Step <= step {
			if err := s.bronzeViews(ctx, b); err != nil {
				return err
			}
		}
		for table, batches := range tail {
			if err := s.insert(ctx, tailTable(table), step, batches...); err != nil {
				return err
			}
		}
		return s.writer.Exec(ctx, fmt.Sprintf("UPDATE memory.overlay.meta SET step = %d", step))
	})
	if err != nil {
		return fmt.Errorf("cannot serve step %d: %w", step, err)
	}
	s.step = step
	return nil
}
