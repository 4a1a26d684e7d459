package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// How often the step is looked up while somebody listens, and how often a
// listener hears something even if nothing moves.
const (
	livePace  = 250 * time.Millisecond
	livePulse = 5 * time.Second
)

// live tells listeners of each step. One look-up serves all of them, and none
// is made while nobody listens.
type live struct {
	backend Backend

	mu        sync.Mutex
	listeners map[chan news]bool
	last      news
	stop      context.CancelFunc
}

// news is what is served now.
type news struct {
	Step     int64  `json:"step"`
	Manifest int64  `json:"manifest"`
	Frozen   string `json:"frozen,omitempty"`
	Error    string `json:"error,omitempty"`
}

func newLive(b Backend) *live { return &live{backend: b, listeners: map[chan news]bool{}} }

// serve answers GET /api/live with server-sent events: `step` whenever what is
// served moves, and every few seconds in between as a sign of life.
func (l *live) serve(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1000\n\n")
	heard := l.join()
	defer l.leave(heard)
	closing, _ := r.Context().Value(closingKey{}).(chan struct{})
	pulse := time.NewTicker(livePulse)
	defer pulse.Stop()
	var n news
	for {
		select {
		case n = <-heard:
		case <-pulse.C:
		case <-r.Context().Done():
			return
		case <-closing:
			return
		}
		text, _ := json.Marshal(n)
		if _, err := fmt.Fprintf(w, "event: step\ndata: %s\n\n", text); err != nil || out.Flush() != nil {
			return
		}
	}
}

func (l *live) join() chan news {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := make(chan news, 1)
	if len(l.listeners) == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		l.stop, l.last = cancel, news{Step: -1}
		go l.watch(ctx)
	} else if l.last.Step >= 0 {
		c <- l.last
	}
	l.listeners[c] = true
	return c
}

func (l *live) leave(c chan news) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.listeners, c)
	if len(l.listeners) == 0 {
		l.stop()
	}
}

// now gives what is served; known only while somebody listens.
func (l *live) now() (n news, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.last, len(l.listeners) > 0 && l.last.Step >= 0 && l.last.Error == ""
}

func (l *live) watch(ctx context.Context) {
	tick := time.NewTicker(livePace)
	defer tick.Stop()
	for {
		now := l.look(ctx)
		if ctx.Err() != nil {
			return
		}
		l.tell(now)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *live) look(ctx context.Context) news {
	result, err := l.backend.Query(ctx, Query{SQL: "SELECT 1"})
	if err != nil {
		return news{Error: err.Error()}
	}
	defer result.Rows.Release()
	return news{Step: result.Step, Manifest: result.Manifest, Frozen: result.Frozen}
}

// tell hands news on. A listener that did not take the last gets only the new.
func (l *live) tell(now news) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now == l.last {
		return
	}
	l.last = now
	for c := range l.listeners {
		select {
		case <-c:
		default:
		}
		c <- now
	}
}
