package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"lockstep/batch"
	"lockstep/engine/duckdb"
	"lockstep/lake"
)

// recompute times a batch run, from bronze in the lake to tables in the lake,
// beside the same SQL typed into DuckDB over the same files.
func (b *figures) recompute(ctx context.Context) error {
	if b.state == "" {
		if err := b.chain(ctx); err != nil {
			return err
		}
	}
	l, err := lake.Open(ctx, filepath.Join(b.state, "lake"))
	if err != nil {
		return err
	}
	defer l.Close()
	m, ok, err := l.NewestManifest(ctx)
	if err != nil || !ok {
		return fmt.Errorf("the chain published nothing: %w", err)
	}
	var ours, typed []float64
	for range 3 {
		took, err := b.batchRun(ctx, l, m)
		if err != nil {
			return err
		}
		ours = append(ours, took)
		begin := time.Now()
		if err := b.typed(ctx, l, m); err != nil {
			return err
		}
		typed = append(typed, time.Since(begin).Seconds())
	}
	figure("full recompute, lake to lake, s", "%.2f", median(ours), "the same SQL typed into DuckDB over the same files %.2f s: ratio %.2f; first step 10 s", median(typed), median(ours)/median(typed))
	return nil
}

func pinOf(m lake.Manifest) batch.Pin {
	return batch.Pin{Step: m.Step, Offsets: m.Offsets, Bronze: m.Bronze}
}

type nobody struct{}

func (nobody) Compare(context.Context, int64, map[string]int64) ([]batch.Difference, error) {
	return nil, batch.ErrNotServed
}
func (nobody) Publish(context.Context, lake.Manifest) error { return nil }

func (b *figures) batchRun(ctx context.Context, l *lake.Lake, m lake.Manifest) (float64, error) {
	r := &batch.Runner{Program: b.program, Lake: l, Serving: nobody{}, Dir: filepath.Join(b.dir, "runs"), Log: slog.Default(),
		Pin: func(context.Context) (batch.Pin, error) {
			return pinOf(m), nil
		}}
	rep, err := r.Whole(ctx)
	if err != nil {
		return 0, err
	}
	return rep.Took, nil
}

// typed is what a person would do: views over the files, a table a model.
func (b *figures) typed(ctx context.Context, l *lake.Lake, m lake.Manifest) error {
	d, err := duckdb.OpenMemory(ctx, duckdb.Options{})
	if err != nil {
		return err
	}
	defer d.Close()
	if err := d.CreateSeeds(ctx, b.program.Project); err != nil {
		return err
	}
	if err := batch.BronzeViews(ctx, l, d, b.program.Project, pinOf(m)); err != nil {
		return err
	}
	for _, model := range b.program.Models {
		if err := duckdb.Evaluate(ctx, d, model); err != nil {
			return err
		}
	}
	return nil
}
