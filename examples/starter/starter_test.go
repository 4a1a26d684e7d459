package starter_test

import (
	"testing"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/examples/starter"
	"lockstep/modeltest"
	"lockstep/project"
)

// TestStarter wants the project that init makes to compile, and to pass its own
// tests and a few random histories.
func TestStarter(t *testing.T) {
	p, err := project.Load(starter.FS)
	if err != nil {
		t.Fatal(err)
	}
	if p.Name != starter.Name {
		t.Errorf("the project is named %s, init replaces %s", p.Name, starter.Name)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	results, err := modeltest.RunUnit(t.Context(), duckdb.Engine{}, program, p.Tests)
	if err != nil || len(results) == 0 {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Passed() {
			t.Errorf("%s, as %s: %v %v", r.Test.Name, r.Form, r.Err, r.Lines)
		}
	}
	runner := modeltest.Runner{Engine: duckdb.Engine{}, Program: program}
	failure, err := runner.Fuzz(t.Context(), 1, 3, 5, nil)
	if err != nil {
		t.Fatal(err)
	}
	if failure != nil {
		t.Error(failure)
	}
}
