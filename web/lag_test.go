package web

import (
	"testing"
	"time"
)

func TestLagAge(t *testing.T) {
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		seen [][3]int64 // second, read, end
		want float64
	}{
		"nothing seen":       {},
		"nothing waits":      {[][3]int64{{0, 5, 5}, {9, 5, 5}}, 0},
		"stuck":              {[][3]int64{{0, 5, 7}, {1, 5, 9}, {60, 5, 100}}, 60},
		"behind but moving":  {[][3]int64{{0, 0, 10}, {5, 10, 20}, {8, 15, 30}}, 3},
		"caught up in time":  {[][3]int64{{0, 0, 10}, {5, 9, 20}, {6, 20, 20}}, 0},
		"end did not move":   {[][3]int64{{0, 0, 10}, {30, 9, 10}}, 30},
		"log made anew":      {[][3]int64{{0, 0, 10}, {3, 3, 3}}, 0},
		"log made and read":  {[][3]int64{{0, 0, 10}, {3, 10, 10}, {4, 2, 2}}, 0},
		"read goes backward": {[][3]int64{{0, 10, 10}, {5, 4, 10}, {7, 4, 10}}, 2},
	} {
		var l LagAge
		for _, s := range c.seen {
			l.Observe("t", 0, s[1], s[2], begin.Add(time.Duration(s[0])*time.Second))
			l.Observe("t", 1, s[2], s[2], begin.Add(time.Duration(s[0])*time.Second))
		}
		if got := l.Seconds("t"); got != c.want {
			t.Errorf("%s: %v seconds, want %v", name, got, c.want)
		}
	}
}

// TestLagAgeBounded: a reader that stands still for ever costs bounded memory,
// and its age stays exact.
func TestLagAgeBounded(t *testing.T) {
	var l LagAge
	begin := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	for i := range int64(100_000) {
		l.Observe("t", 0, 0, i+1, begin.Add(time.Duration(i)*time.Second))
	}
	if n := len(l.topic["t"][0].ends); n > lagEnds {
		t.Errorf("%d ends are kept", n)
	}
	if got := l.Seconds("t"); got != 99_999 {
		t.Errorf("%v seconds", got)
	}
}
