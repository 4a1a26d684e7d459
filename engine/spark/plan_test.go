package spark

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"testing"

	"lockstep/compile"
	"lockstep/internal/projecttext"
	"lockstep/project"
)

var update = flag.Bool("update", false, "write the golden files")

const planProject = `
-- silver.latest (k): k string, j string, n int, ts timestamp --
WITH r AS (SELECT k, j, n, ts, _deleted, row_number() OVER (PARTITION BY k ORDER BY ts DESC NULLS LAST, _offset DESC, _partition DESC) AS rn FROM bronze.a)
SELECT k, j, n, ts FROM r WHERE rn = 1 AND NOT _deleted
-- gold.month (m; scope m): m string, n bigint --
SELECT substring(cast(l.ts AS string), 1, 7) AS m, cast(sum(l.n) AS bigint) AS n FROM silver.latest l GROUP BY substring(cast(l.ts AS string), 1, 7)
-- gold.named (k, kind): k string, kind string, label string --
SELECT l.k, 'x' AS kind, c.label FROM silver.latest l LEFT JOIN (SELECT id, max(label) AS label FROM bronze.c GROUP BY id) AS c ON l.j = c.id
UNION ALL
SELECT latest.k, 'y' AS kind, w.class AS label FROM silver.latest JOIN seed.words w ON latest.k = w.word
-- gold.seen (n; view): n bigint --
SELECT count(*) AS n FROM gold.month;
`

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

// TestPlan holds the document that the application reads to a golden file.
func TestPlan(t *testing.T) {
	plan, err := NewPlan(compileText(t, planProject))
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(plan, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	const golden = "testdata/plan.json"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, append(got, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(bytes.TrimSpace(want), got) {
		t.Errorf("the plan is not that of %s: if that is meant, run the test with -update and review it\n%s", golden, got)
	}
}
