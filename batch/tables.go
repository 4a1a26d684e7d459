package batch

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"
)

// Tables evaluates the models of a run, on whichever engine.
type Tables interface {
	// Recompute writes a model's table from bronze at the pinned step and from
	// tables of the run, given as snapshots by model, and gives the snapshot.
	// Asked again for what is done, it may find that again.
	Recompute(ctx context.Context, run *Run, m *compile.Model, tables map[string]int64) (snapshot, rows int64, err error)
	// DataTests checks all tables of a run against the tests that the models
	// declare.
	DataTests(ctx context.Context, run *Run) ([]Failure, error)
	// Readable says whether all that a run is made from and made is still there.
	Readable(ctx context.Context, run *Run) bool
}

func (r *Runner) engine() Tables {
	if r.Tables != nil {
		return r.Tables
	}
	return local{r}
}

// local evaluates models in this process, over a lake on the local disk.
type local struct{ r *Runner }

// Recompute evaluates a model over bronze at the pinned step and the tables of
// the run, in a database of its own.
func (e local) Recompute(ctx context.Context, run *Run, m *compile.Model, tables map[string]int64) (snapshot, rows int64, err error) {
	d, err := duckdb.OpenMemory(ctx, e.r.Options)
	if err != nil {
		return 0, 0, err
	}
	defer d.Close()
	if err := d.CreateSeeds(ctx, e.r.Program.Project); err != nil {
		return 0, 0, err
	}
	if err := BronzeViews(ctx, e.r.Lake, d, e.r.Program.Project, run.Pin); err != nil {
		return 0, 0, err
	}
	for _, up := range duckdb.Needed(e.r.Program, []string{m.Name}) {
		switch {
		case up == m:
		case up.Materialized == project.View:
			err = duckdb.Evaluate(ctx, d, up)
		case !slices.Contains(m.Reads, up.Name) && tables[up.Name] == 0: // only behind another model's table
		case tables[up.Name] == 0:
			err = fmt.Errorf("%s, which it reads, is not done in this run", up.Name)
		default:
			err = view(ctx, e.r.Lake, d, up.Name, tables[up.Name], up.Columns, "TRUE")
		}
		if err != nil {
			return 0, 0, err
		}
	}
	reader, err := d.Query(ctx, m.Select)
	if err != nil {
		return 0, 0, err
	}
	defer reader.Release()
	counted := &counter{RecordReader: reader}
	snapshot, err = e.r.Lake.Replace(ctx, m.Name, m.Columns, m.PartitionBy, counted, map[string]string{"run": run.ID, "step": fmt.Sprint(run.Pin.Step), "fingerprint": m.Fingerprint})
	return snapshot, counted.rows, err
}

// BronzeViews makes the bronze rows of a pinned step readable; the snapshots may
// hold more.
func BronzeViews(ctx context.Context, l *lake.Lake, d *duckdb.Session, p *project.Project, pin Pin) error {
	for _, src := range p.Sources {
		if err := view(ctx, l, d, src.Table(), pin.Bronze[src.Table()], src.Columns(), duckdb.Below(pin.Offsets[src.Topic])); err != nil {
			return err
		}
	}
	return nil
}

// view makes rows of a table readable at a snapshot; 0: it has none yet.
func view(ctx context.Context, l *lake.Lake, d *duckdb.Session, name string, snapshot int64, columns []project.Column, where string) error {
	if snapshot == 0 {
		return d.CreateTable(ctx, name, columns)
	}
	scan, err := l.Scan(ctx, name, snapshot)
	if err != nil {
		return err
	}
	text, err := scan.SQLAs(columns)
	if err != nil {
		return err
	}
	namespace, _, _ := strings.Cut(name, ".")
	if err := d.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+namespace); err != nil {
		return err
	}
	return d.Exec(ctx, "CREATE VIEW "+name+" AS SELECT * FROM "+text+" WHERE "+where)
}

// Readable says whether all snapshots of a run are still there.
func (e local) Readable(ctx context.Context, run *Run) bool {
	for _, tables := range []map[string]int64{run.Pin.Bronze, run.Tables} {
		for t, id := range tables {
			if _, err := e.r.Lake.Scan(ctx, t, id); err != nil {
				return false
			}
		}
	}
	return true
}
