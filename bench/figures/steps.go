package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lockstep/bench"
	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/project"
	"lockstep/replay"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
)

// baseScale is 10,000 orders of history and what the live steps bring.
const baseScale = 0.1 + 0.01*liveSteps

// liveEvents are the events of about 1,000 orders: what one live step brings.
const liveEvents, liveSteps = 13_000, 12

// steps times the same live steps over histories of several sizes: their cost
// must follow the touched scopes, not what is stored.
func (b *figures) steps(ctx context.Context) error {
	base, baseCPU := 0.0, 0.0
	for _, h := range strings.Split(*history, ",") {
		n, err := strconv.Atoi(h)
		if err != nil {
			return fmt.Errorf("-history %q: write numbers", h)
		}
		took, cpu, hot, load, err := b.stepsOver(ctx, n)
		if err != nil {
			return err
		}
		if base == 0 {
			base, baseCPU = took, cpu
		}
		figure(fmt.Sprintf("step of about 1,000 orders over %dx history, ms", n), "%.0f", took*1000, "ratio to the first %.2f; first step 3 at 100x (history loaded in bulk in %.0f s)", took/base, load)
		figure("  CPU of it, all threads, ms", "%.0f", cpu*1000, "ratio to the first %.2f", cpu/baseCPU)
		figure(fmt.Sprintf("  step of 1,000 records of 10 hot keys, each sent %d times before, ms", n*1000), "%.0f", hot*1000, "")
	}
	return nil
}

func (b *figures) stepsOver(ctx context.Context, n int) (step, cpu, hot, load float64, err error) {
	events, err := replay.Open(ctx, replay.Config{Project: b.program.Project, Scale: baseScale, WorkDir: filepath.Join(b.dir, "events"), MemoryLimit: 1 << 30})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer events.Close()
	dir := filepath.Join(b.dir, fmt.Sprintf("steps-%d", n))
	stream, err := duckdb.Engine{}.Open(ctx, b.program, dir, store.Options{CacheBytes: 256 << 20})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer stream.Close()
	work, err := duckdb.OpenMemory(ctx, duckdb.Options{MemoryLimit: "6GB", TempDir: filepath.Join(b.dir, "spill")})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	defer work.Close()
	for _, s := range b.program.Project.Sources {
		if err := work.CreateTable(ctx, s.Table(), s.Columns()); err != nil {
			return 0, 0, 0, 0, err
		}
	}
	old := events.Total() - liveEvents*liveSteps
	var took, spent []float64
	seen, number := int64(0), int64(1)
	example := map[string]arrow.RecordBatch{}
	begin := time.Now()
	err = bench.Feed(events, liveEvents, func(_ int64, rows engine.Tables) error {
		size := int64(0)
		for table, batches := range rows {
			for _, r := range batches {
				size += r.NumRows()
				example[table] = r
			}
		}
		defer func() { seen += size }()
		if seen < old {
			for table, batches := range rows {
				if err := work.Insert(ctx, table, batches[0].Schema(), batches...); err != nil {
					return err
				}
			}
			return nil
		}
		if number == 1 {
			if err := b.older(ctx, work, n-1); err != nil {
				return err
			}
			if err := b.repeat(ctx, work, n*1000); err != nil {
				return err
			}
			if err := stream.RebuildFrom(ctx, 1, work); err != nil {
				return err
			}
			load = time.Since(begin).Seconds()
		}
		number++
		at, used := time.Now(), cpuSeconds()
		if err := stream.Step(ctx, number, rows); err != nil {
			return err
		}
		took, spent = append(took, time.Since(at).Seconds()), append(spent, cpuSeconds()-used)
		return nil
	})
	if err != nil {
		return 0, 0, 0, 0, err
	}
	if len(took) > 2 {
		took, spent = took[2:], spent[2:] // the first are colder than a live system is
	}
	hot, err = b.hotKeys(ctx, stream, number, example)
	return median(took), median(spent), hot, load, err
}

// older puts older history before that in the tables: copies of it with other
// keys, each two years earlier, as a business that existed before would have.
func (b *figures) older(ctx context.Context, work *duckdb.Session, copies int) error {
	if copies == 0 {
		return nil
	}
	keys := map[string]bool{}
	for _, r := range b.program.Relations {
		for _, x := range r.Indexes {
			for _, e := range x.Exprs {
				keys[e] = true
			}
		}
	}
	for _, s := range b.program.Project.Sources {
		var columns []string
		for _, c := range s.Columns() {
			switch {
			case c.Name == "_partition":
				columns = append(columns, "CAST(r.range AS INTEGER)")
			case c.Type.Kind == project.String && (c.Name == s.Key || keys[c.Name]):
				columns = append(columns, "t."+c.Name+" || '-' || r.range")
			case c.Type.Kind == project.Timestamp:
				columns = append(columns, "t."+c.Name+" - to_days(CAST(730 * r.range AS INTEGER))")
			default:
				columns = append(columns, "t."+c.Name)
			}
		}
		if err := work.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT %s FROM %s t, range(1, %d) r", s.Table(), strings.Join(columns, ", "), s.Table(), copies+1)); err != nil {
			return err
		}
	}
	return nil
}

// folded gives a source whose latest rows per key are folded.
func (b *figures) folded() *project.Source {
	for _, r := range b.program.Relations {
		if r.Kind == compile.Folded {
			for _, s := range b.program.Project.Sources {
				if s.Table() == r.Table {
					return s
				}
			}
		}
	}
	return nil
}

// repeat sends the same ten keys again and again in the history.
func (b *figures) repeat(ctx context.Context, work *duckdb.Session, times int) error {
	s := b.folded()
	columns := []string{}
	for _, c := range s.Columns() {
		if c.Name == "_offset" {
			columns = append(columns, "CAST(1000000000 + r.range * 10 + row_number() OVER () % 10 AS BIGINT)")
			continue
		}
		columns = append(columns, "t."+c.Name)
	}
	return work.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT %s FROM (SELECT * FROM %s LIMIT 10) t, range(%d) r", s.Table(), strings.Join(columns, ", "), s.Table(), times))
}

// hotKeys times steps that send a few keys only, a thousand records each.
func (b *figures) hotKeys(ctx context.Context, stream *duckdb.Stream, number int64, example map[string]arrow.RecordBatch) (float64, error) {
	s := b.folded()
	rec := example[s.Table()]
	if rec == nil {
		return 0, fmt.Errorf("no event of %s in the last step", s.Topic)
	}
	rec = rec.NewSlice(0, min(10, rec.NumRows()))
	var batches []arrow.RecordBatch
	for range 100 {
		batches = append(batches, rec)
	}
	var took []float64
	for range 7 {
		number++
		at := time.Now()
		if err := stream.Step(ctx, number, engine.Tables{s.Table(): batches}); err != nil {
			return 0, err
		}
		took = append(took, time.Since(at).Seconds())
	}
	return median(took), nil
}
