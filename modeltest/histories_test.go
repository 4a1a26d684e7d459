package modeltest_test

import (
	"context"
	"flag"
	"os"
	"testing"
	"time"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/modeltest"
	"lockstep/project"
)

var (
	bundledHistories  = flag.Int("histories", 20, "random histories of the bundled project")
	smallHistories    = flag.Int("small", 50, "random histories of each small project")
	acceptedHistories = flag.Int("accepted", 2, "random histories of each project text that the compiler's tests accept")
	seed              = flag.Uint64("seed", 0, "seed of the first history; 0: by the clock")
)

func firstSeed(t *testing.T) uint64 {
	if *seed != 0 {
		return *seed
	}
	s := uint64(time.Now().UnixNano()) >> 10
	t.Logf("first seed %d (replay with -seed %d -histories 1 -small 1 -accepted 1 for the first)", s, s)
	return s
}

// sharedEngine runs every recompute and stream of a test in one instance of
// DuckDB: opening one takes longer than a small history's step.
func sharedEngine(t *testing.T) engine.Engine {
	t.Helper()
	instance, err := duckdb.Options{Threads: 1}.Connector()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { instance.Close() })
	return duckdb.Engine{Instance: instance}
}

func load(t *testing.T, dir string) *compile.Program {
	t.Helper()
	p, err := project.Load(os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

func TestHistoriesOfTheBundledProject(t *testing.T) {
	r := &modeltest.Runner{Engine: sharedEngine(t), Program: load(t, "../examples/olist")}
	f, err := r.Fuzz(context.Background(), firstSeed(t), *bundledHistories, 8, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		t.Fatal(f)
	}
}
