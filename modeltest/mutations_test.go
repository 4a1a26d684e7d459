package modeltest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/modeltest"
)

// A project in which each part of a plan matters: a fold with ties, a lookup
// by two hops, a scope that rows leave, and a chain.
const mutated = "testdata/projects/chain.txt"

// That removed rows are followed through the old state and not the new one is
// not among the mutations: a row between that left in the same step leads to
// the scope by itself, so either state finds the same scopes.

// mutations break a compiled program in one place each, and answer whether
// they found it.
var mutations = map[string]func(p *compile.Program) bool{
	"no mapping of added rows": func(p *compile.Program) bool {
		return dropOp(p, "gold.by_month", func(op compile.Op) bool {
			k, ok := op.(*compile.Keys)
			return ok && strings.HasSuffix(k.From, ".added")
		})
	},
	"no mapping of removed rows": func(p *compile.Program) bool {
		return dropOp(p, "gold.by_month", func(op compile.Op) bool {
			k, ok := op.(*compile.Keys)
			return ok && strings.HasSuffix(k.From, ".removed")
		})
	},
	"removed rows of a lookup are not followed": func(p *compile.Program) bool {
		return dropOp(p, "gold.labelled", func(op compile.Op) bool {
			k, ok := op.(*compile.Keys)
			return ok && strings.Contains(k.Out, ".keys") && k.From == "silver.label.removed"
		})
	},
	"a lookup is not followed": func(p *compile.Program) bool {
		return dropOp(p, "gold.labelled", func(op compile.Op) bool {
			k, ok := op.(*compile.Keys)
			return ok && strings.Contains(k.Out, ".keys") && strings.HasSuffix(k.From, ".added")
		})
	},
	"a tie-break is missing": func(p *compile.Program) bool {
		r := relation(p, "bronze.a/first(k)")
		f := *r.Fold
		f.Order = f.Order[:1]
		r.Fold = &f
		return true
	},
	"nulls come first in a tie-break": func(p *compile.Program) bool {
		r := relation(p, "bronze.a/first(k)")
		f := *r.Fold
		f.Order = append([]compile.FoldOrder(nil), f.Order...)
		f.Order[0].NullsFirst = !f.Order[0].NullsFirst
		r.Fold = &f
		return true
	},
	"a fold by too few columns": func(p *compile.Program) bool {
		r := relation(p, "bronze.b/first(k,j)")
		r.Indexes[0].Exprs, r.Indexes[0].Types, r.Indexes[0].Columns = r.Indexes[0].Exprs[:1], r.Indexes[0].Types[:1], r.Indexes[0].Columns[:1]
		for _, op := range r.Step {
			if k, ok := op.(*compile.Keys); ok {
				k.Index = r.Indexes[0]
			}
		}
		return true
	},
	"a fold forgets what it stored": func(p *compile.Program) bool {
		return eachOp(p, "bronze.a/first(k)", func(op compile.Op) bool {
			f, ok := op.(*compile.FoldFirst)
			if ok {
				f.From = f.From[1:]
			}
			return ok
		})
	},
	"an index by another column": func(p *compile.Program) bool {
		r := relation(p, "silver.latest")
		for _, x := range r.Indexes[1:] {
			x.Exprs, x.Columns = []string{"k"}, []int{0}
			return true
		}
		return false
	},
	"rows of an input are not read": func(p *compile.Program) bool {
		return eachOp(p, "gold.labelled", func(op compile.Op) bool {
			e, ok := op.(*compile.Evaluate)
			if ok {
				e.Inputs["silver.label"] = nil
			}
			return ok
		})
	},
	"old rows of a scope are not replaced": func(p *compile.Program) bool {
		return dropOp(p, "gold.by_month", func(op compile.Op) bool { l, ok := op.(*compile.Lookup); return ok && strings.HasSuffix(l.Out, ".old") })
	},
}

func relation(p *compile.Program, name string) *compile.Relation {
	for _, r := range p.Relations {
		if r.Name == name {
			return r
		}
	}
	panic(fmt.Sprintf("there is no relation %s", name))
}

// eachOp changes operations of a relation's step.
func eachOp(p *compile.Program, name string, change func(compile.Op) bool) bool {
	found := false
	for _, op := range relation(p, name).Step {
		found = change(op) || found
	}
	return found
}

func dropOp(p *compile.Program, name string, which func(compile.Op) bool) bool {
	r := relation(p, name)
	for i, op := range r.Step {
		if which(op) {
			r.Step = append(r.Step[:i:i], r.Step[i+1:]...)
			return true
		}
	}
	return false
}

// TestMutations: histories find each part of a plan that is broken on purpose,
// and shrink what they find to a few records that the seed gives again.
func TestMutations(t *testing.T) {
	const enough = 60 // histories within which each must be found
	ctx, eng := context.Background(), sharedEngine(t)
	truth, err := compileText(mutated)
	if err != nil {
		t.Fatal(err)
	}
	for name, mutate := range mutations {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken, err := compileText(mutated)
			if err != nil {
				t.Fatal(err)
			}
			if !mutate(broken) {
				t.Fatal("there was nothing to break")
			}
			r := &modeltest.Runner{Engine: eng, Program: broken, Check: truth}
			f, err := r.Fuzz(ctx, 1, enough, 8, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f == nil {
				t.Fatalf("not found in %d histories", enough)
			}
			records := 0
			for _, line := range f.Trace {
				if strings.HasPrefix(line, "  ") {
					records++
				}
			}
			t.Logf("seed %d, shrunk to %d records", f.Seed, records)
			if records > 8 {
				t.Errorf("shrunk to %d records only:\n%v", records, f)
			}
			again, err := r.Run(ctx, modeltest.Generate(broken, f.Seed, 8, 12))
			if err != nil || again == nil {
				t.Errorf("seed %d does not fail again (%v)", f.Seed, err)
			}
		})
	}
}
