package batch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"lockstep/lake"
)

// Store keeps the state of runs that are not published, and what drift they
// found.
type Store interface {
	// Runs lists the runs, oldest first.
	Runs(ctx context.Context) ([]string, error)
	// Load reads a run; ErrNoRun: there is none.
	Load(ctx context.Context, id string) (*Run, error)
	// Begin keeps a new run, Note one more model that is done.
	Begin(ctx context.Context, run *Run) error
	Note(ctx context.Context, run *Run, model string) error
	// Drop forgets a run. Its tables stay what they are: no manifest names them.
	Drop(ctx context.Context, id string) error
	// KeepDrift keeps a text about a manifest; Drift gives it, nil: none.
	KeepDrift(ctx context.Context, manifest int64, text []byte) error
	Drift(ctx context.Context, manifest int64) ([]byte, error)
}

func (r *Runner) store() Store {
	if r.Store != nil {
		return r.Store
	}
	return files{r.Dir}
}

// goneRun says that a run is not there.
func goneRun(id string) error {
	return fmt.Errorf("%w: %q: it is published, or was never begun", ErrNoRun, id)
}

// checkID refuses what is no run's id, so that it names no other file.
func checkID(id string) error {
	if id == "" || strings.ContainsAny(id, `/\`) {
		return fmt.Errorf("%w: %q", ErrNoRun, id)
	}
	return nil
}

// files keeps each run as one file, for one process at a time.
type files struct{ dir string }

func (f files) path(id string) string { return filepath.Join(f.dir, id+".run.json") }

func (f files) Runs(context.Context) ([]string, error) {
	entries, err := os.ReadDir(f.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot list batch runs: %w", err)
	}
	var out []string
	for _, e := range entries {
		if id, ok := strings.CutSuffix(e.Name(), ".run.json"); ok {
			out = append(out, id)
		}
	}
	sort.Strings(out)
	return out, nil
}

func (f files) Load(_ context.Context, id string) (*Run, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(f.path(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, goneRun(id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read batch run %s: %w", id, err)
	}
	run := &Run{}
	if err := json.Unmarshal(text, run); err != nil {
		return nil, fmt.Errorf("cannot read batch run %s: %s is damaged: remove it and begin a new run: %w", id, f.path(id), err)
	}
	return run, nil
}

func (f files) Begin(_ context.Context, run *Run) error {
	text, err := json.Marshal(run)
	if err != nil {
		return err
	}
	return writeFile(f.path(run.ID), text)
}

func (f files) Note(ctx context.Context, run *Run, _ string) error { return f.Begin(ctx, run) }

func (f files) Drop(_ context.Context, id string) error {
	if err := os.Remove(f.path(id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot drop batch run %s: %w", id, err)
	}
	return nil
}

func (f files) drift(manifest int64) string {
	return filepath.Join(f.dir, fmt.Sprintf("drift-%012d.json", manifest))
}

func (f files) KeepDrift(_ context.Context, manifest int64, text []byte) error {
	return writeFile(f.drift(manifest), text)
}

func (f files) Drift(_ context.Context, manifest int64) ([]byte, error) {
	text, err := os.ReadFile(f.drift(manifest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return text, err
}

// writeFile replaces a file, whole or not at all.
func writeFile(path string, text []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("cannot write %s: %w", path, err)
	}
	return nil
}

// Shared keeps runs as objects beside the tables, one object more for each
// model that is done: several processes may evaluate models of one run side by
// side.
type Shared struct{ Objects lake.Objects }

// done is the object of a model that is done.
type done struct {
	Model    string  `json:"model"`
	Snapshot int64   `json:"snapshot"`
	Rows     int64   `json:"rows"`
	Seconds  float64 `json:"seconds"`
}

func runFile(id string) string     { return "runs/" + id + "/run.json" }
func modelFolder(id string) string { return "runs/" + id + "/models/" }

// Runs implements Store.
func (s Shared) Runs(ctx context.Context) ([]string, error) {
	names, err := s.Objects.List(ctx, "runs/")
	if err != nil {
		return nil, fmt.Errorf("cannot list batch runs: %w", err)
	}
	var out []string
	for _, name := range names {
		if id := strings.TrimPrefix(path.Dir(name), "runs/"); name == runFile(id) {
			out = append(out, id)
		}
	}
	return out, nil
}

// Load implements Store.
func (s Shared) Load(ctx context.Context, id string) (*Run, error) {
	if err := checkID(id); err != nil {
		return nil, err
	}
	run := &Run{}
	err := s.read(ctx, runFile(id), run)
	if errors.Is(err, lake.ErrNoObject) {
		return nil, goneRun(id)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read batch run %s: %w", id, err)
	}
	names, err := s.Objects.List(ctx, modelFolder(id))
	if err != nil {
		return nil, fmt.Errorf("cannot read batch run %s: %w", id, err)
	}
	for _, name := range names {
		var d done
		if err := s.read(ctx, name, &d); err != nil {
			return nil, fmt.Errorf("cannot read batch run %s: %w", id, err)
		}
		run.Tables[d.Model], run.Rows[d.Model], run.Seconds[d.Model] = d.Snapshot, d.Rows, d.Seconds
	}
	return run, nil
}

func (s Shared) read(ctx context.Context, name string, into any) error {
	text, err := s.Objects.Get(ctx, name)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s is damaged: remove it and begin a new run: %w", name, err)
	}
	return nil
}

func (s Shared) write(ctx context.Context, name string, v any) error {
	text, err := json.Marshal(v)
	if err == nil {
		err = s.Objects.Put(ctx, name, text)
	}
	if err != nil {
		return fmt.Errorf("cannot write %s: %w", name, err)
	}
	return nil
}

// Begin implements Store.
func (s Shared) Begin(ctx context.Context, run *Run) error {
	return s.write(ctx, runFile(run.ID), run)
}

// Note implements Store.
func (s Shared) Note(ctx context.Context, run *Run, model string) error {
	return s.write(ctx, modelFolder(run.ID)+model+".json", done{model, run.Tables[model], run.Rows[model], run.Seconds[model]})
}

// Drop implements Store. The run itself goes last: what is left of a drop that
// was broken off is dropped by the next one.
func (s Shared) Drop(ctx context.Context, id string) error {
	names, err := s.Objects.List(ctx, modelFolder(id))
	for _, name := range append(names, runFile(id)) {
		err = errors.Join(err, s.Objects.Delete(ctx, name))
	}
	if err != nil {
		return fmt.Errorf("cannot drop batch run %s: %w", id, err)
	}
	return nil
}

func driftObject(manifest int64) string { return fmt.Sprintf("drift/%012d.json", manifest) }

// KeepDrift implements Store.
func (s Shared) KeepDrift(ctx context.Context, manifest int64, text []byte) error {
	return s.Objects.Put(ctx, driftObject(manifest), text)
}

// Drift implements Store.
func (s Shared) Drift(ctx context.Context, manifest int64) ([]byte, error) {
	text, err := s.Objects.Get(ctx, driftObject(manifest))
	if errors.Is(err, lake.ErrNoObject) {
		return nil, nil
	}
	return text, err
}
