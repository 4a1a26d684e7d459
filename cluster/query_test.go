package cluster

import (
	"errors"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/project"
	"lockstep/serve"
)

func TestReadOnly(t *testing.T) {
	for _, c := range []struct{ sql, want string }{
		{"SELECT 1;", "SELECT * FROM (\nSELECT 1\n)"},
		{"-- why\n/* and\nhow */ with t AS (SELECT 1) SELECT * FROM t -- end", "SELECT * FROM (\nwith t AS (SELECT 1) SELECT * FROM t -- end\n)"},
		{"(SELECT 1) UNION ALL (SELECT 2)", "SELECT * FROM (\n(SELECT 1) UNION ALL (SELECT 2)\n)"},
		{"VALUES (1)", "SELECT * FROM (\nVALUES (1)\n)"},
		{"SHOW TABLES IN silver", "SHOW TABLES IN silver"},
		{"DESCRIBE silver.x", "DESCRIBE silver.x"},
		{"DROP TABLE lake.silver.x", ""},
		{"/* SELECT */ DELETE FROM lake.silver.x", ""},
		{"", ""},
	} {
		got, err := readOnly(c.sql)
		if got != c.want || (err == nil) != (c.want != "") || err != nil && !errors.Is(err, serve.ErrQuery) {
			t.Errorf("%q becomes %q, %v", c.sql, got, err)
		}
	}
}

func TestQueryError(t *testing.T) {
	err := queryError(&spark.SQLError{Message: "no column; line 3 pos 4"})
	if !errors.Is(err, serve.ErrQuery) || !strings.HasSuffix(err.Error(), "line 2 pos 4") {
		t.Errorf("the error is %v", err)
	}
}

func TestServedSQL(t *testing.T) {
	text := func(s string) project.Type { ty, _ := project.ParseType(s); return ty }
	r := &compile.Relation{Name: "gold.x", Columns: []project.Column{{Name: "k", Type: text("string")}, {Name: "at", Type: text("timestamp")}}}
	r.Scope = r.Columns[:1]
	if got, want := servedSQL(r, "f1", "lake.gold.x VERSION AS OF 7", "", 3, newest), "SELECT k, at FROM lake.gold.x VERSION AS OF 7"; got != want {
		t.Errorf("without a stream it is %s", got)
	}
	got := servedSQL(r, "f1", "lake.gold.x VERSION AS OF 7", "lake.lockstep.speed VERSION AS OF 9", 3, 5)
	for _, part := range []string{"model = 'gold.x' AND fingerprint = 'f1' AND step > 3 AND step <= 5", "b.k <=> t.s.k", "'`k` string, `at` timestamp_ntz'", "LEFT ANTI JOIN", "NOT empty"} {
		if !strings.Contains(got, part) {
			t.Errorf("%s is not in %s", part, got)
		}
	}
}

func TestTextSQL(t *testing.T) {
	if got, want := textSQL("it's \\ a\nline"), `'it\'s \\ a\nline'`; got != want {
		t.Errorf("it is %s, want %s", got, want)
	}
}

func TestMentioned(t *testing.T) {
	p := &compile.Program{Project: &project.Project{Sources: []*project.Source{{Topic: "a"}}}, Models: []*compile.Model{
		{Model: &project.Model{Name: "silver.b", Materialized: project.Incremental}, Reads: []string{"bronze.a"}},
		{Model: &project.Model{Name: "gold.c", Materialized: project.View}, Reads: []string{"silver.b"}}}}
	n := names{program: p, tables: allTables(p)}
	if got := strings.Join(n.closure(n.mentioned("SELECT * FROM Gold . `C`")), " "); got != "silver.b gold.c" {
		t.Errorf("a view needs %s", got)
	}
}
