package olist_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"lockstep/bench"
	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/modeltest"
	"lockstep/project"
	"lockstep/replay"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
)

// TestSampleSteps takes the whole sample step by step, and compares every
// model with a full recompute and both with the figures expected.
func TestSampleSteps(t *testing.T) {
	data, _ := sample(t)
	stepRows := 5000
	if s := os.Getenv("STEP_ROWS"); s != "" {
		fmt.Sscan(s, &stepRows)
	}
	events := open(t, replay.Config{Data: data})
	prog := compiled(t)
	ctx := context.Background()
	eng := duckdb.Engine{}
	stream, err := eng.Open(ctx, prog, t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	all := engine.Tables{}
	start, spent := time.Now(), time.Duration(0)
	steps := 0
	err = bench.Feed(events, stepRows, func(step int64, rows engine.Tables) error {
		for table, batches := range rows {
			all[table] = append(all[table], batches...)
		}
		at := time.Now()
		defer func() { spent += time.Since(at); steps++ }()
		return stream.Step(ctx, step, rows)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events in %d steps: %v in steps, %v in all, %.0f events/s", events.Total(), steps, spent, time.Since(start), float64(events.Total())/spent.Seconds())
	var names []string
	for _, m := range prog.Models {
		names = append(names, m.Name)
	}
	at := time.Now()
	want, err := eng.Recompute(ctx, prog, all, names)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("full recompute %v", time.Since(at))
	for _, m := range prog.Models {
		if m.Relation == nil {
			continue
		}
		got, err := stream.Rows(ctx, m.Name)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := modeltest.Difference(m.Columns, want[m.Name], got)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines {
			t.Errorf("%s: %s", m.Name, l)
		}
		t.Logf("%-40s %7d rows", m.Name, count(got))
	}
}

func count(batches []arrow.RecordBatch) (n int64) {
	for _, b := range batches {
		n += b.NumRows()
	}
	return n
}

func compiled(t *testing.T) *compile.Program {
	t.Helper()
	p, err := project.Load(os.DirFS("."))
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}
