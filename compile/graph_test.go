package compile_test

import (
	"encoding/json"
	"testing"

	"lockstep/compile"
)

// TestGraphAndExplain: lineage in its three forms and the explanation of each
// model, of a project that has every kind of input.
func TestGraphAndExplain(t *testing.T) {
	forEach(t, "testdata/explained/*.txt", func(t *testing.T, file string) {
		text, want := readCase(t, file)
		p, err := compileText(text)
		if err != nil {
			t.Fatal(err)
		}
		g := compile.Graph(p)
		asJSON, err := json.Marshal(g.Nodes[len(g.Nodes)-1])
		if err != nil {
			t.Fatal(err)
		}
		got := g.Text() + "\n" + g.Mermaid() + "\n" + string(asJSON) + "\n"
		for _, m := range p.Models {
			got += "\n" + compile.Explain(p, m.Name).Text()
		}
		checkCase(t, file, "graph and explanations", text, want, got)
	})
}

func TestExplainUnknownModel(t *testing.T) {
	p, err := compileText("-- gold.t (k): k string --\nSELECT DISTINCT k FROM bronze.a")
	if err != nil {
		t.Fatal(err)
	}
	if compile.Explain(p, "gold.nothing") != nil {
		t.Error("there is an explanation of no model")
	}
}
