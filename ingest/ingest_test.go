package ingest

import (
	"fmt"
	"slices"
	"testing"
)

// things makes records of topic thing, spread over its topic partitions.
func (w *world) things(e encoder, from, n int) {
	w.t.Helper()
	for i := from; i < from+n; i++ {
		w.produce(record("thing", int32(i%2), fmt.Sprint("k", i%7), e.value(w.t, map[string]any{"id": fmt.Sprint("k", i%7), "count": i})))
	}
}

func same(t testing.TB, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %d rows, want %d", what, len(got), len(want))
		for i := range max(len(got), len(want)) {
			g, x := "-", "-"
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				x = want[i]
			}
			if g != x {
				t.Errorf("first difference at %d:\n got %s\nwant %s", i, g, x)
				return
			}
		}
	}
}

func TestRowsReachBronzeAndConsumer(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	speed := &collector{}
	w.things(e, 0, 100)
	r := w.run(speed)
	r.caughtUp()
	w.things(e, 100, 100)
	r.caughtUp()
	got := speed.sorted("bronze.thing")
	if len(got) != 200 {
		t.Fatalf("the consumer got %d rows", len(got))
	}
	same(t, "bronze", w.bronzeRows(r.lake, "bronze.thing"), got)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}

	// Again, with the consumer at an earlier step.
	again := &collector{}
	w.things(e, 200, 50)
	r = w.run(again)
	r.caughtUp()
	w.things(e, 250, 50)
	r.caughtUp()
	if len(again.sorted("bronze.thing")) != 300 {
		t.Errorf("formed again: %d rows", len(again.sorted("bronze.thing")))
	}
	for i, s := range speed.steps {
		if s2 := again.steps[i]; s2.Number != s.Number || s2.Accepted != s.Accepted || !s2.Again {
			t.Errorf("step %d: %d rows, formed again %d", s.Number, s.Accepted, s2.Accepted)
		}
	}
	same(t, "bronze again", w.bronzeRows(r.lake, "bronze.thing"), again.sorted("bronze.thing"))
}
