//go:build stack

package stack_test

import (
	"context"
	"log/slog"
	"testing"

	"lockstep/deploy/stack"

	"lockstep/cluster"
	"lockstep/project"
)

// TestDoctor: every part of a stack that is up is found well, and nothing of
// what the doctor made is left.
func TestDoctor(t *testing.T) {
	config := settings(t, up(t, stack.Core, stack.Spark))
	p := &project.Project{Sources: []*project.Source{{Topic: "doctor.none"}}}
	for _, when := range []string{"first", "again"} {
		d := &cluster.Doctor{Report: func(c cluster.Check) { t.Logf("%s: %+v", when, c) }}
		cluster.Examine(t.Context(), d, p, config, slog.Default())
		for _, c := range d.Checks() {
			if c.State != cluster.CheckOK {
				t.Errorf("%s: %s %s is %s: %s (%s)", when, c.Part, c.Asked, c.State, c.Found, c.Remedy)
			}
		}
		if len(d.Checks()) < 15 {
			t.Errorf("%s: only %d checks", when, len(d.Checks()))
		}
	}
	l, err := cluster.OpenLake(context.Background(), config, slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	left, err := l.Objects().List(t.Context(), "doctor/")
	if err != nil || len(left) > 0 {
		t.Errorf("objects %v are left, %v", left, err)
	}
}
