package serve

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Layers of a query.
const (
	Serving = "serving"
	Batch   = "batch"
)

// Rows is the answer of a query: a stream of record batches, and the one step
// that it saw. Release it.
type Rows struct {
	array.RecordReader
	Step     int64
	Manifest int64
	Frozen   string // why the step does not move; empty: it does
	done     func()
}

// Release ends the query.
func (r *Rows) Release() {
	r.RecordReader.Release()
	if r.done != nil {
		r.done()
		r.done = nil
	}
}

// asOf is a manifest's tables in a catalog of their own.
type asOf struct {
	manifest lake.Manifest
	catalog  string
	holds    []func()
	used     time.Time
}

func (a *asOf) release() {
	for _, h := range a.holds {
		h()
	}
}

// ErrQuery says that the statement itself is at fault.
var ErrQuery = errors.New("cannot run the query")

// Query runs one statement that reads. layer is Serving or Batch; at names a
// manifest or a time, empty for now.
func (s *Server) Query(ctx context.Context, sql, layer, at string) (*Rows, error) {
	id, why, err := s.manifestFor(ctx, layer, at)
	if err != nil {
		return nil, err
	}
	catalog := "memory"
	var pinned *asOf
	if id > 0 {
		if pinned, err = s.attach(ctx, id); err != nil {
			return nil, err
		}
		catalog = pinned.catalog
	} else {
		s.note(sql, time.Now())
	}
	var session *duckdb.Session
	select {
	case session = <-s.readers:
	case <-ctx.Done():
		return nil, fmt.Errorf("cannot run the query: all readers are busy: %w", ctx.Err())
	}
	rows, err := s.run(ctx, session, catalog, strings.TrimRight(strings.TrimSpace(sql), ";"))
	if err != nil {
		s.giveBack(session)
		return nil, err
	}
	if pinned != nil {
		rows.Step, rows.Manifest, rows.Frozen = pinned.manifest.Step, pinned.manifest.ID, why
	}
	rows.done = func() { s.giveBack(session) }
	return rows, nil
}

func (s *Server) giveBack(session *duckdb.Session) {
	_ = session.Exec(context.Background(), "ROLLBACK") // fails where nothing was begun
	s.readers <- session
}

func (s *Server) run(ctx context.Context, session *duckdb.Session, catalog, sql string) (*Rows, error) {
	if err := session.Exec(ctx, "USE "+catalog); err != nil {
		return nil, err
	}
	if err := session.Exec(ctx, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return nil, err
	}
	rows := &Rows{}
	err := session.Each(ctx, "SELECT step, manifest FROM memory.overlay.meta", func(rec arrow.RecordBatch) error {
		rows.Step, rows.Manifest = rec.Column(0).(*array.Int64).Value(0), rec.Column(1).(*array.Int64).Value(0)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := session.CheckReadOnly(sql); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	if rows.RecordReader, err = session.Query(ctx, sql); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	return rows, nil
}

// manifestFor resolves layer and time; 0: what is served now, live.
func (s *Server) manifestFor(ctx context.Context, layer, at string) (id int64, frozen string, err error) {
	if layer != "" && layer != Serving && layer != Batch {
		return 0, "", fmt.Errorf("%w: there is no layer %q: use %s or %s", ErrQuery, layer, Serving, Batch)
	}
	if at != "" {
		id, err = s.manifestAt(ctx, at)
		return id, "as of manifest " + strconv.FormatInt(id, 10), err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		return s.frozen.manifest, s.frozen.why, nil
	}
	if layer != Batch {
		return 0, "", nil
	}
	if s.base == nil {
		return 0, "", fmt.Errorf("%w: the batch layer has not published yet: wait for its first run, or start one with `lockstep batch`", ErrQuery)
	}
	return s.base.ID, "", nil
}

var asOfLayouts = []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02"}

func (s *Server) manifestAt(ctx context.Context, at string) (int64, error) {
	all, err := s.cfg.Lake.Manifests(ctx)
	if err != nil {
		return 0, err
	}
	m, err := ManifestAt(all, at)
	return m.ID, err
}

// ManifestAt finds the manifest with a number, or the newest at a time, among
// all, oldest first.
func ManifestAt(all []lake.Manifest, at string) (lake.Manifest, error) {
	if id, err := strconv.ParseInt(at, 10, 64); err == nil {
		for _, m := range all {
			if m.ID == id {
				return m, nil
			}
		}
		return lake.Manifest{}, fmt.Errorf("%w: there is no manifest %d: `lockstep history` lists them", ErrQuery, id)
	}
	for _, layout := range asOfLayouts {
		t, err := time.Parse(layout, at)
		if err != nil {
			continue
		}
		for i := len(all) - 1; i >= 0; i-- {
			if !all[i].Published.After(t) {
				return all[i], nil
			}
		}
		return lake.Manifest{}, fmt.Errorf("%w: nothing was published at %s: `lockstep history` lists what was", ErrQuery, at)
	}
	return lake.Manifest{}, fmt.Errorf("%w: %q is neither the number of a manifest nor a time (YYYY-MM-DD HH:MM:SS, UTC)", ErrQuery, at)
}

const keepAttached = 8

// attach gives the catalog with a manifest's tables, made when it is not there.
func (s *Server) attach(ctx context.Context, id int64) (*asOf, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.asOf[id]; a != nil {
		a.used = time.Now()
		return a, nil
	}
	m, err := s.cfg.Lake.Manifest(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrQuery, err)
	}
	a := &asOf{manifest: m, catalog: fmt.Sprintf("manifest_%d", id), used: time.Now()}
	if err := s.writer.Exec(ctx, "ATTACH ':memory:' AS "+a.catalog); err != nil {
		return nil, err
	}
	if err := s.fill(ctx, a); err != nil {
		a.release()
		return nil, errors.Join(err, s.writer.Exec(ctx, "DETACH "+a.catalog))
	}
	s.asOf[id] = a
	s.forget(ctx)
	return a, nil
}

// fill makes the views of a manifest: its own tables with the columns that
// they had, and the views of the project where they still fit.
func (s *Server) fill(ctx context.Context, a *asOf) error {
	tables := map[string]int64{}
	for t, id := range a.manifest.Tables {
		tables[t] = id
	}
	for t, id := range a.manifest.Bronze {
		tables[t] = id
	}
	for table, id := range tables {
		scan, err := s.cfg.Lake.Scan(ctx, table, id)
		if err != nil {
			return fmt.Errorf("cannot read %s of manifest %d: %w", table, a.manifest.ID, err)
		}
		sql, err := scan.SQL()
		if err != nil {
			return fmt.Errorf("cannot read %s of manifest %d: %w", table, a.manifest.ID, err)
		}
		a.holds = append(a.holds, scan.Hold())
		text := "SELECT * FROM " + sql
		if _, ok := a.manifest.Bronze[table]; ok {
			text += " WHERE " + duckdb.Below(a.manifest.Offsets[s.topicOf(table)])
		}
		if err := createView(ctx, s.writer, a.catalog, table, text); err != nil {
			return err
		}
	}
	for _, seed := range s.cfg.Program.Project.Seeds {
		if err := createView(ctx, s.writer, a.catalog, seed.Name, "SELECT * FROM memory."+seed.Name); err != nil {
			return err
		}
	}
	if err := s.writer.Exec(ctx, "USE "+a.catalog); err != nil {
		return err
	}
	for _, m := range s.cfg.Program.Models {
		if m.Materialized == project.View { // one that no longer fits the tables is not there
			_ = createView(ctx, s.writer, "", m.Name, m.Select)
		}
	}
	return s.writer.Exec(ctx, "USE memory")
}

func (s *Server) topicOf(table string) string {
	for _, src := range s.cfg.Program.Project.Sources {
		if src.Table() == table {
			return src.Topic
		}
	}
	return strings.TrimPrefix(table, "bronze.") // of a project before
}

// forget detaches what was not asked for lately.
func (s *Server) forget(ctx context.Context) {
	for len(s.asOf) > keepAttached {
		var oldest *asOf
		for id, a := range s.asOf {
			if (s.frozen == nil || s.frozen.manifest != id) && (oldest == nil || a.used.Before(oldest.used)) {
				oldest = a
			}
		}
		if oldest == nil || s.writer.Exec(ctx, "DETACH "+oldest.catalog) != nil {
			return // a query uses it: later
		}
		oldest.release()
		delete(s.asOf, oldest.manifest.ID)
	}
}

// Freeze serves a manifest instead of what is newest, until Thaw. why is what
// queries and status say of it.
func (s *Server) Freeze(ctx context.Context, manifest int64, why string) error {
	if _, err := s.attach(ctx, manifest); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = &frozen{manifest, why}
	return nil
}

// Thaw serves the newest again.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = nil
}

// Frozen says which manifest is served instead of the newest, and why; 0: none.
func (s *Server) Frozen() (manifest int64, why string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		return 0, ""
	}
	return s.frozen.manifest, s.frozen.why
}
