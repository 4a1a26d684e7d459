package serve_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/modeltest"
	"lockstep/project"
)

// TestRunInParts: a scheduler that asks again for a run that it published is
// told of it, and a run that it gave up is forgotten once another one of a
// later step is published.
func TestRunInParts(t *testing.T) {
	seed := uint64(time.Now().UnixNano()) >> 12
	t.Logf("seed %d", seed)
	b := newBench(t, -1)
	h := modeltest.Generate(b.prog, seed, 4, 10)
	var names []string
	for _, m := range b.prog.Models {
		if m.Materialized != project.View {
			names = append(names, m.Name)
		}
	}
	step := func(n int) {
		b.step(int64(n), h.Steps[n-1].Events)
		b.commit(int64(n))
	}
	begin := func() string {
		t.Helper()
		run, err := b.runner.Begin(b.ctx)
		b.ok(err)
		return run.ID
	}

	step(1)
	step(2)
	given := begin()
	step(3)
	id := begin()
	_, err := b.runner.Evaluate(b.ctx, id, names)
	b.ok(err)
	first, err := b.runner.Publish(b.ctx, id)
	b.ok(err)
	again, err := b.runner.Publish(b.ctx, id)
	b.ok(err)
	if again.Manifest.ID != first.Manifest.ID || again.Pin.Step != 3 || len(again.Drift) > 0 {
		t.Errorf("published was manifest %d, told of %+v", first.Manifest.ID, again)
	}
	if _, err := b.runner.Publish(b.ctx, "nothing"); err == nil || !strings.Contains(err.Error(), "nothing") {
		t.Errorf("a run that never was: %v", err)
	}

	next := begin()
	ids, err := b.runner.Runs()
	b.ok(err)
	if !slices.Equal(ids, []string{next}) {
		t.Errorf("runs are %v; %s was given up, %s was begun", ids, given, next)
	}
}
