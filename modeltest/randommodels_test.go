package modeltest_test

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/internal/projecttext"
	"lockstep/modeltest"
	"lockstep/project"
)

var (
	randomModels = flag.Int("models", 40, "random models that the compiler may accept or refuse")
	perModel     = flag.Int("per-model", 3, "random histories of each random model that it accepts")
)

// modelGenerator writes random SELECTs: joins of every kind, nested queries,
// groups, windows, unions and folds. Every query has the string columns c0 and c1.
type modelGenerator struct {
	*rand.Rand
	n int // aliases given
}

var stringColumns = map[string][]string{
	"bronze.a": {"k", "j", "x"}, "bronze.b": {"k", "j", "y"}, "bronze.c": {"id", "up", "label"}, "bronze.link": {"src", "dst"}, "seed.words": {"word", "class"},
}

var tableNames = []string{"bronze.a", "bronze.a", "bronze.b", "bronze.b", "bronze.c", "bronze.link", "seed.words"}

func (g *modelGenerator) one(list ...string) string { return list[g.IntN(len(list))] }

func (g *modelGenerator) alias() string {
	g.n++
	return fmt.Sprintf("q%d", g.n)
}

func (g *modelGenerator) query(depth int) string {
	if depth <= 0 {
		return g.table()
	}
	switch g.IntN(12) {
	case 0, 1, 2, 3, 4:
		return g.join(depth)
	case 5:
		return g.comma(depth)
	case 6:
		s := g.alias()
		e := g.expr(s)
		return fmt.Sprintf("SELECT %s AS c0, %s(%s) AS c1 FROM (%s) AS %s GROUP BY %s", e, g.one("min", "max"), g.expr(s), g.query(depth-1), s, e)
	case 7:
		s := g.alias()
		return fmt.Sprintf("SELECT %s.c0 AS c0, max(%s.c1) OVER (PARTITION BY %s.%s) AS c1 FROM (%s) AS %s", s, s, s, g.one("c0", "c0", "c1"), g.query(depth-1), s)
	case 8, 9:
		return fmt.Sprintf("SELECT u.c0, u.c1 FROM (%s %s %s) AS u", g.query(depth-1), g.one("UNION ALL", "UNION"), g.query(depth-1))
	case 10:
		s := g.alias()
		return fmt.Sprintf("SELECT DISTINCT %s AS c0, %s AS c1 FROM (%s) AS %s", g.expr(s), g.expr(s), g.query(depth-1), s)
	}
	return g.fold()
}

func (g *modelGenerator) table() string {
	name, s := g.one(tableNames...), g.alias()
	columns := stringColumns[name]
	c := func() string { return s + "." + g.one(columns...) }
	where := ""
	switch g.IntN(5) {
	case 0:
		where = " WHERE " + c() + " IS NOT NULL"
	case 1:
		where = " WHERE " + c() + " <> 'k1'"
	}
	return fmt.Sprintf("SELECT %s AS c0, %s AS c1 FROM %s AS %s%s", c(), c(), name, s, where)
}

func (g *modelGenerator) fold() string {
	name := g.one("bronze.a", "bronze.b", "bronze.c")
	columns := stringColumns[name]
	s := g.alias()
	return fmt.Sprintf("SELECT %s.f AS c0, %s.v AS c1 FROM (SELECT %s AS f, %s AS v, row_number() OVER (PARTITION BY %s ORDER BY ts DESC, _offset DESC, _partition DESC) AS rn FROM %s) AS %s WHERE %s.rn = 1",
		s, s, columns[0], g.one(columns...), columns[0], name, s, s)
}

// expr is over the columns of one alias.
func (g *modelGenerator) expr(s string) string {
	c := s + "." + g.one("c0", "c0", "c1")
	switch g.IntN(8) {
	case 0:
		return "coalesce(" + c + ", 'k1')"
	case 1:
		return "substring(" + c + ", 1, 1)"
	case 2:
		return "CASE WHEN " + c + " IS NULL THEN 'k2' ELSE " + c + " END"
	}
	return c
}

func (g *modelGenerator) join(depth int) string {
	l, r := g.alias(), g.alias()
	kind := g.one("INNER", "LEFT", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")
	lk, rk := g.expr(l), g.expr(r)
	if kind == "FULL" || g.IntN(2) == 0 {
		lk, rk = l+".c0", r+".c0"
	}
	on := lk + " = " + rk
	if g.IntN(4) == 0 {
		on += " AND " + g.expr(l) + " = " + g.expr(r)
	}
	if g.IntN(6) == 0 {
		on += " AND " + g.expr(r) + " <> 'k2'"
	}
	side := func() string { return g.one(l, l, r) }
	c0, c1 := g.expr(side()), g.expr(side())
	switch {
	case kind == "SEMI" || kind == "ANTI":
		c0, c1 = g.expr(l), g.expr(l)
	case kind == "FULL":
		c0 = "coalesce(" + lk + ", " + rk + ")"
	case g.IntN(3) > 0:
		c0 = lk
	}
	from := fmt.Sprintf("(%s) AS %s %s JOIN (%s) AS %s ON %s", g.query(depth-1), l, kind, g.query(depth-2), r, on)
	if g.IntN(3) == 0 { // a third table, on either of the two
		at := g.alias()
		left := g.one(l, r)
		if kind == "SEMI" || kind == "ANTI" {
			left = l
		}
		third := g.one("INNER", "LEFT", "RIGHT", "FULL", "SEMI", "ANTI")
		from += fmt.Sprintf(" %s JOIN (%s) AS %s ON %s = %s", third, g.query(depth-2), at, g.expr(left), g.expr(at))
		if third != "SEMI" && third != "ANTI" && g.IntN(2) == 0 {
			c1 = g.expr(at)
		}
	}
	where := ""
	if kind != "SEMI" && kind != "ANTI" && g.IntN(5) == 0 {
		where = " WHERE " + g.expr(l) + " = " + g.expr(r)
	}
	return fmt.Sprintf("SELECT %s AS c0, %s AS c1 FROM %s%s", c0, c1, from, where)
}

func (g *modelGenerator) comma(depth int) string {
	l, r := g.alias(), g.alias()
	return fmt.Sprintf("SELECT %s AS c0, %s AS c1 FROM (%s) AS %s, (%s) AS %s WHERE %s = %s",
		g.expr(l), g.expr(g.one(l, r)), g.query(depth-1), l, g.query(depth-1), r, g.expr(l), g.expr(r))
}

// model is a project text of one random model, or of two where the second
// reads the first.
func (g *modelGenerator) model() string {
	head := "-- %s (c0, c1; scope %s): c0 string, c1 string, n bigint --\nSELECT q.c0, q.c1, count(*) AS n FROM (%s) AS q GROUP BY q.c0, q.c1\n"
	return fmt.Sprintf(head, "gold.t", g.one("c0", "c0", "c0", "c0, c1"), g.query(2+g.IntN(2)))
}

// TestRandomModels: the compiler may refuse a model, but what it accepts is in
// step. This looks for proofs that are wrong, in SQL that nobody thought of.
func TestRandomModels(t *testing.T) {
	first, eng := firstSeed(t), sharedEngine(t)
	accepted := 0
	for i := range uint64(*randomModels) {
		g := &modelGenerator{Rand: rand.New(rand.NewPCG(first+i, 11))}
		text := g.model()
		prog, err := compileString(text)
		if err != nil {
			if !strings.Contains(err.Error(), "gold/t.sql") {
				t.Fatalf("seed %d: %v\n%s", first+i, err, text)
			}
			continue
		}
		accepted++
		r := &modeltest.Runner{Engine: eng, Program: prog}
		f, err := r.Fuzz(context.Background(), first+i, *perModel, 6, nil)
		if err != nil {
			t.Fatal(err)
		}
		if f != nil {
			t.Errorf("model seed %d was accepted and is not in step:\n%s\n%v", first+i, text, f)
		}
	}
	t.Logf("%d of %d random models were accepted", accepted, *randomModels)
}

func compileString(text string) (*compile.Program, error) {
	fsys, err := projecttext.FS(text)
	if err != nil {
		return nil, err
	}
	p, err := project.Load(fsys)
	if err != nil {
		return nil, err
	}
	return compile.Compile(p)
}
