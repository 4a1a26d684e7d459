package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/project"
	"lockstep/web"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Verify implements web.Backend: a full recompute from bronze on Spark, in
// tables of its own, against what is served at a step and what is published.
// Step 0 is the newest.
func (b *Backend) Verify(ctx context.Context, step int64) (*web.VerifyReport, error) {
	begin := time.Now()
	m, err := b.live(ctx)
	if err != nil {
		return nil, err
	}
	if !m.live {
		return nil, fmt.Errorf("cannot verify: %s", m.frozen)
	}
	if err := m.moveTo(step); err != nil {
		return nil, err
	}
	rep := &web.VerifyReport{Step: m.step}
	published := m.manifest != nil && m.manifest.Step == m.step
	err = b.recomputed(ctx, m.ends, func(s *spark.Session, place func(string) string) error {
		return b.verifyModels(ctx, s, m, place, true, published, rep)
	})
	if err == nil && m.manifest != nil && !published {
		err = b.recomputed(ctx, m.manifest.Offsets, func(s *spark.Session, place func(string) string) error {
			return b.verifyModels(ctx, s, m, place, false, true, rep)
		})
	}
	if m.manifest != nil {
		rep.PublishedStep = m.manifest.Step
	}
	rep.Seconds = time.Since(begin).Seconds()
	return rep, err
}

// moveTo lets a moment be that of an earlier step. Only ends that are recorded
// are known: those of the newest step and of the manifest.
func (m *moment) moveTo(step int64) error {
	switch {
	case step == 0, step == m.step:
		return nil
	case m.manifest != nil && step == m.manifest.Step:
		m.step, m.ends = step, m.manifest.Offsets
		return nil
	}
	known := fmt.Sprintf("%d (the newest)", m.step)
	if m.manifest != nil {
		known = fmt.Sprintf("%d (published) and %s", m.manifest.Step, known)
	}
	return fmt.Errorf("cannot verify step %d: on a cluster the ends of steps are known for %s", step, known)
}

// verifyModels compares a recompute with what is served, with what is
// published, or both.
func (b *Backend) verifyModels(ctx context.Context, s *spark.Session, m *moment, place func(string) string, served, published bool, rep *web.VerifyReport) error {
	for _, model := range b.program.Models {
		if model.Materialized == project.View {
			continue
		}
		columns := columnNames(model.Columns, "")
		want := "SELECT " + columns + " FROM " + place(model.Name)
		if served && model.Relation != nil {
			c, err := compare(ctx, s, model, want, servedSQL(model.Relation, model.Fingerprint, baseSQL(model, m), speedSQL(m.speed), m.after(), m.step))
			if err != nil {
				return err
			}
			report(rep, model.Name).Served = c
		}
		if id := m.snapshot(model); published && id != 0 {
			c, err := compare(ctx, s, model, want, "SELECT "+columns+" FROM "+versionSQL(model.Name, id))
			if err != nil {
				return err
			}
			report(rep, model.Name).Published = c
		}
	}
	return nil
}

func report(rep *web.VerifyReport, model string) *web.ModelReport {
	at := slices.IndexFunc(rep.Models, func(m web.ModelReport) bool { return m.Model == model })
	if at < 0 {
		rep.Models = append(rep.Models, web.ModelReport{Model: model})
		at = len(rep.Models) - 1
	}
	return &rep.Models[at]
}

// scratch begins the names of tables of a recompute that nobody publishes.
const scratch = "lockstep.verify_"

// scratchAge is when a scratch table is taken for left behind.
const scratchAge = 6 * time.Hour

const scratchTime = "20060102t150405"

// recomputed evaluates every model over bronze below ends, in tables of its
// own, for the time of f.
func (b *Backend) recomputed(ctx context.Context, ends map[string]map[int32]int64, f func(s *spark.Session, place func(model string) string) error) (err error) {
	if err := b.clearScratch(ctx); err != nil {
		return err
	}
	prefix := scratch + time.Now().UTC().Format(scratchTime) + fmt.Sprintf("_%d_", b.number.Add(1))
	table := func(model string) string { return prefix + strings.ReplaceAll(model, ".", "__") }
	place := func(model string) string { return "lake." + table(model) }
	made := map[string]int64{}
	defer func() {
		for name := range made {
			err = errors.Join(err, b.lake.Drop(context.WithoutCancel(ctx), table(name)))
		}
	}()
	all := map[string]int64{}
	for _, m := range b.program.Models {
		all[m.Name] = 1
	}
	n := b.made(ends, all, func(model string, _ int64) string { return place(model) })
	inputs := slices.DeleteFunc(allTables(b.program), func(t string) bool { return b.program.Model(t) != nil })
	s, err := b.session(ctx, n, inputs, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := s.Exec(ctx, "CREATE NAMESPACE IF NOT EXISTS lake.lockstep"); err != nil {
		return err
	}
	for _, m := range b.program.Models {
		if m.Materialized != project.View {
			made[m.Name] = 1
			if err := s.Exec(ctx, "CREATE TABLE "+place(m.Name)+" USING iceberg AS "+m.Select); err != nil {
				return fmt.Errorf("cannot evaluate %s (%s): %w", m.Name, m.File, err)
			}
		}
		if err := n.create(ctx, s, catalogOfNames, []string{m.Name}, nil); err != nil {
			return err
		}
	}
	return f(s, place)
}

// clearScratch drops what a recompute that was killed left behind.
func (b *Backend) clearScratch(ctx context.Context) error {
	all, err := b.lake.Tables(ctx)
	if err != nil {
		return err
	}
	for _, t := range all {
		if rest, ok := strings.CutPrefix(t, scratch); ok {
			text, _, _ := strings.Cut(rest, "_")
			if at, err := time.Parse(scratchTime, text); err == nil && time.Since(at) > scratchAge {
				if err := b.lake.Drop(ctx, t); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// compare counts the rows of want that are not in got and the other way round,
// as multisets. Both are SELECTs of the model's columns.
func compare(ctx context.Context, s *spark.Session, m *compile.Model, want, got string) (*web.Comparison, error) {
	c := &web.Comparison{}
	fail := func(err error) (*web.Comparison, error) { return nil, fmt.Errorf("cannot compare %s: %w", m.Name, err) }
	// Equal counts and equal sums of row hashes are the usual case, and cheaper
	// than a multiset difference; a hash has 64 bits.
	same, rows, err := sameSums(ctx, s, m, want, got)
	if err != nil {
		return fail(err)
	}
	if c.Rows = rows; same {
		return c, nil
	}
	missing, extra := "(("+want+") EXCEPT ALL ("+got+"))", "(("+got+") EXCEPT ALL ("+want+"))"
	if c.Missing, err = number(ctx, s, "SELECT count(*) FROM "+missing); err != nil {
		return fail(err)
	}
	if c.Extra, err = number(ctx, s, "SELECT count(*) FROM "+extra); err != nil {
		return fail(err)
	}
	if c.Missing+c.Extra == 0 {
		return c, nil
	}
	key := make([]string, len(m.UniqueKey))
	for i, k := range m.UniqueKey {
		key[i] = "a." + k + " <=> b." + k
	}
	if c.Changed, err = number(ctx, s, fmt.Sprintf("SELECT count(*) FROM %s AS a LEFT SEMI JOIN %s AS b ON %s", missing, extra, strings.Join(key, " AND "))); err != nil {
		return fail(err)
	}
	for _, side := range []struct{ sign, rows string }{{"missing", missing}, {"extra", extra}} {
		err := s.Each(ctx, "SELECT to_json(struct(*), map('ignoreNullFields', 'false')) AS row FROM "+side.rows+" LIMIT 5", func(rec arrow.RecordBatch) error {
			for i := range int(rec.NumRows()) {
				c.Sample = append(c.Sample, side.sign+" "+rec.Column(0).ValueStr(i))
			}
			return nil
		})
		if err != nil {
			return fail(err)
		}
	}
	return c, nil
}

// sameSums says whether two SELECTs have equal counts and equal sums of row
// hashes, and gives the rows of the first.
func sameSums(ctx context.Context, s *spark.Session, m *compile.Model, want, got string) (same bool, rows int64, err error) {
	args := make([]string, len(m.Columns))
	for i, c := range m.Columns { // a hash leaves nulls out: say where they are
		args[i] = c.Name + ", " + c.Name + " IS NULL"
	}
	sums := "SELECT %d AS side, count(*) AS n, CAST(coalesce(sum(CAST(xxhash64(" + strings.Join(args, ", ") + ") AS decimal(38,0))), 0) AS string) AS h FROM (%s)"
	var n [2]int64
	var h [2]string
	err = s.Each(ctx, fmt.Sprintf(sums, 0, want)+" UNION ALL "+fmt.Sprintf(sums, 1, got), func(rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			side := rec.Column(0).(*array.Int32).Value(i)
			n[side], h[side] = rec.Column(1).(*array.Int64).Value(i), strings.Clone(rec.Column(2).(*array.String).Value(i))
		}
		return nil
	})
	return n[0] == n[1] && h[0] == h[1], n[0], err
}
