package batch

import (
	"errors"
	"slices"
	"testing"

	"lockstep/lake"
)

// TestStores: both keep runs the same.
func TestStores(t *testing.T) {
	l, err := lake.Open(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, s := range map[string]Store{"files": files{t.TempDir()}, "objects": Shared{l.Objects()}} {
		t.Run(name, func(t *testing.T) { testStore(t, s) })
	}
}

func testStore(t *testing.T, s Store) {
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	begun := func(id string) *Run {
		return &Run{ID: id, Pin: Pin{Step: 3, Offsets: map[string]map[int32]int64{"a": {0: 7}}}, Tables: map[string]int64{}, Rows: map[string]int64{}, Seconds: map[string]float64{}}
	}
	run := begun("r1")
	must(s.Begin(ctx, run))
	must(s.Begin(ctx, begun("r2")))
	// Two processes at the same run: neither knows of the other's model.
	run.Tables["silver.a"], run.Rows["silver.a"] = 11, 5
	must(s.Note(ctx, run, "silver.a"))
	got, err := s.Load(ctx, "r1")
	must(err)
	if got.Tables["silver.a"] != 11 || got.Rows["silver.a"] != 5 || got.Pin.Offsets["a"][0] != 7 {
		t.Errorf("it loads %+v", got)
	}
	if ids, err := s.Runs(ctx); err != nil || !slices.Equal(ids, []string{"r1", "r2"}) {
		t.Errorf("the runs are %v, %v", ids, err)
	}
	must(s.Drop(ctx, "r1"))
	must(s.Drop(ctx, "r1"))
	for _, id := range []string{"r1", "../r2", ""} {
		if _, err := s.Load(ctx, id); !errors.Is(err, ErrNoRun) {
			t.Errorf("run %q: %v", id, err)
		}
	}
	if text, err := s.Drift(ctx, 4); text != nil || err != nil {
		t.Errorf("drift that was not kept is %s, %v", text, err)
	}
	must(s.KeepDrift(ctx, 4, []byte("{}")))
	if text, err := s.Drift(ctx, 4); string(text) != "{}" || err != nil {
		t.Errorf("the drift is %s, %v", text, err)
	}
}
