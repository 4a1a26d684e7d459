package olist

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/project"
	"lockstep/render/superset"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestSuperset holds the dashboards as Superset gets them, so that a change of a
// model, a column or a panel is seen in review.
func TestSuperset(t *testing.T) {
	p, err := project.Load(FS)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	list, err := dashboard.Check(t.Context(), FS, program)
	if err != nil {
		t.Fatal(err)
	}
	b, err := superset.Make(program, list, superset.Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		fmt.Fprintf(&got, "-- %s --\n%s", name, b.Files[name])
	}
	const golden = "testdata/superset.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	for i, line := range strings.Split(got.String(), "\n") {
		if expected := strings.Split(string(want), "\n"); i >= len(expected) || expected[i] != line {
			t.Fatalf("line %d is %q; if that is meant, run go test ./examples/olist -run Superset -update", i+1, line)
		}
	}
	kinds := map[string]string{"rank_by_category": "table", "rank_by_product": "table", "portfolio_matrix": "bubble_v2", "review_distribution": "sankey_v2",
		"quantity_by_month": "echarts_timeseries_bar", "sales_by_month": "echarts_area", "lead_days_by_month": "para",
		"delivery_status": "table", "order_detail": "table", "order_location": "deck_scatter"}
	for _, c := range b.Charts {
		if kind := kinds[c.Panel]; kind != "" && c.Type != kind {
			t.Errorf("panel %s is a %s, want %s", c.Panel, c.Type, kind)
		}
		delete(kinds, c.Panel)
	}
	if len(kinds) > 0 {
		t.Errorf("panels without a chart: %v", kinds)
	}
}
