package serve_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"lockstep/batch"
	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/modeltest"
	"lockstep/project"
	"lockstep/serve"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
)

// plants is a small project with a coarse scope, a lookup that is deleted, a
// view and a batch model.
var plants = fstest.MapFS{
	"project.yaml":        file("name: plants\n"),
	"sources.yaml":        file("topics:\n  height:\n    key: plant\n    event_time: seen\n  plant:\n    key: plant\n    event_time: seen\n    tombstone: delete\n"),
	"schemas/height.avsc": file(`{"type":"record","name":"height","fields":[{"name":"plant","type":"string"},{"name":"cm","type":["null",{"type":"bytes","logicalType":"decimal","precision":8,"scale":2}]},{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}`),
	"schemas/plant.avsc":  file(`{"type":"record","name":"plant","fields":[{"name":"plant","type":"string"},{"name":"bed","type":["null","string"]},{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}`),
	"models/silver/plant.sql": file(`/*
description: latest of each plant
unique_key: [plant]
columns:
  - {name: plant, type: string, description: key}
  - {name: bed, type: string, description: where it grows}
*/
WITH numbered AS (
  SELECT p.plant, p.bed, p._deleted, row_number() OVER (PARTITION BY p.plant ORDER BY p.seen DESC NULLS LAST, p.bed DESC NULLS LAST, p._offset DESC, p._partition DESC) AS n FROM bronze.plant p
)
SELECT n.plant, n.bed FROM numbered n WHERE n.n = 1 AND NOT n._deleted`),
	"models/silver/growth.sql": file(`/*
description: heights by plant and bed
unique_key: [plant]
columns:
  - {name: plant, type: string, description: key}
  - {name: bed, type: string, description: where it grows}
  - {name: cm, type: "decimal(18,2)", description: sum of heights}
*/
SELECT h.plant, p.bed, sum(h.cm) AS cm FROM bronze.height h LEFT JOIN silver.plant p ON h.plant = p.plant GROUP BY h.plant, p.bed`),
	"models/gold/bed.sql": file(`/*
description: beds
unique_key: [bed]
columns:
  - {name: bed, type: string, description: key}
  - {name: plants, type: bigint, description: how many}
  - {name: cm, type: "decimal(18,2)", description: sum of heights}
*/
SELECT g.bed, count(*) AS plants, sum(g.cm) AS cm FROM silver.growth g GROUP BY g.bed`),
	"models/gold/tallest.sql": file(`/*
description: the tallest of all
materialized: batch
unique_key: [cm]
columns:
  - {name: cm, type: "decimal(18,2)", description: height}
*/
SELECT max(g.cm) AS cm FROM silver.growth g`),
	"models/gold/share.sql": file(`/*
description: share of each bed
materialized: view
unique_key: [bed]
columns:
  - {name: bed, type: string, description: key}
  - {name: share, type: double, description: part of all}
*/
SELECT b.bed, CAST(b.cm AS double) / nullif(CAST(t.cm AS double), 0) AS share FROM gold.bed b CROSS JOIN (SELECT sum(a.cm) AS cm FROM gold.bed a) t`),
}

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func compiled(t *testing.T, fsys fs.FS) *compile.Program {
	t.Helper()
	p, err := project.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

// bench is a stream, a lake and a server that are driven by hand.
type bench struct {
	t      *testing.T
	ctx    context.Context
	prog   *compile.Program
	lake   *lake.Lake
	stream *duckdb.Stream
	server *serve.Server
	runner *batch.Runner
	bronze map[string]*lake.Bronze
	wait   engine.Tables // not committed to bronze yet
	all    engine.Tables
	end    map[string]map[int32]int64
	pin    batch.Pin
	ends   map[int64]map[string]map[int32]int64
}

// newBench makes copies by hand, unless warm says how often they are looked at.
func newBench(t *testing.T, warm time.Duration) *bench {
	b := &bench{t: t, ctx: context.Background(), prog: compiled(t, plants), bronze: map[string]*lake.Bronze{}, wait: engine.Tables{}, all: engine.Tables{}, end: map[string]map[int32]int64{}, ends: map[int64]map[string]map[int32]int64{0: {}}}
	dir := t.TempDir()
	var err error
	b.lake, err = lake.Open(b.ctx, filepath.Join(dir, "lake"))
	b.ok(err)
	b.stream, err = duckdb.Engine{}.Open(b.ctx, b.prog, filepath.Join(dir, "speed"), store.Options{})
	b.ok(err)
	b.server, err = serve.Open(b.ctx, serve.Config{Program: b.prog, Lake: b.lake, Warm: warm})
	b.ok(err)
	for _, s := range b.prog.Project.Sources {
		b.bronze[s.Table()], err = b.lake.Bronze(b.ctx, s.Table(), s.Columns())
		b.ok(err)
	}
	b.runner = &batch.Runner{Program: b.prog, Lake: b.lake, Serving: b, Dir: filepath.Join(dir, "batch"), Log: slog.Default(),
		Pin: func(context.Context) (batch.Pin, error) { return b.pin, nil }}
	t.Cleanup(func() {
		b.ok(errors.Join(b.server.Close(), b.stream.Close(), b.lake.Close()))
	})
	return b
}

func (b *bench) ok(err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) Compare(ctx context.Context, step int64, tables map[string]int64) ([]batch.Difference, error) {
	all, err := b.server.Compare(ctx, step, tables)
	var out []batch.Difference
	for _, c := range all {
		if c.Different() > 0 {
			out = append(out, batch.Difference{Model: c.Model, Rows: c.Different(), Sample: c.Sample})
		}
	}
	return out, err
}

func (b *bench) Publish(ctx context.Context, m lake.Manifest) error {
	if err := b.server.Publish(ctx, m); err != nil {
		return err
	}
	return b.stream.DropChanges(m.Step)
}

func (b *bench) step(n int64, events []modeltest.Event) {
	b.t.Helper()
	rows, err := modeltest.Tables(b.prog, events)
	b.ok(err)
	for table, batches := range rows {
		b.wait[table] = append(b.wait[table], batches...)
		b.all[table] = append(b.all[table], batches...)
		topic := table[len("bronze."):]
		for _, rec := range batches {
			p, o := int(rec.NumCols())-4, int(rec.NumCols())-3
			for i := range int(rec.NumRows()) {
				part, off := int32(num(rec.Column(p), i)), num(rec.Column(o), i)
				if b.end[topic] == nil {
					b.end[topic] = map[int32]int64{}
				}
				b.end[topic][part] = max(b.end[topic][part], off+1)
			}
		}
	}
	b.ends[n] = clone(b.end)
	changes, err := b.stream.StepChanges(b.ctx, n, rows)
	b.ok(err)
	b.ok(b.server.Apply(b.ctx, n, changes, rows))
}

func clone(o map[string]map[int32]int64) map[string]map[int32]int64 {
	out := map[string]map[int32]int64{}
	for t, parts := range o {
		out[t] = map[int32]int64{}
		for p, v := range parts {
			out[t][p] = v
		}
	}
	return out
}

func num(a arrow.Array, i int) (n int64) {
	fmt.Sscan(a.ValueStr(i), &n)
	return n
}

// commit makes bronze hold everything up to a step.
func (b *bench) commit(n int64) {
	b.t.Helper()
	b.pin = batch.Pin{Step: n, Offsets: b.ends[n], Bronze: map[string]int64{}}
	for table, handle := range b.bronze {
		id, err := handle.Append(b.ctx, b.wait[table], lake.Position{TopicID: "t", Offsets: b.end[table[len("bronze."):]], Step: n})
		b.ok(err)
		b.pin.Bronze[table] = id
	}
	b.wait = engine.Tables{}
	b.ok(b.server.Committed(b.ctx, serve.Bronze{Step: n, End: b.pin.Offsets, Tables: b.pin.Bronze}))
}

// check compares what a query sees with a full recompute.
func (b *bench) check(step int64) {
	b.t.Helper()
	names := []string{"silver.plant", "silver.growth", "gold.bed", "gold.share", "bronze.height", "bronze.plant"}
	want, err := duckdb.Engine{}.Recompute(b.ctx, b.prog, b.all, names)
	b.ok(err)
	for _, name := range names {
		rows, err := b.server.Query(b.ctx, "SELECT * FROM "+name, "", "")
		b.ok(err)
		if rows.Step != step {
			b.t.Fatalf("the query saw step %d, not %d", rows.Step, step)
		}
		var got []arrow.RecordBatch
		for rows.Next() {
			rec := rows.RecordBatch()
			rec.Retain()
			got = append(got, rec)
		}
		b.ok(rows.Err())
		columns := columnsOf(b.prog, name)
		lines, err := modeltest.Difference(columns, want[name], got)
		b.ok(err)
		for _, l := range lines {
			b.t.Errorf("step %d: %s: %s", step, name, l)
		}
		rows.Release()
	}
	if b.t.Failed() {
		b.t.FailNow()
	}
}

func columnsOf(p *compile.Program, table string) []project.Column {
	if m := p.Model(table); m != nil {
		return m.Columns
	}
	for _, s := range p.Project.Sources {
		if s.Table() == table {
			return s.Columns()
		}
	}
	return nil
}

// copies wants that many warm copies.
func (b *bench) copies(want int64) {
	b.t.Helper()
	rows, err := b.server.Query(b.ctx, "SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%_warm_%'", "", "")
	b.ok(err)
	defer rows.Release()
	for rows.Next() {
		if got := num(rows.RecordBatch().Column(0), 0); got != want {
			b.t.Fatalf("there are %d copies, not %d", got, want)
		}
	}
}

// expires wants upkeep to leave of a bronze table what is served and what a
// manifest names, not every snapshot that was served once.
func (b *bench) expires() {
	b.t.Helper()
	_, err := b.lake.Maintain(b.ctx, nil, lake.Upkeep{KeepSnapshots: 1})
	b.ok(err)
	manifests, err := b.lake.Manifests(b.ctx)
	b.ok(err)
	left, err := b.lake.Snapshots(b.ctx, "bronze.height")
	b.ok(err)
	if len(left) > len(manifests)+1 {
		b.t.Fatalf("%d snapshots of bronze are left, with %d manifests", len(left), len(manifests))
	}
}

// TestServedIsRecomputed holds, over random histories with commits and batch
// runs in between, that every query is what a full recompute gives at its step.
func TestServedIsRecomputed(t *testing.T) {
	t.Run("copies by hand", func(t *testing.T) { servedIsRecomputed(t, -1) })
	t.Run("copies beside", func(t *testing.T) { servedIsRecomputed(t, time.Millisecond) })
}

func servedIsRecomputed(t *testing.T, warm time.Duration) {
	seed := uint64(time.Now().UnixNano()) >> 12
	t.Logf("seed %d", seed)
	b := newBench(t, warm)
	h := modeltest.Generate(b.prog, seed, 14, 10)
	for i, s := range h.Steps {
		n := int64(i + 1)
		b.step(n, s.Events)
		b.check(n)
		if warm < 0 && i%4 == 1 { // on copies, which the next steps change
			b.ok(b.server.Warm(b.ctx, time.Now()))
			b.copies(3)
			b.check(n)
		}
		if warm < 0 && i%4 == 3 {
			b.ok(b.server.Warm(b.ctx, time.Now().Add(time.Hour)))
			b.copies(0)
			b.check(n)
		}
		if i%3 == 1 {
			b.commit(n)
			b.check(n)
		}
		if i%5 == 4 { // pinned at the last commit, behind what is served
			rep, err := b.runner.Whole(b.ctx)
			b.ok(err)
			if len(rep.Drift) > 0 {
				t.Fatalf("drift: %+v", rep.Drift)
			}
			b.check(n)
		}
		all, err := b.server.Verify(b.ctx, n, b.ends[n])
		b.ok(err)
		for _, c := range all {
			if c.Different() > 0 {
				t.Fatalf("verify: %+v", c)
			}
		}
	}
	b.expires()
	base := b.server.Base()
	all, err := b.server.VerifyPublished(b.ctx, *base)
	b.ok(err)
	if len(all) != 4 {
		t.Fatalf("%d published tables were verified, not 4", len(all))
	}
	for _, c := range all {
		if c.Different() > 0 {
			t.Errorf("published: %+v", c)
		}
	}
}
