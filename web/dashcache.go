package web

import (
	"context"
	"sync"
)

// rowsCacheBytes limits what answers of panels take in memory.
const rowsCacheBytes = 64 << 20

// rowsCache keeps the answers to panels of the moment that is served, so that
// many readers of a dashboard cost one query a panel and step. A query that
// several ask for at once runs once.
type rowsCache struct {
	mu      sync.Mutex
	bytes   int
	answers map[string]*cached // by SQL
}

// cached is an answer, or one under way.
type cached struct {
	done chan struct{} // closed when it is there
	rows *panelRows
	err  error
	size int
}

// get gives the answer to a statement: a kept one if it is of the moment now,
// else what ask gives. known: now is told, because somebody listens.
func (c *rowsCache) get(ctx context.Context, sql string, now news, known bool, ask func(context.Context) (*panelRows, error)) (*panelRows, error) {
	c.mu.Lock()
	if old := c.answers[sql]; old != nil && old.usable(now, known) {
		c.mu.Unlock()
		select {
		case <-old.done:
			if old.err == nil && old.rows.Step >= now.Step {
				return old.rows, nil
			}
			return ask(ctx) // its asker may have gone away, or it began too early
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	own := &cached{done: make(chan struct{})}
	c.put(sql, own)
	c.mu.Unlock()
	own.rows, own.err = ask(ctx)
	close(own.done)
	c.keep(sql, own)
	return own.rows, own.err
}

// usable: one under way may turn out to be of now; one that is there must be.
func (a *cached) usable(now news, known bool) bool {
	select {
	case <-a.done:
		return known && a.err == nil && a.rows.Step == now.Step && a.rows.Manifest == now.Manifest && a.rows.Frozen == now.Frozen
	default:
		return true
	}
}

// put replaces the answer to a statement. c.mu is held.
func (c *rowsCache) put(sql string, a *cached) {
	if c.answers == nil {
		c.answers = map[string]*cached{}
	}
	if old := c.answers[sql]; old != nil {
		c.bytes -= old.size
	}
	c.answers[sql] = a
}

// keep counts an answer, and drops all when they are too many.
func (c *rowsCache) keep(sql string, a *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answers[sql] != a {
		return
	}
	if a.err != nil {
		delete(c.answers, sql)
		return
	}
	// A cell takes an interface and often a string.
	a.size = len(sql) + len(a.rows.Rows)*len(a.rows.Columns)*48
	if c.bytes += a.size; c.bytes > rowsCacheBytes {
		c.answers, c.bytes = nil, 0
	}
}
