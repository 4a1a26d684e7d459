// Package modeltest runs a project's unit tests and random histories on an
// engine: as `lockstep test` for users, and as our own proof that the stream is
// always what a full recompute gives.
package modeltest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"lockstep/compile"
	"lockstep/engine"
)

// Failure is a history after which the stream is not what a full recompute
// over the same events gives.
type Failure struct {
	Seed  uint64
	Step  int // from 1
	Model string
	Lines []string // rows: - missing in the stream, + only in the stream
	Trace []string // the events, step by step
	Err   error    // set instead of Lines where the engine failed
}

func (f *Failure) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: after step %d the stream of %s is not what a full recompute gives\n", f.Seed, f.Step, f.Model)
	if f.Err != nil {
		b.Reset()
		fmt.Fprintf(&b, "seed %d: step %d failed: %v\n", f.Seed, f.Step, f.Err)
	}
	for _, l := range f.Lines {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	b.WriteString("events:\n")
	for _, l := range f.Trace {
		fmt.Fprintf(&b, "  %s\n", l)
	}
	return b.String()
}

// Runner runs histories of one project on one engine.
type Runner struct {
	Engine  engine.Engine
	Program *compile.Program
	// Check compiles what a full recompute runs; nil: Program. Tests of the
	// tests run a broken plan against the true one.
	Check *compile.Program
}

// Run takes every step of a history and compares every model after each. It
// answers nil, or the first difference; err is for what is not the project's
// fault.
func (r *Runner) Run(ctx context.Context, h *History) (*Failure, error) {
	dir, err := os.MkdirTemp("", "lockstep-history-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a folder for the stream's state: %w", err)
	}
	defer os.RemoveAll(dir)
	stream, err := r.Engine.Stream(ctx, r.Program, dir)
	if err != nil {
		return nil, err
	}
	defer func() { stream.Close() }()
	var past []Event
	for i, s := range h.Steps {
		fail := func(err error) *Failure {
			return &Failure{Seed: h.Seed, Step: i + 1, Err: err, Trace: trace(r.Program, h, i)}
		}
		if stream, err = r.disturb(ctx, stream, s, dir, i, past); err != nil {
			return fail(err), nil
		}
		rows, err := Tables(r.Program, s.Events)
		if err != nil {
			return nil, err
		}
		if err := stream.Step(ctx, int64(i+1), rows); err != nil {
			return fail(err), nil
		}
		past = append(past, s.Events...)
		f, err := r.compare(ctx, stream, past)
		if err != nil {
			return fail(err), nil
		}
		if f != nil {
			f.Seed, f.Step, f.Trace = h.Seed, i+1, trace(r.Program, h, i)
			return f, nil
		}
	}
	return nil, nil
}

// disturb restarts the stream, or throws its state away and rebuilds it.
func (r *Runner) disturb(ctx context.Context, stream engine.Stream, s HistoryStep, dir string, last int, past []Event) (engine.Stream, error) {
	if !s.Restart && !s.Lose {
		return stream, nil
	}
	if err := stream.Close(); err != nil {
		return stream, err
	}
	if s.Lose {
		if err := os.RemoveAll(dir); err != nil {
			return stream, err
		}
	}
	opened, err := r.Engine.Stream(ctx, r.Program, dir)
	if err != nil {
		return stream, err
	}
	if s.Lose && last > 0 {
		all, err := Tables(r.Program, past)
		if err != nil {
			return opened, err
		}
		err = opened.Rebuild(ctx, int64(last), all)
		if err != nil {
			return opened, err
		}
	}
	if opened.Last() != int64(last) {
		return opened, fmt.Errorf("after a restart the stream stands at step %d, not %d", opened.Last(), last)
	}
	return opened, nil
}

func (r *Runner) compare(ctx context.Context, stream engine.Stream, past []Event) (*Failure, error) {
	truth := r.Check
	if truth == nil {
		truth = r.Program
	}
	all, err := Tables(truth, past)
	if err != nil {
		return nil, err
	}
	names := Incremental(truth)
	want, err := r.Engine.Recompute(ctx, truth, all, names)
	if err != nil {
		return nil, err
	}
	defer release(want)
	for _, name := range names {
		got, err := stream.Rows(ctx, name)
		if err != nil {
			return nil, err
		}
		lines, err := Difference(truth.Model(name).Columns, want[name], got)
		if err != nil {
			return nil, err
		}
		if len(lines) > 0 {
			return &Failure{Model: name, Lines: lines}, nil
		}
	}
	return nil, nil
}

func release(t engine.Tables) {
	for _, batches := range t {
		for _, b := range batches {
			b.Release()
		}
	}
}

func trace(p *compile.Program, h *History, last int) []string {
	var out []string
	for i, s := range h.Steps[:last+1] {
		line := fmt.Sprintf("step %d", i+1)
		if s.Lose {
			line += " (state lost before it)"
		} else if s.Restart {
			line += " (restarted before it)"
		}
		out = append(out, line)
		for _, e := range s.Events {
			out = append(out, "  "+e.describe(p))
		}
	}
	return out
}

// Shrink makes a failing history smaller while it still fails, for at most a
// number of tries, and answers the last failure.
func (r *Runner) Shrink(ctx context.Context, h *History, f *Failure, tries int) (*History, *Failure) {
	h = &History{Seed: h.Seed, Steps: append([]HistoryStep(nil), h.Steps[:f.Step]...)}
	attempt := func(smaller *History) bool {
		if tries--; tries < 0 {
			return false
		}
		g, err := r.Run(ctx, smaller)
		if err != nil || g == nil {
			return false
		}
		h, f = smaller, g
		h.Steps = h.Steps[:g.Step]
		return true
	}
	for again := true; again && tries > 0; {
		again = false
		for i := 0; i < len(h.Steps); i++ { // whole steps, then what befell them
			if attempt(h.without(i)) {
				again = true
				i--
				continue
			}
			if h.Steps[i].Restart || h.Steps[i].Lose {
				again = attempt(h.calm(i)) || again
			}
		}
		for i := 0; i < len(h.Steps); i++ { // half of a step, down to single events
			for size := (len(h.Steps[i].Events) + 1) / 2; size > 0; size /= 2 {
				for at := 0; i < len(h.Steps) && at < len(h.Steps[i].Events); {
					if attempt(h.drop(i, at, size)) {
						again = true
					} else {
						at += size
					}
				}
				if i >= len(h.Steps) {
					break
				}
			}
		}
	}
	return h, f
}

func (h *History) clone() *History {
	return &History{Seed: h.Seed, Steps: append([]HistoryStep(nil), h.Steps...)}
}

func (h *History) without(i int) *History {
	c := h.clone()
	c.Steps = append(c.Steps[:i:i], c.Steps[i+1:]...)
	return c
}

func (h *History) calm(i int) *History {
	c := h.clone()
	c.Steps[i].Restart, c.Steps[i].Lose = false, false
	return c
}

func (h *History) drop(i, at, n int) *History {
	c := h.clone()
	events := c.Steps[i].Events
	c.Steps[i].Events = append(append([]Event(nil), events[:at]...), events[min(at+n, len(events)):]...)
	return c
}

// Fuzz runs histories with seeds from first on and answers the first failure,
// shrunk; nil if there is none. progress, if given, is told after each.
func (r *Runner) Fuzz(ctx context.Context, first uint64, histories, steps int, progress func(done int)) (*Failure, error) {
	for i := range histories {
		h := Generate(r.Program, first+uint64(i), steps, 12)
		f, err := r.Run(ctx, h)
		if err != nil {
			return nil, err
		}
		if f != nil {
			_, f = r.Shrink(ctx, h, f, 300)
			return f, nil
		}
		if progress != nil {
			progress(i + 1)
		}
		if ctx.Err() != nil {
			return nil, errors.Join(ctx.Err())
		}
	}
	return nil, nil
}
