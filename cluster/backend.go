package cluster

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lockstep/batch"
	"lockstep/compile"
	"lockstep/engine/spark"
	"lockstep/lake"
	"lockstep/web"
)

// Options of a Backend.
type Options struct {
	Program *compile.Program
	Config  *Config
	State   string // folder of what runs here; only named
	Hook    func(point string)
	Log     *slog.Logger
}

// Backend asks a cluster what the embedded instance would be asked.
type Backend struct {
	web.LogLetters
	program   *compile.Program
	config    *Config
	options   Options
	lake      *lake.Lake
	server    spark.Server
	log       *slog.Logger
	batch     *batch.Runner
	recompute *recompute
	started   time.Time
	number    atomic.Int64 // of scratch tables

	countEvery time.Duration // how old counts of rows may be; 0: none are made

	mu       sync.Mutex
	batchNow string
	counts   map[string]counts
	counted  time.Time
}

var _ web.Backend = (*Backend)(nil)

// thriftWait is how long a command waits for a Thrift Server that is being
// started again.
const thriftWait = 3 * time.Minute

// Open connects to the catalog of a cluster. The other parts are asked when
// they are needed.
func Open(ctx context.Context, o Options) (*Backend, error) {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	letters, err := NewLetters(o.Program.Project, o.Config, o.Hook, o.Log)
	if err != nil {
		return nil, err
	}
	l, err := OpenLake(ctx, o.Config, o.Log)
	if err != nil {
		return nil, err
	}
	b := &Backend{LogLetters: letters, program: o.Program, config: o.Config, options: o, lake: l, log: o.Log, started: time.Now(), server: o.Config.ThriftServer()}
	b.recompute = &recompute{b: b}
	b.batch = &batch.Runner{Program: o.Program, Lake: l, Serving: handOver{b}, Pin: b.pin, Store: batch.Shared{Objects: l.Objects()}, Tables: b.recompute,
		Hook: o.Hook, Log: o.Log, Doing: b.doing}
	return b, nil
}

// ThriftServer is how every client of the Thrift Server connects.
func (c *Config) ThriftServer() spark.Server {
	s := spark.Server{Address: c.Thrift, Auth: c.ThriftAuth, User: c.ThriftUser, Password: c.ThriftPassword, Wait: thriftWait}
	if c.ThriftTLS {
		s.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return s
}

// Program is what the cluster runs.
func (b *Backend) Program() *compile.Program { return b.program }

// Close closes the connections.
func (b *Backend) Close() error { return b.lake.Close() }

func (b *Backend) doing(what string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.batchNow = what
}

// History implements web.Backend.
func (b *Backend) History(ctx context.Context) ([]lake.Manifest, error) {
	all, err := b.lake.Manifests(ctx)
	slices.Reverse(all)
	return all, err
}

// Rollback implements web.Backend.
func (b *Backend) Rollback(ctx context.Context, manifest int64) error {
	if _, err := b.lake.Manifest(ctx, manifest); err != nil {
		return fmt.Errorf("cannot roll back: %w: `lockstep history` lists them", err)
	}
	text, err := json.Marshal(rollbackState{manifest})
	if err != nil {
		return err
	}
	if err := b.lake.Objects().Put(ctx, rollbackObject, text); err != nil {
		return fmt.Errorf("cannot remember the rollback: %w", err)
	}
	return b.again(ctx, "serve the manifest", func() error { return b.refreshViews(ctx) })
}

// Release implements web.Backend.
func (b *Backend) Release(ctx context.Context) error {
	if err := b.lake.Objects().Delete(ctx, rollbackObject); err != nil {
		return fmt.Errorf("cannot release the rollback: %w", err)
	}
	return b.again(ctx, "serve the newest rows", func() error { return b.refreshViews(ctx) })
}

// Batch implements web.Backend.
func (b *Backend) Batch(ctx context.Context, r web.BatchRequest) (*web.BatchReport, error) {
	defer b.recompute.rest()
	switch {
	case r.Begin:
		run, err := b.batch.Begin(ctx)
		if err != nil {
			return nil, err
		}
		return web.NewBatchReport(&batch.Report{Run: *run}), nil
	case r.Run != "":
		run, err := b.batch.Evaluate(ctx, r.Run, r.Select)
		if err != nil {
			return nil, err
		}
		return web.NewBatchReport(&batch.Report{Run: *run}), nil
	case r.Publish != "":
		rep, err := b.batch.Publish(ctx, r.Publish)
		return b.noteBatch(ctx, rep, err)
	}
	rep, err := b.batch.Whole(ctx)
	return b.noteBatch(ctx, rep, err)
}

// batchObject is how the last run ended, for the status of every process.
const batchObject = "batch.json"

func (b *Backend) noteBatch(ctx context.Context, rep *batch.Report, err error) (*web.BatchReport, error) {
	out := &web.BatchReport{Started: time.Now().UTC()}
	switch {
	case errors.Is(err, context.Canceled):
		return nil, err
	case err != nil:
		out.Error = err.Error()
	default:
		out = web.NewBatchReport(rep)
	}
	text, e := json.Marshal(out)
	if e == nil {
		e = b.lake.Objects().Put(context.WithoutCancel(ctx), batchObject, text)
	}
	if e != nil {
		b.log.Warn("cannot note how the batch ended", "error", e)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

// lastBatch is how the last run ended; nil: none did.
func (b *Backend) lastBatch(ctx context.Context) (*web.BatchReport, error) {
	text, err := b.lake.Objects().Get(ctx, batchObject)
	if errors.Is(err, lake.ErrNoObject) {
		return nil, nil
	}
	out := &web.BatchReport{}
	if err == nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read how the last batch ended: %s: %w", batchObject, err)
	}
	return out, nil
}

// Maintain implements web.Backend. Files of bronze are merged by Spark, sorted
// by key: the stream looks keys up in them.
func (b *Backend) Maintain(ctx context.Context, r web.MaintainRequest) (*web.MaintainReport, error) {
	all, err := b.lake.Tables(ctx)
	if err != nil {
		return nil, err
	}
	up := lake.DefaultUpkeep()
	up.CompactFiles, up.KeepSnapshots, up.KeepFor, up.OrphansOlderThan, up.ExpireAtMost = 0, 1, r.KeepFor, time.Hour, 1000
	out := &web.MaintainReport{}
	for _, table := range all {
		before := b.files(ctx, table)
		if err := b.compact(ctx, table, before); err != nil {
			return out, fmt.Errorf("cannot merge the files of %s: %w", table, err)
		}
		up.Tables = []string{table}
		rep, err := b.lake.Maintain(ctx, b.batch.Spare(), up)
		if err != nil {
			return out, fmt.Errorf("cannot maintain %s: %w", table, err)
		}
		out.Tables = append(out.Tables, web.TableUpkeep{Table: table, FilesBefore: before, FilesAfter: b.files(ctx, table), Expired: int64(rep.SnapshotsExpired), Removed: int64(rep.OrphansRemoved)})
	}
	return out, nil
}

// mergeFrom is how many files a bronze table has when they are merged.
const mergeFrom = 8

// compact merges the files of a bronze table, sorted by key.
func (b *Backend) compact(ctx context.Context, table string, files int64) error {
	for _, src := range b.program.Project.Sources {
		if src.Table() != table || files < mergeFrom {
			continue
		}
		return b.again(ctx, "merge the files of "+table, func() error {
			s, err := b.server.Open(ctx, nil)
			if err != nil {
				return err
			}
			defer s.Close()
			return s.Exec(ctx, fmt.Sprintf("CALL lake.system.rewrite_data_files(table => %s, strategy => 'sort', sort_order => %s, options => map('use-starting-sequence-number', 'false', 'min-input-files', '%d'))",
				textSQL(table), textSQL(src.Key), mergeFrom))
		})
	}
	return nil
}

func (b *Backend) files(ctx context.Context, table string) int64 {
	head, err := b.lake.Head(ctx, table)
	if err != nil || head.Snapshot == 0 {
		return 0
	}
	text, _ := head.Property("total-data-files")
	return wholeNumber(text)
}
