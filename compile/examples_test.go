package compile

import (
	"os"
	"testing"

	"lockstep/project"
)

// TestBundledProject compiles every project under examples/.
func TestExamples(t *testing.T) {
	entries, err := os.ReadDir("../examples")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		p, err := project.Load(os.DirFS("../examples/" + e.Name()))
		if err != nil {
			t.Fatalf("%s:\n%v", e.Name(), err)
		}
		prog, err := Compile(p)
		if err != nil {
			t.Fatalf("%s:\n%v", e.Name(), err)
		}
		for _, r := range prog.Relations {
			t.Log(r.Name, r.Kind)
			for _, x := range r.Indexes {
				t.Log("   index", x.ID, x.Exprs, x.Columns)
			}
			for _, op := range r.Step {
				t.Log("      ", op)
			}
		}
	}
}
