// Package enginetest is the suite that every engine passes: the values of the
// portable functions, and what a step, a recompute, a rebuild and a restart
// promise. An engine is done when Run passes.
package enginetest

import (
	"context"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/internal/projecttext"
	"lockstep/modeltest"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// Run runs the suite. open gives the engine; what it needs it closes with
// t.Cleanup.
func Run(t *testing.T, open func(t *testing.T) engine.Engine) {
	t.Run("values", func(t *testing.T) { testValues(t, open(t)) })
	t.Run("stream", func(t *testing.T) { testStream(t, open(t)) })
	t.Run("given models", func(t *testing.T) { testGiven(t, open(t)) })
	t.Run("histories", func(t *testing.T) { testHistories(t, open(t)) })
}

func compileText(t *testing.T, text string) *compile.Program {
	t.Helper()
	fsys, err := projecttext.FS(text)
	if err != nil {
		t.Fatal(err)
	}
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

// rows makes a record batch of a table: values parted by |, in the order of
// the columns, NULL for null; columns left out at the end are null.
func rows(t *testing.T, columns []project.Column, lines ...string) []arrow.RecordBatch {
	t.Helper()
	var list []modeltest.Row
	for _, line := range lines {
		row := make(modeltest.Row, len(columns))
		for i, v := range strings.Split(line, "|") {
			if v != "NULL" {
				row[i] = &v
			}
		}
		list = append(list, row)
	}
	rec, err := modeltest.Record(columns, list)
	if err != nil {
		t.Fatal(err)
	}
	return []arrow.RecordBatch{rec}
}

func bronze(p *compile.Program, table string) []project.Column {
	for _, s := range p.Project.Sources {
		if s.Table() == table {
			return s.Columns()
		}
	}
	return nil
}

// expect compares a model's rows.
func expect(t *testing.T, what string, columns []project.Column, got []arrow.RecordBatch, want ...string) {
	t.Helper()
	lines, err := modeltest.Difference(columns, rows(t, columns, want...), got)
	if err != nil {
		t.Fatal(err)
	}
	if len(lines) > 0 {
		t.Errorf("%s: - expected, + given\n%s", what, strings.Join(lines, "\n"))
	}
}

const streamProject = `
-- silver.latest (k): k string, j string, n int --
WITH r AS (SELECT k, j, n, _deleted, row_number() OVER (PARTITION BY k ORDER BY ts DESC NULLS LAST, _offset DESC, _partition DESC) AS rn FROM bronze.a)
SELECT k, j, n FROM r WHERE rn = 1 AND NOT _deleted
-- gold.sums (j): j string, n bigint --
SELECT j, cast(sum(n) AS bigint) AS n FROM silver.latest GROUP BY j
-- gold.named (k): k string, label string --
SELECT l.k, c.label FROM silver.latest l LEFT JOIN (SELECT id, max(label) AS label FROM bronze.c GROUP BY id) AS c ON l.j = c.id
-- gold.seen (n; view): n bigint --
SELECT count(*) AS n FROM gold.sums
`

// Rows of bronze.a: k, j, x, n, m, amount, d, flag, ts, _partition, _offset,
// _timestamp, _deleted.
const (
	first   = "k1|red|NULL|1|NULL|NULL|NULL|NULL|2018-01-01|0|0|NULL|false"
	second  = "k2|red|NULL|2|NULL|NULL|NULL|NULL|2018-01-01|0|1|NULL|false"
	moved   = "k1|blue|NULL|5|NULL|NULL|NULL|NULL|2018-01-02|0|2|NULL|false"
	late    = "k1|green|NULL|9|NULL|NULL|NULL|NULL|2017-01-01|0|3|NULL|false"
	deleted = "k2|NULL|NULL|NULL|NULL|NULL|NULL|NULL|2018-01-03|0|4|NULL|true"
	label   = "blue|NULL|Blue|NULL|0|0|NULL|false" // bronze.c
)

func testStream(t *testing.T, eng engine.Engine) {
	ctx := context.Background()
	p := compileText(t, streamProject)
	a := func(lines ...string) engine.Tables {
		return engine.Tables{"bronze.a": rows(t, bronze(p, "bronze.a"), lines...)}
	}
	dir := t.TempDir()
	s, err := eng.Stream(ctx, p, dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { s.Close() }()
	step := func(number int64, in engine.Tables) {
		t.Helper()
		if err := s.Step(ctx, number, in); err != nil {
			t.Fatal(err)
		}
		if s.Last() != number {
			t.Fatalf("Last is %d after step %d", s.Last(), number)
		}
	}
	model := func(what, name string, want ...string) {
		t.Helper()
		got, err := s.Rows(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		expect(t, what+": "+name, p.Model(name).Columns, got, want...)
	}
	if s.Last() != 0 {
		t.Fatalf("Last of a new stream is %d", s.Last())
	}
	model("nothing", "gold.sums")
	step(1, a(first, second))
	model("two rows", "gold.sums", "red|3")
	step(5, a(moved)) // numbers rise, not by one
	model("a row moved", "gold.sums", "red|2", "blue|5")
	step(6, engine.Tables{"bronze.c": rows(t, bronze(p, "bronze.c"), label)})
	model("a lookup arrived", "gold.named", "k1|Blue", "k2|NULL")

	for _, number := range []int64{6, 3, 0, -1} {
		if err := s.Step(ctx, number, a(late)); err == nil {
			t.Fatalf("step %d was taken after step 6", number)
		}
	}
	if s.Last() != 6 {
		t.Errorf("Last is %d after steps that were refused", s.Last())
	}
	model("refused steps", "gold.sums", "red|2", "blue|5")
	for _, name := range []string{"gold.seen", "gold.nothing", "bronze.a"} {
		if _, err := s.Rows(ctx, name); err == nil {
			t.Errorf("the stream gives rows of %s", name)
		}
	}

	reopen := func() {
		t.Helper()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if s, err = eng.Stream(ctx, p, dir); err != nil {
			t.Fatal(err)
		}
	}
	reopen()
	if s.Last() != 6 {
		t.Fatalf("Last is %d after a restart", s.Last())
	}
	step(7, a(late, deleted))
	model("late, and deleted", "gold.sums", "blue|5")
	model("late, and deleted", "gold.named", "k1|Blue")
	step(8, engine.Tables{}) // nothing new is a step too
	model("an empty step", "gold.sums", "blue|5")

	if err := s.Rebuild(ctx, 4, a(first, second, moved)); err != nil {
		t.Fatal(err)
	}
	if s.Last() != 4 {
		t.Errorf("Last is %d after a rebuild at step 4", s.Last())
	}
	model("rebuilt", "gold.sums", "red|2", "blue|5")
	model("rebuilt", "gold.named", "k1|NULL", "k2|NULL")
	reopen()
	step(9, a(late, deleted)) // it goes on from what was rebuilt
	model("after the rebuild", "gold.sums", "blue|5")
}

func testGiven(t *testing.T, eng engine.Engine) {
	ctx := context.Background()
	p := compileText(t, streamProject)
	given := engine.Tables{
		"bronze.a":      rows(t, bronze(p, "bronze.a"), first),
		"silver.latest": rows(t, p.Model("silver.latest").Columns, "k7|red|3", "k8|red|4", "k9|NULL|NULL"),
	}
	got, err := eng.Recompute(ctx, p, given, []string{"gold.sums", "gold.seen"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, "over a given model", p.Model("gold.sums").Columns, got["gold.sums"], "red|7", "NULL|NULL")
	expect(t, "a view over it", p.Model("gold.seen").Columns, got["gold.seen"], "2")
	if got, err = eng.Recompute(ctx, p, nil, []string{"gold.sums", "gold.seen"}); err != nil {
		t.Fatal(err)
	}
	expect(t, "over nothing", p.Model("gold.sums").Columns, got["gold.sums"])
	expect(t, "a view over nothing", p.Model("gold.seen").Columns, got["gold.seen"], "0")
}

func testHistories(t *testing.T, eng engine.Engine) {
	r := &modeltest.Runner{Engine: eng, Program: compileText(t, streamProject)}
	f, err := r.Fuzz(context.Background(), 1, 3, 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		t.Error(f)
	}
}
