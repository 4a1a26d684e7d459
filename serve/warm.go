package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"lockstep/compile"
	"lockstep/engine/duckdb"

	"github.com/apache/arrow-go/v18/arrow"
)

// A dashboard asks for the same models again and again, while the merged view
// of a model costs a scan of the batch's files and a join with all that changed
// since. So models that are asked for repeatedly get a warm copy: their rows as
// of one step, in a table in memory, which stands under the changes after that
// step just as the batch's table does under those after its own. Queries see the
// same rows at the same step as without; a copy is made anew when a tenth of it
// has changed, and dropped when nobody asks any more, when it would take too
// much memory, and when the base changes. Verification never reads copies.
type warm struct {
	every  time.Duration
	budget int64 // bytes of all copies
	copier *duckdb.Session
	stop   context.CancelFunc
	done   chan struct{}

	// Under Server.mu:
	reads   map[string][]string // table -> the incremental models that it is made of
	asked   map[string][2]time.Time
	copies  map[string]*copied
	changed map[string]int64 // scopes that changed since the copy
	base    map[string]string
	numbers int64
	not     time.Time // no copies before, because memory was short
}

// copied is the copy of one model, as of a step.
type copied struct {
	table string
	step  int64
	rows  int64
	bytes int64
}

const (
	warmEvery = time.Second
	// warmFor is how long a copy is kept, and how soon a model must be asked
	// for again to get one.
	warmFor = 30 * time.Second
	// warmLeast changes are joined rather than copied.
	warmLeast = 1000
)

// startWarm begins to keep copies; c.Warm below 0: only Warm does.
func (s *Server) startWarm(ctx context.Context) error {
	w := &s.warm
	w.every, w.budget = s.cfg.Warm, s.cfg.MemoryLimit/4
	if w.every == 0 {
		w.every = warmEvery
	}
	if w.budget == 0 {
		w.budget = 256 << 20
	}
	w.asked, w.copies, w.changed = map[string][2]time.Time{}, map[string]*copied{}, map[string]int64{}
	w.reads = readsOf(s.cfg.Program)
	var err error
	if w.copier, err = duckdb.NewSession(ctx, s.connector); err != nil || w.every < 0 {
		return err
	}
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	w.stop, w.done = stop, make(chan struct{})
	go s.keepWarm(background)
	return nil
}

func (s *Server) stopWarm() error {
	if s.warm.stop != nil {
		s.warm.stop()
		<-s.warm.done
	}
	if s.warm.copier == nil {
		return nil
	}
	return s.warm.copier.Close()
}

func (s *Server) keepWarm(ctx context.Context) {
	defer close(s.warm.done)
	tick := time.NewTicker(s.warm.every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if err := s.Warm(ctx, time.Now()); err != nil && ctx.Err() == nil {
			slog.Debug("queries read without copies for a while", "error", err)
		}
	}
}

// readsOf follows the views of a program down to its incremental models.
func readsOf(p *compile.Program) map[string][]string {
	out := map[string][]string{}
	var follow func(name string, into map[string]bool)
	follow = func(name string, into map[string]bool) {
		switch m := p.Model(name); {
		case m == nil:
		case m.Relation != nil:
			into[name] = true
		default:
			for _, r := range m.Reads {
				follow(r, into)
			}
		}
	}
	for _, m := range p.Models {
		found := map[string]bool{}
		follow(m.Name, found)
		for name := range found {
			out[m.Name] = append(out[m.Name], name)
		}
	}
	return out
}

// note remembers that a statement asks for models. It looks for their names
// only: a copy too many or too few changes no answer.
func (s *Server) note(sql string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for table, models := range s.warm.reads {
		if !strings.Contains(sql, table) {
			continue
		}
		for _, m := range models {
			if last := s.warm.asked[m][1]; last != now {
				s.warm.asked[m] = [2]time.Time{last, now}
			}
		}
	}
}

// Warm makes the copies that are due at a time, and drops those that nobody
// asks for.
func (s *Server) Warm(ctx context.Context, now time.Time) error {
	for _, m := range s.incremental() {
		due, err := s.due(ctx, m, now)
		if err == nil && due {
			err = s.copy(ctx, m)
		}
		if err != nil {
			s.mu.Lock()
			s.warm.not = now.Add(time.Minute)
			s.mu.Unlock()
			return fmt.Errorf("cannot keep a copy of %s: %w", m.Name, err)
		}
	}
	return nil
}

func (s *Server) due(ctx context.Context, m *compile.Model, now time.Time) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := &s.warm
	c, asked := w.copies[m.Name], w.asked[m.Name]
	if now.Sub(asked[1]) > warmFor {
		if c == nil {
			return false, nil
		}
		return false, s.transaction(ctx, func() error { return s.cool(ctx, m) })
	}
	if now.Before(w.not) || now.Sub(asked[0]) > warmFor {
		return false, nil
	}
	return c == nil || w.changed[m.Name] > max(warmLeast, c.rows/10), nil
}

// copy makes a copy beside the writer, as of the step that its transaction
// sees, and puts it under the model's view.
func (s *Server) copy(ctx context.Context, m *compile.Model) error {
	s.mu.Lock()
	s.warm.numbers++
	c := &copied{table: fmt.Sprintf("memory.overlay.%s_warm_%d", flat(m.Name), s.warm.numbers)}
	changed, room := s.warm.changed[m.Name], s.room(m.Name)
	s.mu.Unlock()
	generation, fits, err := s.make(ctx, m, c, room)
	if err != nil || !fits {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.generation != generation { // a manifest was taken over meanwhile
		return s.writer.Exec(ctx, "DROP TABLE "+c.table)
	}
	err = s.transaction(ctx, func() error {
		if err := s.dropCopy(ctx, m.Name); err != nil {
			return err
		}
		return createView(ctx, s.writer, "", m.Name, "SELECT * FROM "+servedSQL(m.Relation, c.table, generation, c.step, newest))
	})
	if err != nil {
		return errors.Join(err, s.writer.Exec(context.WithoutCancel(ctx), "DROP TABLE "+c.table))
	}
	s.warm.copies[m.Name] = c
	s.warm.changed[m.Name] -= changed
	return nil
}

// room is how much memory a model's copy may take beside the others.
func (s *Server) room(model string) int64 {
	left := s.warm.budget
	for name, c := range s.warm.copies {
		if name != model {
			left -= c.bytes
		}
	}
	return left
}

// cellBytes is about what a value takes in memory: ids are longer than numbers.
const cellBytes = 24

func (s *Server) make(ctx context.Context, m *compile.Model, c *copied, room int64) (generation int, fits bool, err error) {
	d := s.warm.copier
	if err := d.Exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return 0, false, err
	}
	end := "ROLLBACK"
	defer func() { err = errors.Join(err, d.Exec(context.WithoutCancel(ctx), end)) }()
	err = d.Each(ctx, "SELECT step, generation, (SELECT count(*) FROM "+m.Name+") FROM memory.overlay.meta", func(rec arrow.RecordBatch) error {
		c.step, generation, c.rows = int64Of(rec.Column(0), 0), int(int64Of(rec.Column(1), 0)), int64Of(rec.Column(2), 0)
		return nil
	})
	if err != nil {
		return 0, false, err
	}
	if c.bytes = c.rows * int64(len(m.Columns)) * cellBytes; c.bytes > room {
		return 0, false, nil
	}
	if err := d.Exec(ctx, "CREATE TABLE "+c.table+" AS SELECT * FROM "+m.Name); err != nil {
		return 0, false, err
	}
	end = "COMMIT"
	return generation, true, nil
}

// cool puts a model's view on the batch's table again. s.mu is held, in a
// transaction of the writer.
func (s *Server) cool(ctx context.Context, m *compile.Model) error {
	after := int64(0)
	if s.base != nil {
		after = s.base.Step
	}
	if err := createView(ctx, s.writer, "", m.Name, "SELECT * FROM "+servedSQL(m.Relation, s.warm.base[m.Name], s.generation, after, newest)); err != nil {
		return err
	}
	if err := s.dropCopy(ctx, m.Name); err != nil {
		return err
	}
	delete(s.warm.copies, m.Name)
	delete(s.warm.asked, m.Name)
	return nil
}

func (s *Server) dropCopy(ctx context.Context, model string) error {
	if c := s.warm.copies[model]; c != nil {
		return s.writer.Exec(ctx, "DROP TABLE "+c.table)
	}
	return nil
}

// dropCopies belongs to a transaction of the writer that sets all views anew;
// forgetCopies to its success.
func (s *Server) dropCopies(ctx context.Context) error {
	for name := range s.warm.copies {
		if err := s.dropCopy(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Server) forgetCopies() {
	clear(s.warm.copies)
	clear(s.warm.changed)
}
