// Package batch is the batch layer: a full recompute of every model from
// bronze at a pinned step, compared with what was served at that step, and
// published by one manifest.
//
// It reads bronze snapshots and the tables of its own run, never the state of
// the stream: that makes it the independent check. A run is a file: it can be
// done in parts, by several processes one after another, and goes on after a
// crash with the models that are missing.
package batch

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"
)

// Pin names a step that bronze holds whole: what a run recomputes.
type Pin struct {
	Step    int64
	Offsets map[string]map[int32]int64 // end of the step, by topic and topic partition
	Bronze  map[string]int64           // snapshot by bronze table; it may hold rows beyond the step
}

// Difference is how a model's batch differs from what was served.
type Difference struct {
	Model  string   `json:"model"`
	Rows   int64    `json:"rows"` // that differ
	Sample []string `json:"sample"`
}

// Serving is what a run is compared with, and what takes it over.
type Serving interface {
	// Compare gives the models that differ. It may answer ErrNotServed.
	Compare(ctx context.Context, step int64, tables map[string]int64) ([]Difference, error)
	Publish(ctx context.Context, m lake.Manifest) error
}

// ErrNotServed says that nothing was served at a run's step to compare with,
// as after a rebuild.
var ErrNotServed = errors.New("nothing was served at the step of the run")

// Runner does batch runs of one project.
type Runner struct {
	Program  *compile.Program
	Lake     *lake.Lake
	Serving  Serving
	Pin      func(ctx context.Context) (Pin, error)
	Dir      string // state folder of runs and of drift found, where there is no Store
	Store    Store
	Options  duckdb.Options // where there are no Tables
	Tables   Tables         // who evaluates the models; nil: DuckDB, in this process
	Parallel int            // models at a time; 0: 2
	Hook     func(point string)
	Log      *slog.Logger
	// Doing is told what the layer does; empty: nothing.
	Doing func(what string)

	mu sync.Mutex // one run at a time
}

// Run is the state of a run, as its file holds it.
type Run struct {
	ID           string             `json:"id"`
	Started      time.Time          `json:"started"`
	Pin          Pin                `json:"pin"`
	Fingerprints map[string]string  `json:"fingerprints"` // of the program that began it
	Tables       map[string]int64   `json:"tables"`       // snapshot by model that is done
	Rows         map[string]int64   `json:"rows"`
	Seconds      map[string]float64 `json:"seconds"`
}

// Report is what a run did.
type Report struct {
	Run
	Manifest lake.Manifest
	Drift    []Difference
	Compared bool
	Compare  float64   // seconds
	Failures []Failure // data tests that do not pass
	Took     float64   // seconds, from begin to published in this process
}

// ErrNoRun says that a run does not exist.
var ErrNoRun = errors.New("no such batch run")

func (r *Runner) hook(point string) {
	if r.Hook != nil {
		r.Hook(point)
	}
}

func (r *Runner) doing(format string, args ...any) {
	if r.Doing != nil {
		r.Doing(fmt.Sprintf(format, args...))
	}
}

// models are those that have tables, in graph order.
func (r *Runner) models() []*compile.Model {
	return slices.DeleteFunc(slices.Clone(r.Program.Models), func(m *compile.Model) bool { return m.Materialized == project.View })
}

func (r *Runner) fingerprints() map[string]string {
	out := map[string]string{}
	for _, m := range r.models() {
		out[m.Name] = m.Fingerprint
	}
	return out
}

// Whole goes on with a run that was broken off, or begins one, evaluates every
// model and publishes.
func (r *Runner) Whole(ctx context.Context) (*Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.doing("")
	begin := time.Now()
	run, err := r.unfinished(ctx)
	if err != nil {
		return nil, err
	}
	if run == nil {
		if run, err = r.begin(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.evaluateAll(ctx, run); err != nil {
		return nil, err
	}
	rep, err := r.publish(ctx, run)
	if rep != nil {
		rep.Took = time.Since(begin).Seconds()
	}
	return rep, err
}

// Begin pins a step for a run in parts.
func (r *Runner) Begin(ctx context.Context) (*Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.dropPassed(ctx); err != nil {
		return nil, err
	}
	return r.begin(ctx)
}

func (r *Runner) begin(ctx context.Context) (*Run, error) {
	r.doing("pinning a step")
	pin, err := r.Pin(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot begin a batch run: %w", err)
	}
	var b [4]byte
	rand.Read(b[:])
	run := &Run{ID: time.Now().UTC().Format("20060102T150405") + "-" + hex.EncodeToString(b[:]), Started: time.Now().UTC(), Pin: pin,
		Fingerprints: r.fingerprints(), Tables: map[string]int64{}, Rows: map[string]int64{}, Seconds: map[string]float64{}}
	if err := r.store().Begin(ctx, run); err != nil {
		return nil, err
	}
	r.hook("batch.begun")
	return run, nil
}

// Evaluate runs models of a run; what they read must be done.
func (r *Runner) Evaluate(ctx context.Context, id string, models []string) (*Run, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.doing("")
	run, err := r.store().Load(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := r.current(run); err != nil {
		return nil, err
	}
	for _, name := range models {
		m := r.Program.Model(name)
		if m == nil {
			return nil, fmt.Errorf("cannot evaluate %s: there is no such model: `lockstep graph` lists them", name)
		}
		if m.Materialized == project.View {
			continue // evaluated when asked
		}
		if err := r.evaluate(ctx, run, m, nil); err != nil {
			return nil, err
		}
	}
	return run, nil
}

// current refuses a run that was begun with other models.
func (r *Runner) current(run *Run) error {
	if !maps.Equal(run.Fingerprints, r.fingerprints()) {
		return fmt.Errorf("cannot go on with run %s: it was begun with other models: begin a new one", run.ID)
	}
	return nil
}

// evaluateAll evaluates what is missing, as parallel as the graph allows.
func (r *Runner) evaluateAll(ctx context.Context, run *Run) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	done := map[string]chan struct{}{}
	for _, m := range r.models() {
		done[m.Name] = make(chan struct{})
	}
	slots := make(chan struct{}, max(1, cmp.Or(r.Parallel, 2)))
	var lock sync.Mutex // of run
	var all sync.WaitGroup
	for _, m := range r.models() {
		all.Go(func() {
			for _, up := range duckdb.Needed(r.Program, []string{m.Name}) {
				if c := done[up.Name]; c != nil && up != m {
					select {
					case <-c:
					case <-ctx.Done():
						return
					}
				}
			}
			slots <- struct{}{}
			defer func() { <-slots }()
			if ctx.Err() != nil {
				return
			}
			if err := r.evaluate(ctx, run, m, &lock); err != nil {
				cancel(err)
				return
			}
			close(done[m.Name])
		})
	}
	all.Wait()
	return context.Cause(ctx)
}

// evaluate writes one model's table and notes it in the run's file.
func (r *Runner) evaluate(ctx context.Context, run *Run, m *compile.Model, lock *sync.Mutex) error {
	if lock == nil {
		lock = &sync.Mutex{}
	}
	lock.Lock()
	_, have := run.Tables[m.Name]
	tables := maps.Clone(run.Tables)
	r.doing("%s (%d of %d)", m.Name, len(run.Tables)+1, len(r.models()))
	lock.Unlock()
	if have {
		return nil
	}
	begin := time.Now()
	snapshot, rows, err := r.engine().Recompute(ctx, run, m, tables)
	if err != nil {
		return fmt.Errorf("cannot evaluate %s (%s) in batch run %s: %w", m.Name, m.File, run.ID, err)
	}
	r.hook("batch.table")
	lock.Lock()
	defer lock.Unlock()
	run.Tables[m.Name], run.Rows[m.Name], run.Seconds[m.Name] = snapshot, rows, time.Since(begin).Seconds()
	return r.store().Note(ctx, run, m.Name)
}

// Publish compares a run with what was served at its step and publishes it.
// Asked again for the run that is published, it tells of that.
func (r *Runner) Publish(ctx context.Context, id string) (*Report, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.doing("")
	run, err := r.store().Load(ctx, id)
	if errors.Is(err, ErrNoRun) {
		if rep, e := r.published(ctx, id); rep != nil || e != nil {
			return rep, e
		}
	}
	if err != nil {
		return nil, err
	}
	if err := r.current(run); err != nil {
		return nil, err
	}
	return r.publish(ctx, run)
}

func (r *Runner) publish(ctx context.Context, run *Run) (*Report, error) {
	for _, m := range r.models() {
		if run.Tables[m.Name] == 0 {
			return nil, fmt.Errorf("cannot publish batch run %s: %s is not done", run.ID, m.Name)
		}
	}
	newest, _, err := r.Lake.NewestManifest(ctx)
	if err != nil {
		return nil, err
	}
	rep := &Report{Run: *run}
	if newest.Attributes["run"] == run.ID { // only the hand-over did not happen
		rep.Manifest, rep.Compared = newest, true
		return r.handOver(ctx, rep)
	}
	if newest.Step > run.Pin.Step {
		return nil, errors.Join(fmt.Errorf("cannot publish batch run %s: it is of step %d, and manifest %d of step %d is published already: begin a new one", run.ID, run.Pin.Step, newest.ID, newest.Step), r.store().Drop(ctx, run.ID))
	}
	if err := r.compare(ctx, run, rep); err != nil {
		return nil, err
	}
	if rep.Failures, err = r.engine().DataTests(ctx, run); err != nil {
		return nil, fmt.Errorf("cannot test the tables of batch run %s: %w", run.ID, err)
	}
	r.hook("batch.compared")
	m := lake.Manifest{Parent: newest.ID, Step: run.Pin.Step, Offsets: run.Pin.Offsets, Fingerprints: run.Fingerprints, Tables: run.Tables, Bronze: run.Pin.Bronze, Attributes: map[string]string{"run": run.ID}}
	if rep.Manifest, err = r.publishManifest(ctx, m); err != nil {
		return nil, fmt.Errorf("cannot publish batch run %s: %w", run.ID, err)
	}
	r.hook("batch.published")
	if err := r.keepDrift(ctx, rep); err != nil {
		r.Log.Error("cannot keep the drift that was found", "err", err)
	}
	return r.handOver(ctx, rep)
}

// handOver lets what is published be served.
func (r *Runner) handOver(ctx context.Context, rep *Report) (*Report, error) {
	if err := r.Serving.Publish(ctx, rep.Manifest); err != nil {
		return rep, err
	}
	r.hook("batch.handed")
	return rep, r.store().Drop(ctx, rep.ID)
}

// publishManifest publishes; where the answer is lost, it looks.
func (r *Runner) publishManifest(ctx context.Context, m lake.Manifest) (lake.Manifest, error) {
	done, err := r.Lake.Publish(ctx, m)
	if !errors.Is(err, lake.ErrUnknownOutcome) {
		return done, err
	}
	newest, _, again := r.Lake.NewestManifest(ctx)
	if again == nil && newest.Attributes["run"] == m.Attributes["run"] {
		return newest, nil
	}
	return done, errors.Join(err, again)
}

func (r *Runner) compare(ctx context.Context, run *Run, rep *Report) error {
	r.doing("comparing with what was served")
	begin := time.Now()
	var err error
	rep.Drift, err = r.Serving.Compare(ctx, run.Pin.Step, run.Tables)
	rep.Compare, rep.Compared = time.Since(begin).Seconds(), err == nil
	if err != nil && !errors.Is(err, ErrNotServed) {
		return fmt.Errorf("cannot compare batch run %s with what was served: %w", run.ID, err)
	}
	return nil
}

// keepDrift writes what differed to a file, for inspection.
func (r *Runner) keepDrift(ctx context.Context, rep *Report) error {
	if len(rep.Drift) == 0 {
		return nil
	}
	for _, d := range rep.Drift {
		r.Log.Error("the stream was not what the batch gives", "model", d.Model, "rows", d.Rows, "step", rep.Pin.Step, "manifest", rep.Manifest.ID)
	}
	text, err := json.MarshalIndent(driftFile{rep.Manifest.ID, rep.Pin.Step, rep.Drift}, "", "  ")
	if err != nil {
		return err
	}
	return r.store().KeepDrift(ctx, rep.Manifest.ID, text)
}

// unfinished gives the newest run that can go on, and drops all others.
func (r *Runner) unfinished(ctx context.Context) (*Run, error) {
	ids, err := r.store().Runs(ctx)
	if err != nil {
		return nil, err
	}
	newest, _, err := r.Lake.NewestManifest(ctx)
	if err != nil {
		return nil, err
	}
	var found *Run
	for i := len(ids) - 1; i >= 0; i-- {
		run, err := r.store().Load(ctx, ids[i])
		if err == nil && found == nil && r.current(run) == nil && newest.Attributes["run"] != run.ID && run.Pin.Step > newest.Step && r.engine().Readable(ctx, run) {
			found = run
			continue
		}
		if err := r.store().Drop(ctx, ids[i]); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// Spare names the snapshots of all runs, which upkeep must leave.
func (r *Runner) Spare() map[string][]int64 {
	ctx, out := context.Background(), map[string][]int64{}
	ids, _ := r.store().Runs(ctx)
	for _, id := range ids {
		if run, err := r.store().Load(ctx, id); err == nil {
			for _, tables := range []map[string]int64{run.Pin.Bronze, run.Tables} {
				for t, snapshot := range tables {
					out[t] = append(out[t], snapshot)
				}
			}
		}
	}
	return out
}

// Runs lists the runs that are not published, oldest first.
func (r *Runner) Runs() ([]string, error) { return r.store().Runs(context.Background()) }

// Drop forgets a run. Its tables stay what they are: no manifest names them.
func (r *Runner) Drop(id string) error { return r.store().Drop(context.Background(), id) }
