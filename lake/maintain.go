package lake

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// Upkeep says what Maintain does. Start from DefaultUpkeep.
type Upkeep struct {
	// Tables to look after; none: all.
	Tables []string
	// Compact: data files of one size class are merged when there are this
	// many; 0 switches compaction off. Classes grow by a factor of eight, so
	// that a row is rewritten about once per factor of eight in table size.
	CompactFiles int
	// CompactBelow: files of this many bytes and more stay as they are.
	CompactBelow int64
	// KeepSnapshots: the newest so many of each table are never expired.
	KeepSnapshots int
	// KeepFor: snapshots younger than this are never expired, so that foreign
	// readers can end what they read.
	KeepFor time.Duration
	// ExpireAtMost limits the snapshots expired of one table in one call; the
	// rest waits for the next. Expiring many at once is slow.
	ExpireAtMost int
	// OrphansOlderThan: files that nothing names are removed at this age; 0
	// leaves them. It must be longer than the longest commit or batch run
	// takes. It reads all metadata of a table: not for every call.
	OrphansOlderThan time.Duration
}

// DefaultUpkeep is right for a call about every 50 commits.
func DefaultUpkeep() Upkeep {
	return Upkeep{CompactFiles: 8, CompactBelow: 128 << 20, KeepSnapshots: 20, KeepFor: 30 * time.Second, ExpireAtMost: 500}
}

// Report says what Maintain did.
type Report struct {
	Compactions      int   // commits that merged files
	FilesCompacted   int   // small files that went into them
	FilesWritten     int   // files that came out
	SnapshotsExpired int   //
	OrphansRemoved   int   //
	OrphanBytes      int64 //
}

func (r *Report) add(o Report) {
	r.Compactions += o.Compactions
	r.FilesCompacted += o.FilesCompacted
	r.FilesWritten += o.FilesWritten
	r.SnapshotsExpired += o.SnapshotsExpired
	r.OrphansRemoved += o.OrphansRemoved
	r.OrphanBytes += o.OrphanBytes
}

// Maintain merges small files, expires old snapshots and removes files that
// nothing names, table by table. Snapshots in spare, those of all manifests,
// those that readers hold, the current ones and the newest with a position or
// step stay. A table whose upkeep fails does not stop that of the others; ErrConflict on a table is no failure, it will be done next time.
// Appends to a table wait only for its commits, not while files are merged.
func (l *Lake) Maintain(ctx context.Context, spare map[string][]int64, up Upkeep) (Report, error) {
	l.upkeep.Lock()
	defer l.upkeep.Unlock()
	var report Report
	named, err := l.namedSnapshots(ctx, spare)
	if err != nil {
		return report, err
	}
	names := up.Tables
	if len(names) == 0 {
		if names, err = l.Tables(ctx); err != nil {
			return report, err
		}
	}
	var errs error
	for _, name := range names {
		r, err := l.maintainTable(ctx, name, named[name], up)
		report.add(r)
		if err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNoTable) {
			errs = errors.Join(errs, fmt.Errorf("cannot maintain table %s: %w", name, err))
		}
	}
	if up.OrphansOlderThan > 0 {
		errs = errors.Join(errs, l.objects.sweep(up.OrphansOlderThan))
	}
	return report, errs
}

// namedSnapshots adds to spare what readers hold and any manifest names.
func (l *Lake) namedSnapshots(ctx context.Context, spare map[string][]int64) (map[string][]int64, error) {
	named := map[string][]int64{}
	for name, ids := range spare {
		named[name] = append(named[name], ids...)
	}
	l.mu.Lock()
	for h := range l.held {
		named[h.table] = append(named[h.table], h.snapshot)
	}
	l.mu.Unlock()
	manifests, err := l.Manifests(ctx)
	if err != nil {
		return nil, err
	}
	for _, m := range manifests {
		for name, id := range m.Tables {
			named[name] = append(named[name], id)
		}
		for name, id := range m.Bronze {
			named[name] = append(named[name], id)
		}
	}
	return named, nil
}

func (l *Lake) maintainTable(ctx context.Context, name string, spare []int64, up Upkeep) (Report, error) {
	var report Report
	ident, err := identifier(name)
	if err != nil {
		return report, err
	}
	// Merging takes long, so commits go on meanwhile: it only reads what no
	// one but Maintain removes, and is committed on top of them.
	merged, err := l.merge(withOp(ctx, OpCompact), ident, up)
	if err != nil {
		return report, err
	}
	defer l.lock(name)()
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil {
		return report, errors.Join(err, merged.remove())
	}
	b := l.liveBronze(name)
	if b != nil && (b.stale != nil || b.tbl.MetadataLocation() != tbl.MetadataLocation()) {
		// Its writer must see the table as it left it, to learn the outcome of
		// its commit. The table is looked after once it was read again.
		return report, merged.remove()
	}
	err = l.tidy(ctx, tbl, b, merged, spare, up, &report)
	if b != nil && errors.Is(err, ErrUnknownOutcome) {
		b.stale = err
	}
	return report, err
}

func (l *Lake) liveBronze(name string) *Bronze {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.live[name]
}

// tidy makes the commits of one table's upkeep. An open handle follows them.
func (l *Lake) tidy(ctx context.Context, tbl *table.Table, b *Bronze, merged *mergedFiles, spare []int64, up Upkeep, report *Report) error {
	for _, part := range []func(*table.Table) (*table.Table, error){
		func(t *table.Table) (*table.Table, error) {
			return l.compact(withOp(ctx, OpCompact), t, merged, report)
		},
		func(t *table.Table) (*table.Table, error) {
			return l.expire(withOp(ctx, OpExpire), t, spare, up, report)
		},
		func(t *table.Table) (*table.Table, error) { return t, l.removeOrphans(ctx, t, up, report) },
	} {
		next, err := part(tbl)
		if err != nil {
			return err
		}
		if tbl = next; b != nil {
			if err := b.take(tbl); err != nil {
				return err
			}
		}
	}
	return nil
}

// mergedFiles are new files and the small ones whose rows they hold.
type mergedFiles struct {
	lake    *Lake
	groups  []table.CompactionGroupResult
	written []iceberg.DataFile
}

// remove takes away what was written in vain.
func (m *mergedFiles) remove() error { return m.lake.removeFiles(m.written) }

// merge writes the small files of a table together, by size class. It commits
// nothing.
func (l *Lake) merge(ctx context.Context, ident table.Identifier, up Upkeep) (*mergedFiles, error) {
	m := &mergedFiles{lake: l}
	tbl, err := l.cat.LoadTable(ctx, ident)
	if err != nil || up.CompactFiles < 2 || tbl.CurrentSnapshot() == nil {
		return m, err
	}
	tasks, err := tbl.Scan().PlanFiles(ctx)
	if err != nil {
		return m, err
	}
	for _, g := range compactionGroups(tasks, up) {
		res, err := table.ExecuteCompactionGroup(ctx, tbl, g)
		m.written = append(m.written, res.NewDataFiles...)
		if err != nil {
			return m, errors.Join(fmt.Errorf("cannot merge small files: %w", err), m.remove())
		}
		m.groups = append(m.groups, res)
	}
	if len(m.groups) == 0 {
		return m, nil
	}
	if err := errors.Join(l.files.sync(tbl.Location()), l.hook(ctx, PointFiles, tableName(tbl))); err != nil {
		return m, errors.Join(err, m.remove())
	}
	return m, nil
}

// compact puts merged files in the place of the small ones, in one commit.
// Rows and position stay the same.
func (l *Lake) compact(ctx context.Context, tbl *table.Table, merged *mergedFiles, report *Report) (*table.Table, error) {
	if len(merged.groups) == 0 {
		return tbl, nil
	}
	current, err := currentContents(ctx, tbl)
	if err != nil {
		return tbl, errors.Join(err, merged.remove())
	}
	if !merged.fit(current) { // the table was replaced meanwhile
		return tbl, merged.remove()
	}
	txn := tbl.NewTransaction()
	if err := txn.AssertRefSnapshotID(table.MainBranch); err != nil {
		return tbl, errors.Join(err, merged.remove())
	}
	rewrite := txn.NewRewrite(carriedSummary(tbl))
	for _, g := range merged.groups {
		rewrite.ApplyResult(g)
		report.FilesCompacted += len(g.OldDataFiles)
	}
	if err := rewrite.Commit(ctx); err != nil {
		return tbl, errors.Join(err, merged.remove())
	}
	next, err := l.commit(ctx, txn, merged.written)
	if err != nil {
		return tbl, err
	}
	report.Compactions++
	report.FilesWritten += len(merged.written)
	return next, nil
}

// fit says whether the files that were merged are still the table's, and
// still whole.
func (m *mergedFiles) fit(current contents) bool {
	if len(current.deletes) > 0 {
		return false
	}
	now := map[string]bool{}
	for _, f := range current.data {
		now[f.FilePath()] = true
	}
	for _, g := range m.groups {
		for _, f := range g.OldDataFiles {
			if !now[f.FilePath()] {
				return false
			}
		}
	}
	return true
}

// compactionGroups are the files to merge: by table partition and size class,
// where there are enough of them.
func compactionGroups(tasks []table.FileScanTask, up Upkeep) []table.CompactionTaskGroup {
	byClass := map[string][]table.FileScanTask{}
	for _, t := range tasks {
		if t.File.FileSizeBytes() < up.CompactBelow && !hasDeletes(t) {
			key := fmt.Sprintf("%d/%v/%d", t.File.SpecID(), t.File.Partition(), sizeClass(t.File.FileSizeBytes()))
			byClass[key] = append(byClass[key], t)
		}
	}
	var groups []table.CompactionTaskGroup
	for key, files := range byClass {
		if len(files) < up.CompactFiles {
			continue
		}
		g := table.CompactionTaskGroup{PartitionKey: key, Tasks: files}
		for _, t := range files {
			g.TotalSizeBytes += t.File.FileSizeBytes()
		}
		groups = append(groups, g)
	}
	slices.SortFunc(groups, func(a, b table.CompactionTaskGroup) int { return strings.Compare(a.PartitionKey, b.PartitionKey) })
	return groups
}

// sizeClass grows by one per factor of eight in size, from 16 KB.
func sizeClass(size int64) int { return (bits.Len64(uint64(size>>14)) + 2) / 3 }

// carriedSummary are the properties of ours that the current snapshot has.
func carriedSummary(tbl *table.Table) iceberg.Properties {
	props := iceberg.Properties{}
	if s := tbl.CurrentSnapshot(); s != nil && s.Summary != nil {
		for k, v := range s.Summary.Properties {
			if strings.HasPrefix(k, ownPrefix) {
				props[k] = v
			}
		}
	}
	if p, err := positionOf(tbl); err == nil && props[PositionKey] == "" && p.TopicID != "" {
		if text, err := encodePosition(p); err == nil {
			props[PositionKey] = text
		}
	}
	return props
}

// expire takes old snapshots out of the metadata and then removes the files
// that only they name. Ended in between, it leaves orphans.
func (l *Lake) expire(ctx context.Context, tbl *table.Table, spare []int64, up Upkeep, report *Report) (*table.Table, error) {
	ids := expirable(tbl.Metadata(), spare, up)
	if len(ids) == 0 {
		return tbl, nil
	}
	remove := table.NewRemoveSnapshotsUpdate(ids, true)
	next, err := l.commitMetadata(ctx, tbl, remove)
	if err != nil {
		return tbl, err
	}
	if err := l.hook(ctx, PointExpired, tableName(tbl)); err != nil {
		return next, err
	}
	if err := remove.PostCommit(ctx, tbl, next); err != nil {
		return next, fmt.Errorf("cannot remove files of expired snapshots: %w", err)
	}
	report.SnapshotsExpired += len(ids)
	return next, nil
}

// expirable are the ids of the snapshots that go, oldest first.
func expirable(meta table.Metadata, spare []int64, up Upkeep) []int64 {
	snapshots := meta.Snapshots()
	slices.SortFunc(snapshots, func(a, b table.Snapshot) int { return int(a.SequenceNumber - b.SequenceNumber) })
	referenced := map[int64]bool{}
	for _, ref := range meta.Refs() {
		referenced[ref.SnapshotID] = true
	}
	for _, key := range []string{PositionKey, StepKey} { // a later snapshot of a foreign program may lack them
		if s := newestWith(meta, key); s != nil {
			referenced[s.SnapshotID] = true
		}
	}
	cutoff := time.Now().Add(-up.KeepFor).UnixMilli()
	var ids []int64
	for i, s := range snapshots {
		if i >= len(snapshots)-max(up.KeepSnapshots, 1) || len(ids) == up.ExpireAtMost && up.ExpireAtMost > 0 {
			break
		}
		if !referenced[s.SnapshotID] && !slices.Contains(spare, s.SnapshotID) && s.TimestampMs <= cutoff {
			ids = append(ids, s.SnapshotID)
		}
	}
	return ids
}

// removeOrphans removes files that no metadata of the table names: what a
// crash left between writing and committing.
func (l *Lake) removeOrphans(ctx context.Context, tbl *table.Table, up Upkeep, report *Report) error {
	if up.OrphansOlderThan <= 0 {
		return nil
	}
	res, err := tbl.DeleteOrphanFiles(ctx, table.WithFilesOlderThan(up.OrphansOlderThan))
	report.OrphansRemoved += len(res.DeletedFiles)
	report.OrphanBytes += res.TotalSizeBytes
	if err != nil {
		return fmt.Errorf("cannot remove orphaned files: %w", err)
	}
	return nil
}

func tableName(tbl *table.Table) string { return strings.Join(tbl.Identifier(), ".") }
