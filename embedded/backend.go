package embedded

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sort"
	"time"

	"lockstep/batch"
	"lockstep/ingest"
	"lockstep/lake"
	"lockstep/project"
	"lockstep/serve"
	"lockstep/speed"
	"lockstep/web"
)

var _ web.Backend = (*Instance)(nil)

func errDiskLimit(dir string, have, limit int64) error {
	return fmt.Errorf("the state %s takes %d MB on disk, above the limit of %d MB: raise --disk-limit, shorten the retention in project.yaml, or start over with `lockstep reset`", dir, have>>20, limit>>20)
}

func (i *Instance) ready(part string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.notReady, part)
}

func (i *Instance) unready(part, why string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.notReady[part] = why
}

func (i *Instance) setBatchNow(what string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.batchNow = what
}

// Query implements web.Backend.
func (i *Instance) Query(ctx context.Context, q web.Query) (*web.Result, error) {
	rows, err := i.server.Query(ctx, q.SQL, q.Layer, q.AsOf)
	if err != nil {
		return nil, err
	}
	return &web.Result{Step: rows.Step, Manifest: rows.Manifest, Frozen: rows.Frozen, Rows: rows}, nil
}

// Verify implements web.Backend. Step 0 is the newest.
func (i *Instance) Verify(ctx context.Context, step int64) (*web.VerifyReport, error) {
	begin := time.Now()
	if i.rebuilding() != "" {
		return nil, errors.New("cannot verify: stream and batch are being rebuilt: wait until /readyz says so, or let `lockstep run` finish it")
	}
	base := i.server.Base()
	if step == 0 {
		step = i.server.Step()
	}
	rep := &web.VerifyReport{Step: step}
	end, err := i.stepEnd(step, base)
	if err != nil {
		return nil, err
	}
	served, err := i.server.Verify(ctx, step, end)
	if err != nil {
		return nil, err
	}
	byModel := map[string]*web.ModelReport{}
	for _, c := range served {
		rep.Models = append(rep.Models, web.ModelReport{Model: c.Model, Served: comparisonOf(c)})
	}
	for n := range rep.Models {
		byModel[rep.Models[n].Model] = &rep.Models[n]
	}
	if base != nil {
		rep.PublishedStep = base.Step
		published, err := i.server.VerifyPublished(ctx, *base)
		if err != nil {
			return nil, err
		}
		for _, c := range published {
			if m := byModel[c.Model]; m != nil {
				m.Published = comparisonOf(c)
			} else {
				rep.Models = append(rep.Models, web.ModelReport{Model: c.Model, Published: comparisonOf(c)})
			}
		}
	}
	rep.Seconds = time.Since(begin).Seconds()
	return rep, nil
}

// stepEnd gives the end offsets of a step: those of its record, or of the
// manifest that was made of it.
func (i *Instance) stepEnd(step int64, base *lake.Manifest) (ingest.Offsets, error) {
	if base != nil && base.Step == step {
		return base.Offsets, nil
	}
	if step == 0 {
		return ingest.Offsets{}, nil
	}
	if c := i.ingest.Committed(); c.Step == step {
		return c.End, nil
	}
	return i.ingest.StepEnd(step)
}

func comparisonOf(c serve.Comparison) *web.Comparison {
	return &web.Comparison{Rows: c.Rows, Missing: c.Missing, Extra: c.Extra, Changed: c.Changed, Sample: c.Sample}
}

// History implements web.Backend.
func (i *Instance) History(ctx context.Context) ([]lake.Manifest, error) {
	all, err := i.lake.Manifests(ctx)
	slices.Reverse(all)
	return all, err
}

// rollbackFile keeps a rollback over restarts.
const rollbackFile = "rollback.json"

type rollbackState struct {
	Manifest int64 `json:"manifest"`
}

// Rollback implements web.Backend.
func (i *Instance) Rollback(ctx context.Context, manifest int64) error {
	if i.rebuilding() != "" {
		return errors.New("cannot roll back: stream and batch are being rebuilt: try again when /readyz says that they are done")
	}
	if err := i.server.Freeze(ctx, manifest, rollbackReason(manifest)); err != nil {
		return err
	}
	text, err := json.Marshal(rollbackState{manifest})
	if err != nil {
		return err
	}
	if err := os.WriteFile(i.path(rollbackFile), text, 0o644); err != nil {
		return fmt.Errorf("cannot remember the rollback: %w", err)
	}
	return nil
}

func rollbackReason(manifest int64) string {
	return fmt.Sprintf("rolled back to manifest %d until `lockstep rollback --release`", manifest)
}

// restoreFrozen serves what a rollback of an earlier process chose.
func (i *Instance) restoreFrozen(ctx context.Context) error {
	text, err := os.ReadFile(i.path(rollbackFile))
	if errors.Is(err, fs.ErrNotExist) || i.rebuilding() != "" {
		return nil
	}
	var r rollbackState
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w: remove it to serve the newest", i.path(rollbackFile), err)
	}
	return i.server.Freeze(ctx, r.Manifest, rollbackReason(r.Manifest))
}

// Release implements web.Backend.
func (i *Instance) Release(context.Context) error {
	if err := os.Remove(i.path(rollbackFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot release the rollback: %w", err)
	}
	if i.rebuilding() == "" {
		i.server.Thaw()
	}
	return nil
}

// Maintain implements web.Backend.
func (i *Instance) Maintain(ctx context.Context, r web.MaintainRequest) (*web.MaintainReport, error) {
	tables, err := i.lake.Tables(ctx)
	if err != nil {
		return nil, err
	}
	up := lake.DefaultUpkeep()
	up.CompactFiles, up.KeepSnapshots, up.KeepFor, up.OrphansOlderThan, up.ExpireAtMost = 2, 1, r.KeepFor, time.Hour, 1000
	out := &web.MaintainReport{}
	for _, table := range tables {
		up.Tables = []string{table}
		before := i.files(ctx, table)
		rep, err := i.lake.Maintain(ctx, i.batch.Spare(), up)
		if err != nil {
			return out, fmt.Errorf("cannot maintain %s: %w", table, err)
		}
		out.Tables = append(out.Tables, web.TableUpkeep{Table: table, FilesBefore: before, FilesAfter: i.files(ctx, table), Expired: int64(rep.SnapshotsExpired), Removed: int64(rep.OrphansRemoved)})
	}
	return out, nil
}

func (i *Instance) files(ctx context.Context, table string) int64 {
	scan, err := i.lake.Scan(ctx, table, 0)
	if err != nil {
		return 0
	}
	return int64(len(scan.Files))
}

// Batch implements web.Backend.
func (i *Instance) Batch(ctx context.Context, r web.BatchRequest) (*web.BatchReport, error) {
	if i.rebuilding() != "" {
		return nil, errors.New("cannot run a batch: stream and batch are being rebuilt: `lockstep run` does it")
	}
	switch {
	case r.Begin:
		run, err := i.batch.Begin(ctx)
		if err != nil {
			return nil, err
		}
		return web.NewBatchReport(&batch.Report{Run: *run}), nil
	case r.Run != "":
		run, err := i.batch.Evaluate(ctx, r.Run, r.Select)
		if err != nil {
			return nil, err
		}
		return web.NewBatchReport(&batch.Report{Run: *run}), nil
	case r.Publish != "":
		rep, err := i.batch.Publish(ctx, r.Publish)
		i.noteBatch(rep, err)
		if err != nil {
			return nil, err
		}
		return web.NewBatchReport(rep), nil
	}
	rep, err := i.runBatch(ctx)
	if err != nil {
		return nil, err
	}
	return web.NewBatchReport(rep), nil
}

// Status implements web.Backend.
func (i *Instance) Status(ctx context.Context) (*web.Status, error) {
	counts, err := i.server.Counts(ctx)
	if err != nil {
		return nil, err
	}
	s := &web.Status{Project: i.cfg.Program.Project.Name, State: i.cfg.Dir, Started: i.started, Step: i.server.Step(), Addresses: i.addresses, Bytes: i.sizes(), MemoryBytes: residentBytes()}
	if base := i.server.Base(); base != nil {
		s.Manifest, s.Published, s.BatchStep = base.ID, base.Published, base.Step
	}
	if id, why := i.server.Frozen(); id != 0 {
		s.Manifest, s.Frozen = id, why
	}
	i.topicStatus(ctx, s)
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, why := range i.notReady {
		s.NotReady = append(s.NotReady, why)
	}
	sort.Strings(s.NotReady)
	s.Ready = len(s.NotReady) == 0
	s.BatchNow, s.LastBatch = i.batchNow, i.lastBatch
	s.Freshness = i.freshnessStatus()
	counted, sum := i.freshness.SinceJudged()
	s.FromBronze = web.NewHistogram(speed.Buckets, counted, sum)
	for _, n := range i.drift {
		s.DriftRows += n
	}
	if r := i.replay; r != nil {
		s.Replay = &web.Replay{Phase: string(r.Phase), Sent: r.Sent, Total: r.Total, Rate: r.Rate, Left: r.Left.Seconds()}
	}
	for _, name := range slices.Sorted(maps.Keys(i.problems)) {
		s.Problems = append(s.Problems, i.problems[name])
	}
	for _, m := range i.cfg.Program.Models {
		c := counts[m.Name]
		ms := web.ModelStatus{Model: m.Name, Materialized: string(m.Materialized), Rows: c.Rows, OverlayRows: c.Overlay, Files: c.Files, DriftRows: i.drift[m.Name]}
		if m.Relation != nil {
			w := i.stream.Work(m.Name)
			ms.StepSeconds, ms.StepTotal, ms.RowsIn, ms.RowsOut = w.Last, w.Seconds, w.In, w.Out
		}
		if i.lastBatch != nil && m.Materialized != project.View {
			ms.BatchSeconds = i.lastBatch.Models[m.Name]
		}
		s.Models = append(s.Models, ms)
	}
	return s, nil
}

// freshnessStatus gives quantiles and the histogram, as Prometheus has it.
func (i *Instance) freshnessStatus() web.Freshness {
	f := web.Freshness{}
	f.P50, f.P99, f.Count = i.freshness.Quantiles()
	counts, sum := i.freshness.Histogram()
	f.Since = web.NewHistogram(speed.Buckets, counts, sum)
	return f
}
