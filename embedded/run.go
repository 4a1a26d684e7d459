package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"lockstep/batch"
	"lockstep/engine/duckdb"
	"lockstep/ingest"
	"lockstep/lake"
	"lockstep/project"
	"lockstep/replay"
	"lockstep/serve"
	"lockstep/web"

	"github.com/robfig/cron/v3"
)

// overlayLimit is the number of changed rows in memory at which a batch is run
// before its time.
const overlayLimit = 2_000_000

// Run is the main job. It returns nil when ctx ends, or with Once when the
// source is at its end and every layer has caught up.
func (i *Instance) Run(ctx context.Context, o RunOptions) (*Summary, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var parts sync.WaitGroup
	defer parts.Wait()
	defer cancel(nil)
	begin := i.meter.now()
	if i.rebuilding() != "" {
		if err := i.rebuildAll(ctx); err != nil {
			return nil, ended(ctx, err)
		}
	}
	i.forgetOtherModels()
	part := func(f func(context.Context) error) {
		parts.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				cancel(err)
			}
		})
	}
	i.running.Store(true)
	defer i.running.Store(false)
	part(func(ctx context.Context) error { return i.ingest.Run(ctx, i.speed) })
	part(i.followBronze)
	part(func(ctx context.Context) error { return i.schedule(ctx, o.Schedule) })
	part(func(ctx context.Context) error { return i.watchDisk(ctx) })
	part(i.watchLag)
	if o.Progress != nil {
		part(func(ctx context.Context) error { return i.progress(ctx, o.Progress) })
	}
	replayed := make(chan error, 1)
	sent := int64(0)
	if o.Data != "" || o.Scale > 0 {
		part(func(ctx context.Context) error {
			n, err := i.replayInputs(ctx, o)
			sent = n
			replayed <- err
			return err
		})
	} else {
		replayed <- nil
	}
	if o.Once {
		if err := i.untilCaughtUp(ctx, replayed); err != nil {
			return nil, ended(ctx, err)
		}
		return i.summary(ctx, begin, sent)
	}
	<-ctx.Done()
	if err := ended(ctx, nil); err != nil {
		return nil, err
	}
	parts.Wait()
	i.meter.caughtUp()
	return i.summary(context.WithoutCancel(ctx), begin, sent)
}

// ended tells a run that was stopped from one that failed.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	if ctx.Err() != nil && (err == nil || errors.Is(err, context.Canceled)) {
		return nil
	}
	return err
}

func (i *Instance) replayInputs(ctx context.Context, o RunOptions) (int64, error) {
	first := int64(-1)
	result, err := replay.Run(ctx, replay.Config{
		Project: i.cfg.Program.Project, Data: o.Data, Scale: o.Scale, WorkDir: i.path("replay"),
		ClientOptions: i.log.ClientOpts(), Registry: i.schemas.REST(), Speed: o.Speed, Hook: i.cfg.Hook, Log: i.cfg.Log,
		Progress: func(p replay.Progress) {
			i.mu.Lock()
			defer i.mu.Unlock()
			if first < 0 && p.Total > 0 {
				first = p.Sent
				i.meter.started()
			}
			i.replay = &p
		},
	})
	return result.Events - result.Before, err
}

// untilCaughtUp waits for the end of the replay and for every layer, and runs
// the final batch.
func (i *Instance) untilCaughtUp(ctx context.Context, replayed <-chan error) error {
	select {
	case err := <-replayed:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		step, lag, err := i.ingest.Lag(ctx)
		if err == nil && lagOf(lag) == 0 && i.server.Step() >= step {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	i.meter.caughtUp()
	_, err := i.runBatch(ctx)
	return err
}

func lagOf(lag ingest.Offsets) (n int64) {
	for _, parts := range lag {
		for _, l := range parts {
			n += l
		}
	}
	return n
}

// followBronze tells the serving layer what bronze has committed.
func (i *Instance) followBronze(ctx context.Context) error {
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	seen := i.ingest.Committed().Step
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		c := i.ingest.Committed()
		if c.Step == seen {
			continue
		}
		if err := i.server.Committed(ctx, serve.Bronze{Step: c.Step, End: c.End, Tables: c.Tables}); err != nil {
			return err
		}
		seen = c.Step
	}
}

// schedule runs the batch layer by the clock, and before its time when many
// changes wait in memory.
func (i *Instance) schedule(ctx context.Context, spec string) error {
	if spec == "" {
		spec = i.cfg.Program.Project.Batch.Schedule
	}
	var when cron.Schedule
	if spec != "" && spec != "off" {
		var err error
		if when, err = cron.ParseStandard(spec); err != nil {
			return fmt.Errorf("cannot schedule the batch layer: %q is no schedule: %w: write a cron expression or \"@every 5m\"", spec, err)
		}
	}
	next := func() time.Time {
		if when == nil {
			return time.Now().AddDate(100, 0, 0)
		}
		return when.Next(time.Now())
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for due := next(); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		if time.Now().Before(due) && i.meter.overlay() < overlayLimit {
			continue
		}
		if base := i.server.Base(); base == nil || base.Step < i.server.Step() || i.outdated(base) {
			if _, err := i.runBatch(ctx); err != nil && ctx.Err() == nil {
				i.cfg.Log.Error("the batch run failed; what was published before stays served", "err", err)
			}
		}
		i.meter.resetOverlay()
		due = next()
	}
}

// outdated says whether a batch model changed since a manifest.
func (i *Instance) outdated(m *lake.Manifest) bool {
	for _, model := range i.cfg.Program.Models {
		if model.Materialized == project.BatchOnly && m.Fingerprints[model.Name] != model.Fingerprint {
			return true
		}
	}
	return false
}

// runBatch does a whole batch run and notes how it went.
func (i *Instance) runBatch(ctx context.Context) (*batch.Report, error) {
	rep, err := i.batch.Whole(ctx)
	i.noteBatch(rep, err)
	return rep, err
}

func (i *Instance) noteBatch(rep *batch.Report, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return
		}
		i.problems["batch"] = "the last batch run failed: " + err.Error()
		i.lastBatch = &web.BatchReport{Error: err.Error(), Started: time.Now()}
		return
	}
	delete(i.problems, "batch")
	delete(i.problems, "data tests")
	if len(rep.Failures) > 0 {
		list := make([]string, len(rep.Failures))
		for n, f := range rep.Failures {
			list[n] = f.String()
		}
		i.problems["data tests"] = "data tests fail: " + strings.Join(list, "; ") + ": correct the model, or the test in its header"
	}
	i.lastBatch = web.NewBatchReport(rep)
	i.drift = map[string]int64{}
	for _, d := range rep.Drift {
		i.drift[d.Model] = d.Rows
	}
	if len(i.drift) > 0 {
		i.problems["drift"] = fmt.Sprintf("drift: the stream was not what batch run %s gave: see %s; `lockstep reset` of %s and a restart rebuild the stream", rep.ID, i.path("batch"), i.path("speed"))
	} else {
		delete(i.problems, "drift")
	}
}

// pin gives the step that a batch run recomputes: the newest that bronze holds
// whole.
func (i *Instance) pin(ctx context.Context) (batch.Pin, error) {
	c := i.ingest.Committed()
	if i.running.Load() {
		var err error
		if c, err = i.ingest.CommitNow(ctx); err != nil {
			return batch.Pin{}, err
		}
	}
	return pinOf(c), nil
}

func pinOf(c ingest.Committed) batch.Pin {
	return batch.Pin{Step: c.Step, Offsets: c.End, Bronze: c.Tables}
}

// handOver is what a batch run is compared with and handed to.
type handOver struct{ i *Instance }

func (h handOver) Compare(ctx context.Context, step int64, tables map[string]int64) ([]batch.Difference, error) {
	i := h.i
	if i.rebuilding() != "" {
		return nil, batch.ErrNotServed
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for i.server.Step() < step { // the stream is on its way there
		if !i.running.Load() {
			return nil, batch.ErrNotServed
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	all, err := i.server.Compare(ctx, step, tables)
	if err != nil {
		return nil, err
	}
	var out []batch.Difference
	for _, c := range all {
		if c.Different() > 0 {
			out = append(out, batch.Difference{Model: c.Model, Rows: c.Different(), Sample: c.Sample})
		}
	}
	return out, nil
}

func (h handOver) Publish(ctx context.Context, m lake.Manifest) error {
	i := h.i
	if i.rebuilding() != "" {
		return nil // the rebuild takes it over
	}
	if err := i.server.Publish(ctx, m); err != nil {
		return err
	}
	if err := i.stream.DropChanges(m.Step); err != nil {
		return err
	}
	return i.forget(ctx, m)
}

// forget drops what no manifest that is kept needs any more.
func (i *Instance) forget(ctx context.Context, m lake.Manifest) error {
	keep := i.cfg.Program.Project.Retention.Manifests
	if keep == 0 {
		keep = 20
	}
	frozen, _ := i.server.Frozen()
	if err := i.lake.DropManifests(ctx, keep, frozen); err != nil {
		return err
	}
	i.ingest.Prune(m.Step)
	return nil
}

// rebuildAll makes stream and batch anew from bronze: after a change of models,
// or when the stream's state was lost. What was served before stays served.
func (i *Instance) rebuildAll(ctx context.Context) error {
	i.cfg.Log.Info("rebuilding stream and batch from bronze", "why", i.rebuilding())
	i.setBatchNow("rebuilding the stream")
	defer i.setBatchNow("")
	c := i.ingest.Committed()
	if err := i.rebuildStream(ctx, c); err != nil {
		return fmt.Errorf("cannot rebuild the stream: %w", err)
	}
	i.hook("rebuild.stream")
	runs, err := i.batch.Runs()
	if err != nil {
		return err
	}
	for _, id := range runs { // a run of another step cannot be the base
		if err := i.batch.Drop(id); err != nil {
			return err
		}
	}
	rep, err := i.runBatch(ctx)
	if err != nil {
		return fmt.Errorf("cannot rebuild the batch: %w", err)
	}
	if err := i.server.Reset(ctx, &rep.Manifest); err != nil {
		return err
	}
	i.rebuilt()
	i.server.Thaw()
	if err := i.restoreFrozen(ctx); err != nil {
		return err
	}
	i.ready("rebuild")
	return i.server.Restored(ctx, i.stream.Last(), nil, serve.Bronze{Step: c.Step, End: c.End, Tables: c.Tables})
}

func (i *Instance) rebuildStream(ctx context.Context, c ingest.Committed) error {
	work, err := duckdb.OpenMemory(ctx, duckdb.Options{MemoryLimit: fmt.Sprintf("%dMiB", max(i.cfg.MemoryLimit>>21, 256)), TempDir: i.path("tmp", "batch")})
	if err != nil {
		return err
	}
	defer work.Close()
	if err := batch.BronzeViews(ctx, i.lake, work, i.cfg.Program.Project, pinOf(c)); err != nil {
		return err
	}
	return i.stream.RebuildFrom(ctx, c.Step, work)
}

// forgetOtherModels removes the stream's states of models that are no longer.
func (i *Instance) forgetOtherModels() {
	entries, _ := os.ReadDir(i.path("speed"))
	for _, e := range entries {
		if e.Name() != i.cfg.Program.Fingerprint {
			if err := os.RemoveAll(filepath.Join(i.path("speed"), e.Name())); err != nil {
				i.cfg.Log.Warn("cannot remove the stream's state of earlier models", "err", err)
			}
		}
	}
}

// summary says what a run did.
func (i *Instance) summary(ctx context.Context, begin meterState, sent int64) (*Summary, error) {
	counts, err := i.server.Counts(ctx)
	if err != nil {
		return nil, err
	}
	now := i.meter.now()
	s := &Summary{Events: sent, Accepted: now.records - begin.records, Seconds: i.meter.seconds(), Rows: map[string]int64{}, DeadLetters: i.deadLetters(), Step: i.server.Step()}
	if s.Seconds > 0 {
		s.EventsPerSec = float64(s.Accepted) / s.Seconds
	}
	s.FreshnessP50, s.FreshnessP99, _ = i.freshness.Quantiles()
	for name, c := range counts {
		s.Rows[name] = c.Rows
	}
	for _, n := range i.drift {
		s.DriftRows += n
	}
	if base := i.server.Base(); base != nil {
		s.Manifest = base.ID
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.lastBatch != nil {
		s.FailedTests = i.lastBatch.Tests
	}
	return s, nil
}
