package batch

import (
	"context"
	"encoding/json"
	"fmt"
)

// published answers a Publish that comes again, because its caller did not
// hear how the first one ended. It gives nil where the newest manifest is not
// of that run.
func (r *Runner) published(ctx context.Context, id string) (*Report, error) {
	newest, any, err := r.Lake.NewestManifest(ctx)
	if err != nil || !any || newest.Attributes["run"] != id {
		return nil, err
	}
	rep := &Report{Run: Run{ID: id, Pin: Pin{Step: newest.Step, Offsets: newest.Offsets, Bronze: newest.Bronze}, Fingerprints: newest.Fingerprints, Tables: newest.Tables}, Manifest: newest, Compared: true}
	rep.Drift, err = r.keptDrift(ctx, newest.ID)
	return rep, err
}

// driftFile is what keepDrift writes.
type driftFile struct {
	Manifest int64        `json:"manifest"`
	Step     int64        `json:"step"`
	Models   []Difference `json:"models"`
}

// keptDrift gives what keepDrift wrote of a manifest.
func (r *Runner) keptDrift(ctx context.Context, manifest int64) ([]Difference, error) {
	text, err := r.store().Drift(ctx, manifest)
	if err != nil || text == nil {
		return nil, err
	}
	var f driftFile
	if err := json.Unmarshal(text, &f); err != nil {
		return nil, fmt.Errorf("cannot read the drift of manifest %d: %w", manifest, err)
	}
	return f.Models, nil
}

// dropPassed forgets runs that a scheduler gave up: those of steps that are
// older than what is published, which Publish refuses. They would keep their
// snapshots for ever.
func (r *Runner) dropPassed(ctx context.Context) error {
	newest, any, err := r.Lake.NewestManifest(ctx)
	if err != nil || !any {
		return err
	}
	ids, err := r.store().Runs(ctx)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if run, err := r.store().Load(ctx, id); err == nil && run.Pin.Step < newest.Step {
			if err := r.store().Drop(ctx, id); err != nil {
				return err
			}
		}
	}
	return nil
}
