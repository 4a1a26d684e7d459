package web

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
)

// TestRowsCache asks many times at once and after: one query a moment.
func TestRowsCache(t *testing.T) {
	var c rowsCache
	var asked atomic.Int64
	step := int64(1)
	ask := func(context.Context) (*panelRows, error) {
		asked.Add(1)
		return &panelRows{Step: step, Rows: [][]any{{"a"}}, Columns: []columnJSON{{"x", "string"}}}, nil
	}
	get := func(now news, known bool) *panelRows {
		t.Helper()
		rows, err := c.get(t.Context(), "SELECT 1", now, known, ask)
		if err != nil {
			t.Fatal(err)
		}
		return rows
	}
	get(news{Step: 1}, true)
	get(news{Step: 1}, true)
	if n := asked.Load(); n != 1 {
		t.Errorf("%d queries for one moment, want 1", n)
	}
	step = 2
	if rows := get(news{Step: 2}, true); rows.Step != 2 || asked.Load() != 2 {
		t.Errorf("step %d after %d queries, want 2 after 2", rows.Step, asked.Load())
	}
	get(news{Step: 2}, false)
	if asked.Load() != 3 {
		t.Error("an old answer was given though the moment is not known")
	}
	get(news{Step: 2, Frozen: "rolled back"}, true)
	if asked.Load() != 4 {
		t.Error("an old answer was given though what is served is frozen now")
	}
}

// TestRowsCacheShares runs a query that several wait for once, and hands an
// error to nobody else.
func TestRowsCacheShares(t *testing.T) {
	var c rowsCache
	var asked atomic.Int64
	release, started := make(chan struct{}), make(chan struct{})
	slow := func(context.Context) (*panelRows, error) {
		if asked.Add(1) == 1 {
			close(started)
		}
		<-release
		return &panelRows{Step: 5}, nil
	}
	var wg sync.WaitGroup
	first := func() {
		if _, err := c.get(t.Context(), "q", news{Step: 5}, true, slow); err != nil {
			t.Error(err)
		}
	}
	wg.Go(first)
	<-started
	for range 5 {
		wg.Go(first)
	}
	close(release)
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("%d queries, want 1", n)
	}
	broken := errors.New("broken")
	if _, err := c.get(t.Context(), "other", news{}, true, func(context.Context) (*panelRows, error) { return nil, broken }); !errors.Is(err, broken) {
		t.Errorf("error %v", err)
	}
	if rows, err := c.get(t.Context(), "other", news{}, true, slow); err != nil || rows.Step != 5 {
		t.Errorf("after an error: %v %v", rows, err)
	}
}

// TestRowsCacheTooEarly asks itself where the one under way began before now.
func TestRowsCacheTooEarly(t *testing.T) {
	var c rowsCache
	release, started := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		c.get(t.Context(), "q", news{Step: 1}, true, func(context.Context) (*panelRows, error) {
			close(started)
			<-release
			return &panelRows{Step: 1}, nil
		})
	})
	<-started
	wg.Go(func() {
		rows, err := c.get(t.Context(), "q", news{Step: 2}, true, func(context.Context) (*panelRows, error) { return &panelRows{Step: 2}, nil })
		if err != nil || rows.Step != 2 {
			t.Errorf("step %v, %v: want the step that is served now", rows, err)
		}
	})
	close(release)
	wg.Wait()
}

// TestRowsCacheLimit drops all when they are too many.
func TestRowsCacheLimit(t *testing.T) {
	var c rowsCache
	big := &panelRows{Rows: make([][]any, rowsCacheBytes/48/2+1), Columns: []columnJSON{{"x", "string"}}}
	for _, sql := range []string{"a", "b", "c"} {
		if _, err := c.get(t.Context(), sql, news{}, true, func(context.Context) (*panelRows, error) { return big, nil }); err != nil {
			t.Fatal(err)
		}
	}
	if c.bytes > rowsCacheBytes {
		t.Errorf("%d bytes are kept", c.bytes)
	}
}
