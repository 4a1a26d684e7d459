package lake

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"strings"
	"sync"
	"time"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Scan is a plan to read a table as of one snapshot.
type Scan struct {
	Table      string
	SnapshotID int64            // 0: the table has no snapshot yet
	Columns    []project.Column // as of the snapshot
	Files      []string         // absolute paths of the data files; URIs, where the lake is remote
	Rows       int64            // in those files
	Bytes      int64            // of those files
	Summary    map[string]string

	lake    *Lake
	schema  *iceberg.Schema // as of the snapshot
	current *iceberg.Schema // newest
	scan    *table.Scan
	tasks   []table.FileScanTask
	deletes bool
}

// Scan plans to read a table as of a snapshot; id 0 is the current one. Errors
// wrap ErrNoTable or ErrNoSnapshot where that is the cause.
func (l *Lake) Scan(ctx context.Context, name string, id int64) (*Scan, error) {
	ident, err := identifier(name)
	if err != nil {
		return nil, err
	}
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil {
		return nil, err
	}
	s := &Scan{Table: name, SnapshotID: id, lake: l, schema: tbl.Schema(), current: tbl.Schema()}
	if err := s.pin(tbl); err != nil {
		return nil, err
	}
	if s.Columns, err = columnsOf(s.schema); err != nil {
		return nil, fmt.Errorf("cannot read table %s: %w", name, err)
	}
	if s.SnapshotID == 0 {
		return s, nil
	}
	return s, s.plan(ctx, tbl)
}

// pin finds the snapshot and its schema.
func (s *Scan) pin(tbl *table.Table) error {
	snap := tbl.CurrentSnapshot()
	if s.SnapshotID != 0 {
		if snap = tbl.SnapshotByID(s.SnapshotID); snap == nil {
			return fmt.Errorf("table %s, snapshot %d: %w: it was expired or never existed", s.Table, s.SnapshotID, ErrNoSnapshot)
		}
	}
	if snap == nil {
		return nil
	}
	s.SnapshotID = snap.SnapshotID
	if snap.Summary != nil {
		s.Summary = maps.Clone(snap.Summary.Properties)
	}
	if snap.SchemaID != nil {
		if sc, ok := tbl.Schemas()[*snap.SchemaID]; ok {
			s.schema = sc
		}
	}
	return nil
}

func (s *Scan) plan(ctx context.Context, tbl *table.Table) error {
	s.scan = tbl.Scan(table.WithSnapshotID(s.SnapshotID))
	var err error
	if s.tasks, err = s.scan.PlanFiles(ctx); err != nil {
		return fmt.Errorf("cannot plan a scan of table %s, snapshot %d: %w", s.Table, s.SnapshotID, err)
	}
	for _, t := range s.tasks {
		path := t.File.FilePath()
		if !s.lake.remote {
			if path, err = pathOf(path); err != nil {
				return fmt.Errorf("cannot read table %s: %w", s.Table, err)
			}
		}
		s.Files = append(s.Files, path)
		s.Rows += t.File.Count()
		s.Bytes += t.File.FileSizeBytes()
		s.deletes = s.deletes || hasDeletes(t)
	}
	return nil
}

func hasDeletes(t table.FileScanTask) bool {
	return len(t.DeleteFiles)+len(t.EqualityDeleteFiles)+len(t.DeletionVectorFiles) > 0
}

// Hold keeps the snapshot from expiry by this process until release is called,
// once or more. A reader that takes longer than Upkeep.KeepFor needs it.
func (s *Scan) Hold() (release func()) {
	key := heldKey{s.Table, s.SnapshotID}
	s.lake.mu.Lock()
	s.lake.held[key]++
	s.lake.mu.Unlock()
	return sync.OnceFunc(func() {
		s.lake.mu.Lock()
		defer s.lake.mu.Unlock()
		if s.lake.held[key]--; s.lake.held[key] == 0 {
			delete(s.lake.held, key)
		}
	})
}

type heldKey struct {
	table    string
	snapshot int64
}

// ErrDeleteFiles says that SQL cannot read a plan, which Records can.
var ErrDeleteFiles = errors.New("the table has delete files, which a foreign program wrote")

// SQL is a DuckDB query in parentheses that gives the snapshot's rows and
// columns: `SELECT * FROM ` + sql. It reads the files as long as the snapshot
// is not expired. ErrDeleteFiles: use Records.
func (s *Scan) SQL() (string, error) { return s.sql(s.Columns, s.schema) }

// SQLAs is SQL with exactly these columns, in this order and of these types;
// one that the snapshot does not have yet is null.
func (s *Scan) SQLAs(columns []project.Column) (string, error) { return s.sql(columns, s.current) }

func (s *Scan) sql(columns []project.Column, schema *iceberg.Schema) (string, error) {
	if s.deletes {
		return "", fmt.Errorf("table %s, snapshot %d: %w", s.Table, s.SnapshotID, ErrDeleteFiles)
	}
	if len(s.Files) == 0 {
		return emptySQL(columns), nil
	}
	if s.lake.remote {
		return "", fmt.Errorf("table %s at %s: %w; read it with Records, or with an engine of the cluster", s.Table, s.lake.dir, ErrRemote)
	}
	var list, fields []string
	for i, c := range columns {
		e := "CAST(NULL AS " + c.Type.DuckDB() + ")"
		if f, ok := s.field(c.Name, schema); ok {
			e = fmt.Sprintf("CAST(f%d AS %s)", i, c.Type.DuckDB())
			fields = append(fields, fmt.Sprintf("%d: {name: 'f%d', type: '%s', default_value: NULL}", f.ID, i, duckDBType(f.Type, c)))
		}
		list = append(list, e+" AS "+quoteName(c.Name))
	}
	if len(fields) == 0 {
		return "", fmt.Errorf("table %s, snapshot %d has none of the columns asked for", s.Table, s.SnapshotID)
	}
	files := make([]string, len(s.Files))
	for i, f := range s.Files {
		files[i] = quoteText(f)
	}
	return fmt.Sprintf("(SELECT %s FROM read_parquet([%s], schema=MAP {%s}, hive_partitioning=false))",
		strings.Join(list, ", "), strings.Join(files, ", "), strings.Join(fields, ", ")), nil
}

// field finds a column by name, first in the snapshot's own schema: a name may
// have been dropped and used anew, which is another column.
func (s *Scan) field(name string, schema *iceberg.Schema) (iceberg.NestedField, bool) {
	if f, ok := fieldOf(s.schema, name); ok {
		return f, true
	}
	return fieldOf(schema, name)
}

func duckDBType(t iceberg.Type, c project.Column) string {
	if own, err := columnType(t); err == nil {
		return own.DuckDB()
	}
	return c.Type.DuckDB()
}

func emptySQL(columns []project.Column) string {
	list := make([]string, len(columns))
	for i, c := range columns {
		list[i] = fmt.Sprintf("CAST(NULL AS %s) AS %s", c.Type.DuckDB(), quoteName(c.Name))
	}
	return "(SELECT " + strings.Join(list, ", ") + " WHERE false)"
}

func quoteText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

// Records reads the snapshot through iceberg-go, delete files applied. The
// caller releases each batch. It is several times slower than SQL.
func (s *Scan) Records(ctx context.Context) (*arrow.Schema, iter.Seq2[arrow.RecordBatch, error], error) {
	if s.scan == nil {
		return project.ArrowSchema(s.Columns), func(func(arrow.RecordBatch, error) bool) {}, nil
	}
	sc, rows, err := s.scan.ReadTasks(ctx, s.tasks)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot read table %s, snapshot %d: %w", s.Table, s.SnapshotID, err)
	}
	own := ownNames(sc)
	return own, func(yield func(arrow.RecordBatch, error) bool) {
		for b, err := range rows {
			if err == nil {
				renamed := array.NewRecordBatch(own, b.Columns(), b.NumRows())
				b.Release()
				b = renamed
			}
			if !yield(b, err) {
				return
			}
		}
	}, nil
}

// Position is that of a bronze table at the snapshot.
func (s *Scan) Position() (Position, error) { return positionFrom(s.SnapshotID, s.Summary) }

// Snapshot is an entry of a table's history.
type Snapshot struct {
	ID, Parent int64
	Time       time.Time
	Operation  string // append, overwrite, replace, delete
	Rows       int64  // in the table after it
	Files      int64
	Summary    map[string]string
}

// Snapshots lists a table's snapshots that are not expired, oldest first.
func (l *Lake) Snapshots(ctx context.Context, name string) ([]Snapshot, error) {
	ident, err := identifier(name)
	if err != nil {
		return nil, err
	}
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil {
		return nil, err
	}
	var list []Snapshot
	for _, s := range tbl.Metadata().Snapshots() {
		e := Snapshot{ID: s.SnapshotID, Time: time.UnixMilli(s.TimestampMs).UTC()}
		if s.ParentSnapshotID != nil {
			e.Parent = *s.ParentSnapshotID
		}
		if s.Summary != nil {
			e.Operation, e.Summary = string(s.Summary.Operation), maps.Clone(s.Summary.Properties)
			e.Rows = int64(s.Summary.Properties.GetInt("total-records", 0))
			e.Files = int64(s.Summary.Properties.GetInt("total-data-files", 0))
		}
		list = append(list, e)
	}
	return list, nil
}
