package serve

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// Comparison counts how one set of rows differs from a full recompute.
type Comparison struct {
	Model                         string
	Rows, Missing, Extra, Changed int64
	Sample                        []string
}

// Different is the number of rows that differ.
func (c Comparison) Different() int64 { return max(c.Missing, c.Extra) }

var scratch atomic.Int64

// Verify recomputes every incremental and batch model in full from the bronze
// rows below end, and compares with what was served after step. The step must
// not be older than the batch under what is served.
func (s *Server) Verify(ctx context.Context, step int64, end map[string]map[int32]int64) ([]Comparison, error) {
	var out []Comparison
	err := s.recomputed(ctx, end, func(d *duckdb.Session, catalog string) error {
		v, err := s.view(ctx, d)
		if err != nil {
			return err
		}
		defer releaseAll(v.scans.holds)
		if step < v.after || step > v.step {
			return fmt.Errorf("cannot verify step %d: what was served is kept for steps %d (the last batch) to %d", step, v.after, v.step)
		}
		for _, m := range s.incremental() {
			c, err := compare(ctx, d, m, catalog+"."+m.Name, v.served(m, step))
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

// VerifyPublished compares the tables of a manifest with a full recompute over
// the bronze rows that it was made from.
func (s *Server) VerifyPublished(ctx context.Context, m lake.Manifest) ([]Comparison, error) {
	var out []Comparison
	err := s.recomputed(ctx, m.Offsets, func(d *duckdb.Session, catalog string) error {
		scans, err := s.scans(ctx, &m)
		if err != nil {
			return err
		}
		defer releaseAll(scans.holds)
		for _, model := range s.cfg.Program.Models {
			if scans.sql[model.Name] == "" || m.Fingerprints[model.Name] != model.Fingerprint {
				continue
			}
			c, err := compare(ctx, d, model, catalog+"."+model.Name, scans.sql[model.Name])
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

func releaseAll(holds []func()) {
	for _, h := range holds {
		h()
	}
}

// recomputed evaluates all models in a catalog of its own, within one
// transaction that sees one state of what is served, and hands it over.
func (s *Server) recomputed(ctx context.Context, end map[string]map[int32]int64, f func(d *duckdb.Session, catalog string) error) (err error) {
	d, err := duckdb.NewSession(ctx, s.connector)
	if err != nil {
		return err
	}
	defer d.Close()
	catalog := fmt.Sprintf("recompute_%d", scratch.Add(1))
	if err := d.Exec(ctx, "ATTACH ':memory:' AS "+catalog); err != nil {
		return err
	}
	clean := context.WithoutCancel(ctx)
	defer func() {
		_ = d.Exec(clean, "ROLLBACK")
		_ = d.Exec(clean, "USE memory")
		err = errors.Join(err, d.Exec(clean, "DETACH "+catalog))
	}()
	if err := d.Exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	for _, src := range s.cfg.Program.Project.Sources {
		text := fmt.Sprintf("SELECT * FROM memory.%s WHERE %s", src.Table(), duckdb.Below(end[src.Topic]))
		if err := createView(ctx, d, catalog, src.Table(), text); err != nil {
			return err
		}
	}
	for _, seed := range s.cfg.Program.Project.Seeds {
		if err := createView(ctx, d, catalog, seed.Name, "SELECT * FROM memory."+seed.Name); err != nil {
			return err
		}
	}
	if err := d.Exec(ctx, "USE "+catalog); err != nil {
		return err
	}
	for _, m := range s.cfg.Program.Models {
		if err := duckdb.Evaluate(ctx, d, m); err != nil {
			return err
		}
	}
	return f(d, catalog)
}

// view is what is served as one transaction sees it.
type view struct {
	step, after int64 // newest step; step of the batch below
	generation  int
	scans       *scanned
}

// view reads what is served inside the session's transaction.
func (s *Server) view(ctx context.Context, d *duckdb.Session) (*view, error) {
	v, manifest := &view{}, int64(0)
	err := d.Each(ctx, "SELECT step, manifest, generation FROM memory.overlay.meta", func(rec arrow.RecordBatch) error {
		v.step, manifest, v.generation = int64Of(rec.Column(0), 0), int64Of(rec.Column(1), 0), int(int64Of(rec.Column(2), 0))
		return nil
	})
	if err != nil {
		return nil, err
	}
	var base *lake.Manifest
	if manifest > 0 {
		m, err := s.cfg.Lake.Manifest(ctx, manifest)
		if err != nil {
			return nil, err
		}
		base, v.after = &m, m.Step
	}
	v.scans, err = s.scans(ctx, base)
	return v, err
}

// served gives a model's rows after a step.
func (v *view) served(m *compile.Model, step int64) string {
	return servedSQL(m.Relation, v.scans.sql[m.Name], v.generation, v.after, step)
}

// reading runs f in a transaction of its own that only reads.
func (s *Server) reading(ctx context.Context, f func(d *duckdb.Session, v *view) error) error {
	d, err := duckdb.NewSession(ctx, s.connector)
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.Exec(ctx, "BEGIN TRANSACTION READ ONLY"); err != nil {
		return err
	}
	v, err := s.view(ctx, d)
	if err != nil {
		return err
	}
	defer releaseAll(v.scans.holds)
	return errors.Join(f(d, v), d.Exec(context.WithoutCancel(ctx), "ROLLBACK"))
}

// Compare counts, for each incremental model, how the batch's tables of a step
// differ from what was served after that step.
func (s *Server) Compare(ctx context.Context, step int64, tables map[string]int64) ([]Comparison, error) {
	made, err := s.scans(ctx, &lake.Manifest{Tables: tables})
	if err != nil {
		return nil, err
	}
	defer releaseAll(made.holds)
	var out []Comparison
	err = s.reading(ctx, func(d *duckdb.Session, v *view) error {
		if step < v.after || step > v.step {
			return fmt.Errorf("cannot compare a batch of step %d: what was served is kept for steps %d to %d", step, v.after, v.step)
		}
		for _, m := range s.incremental() {
			c, err := compare(ctx, d, m, made.sql[m.Name], v.served(m, step))
			if err != nil {
				return err
			}
			out = append(out, c)
		}
		return nil
	})
	return out, err
}

// compare counts the rows of want that are not in got and the other way round,
// as multisets.
func compare(ctx context.Context, d *duckdb.Session, m *compile.Model, want, got string) (Comparison, error) {
	c := Comparison{Model: m.Name}
	fail := func(err error) (Comparison, error) { return c, fmt.Errorf("cannot compare %s: %w", m.Name, err) }
	var err error
	if c.Rows, err = d.Int(ctx, "SELECT count(*) FROM "+want); err != nil {
		return fail(err)
	}
	// Equal counts and equal sums of row hashes are the usual case, and cheaper
	// than a multiset difference; the hash is DuckDB's, 64 bits a row.
	same, err := d.Int(ctx, fmt.Sprintf("SELECT CAST((SELECT (count(*), sum(hash(t))) FROM %s AS t) = (SELECT (count(*), sum(hash(t))) FROM %s AS t) AS INTEGER)", want, got))
	if err == nil && same == 1 {
		return c, nil
	}
	difference := func(a, b string) string {
		columns := names(m.Columns, "")
		return fmt.Sprintf("(SELECT %s FROM %s EXCEPT ALL SELECT %s FROM %s)", columns, a, columns, b)
	}
	missing, extra := difference(want, got), difference(got, want)
	if c.Missing, err = d.Int(ctx, "SELECT count(*) FROM "+missing); err != nil {
		return fail(err)
	}
	if c.Extra, err = d.Int(ctx, "SELECT count(*) FROM "+extra); err != nil {
		return fail(err)
	}
	if c.Missing+c.Extra == 0 {
		return c, nil
	}
	key := keyColumns(m)
	if c.Changed, err = d.Int(ctx, fmt.Sprintf("SELECT count(*) FROM %s AS a SEMI JOIN %s AS b ON %s", missing, extra, nullSafe(key, "a", "b"))); err != nil {
		return fail(err)
	}
	for sign, rows := range map[string]string{"missing": missing, "extra": extra} {
		err := d.Each(ctx, "SELECT CAST(t AS VARCHAR) FROM "+rows+" AS t LIMIT 5", func(rec arrow.RecordBatch) error {
			for i := range int(rec.NumRows()) {
				c.Sample = append(c.Sample, sign+" "+rec.Column(0).ValueStr(i))
			}
			return nil
		})
		if err != nil {
			return fail(err)
		}
	}
	return c, nil
}

func keyColumns(m *compile.Model) []project.Column {
	var out []project.Column
	for _, name := range m.UniqueKey {
		out = append(out, project.Column{Name: name})
	}
	return out
}

// Counts are the rows served of each table and those of them that came since
// the last batch.
type Counts struct{ Rows, Overlay, Files int64 }

// Counts counts rows of models.
func (s *Server) Counts(ctx context.Context) (map[string]Counts, error) {
	out := map[string]Counts{}
	err := s.reading(ctx, func(d *duckdb.Session, v *view) error {
		for _, m := range s.cfg.Program.Models {
			if m.Materialized == project.View {
				continue
			}
			c := Counts{Files: v.scans.files[m.Name]}
			var err error
			if c.Rows, err = d.Int(ctx, "SELECT count(*) FROM memory."+m.Name); err != nil {
				return err
			}
			if m.Relation != nil {
				if c.Overlay, err = d.Int(ctx, "SELECT count(*) FROM "+rowsTable(m.Name, v.generation)); err != nil {
					return err
				}
			}
			out[m.Name] = c
		}
		return nil
	})
	return out, err
}
