package cluster

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/batch"
	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// The batch layer on Spark. Each model's table is one INSERT OVERWRITE whose
// snapshot holds the run's id: where the answer to it is lost, the snapshot
// tells whether it happened.

const runKey = "lockstep.run"

var _ batch.Tables = (*recompute)(nil)

// recompute makes the tables of runs.
type recompute struct {
	b *Backend

	mu   sync.Mutex
	idle []*worker
}

// worker is a session that makes tables of runs, and nothing else: what it
// writes into their snapshots must not come into others. It is kept, because
// Spark opens the lake anew for each session.
type worker struct {
	*spark.Session
	views map[string]string // that it has, as text by table
}

// worker gives a session whose snapshots have properties.
func (r *recompute) worker(ctx context.Context, properties map[string]string) (*worker, error) {
	r.mu.Lock()
	var w *worker
	if n := len(r.idle); n > 0 {
		w, r.idle = r.idle[n-1], r.idle[:n-1]
	}
	r.mu.Unlock()
	if w == nil {
		s, err := r.b.server.Open(ctx, namesSettings)
		if err != nil {
			return nil, err
		}
		w = &worker{s, map[string]string{}}
	}
	for k, v := range properties {
		if err := w.Exec(ctx, fmt.Sprintf("SET `spark.sql.iceberg.snapshot-property.%s`=%s", k, v)); err != nil {
			r.giveBack(w, err)
			return nil, err
		}
	}
	return w, nil
}

// giveBack keeps a session for the next model, if it did what it should.
func (r *recompute) giveBack(w *worker, err error) {
	if err != nil {
		w.Close()
		r.rest() // they may be as dead
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.idle = append(r.idle, w)
}

// rest closes the sessions that wait for a next model.
func (r *recompute) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range r.idle {
		w.Close()
	}
	r.idle = nil
}

// pin names the last step of the stream. Bronze holds it whole: the stream
// commits bronze first.
func (b *Backend) pin(ctx context.Context) (batch.Pin, error) {
	record, _, err := b.lastStep(ctx)
	if err != nil {
		return batch.Pin{}, err
	}
	if record == nil {
		return batch.Pin{}, errors.New("the stream has not made a step yet: start `lockstep speed --env cluster` and send records (`lockstep replay --env cluster`)")
	}
	pin := batch.Pin{Step: record.Step, Offsets: record.Ends, Bronze: map[string]int64{}}
	for _, s := range b.program.Project.Sources {
		head, err := b.lake.Head(ctx, s.Table())
		if errors.Is(err, lake.ErrNoTable) {
			continue
		}
		if err != nil {
			return pin, err
		}
		if head.Snapshot != 0 {
			pin.Bronze[s.Table()] = head.Snapshot
		}
	}
	return pin, nil
}

// made are the names in a run: bronze below the end of its step, and the
// tables that it made.
func (b *Backend) made(ends map[string]map[int32]int64, tables map[string]int64, place func(model string, snapshot int64) string) names {
	return names{program: b.program, tables: allTables(b.program), of: func(ctx context.Context, table string) (string, error) {
		if text, err := b.input(ctx, table, ends); text != "" || err != nil {
			return text, err
		}
		model := b.program.Model(table)
		if model.Materialized == project.View {
			return model.Select, nil
		}
		if tables[table] == 0 {
			return "", fmt.Errorf("%s, which it reads, is not done in this run", table)
		}
		return "SELECT " + columnNames(model.Columns, "") + " FROM " + place(table, tables[table]), nil
	}}
}

// Recompute implements batch.Tables.
func (r *recompute) Recompute(ctx context.Context, run *batch.Run, m *compile.Model, tables map[string]int64) (snapshot, rows int64, err error) {
	err = r.b.again(ctx, "evaluate "+m.Name, func() error {
		snapshot, rows, err = r.once(ctx, run, m, tables)
		return err
	})
	return snapshot, rows, err
}

func (r *recompute) once(ctx context.Context, run *batch.Run, m *compile.Model, tables map[string]int64) (snapshot, rows int64, err error) {
	if err := r.b.lake.Shape(ctx, m.Name, m.Columns, m.PartitionBy, tableProperties(m)); err != nil {
		return 0, 0, err
	}
	// A try before this one, or another process, may have done it.
	if snapshot, rows, err := r.snapshotOf(ctx, m.Name, run.ID); snapshot != 0 || err != nil {
		return snapshot, rows, err
	}
	w, err := r.worker(ctx, map[string]string{runKey: run.ID, "lockstep.step": strconv.FormatInt(run.Pin.Step, 10), "lockstep.fingerprint": m.Fingerprint})
	if err != nil {
		return 0, 0, err
	}
	n := r.b.made(run.Pin.Offsets, tables, versionSQL)
	if err = n.create(ctx, w.Session, catalogOfNames, n.closure(m.Reads), w.views); err == nil {
		err = w.Exec(ctx, "INSERT OVERWRITE lake."+m.Name+" "+clustered(m))
	}
	r.giveBack(w, err)
	if err != nil {
		return 0, 0, err
	}
	snapshot, rows, err = r.snapshotOf(ctx, m.Name, run.ID)
	if err == nil && snapshot == 0 {
		err = fmt.Errorf("Spark wrote table %s, but none of its snapshots is of run %s", m.Name, run.ID)
	}
	return snapshot, rows, err
}

// clustered is a model's rows with those of a scope together: the stream looks
// scopes up in the table.
func clustered(m *compile.Model) string {
	if m.Relation == nil {
		return m.Select
	}
	return "SELECT * FROM (\n" + m.Select + "\n) AS m CLUSTER BY " + columnNames(m.Relation.Scope, "")
}

// tableProperties let the stream find rows by the columns of its indexes.
func tableProperties(m *compile.Model) map[string]string {
	out := map[string]string{"write.parquet.bloom-filter-max-bytes": "65536", "write.delete.mode": "copy-on-write", "write.update.mode": "copy-on-write", "write.merge.mode": "copy-on-write"}
	if m.Relation == nil {
		return out
	}
	for _, x := range m.Relation.Indexes {
		for _, at := range x.Columns {
			out["write.parquet.bloom-filter-enabled.column."+m.Columns[at].Name] = "true"
		}
	}
	return out
}

// snapshotOf finds the snapshot of a table that a run made, and its rows; 0:
// there is none.
func (r *recompute) snapshotOf(ctx context.Context, table, run string) (snapshot, rows int64, err error) {
	all, err := r.b.lake.Snapshots(ctx, table)
	for _, s := range all {
		if s.Summary[runKey] == run {
			snapshot, rows = s.ID, s.Rows
		}
	}
	return snapshot, rows, err
}

// DataTests implements batch.Tables: one statement for each model.
func (r *recompute) DataTests(ctx context.Context, run *batch.Run) (out []batch.Failure, err error) {
	err = r.b.again(ctx, "run the data tests", func() error {
		out, err = r.dataTests(ctx, run)
		return err
	})
	return out, err
}

func (r *recompute) dataTests(ctx context.Context, run *batch.Run) ([]batch.Failure, error) {
	s, err := r.b.session(ctx, r.b.made(run.Pin.Offsets, run.Tables, versionSQL), allTables(r.b.program), nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out []batch.Failure
	for _, m := range r.b.program.Models {
		if m.Materialized == project.View {
			continue
		}
		tests := batch.Tests(m)
		parts := make([]string, len(tests))
		for i, t := range tests {
			parts[i] = fmt.Sprintf("SELECT %d AS test, CAST((%s) AS bigint) AS failing", i, t.Query)
		}
		err := s.Each(ctx, strings.Join(parts, " UNION ALL "), func(rec arrow.RecordBatch) error {
			for i := range int(rec.NumRows()) {
				t, n := tests[rec.Column(0).(*array.Int32).Value(i)], rec.Column(1).(*array.Int64).Value(i)
				if n > 0 {
					out = append(out, batch.Failure{Model: t.Model, Test: t.Name, Rows: n})
				}
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("cannot run the data tests of %s (%s): %w", m.Name, m.File, err)
		}
	}
	return out, nil
}

// Readable implements batch.Tables.
func (r *recompute) Readable(ctx context.Context, run *batch.Run) bool {
	for table, id := range run.Tables {
		snapshots, err := r.b.lake.Snapshots(ctx, table)
		if err != nil {
			return false
		}
		found := false
		for _, s := range snapshots {
			found = found || s.ID == id
		}
		if !found {
			return false
		}
	}
	return true
}

// handOver is what a run is compared with and handed to.
type handOver struct{ b *Backend }

// Compare implements batch.Serving: the run's tables against what was served
// at its step.
func (h handOver) Compare(ctx context.Context, step int64, tables map[string]int64) (out []batch.Difference, err error) {
	err = h.b.again(ctx, "compare", func() error {
		out, err = h.compare(ctx, step, tables)
		return err
	})
	return out, err
}

func (h handOver) compare(ctx context.Context, step int64, tables map[string]int64) ([]batch.Difference, error) {
	m, err := h.b.live(ctx)
	if err != nil {
		return nil, err
	}
	if !m.live || m.record == nil || m.record.Step < step || m.after() > step {
		return nil, batch.ErrNotServed
	}
	m.step = step
	s, err := h.b.server.Open(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var out []batch.Difference
	for _, model := range h.b.program.Models {
		if model.Relation == nil {
			continue
		}
		served := servedSQL(model.Relation, model.Fingerprint, baseSQL(model, m), speedSQL(m.speed), m.after(), step)
		c, err := compare(ctx, s, model, "SELECT "+columnNames(model.Columns, "")+" FROM "+versionSQL(model.Name, tables[model.Name]), served)
		if err != nil {
			return nil, err
		}
		if c.Different() {
			out = append(out, batch.Difference{Model: model.Name, Rows: max(c.Missing, c.Extra), Sample: c.Sample})
		}
	}
	return out, nil
}

// Publish implements batch.Serving: the views that other programs read, then
// what no view needs any more.
func (h handOver) Publish(ctx context.Context, m lake.Manifest) error {
	b := h.b
	if err := b.again(ctx, "publish", func() error { return b.refreshViews(ctx) }); err != nil {
		return fmt.Errorf("manifest %d is published, but the views of the Thrift Server still name the one before: `lockstep serve --env cluster` makes them anew: %w", m.ID, err)
	}
	return b.forget(ctx, m)
}

// forget drops manifests that are kept no longer, and rows of the stream that
// the manifest before m needed.
func (b *Backend) forget(ctx context.Context, m lake.Manifest) error {
	var kept []int64
	if frozen, err := b.rolledBack(ctx); err == nil && frozen != nil {
		kept = append(kept, frozen.manifest.ID)
	}
	if keep := b.program.Project.Retention.Manifests; keep > 0 {
		if err := b.lake.DropManifests(ctx, keep, kept...); err != nil {
			return err
		}
	}
	if m.Parent == 0 {
		return nil
	}
	before, err := b.lake.Manifest(ctx, m.Parent)
	if errors.Is(err, lake.ErrNoManifest) {
		return nil
	}
	if err != nil {
		return err
	}
	// Rows of a stream of other models may be needed by that.
	record, _, err := b.lastStep(ctx)
	if err != nil || record == nil || record.Program != b.program.Fingerprint || before.Step == 0 {
		return err
	}
	return b.again(ctx, "drop rows of the stream", func() error {
		s, err := b.server.Open(ctx, nil)
		if err != nil {
			return err
		}
		defer s.Close()
		return s.Exec(ctx, fmt.Sprintf("DELETE FROM lake.%s WHERE step <= %d", speedTable, before.Step))
	})
}

// again does what may be done twice until it succeeds, while what fails is the
// connection, or another writer that was first.
func (b *Backend) again(ctx context.Context, what string, f func() error) error {
	const tries = 6
	for n := 1; ; n++ {
		err := f()
		if err == nil || ctx.Err() != nil || n == tries || !(errors.Is(err, spark.ErrLost) || spark.Conflict(err)) {
			return err
		}
		b.log.Warn("it is tried again", "what", what, "try", n, "error", err)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Duration(n) * 500 * time.Millisecond):
		}
	}
}

// number runs a query that gives one whole number; null is 0.
func number(ctx context.Context, s *spark.Session, sql string) (int64, error) {
	var n int64
	err := s.Each(ctx, "SELECT CAST(("+sql+") AS bigint) AS n", func(rec arrow.RecordBatch) error {
		if c := rec.Column(0); c.Len() == 1 && c.IsValid(0) {
			n = c.(*array.Int64).Value(0)
		}
		return nil
	})
	return n, err
}
