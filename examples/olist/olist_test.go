package olist

import (
	"testing"

	"lockstep/project"
)

// TestProjectLoads reads the embedded project as a user's folder is read: a
// file that the embedding missed or a header that is wrong is a fault.
func TestProjectLoads(t *testing.T) {
	p, err := project.Load(FS)
	if err != nil {
		t.Fatal(err)
	}
	if len(p.Sources) != 9 {
		t.Errorf("%d topics, want 9", len(p.Sources))
	}
	tested := map[string]bool{}
	for _, u := range p.Tests {
		tested[u.Model] = true
	}
	for _, m := range p.Models {
		if !tested[m.Name] {
			t.Errorf("%s has no unit test", m.Name)
		}
	}
}

// TestUnitTestsNameColumns finds a given or expected column that no table has:
// such a typing error would make a test that asks nothing.
func TestUnitTestsNameColumns(t *testing.T) {
	p, err := project.Load(FS)
	if err != nil {
		t.Fatal(err)
	}
	columns := tableColumns(p)
	for _, u := range p.Tests {
		for table, rows := range u.Given {
			checkRows(t, u, table, columns[table], rows)
		}
		checkRows(t, u, u.Model, columns[u.Model], u.Expect)
	}
}

func tableColumns(p *project.Project) map[string]map[string]bool {
	columns := map[string]map[string]bool{}
	add := func(table string, list []project.Column) {
		columns[table] = map[string]bool{}
		for _, c := range list {
			columns[table][c.Name] = true
		}
	}
	for _, s := range p.Sources {
		add(s.Table(), s.Columns())
	}
	for _, m := range p.Models {
		add(m.Name, m.Columns)
	}
	return columns
}

func checkRows(t *testing.T, u *project.UnitTest, table string, columns map[string]bool, rows []project.Row) {
	t.Helper()
	if columns == nil {
		t.Errorf("%s:%d: %q gives %s, which is no table", u.File, u.Line, u.Name, table)
		return
	}
	for _, row := range rows {
		for name := range row.Values {
			if !columns[name] {
				t.Errorf("%s:%d: %q: %s has no column %s", u.File, row.Line, u.Name, table, name)
			}
		}
	}
}
