package modeltest_test

import (
	"context"
	"strings"
	"testing"

	"lockstep/internal/projecttext"
	"lockstep/modeltest"
	"lockstep/project"

	"lockstep/compile"
)

// TestUnitTestsOfTheBundledProject runs every unit test of the example in every form.
func TestUnitTestsOfTheBundledProject(t *testing.T) {
	prog := load(t, "../examples/olist")
	results, err := modeltest.RunUnit(context.Background(), sharedEngine(t), prog, prog.Project.Tests)
	if err != nil {
		t.Fatal(err)
	}
	streams := 0
	for _, r := range results {
		if strings.HasPrefix(r.Form, "stream") {
			streams++
		}
		if !r.Passed() {
			t.Errorf("%s (%s): %v\n%s", r.Test.Name, r.Form, r.Err, strings.Join(r.Lines, "\n"))
		}
	}
	t.Logf("%d tests in %d forms, %d of them streams", len(prog.Project.Tests), len(results), streams)
	if streams < len(prog.Project.Tests) {
		t.Errorf("only %d stream forms", streams)
	}
}

const unitProject = `
-- silver.latest (k): k string, n int --
WITH r AS (SELECT k, n, _deleted, row_number() OVER (PARTITION BY k ORDER BY ts DESC NULLS LAST, _offset DESC, _partition DESC) AS rn FROM bronze.a)
SELECT k, n FROM r WHERE rn = 1 AND NOT _deleted
-- gold.total (k): k string, n bigint, m bigint --
SELECT k, cast(sum(n) AS bigint) AS n, count(*) AS m FROM silver.latest GROUP BY k
-- gold.all_of_it (n; view): n bigint --
SELECT cast(sum(n) AS bigint) AS n FROM gold.total
-- tests/t.yaml --
- name: latest
  model: gold.total
  given:
    bronze.a:
      - {k: k1, n: 1, ts: 2018-01-01 00:00:00}
      - {k: k1, n: 2, ts: 2018-01-01 00:00:00}
      - {k: k2, n: 5}
      - {k: k2, _deleted: true, ts: 2018-01-01}
  expect:
    - {k: k1, n: 2}
- name: model
  model: gold.total
  given:
    silver.latest: [{k: k1, n: 3}, {k: k1, n: 4}]
  expect: [{k: k1, n: 7, m: 2}]
- name: view
  model: gold.all_of_it
  given:
    silver.latest: [{k: k1, n: 3}, {k: k2, n: 4}]
  expect: [{n: 7}]
- name: none
  model: gold.total
  given: {bronze.a: []}
  expect: []
- name: wrong
  model: gold.total
  given:
    silver.latest: [{k: k1, n: 3}]
  expect:
    - {k: k1, n: 4}
- name: no number
  model: gold.total
  given:
    silver.latest: [{k: k1, n: three}]
  expect: []
- name: no column
  model: gold.total
  given:
    silver.latest: [{k: k1, q: 3}]
  expect: []
`

// TestRunUnit: what passes passes in all forms, and what does not says where.
func TestRunUnit(t *testing.T) {
	fsys, err := projecttext.FS(unitProject)
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
	results, err := modeltest.RunUnit(context.Background(), sharedEngine(t), prog, p.Tests)
	if err != nil {
		t.Fatal(err)
	}
	forms, says := map[string]int{}, map[string]string{}
	for _, r := range results {
		forms[r.Test.Name]++
		if r.Err != nil {
			says[r.Test.Name] = r.Err.Error()
		} else if len(r.Lines) > 0 {
			says[r.Test.Name] = strings.Join(r.Lines, "\n")
		}
	}
	for name, want := range map[string]struct {
		forms int
		says  string
	}{
		"latest":    {5, ""},
		"model":     {5, ""},
		"view":      {5, ""},
		"none":      {5, ""},
		"wrong":     {5, "tests/t.yaml:30: expected, but not there: k=\"k1\" n=4\ntests/t.yaml:25: there, but not expected: k=\"k1\" n=3"},
		"no number": {1, "tests/t.yaml:34: silver.latest: column n: \"three\" is not an int"},
		"no column": {1, "tests/t.yaml:39: silver.latest: there is no column q"},
	} {
		if forms[name] != want.forms || says[name] != want.says {
			t.Errorf("%s: %d forms, says %q; want %d, %q", name, forms[name], says[name], want.forms, want.says)
		}
	}
}
