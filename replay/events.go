package replay

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"lockstep/project"
)

const (
	spoolFolder       = "events-" // + identity
	spoolsReady       = "ready.json"
	noTime      int64 = math.MinInt64 // event time of an event without one: first of all
)

// Events are the change events of all topics in order of event time, then
// topic, key and line of the source. Make them with Open.
type Events struct {
	spools  []*spool // by topic
	current *spool
	id      *identity
}

// Open reads or generates the inputs and sorts their events, unless WorkDir
// holds them from an earlier run. When it returns, every input was found good.
func Open(ctx context.Context, c Config) (*Events, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return nil, err
	}
	c.Progress(Progress{Phase: Checking})
	id, err := identify(c)
	if err != nil {
		return nil, err
	}
	return open(ctx, c, id)
}

func open(ctx context.Context, c Config, id *identity) (*Events, error) {
	for _, s := range c.sources() {
		if _, err := newEncoder(s); err != nil {
			return nil, err
		}
	}
	dir := filepath.Join(c.WorkDir, spoolFolder+id.String())
	if _, err := os.Stat(filepath.Join(dir, spoolsReady)); err != nil {
		if err := makeSpools(ctx, c, id, dir); err != nil {
			return nil, err
		}
	}
	e := &Events{id: id}
	for _, s := range c.sources() {
		sp, err := openSpool(ctx, dir, s)
		if err != nil {
			e.Close()
			return nil, err
		}
		e.spools = append(e.spools, sp)
	}
	return e, nil
}

// makeSpools prepares all topics in a folder that counts only once it is
// complete. What other inputs or a crash left in WorkDir is removed.
func makeSpools(ctx context.Context, c Config, id *identity, dir string) error {
	old, err := filepath.Glob(filepath.Join(c.WorkDir, spoolFolder+"*"))
	if err != nil {
		return fmt.Errorf("cannot list %s: %w", c.WorkDir, err)
	}
	for _, d := range old {
		if err := os.RemoveAll(d); err != nil {
			return fmt.Errorf("cannot remove old prepared events: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make a folder for prepared events: %w", err)
	}
	c.Hook("replay.prepare")
	if err := prepare(ctx, c, dir); err != nil {
		os.RemoveAll(dir)
		return err
	}
	if c.Data != "" {
		again, err := identify(c)
		if err != nil {
			return err
		}
		if changed := id.difference(again); len(changed) > 0 {
			os.RemoveAll(dir)
			return fmt.Errorf("cannot replay: %s changed while it was read; start again when nothing writes to %s", strings.Join(changed, ", "), c.Data)
		}
	}
	c.Hook("replay.prepared")
	return writeJSON(filepath.Join(dir, spoolsReady), id)
}

// Counts is the number of events per topic.
func (e *Events) Counts() map[string]int64 {
	counts := map[string]int64{}
	for _, s := range e.spools {
		counts[s.source.Topic] = s.rows
	}
	return counts
}

// Total is the number of events of all topics.
func (e *Events) Total() int64 {
	var n int64
	for _, s := range e.spools {
		n += s.rows
	}
	return n
}

// Event is a view of one change event, valid until the next call of Next.
type Event struct {
	Source  *project.Source
	Key     string            // the key column as text
	Time    int64             // event time, microseconds; see HasTime
	Ordinal int64             // position in the topic, from 0
	Batch   arrow.RecordBatch // columns: the schema's fields, then the key's text
	Row     int               // of Batch
}

// HasTime says whether the event has an event time. Those without come first.
func (e *Event) HasTime() bool { return e.Time != noTime }

// Next reads the next event into ev; false at the end.
func (e *Events) Next(ev *Event) (bool, error) {
	if err := e.advance(); err != nil || e.current == nil {
		return false, err
	}
	s := e.current
	*ev = Event{Source: s.source, Key: s.keys.Value(s.row), Time: s.time(), Ordinal: s.ordinal, Batch: s.batch, Row: s.row}
	return true, nil
}

// advance moves the spool that gave the last event, or all of them at first,
// and picks the earliest. Ties go to the topic first in the alphabet, since
// spools are in that order.
func (e *Events) advance() error {
	if e.current != nil {
		if err := e.current.next(); err != nil {
			return err
		}
	} else if err := e.start(); err != nil {
		return err
	}
	e.current = nil
	earliest := int64(math.MaxInt64)
	for _, s := range e.spools {
		if s.ended {
			continue
		}
		if t := s.time(); e.current == nil || t < earliest {
			e.current, earliest = s, t
		}
	}
	return nil
}

func (e *Events) start() error {
	for _, s := range e.spools {
		if s.row < 0 || s.batch == nil {
			if err := s.next(); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *spool) time() int64 {
	if s.times.IsNull(s.row) {
		return noTime
	}
	return int64(s.times.Value(s.row))
}

// Close releases the files. They stay in WorkDir for the next run.
func (e *Events) Close() error {
	for _, s := range e.spools {
		s.close()
	}
	e.spools = nil
	return nil
}
