package olist

import (
	"testing"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/project"
)

// TestDashboards tries every statement that the dashboards can make.
func TestDashboards(t *testing.T) {
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
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
		for _, f := range []string{"category", "product", "seller", "period", "group"} {
			if d.Filter(f) == nil {
				t.Errorf("%s has no filter %s", d.File, f)
			}
		}
	}
	want := []string{"sales_detail", "delivery_monitor", "why_sales_differ"}
	if len(names) != 3 || names[0] != want[0] || names[1] != want[1] || names[2] != want[2] {
		t.Errorf("dashboards %q, want %q", names, want)
	}
}
