package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// ownPrefix begins all properties of ours.
const ownPrefix = "lockstep."

// Properties of snapshot summaries. They are carried over by every
// maintenance commit of ours, and the newest of each survives expiry.
const (
	// PositionKey holds the Position of a bronze table as JSON.
	PositionKey = ownPrefix + "position"
	// StepKey holds the record of a step, where a table is written step by step.
	StepKey = ownPrefix + "step"
)

// Position is how far a bronze table has come in its topic.
type Position struct {
	TopicID string          `json:"topic_id"` // of the topic that was read; another one has other offsets
	Offsets map[int32]int64 `json:"offsets"`  // by topic partition: the next offset to read
	Step    int64           `json:"step"`     // last step whose rows are in the table
}

func (p Position) equal(o Position) bool {
	return p.TopicID == o.TopicID && p.Step == o.Step && maps.Equal(p.Offsets, o.Offsets)
}

// Bronze is an append-only table and its position. It is safe for concurrent
// use. There is one handle per table and Lake.
type Bronze struct {
	lake    *Lake
	name    string
	columns []project.Column
	// Guarded by the lake's lock of the table:
	tbl      *table.Table // the state that the next commit is based on
	position Position
	stale    error // not nil: read again before the next commit
}

// Bronze creates or loads a bronze table. Columns that are new to it are added
// as optional, int columns may become bigint and decimals get more digits;
// another change of type is an error. Columns that are left out stay, and are
// null in new rows. Called again with more columns it evolves the same handle.
func (l *Lake) Bronze(ctx context.Context, name string, columns []project.Column) (*Bronze, error) {
	ident, err := identifier(name)
	if err != nil {
		return nil, err
	}
	defer l.lock(name)()
	tbl, err := l.loadOrCreate(ctx, ident, columns, nil)
	if err != nil {
		return nil, err
	}
	if tbl, err = l.evolve(ctx, tbl, name, columns); err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.live[name]; b != nil {
		b.columns = columns
		return b, b.follow(tbl)
	}
	b := &Bronze{lake: l, name: name, columns: columns}
	if err := b.take(tbl); err != nil {
		return nil, err
	}
	l.live[name] = b
	return b, nil
}

// loadOrCreate gives a table, made with these columns if there is none.
func (l *Lake) loadOrCreate(ctx context.Context, ident table.Identifier, columns []project.Column, partitionBy []string) (*table.Table, error) {
	tbl, err := l.cat.LoadTable(ctx, ident)
	if !errors.Is(err, ErrNoTable) {
		return tbl, err
	}
	sc := l.schemaFor(nil, 0, columns)
	spec, err := partitionSpec(sc, partitionBy)
	if err != nil {
		return nil, fmt.Errorf("table %s.%s: %w", ident[0], ident[1], err)
	}
	return l.cat.create(withOp(ctx, OpCreate), ident, sc, spec, maps.Clone(tableProperties))
}

// evolve commits a schema that has the columns, if tbl's has not.
func (l *Lake) evolve(ctx context.Context, tbl *table.Table, name string, columns []project.Column) (*table.Table, error) {
	meta := tbl.Metadata()
	sc, err := l.evolvedSchema(meta.CurrentSchema(), meta.LastColumnID(), columns)
	if err != nil {
		return nil, fmt.Errorf("cannot change table %s: %w", name, err)
	}
	if sc == nil {
		return tbl, nil
	}
	return l.commitMetadata(withOp(ctx, OpEvolve), tbl,
		table.NewAddSchemaUpdate(sc), table.NewSetCurrentSchemaUpdate(-1))
}

// commitMetadata commits updates without new data, if tbl is still current.
func (l *Lake) commitMetadata(ctx context.Context, tbl *table.Table, updates ...table.Update) (*table.Table, error) {
	meta := tbl.Metadata()
	reqs := []table.Requirement{table.AssertTableUUID(meta.TableUUID()), table.AssertCurrentSchemaID(meta.CurrentSchema().ID),
		table.AssertRefSnapshotID(table.MainBranch, snapshotID(tbl))}
	next, loc, err := l.cat.CommitTable(ctx, tbl.Identifier(), reqs, updates)
	if err != nil {
		return nil, err
	}
	l.removeOldMetadata(meta, next)
	return l.cat.remember(tbl.Identifier(), next, loc), nil
}

// removeOldMetadata removes the metadata files that next does not name any
// more; iceberg-go does it only for commits of its own transactions.
func (l *Lake) removeOldMetadata(before, next table.Metadata) {
	kept := map[string]bool{}
	for e := range next.PreviousFiles() {
		kept[e.MetadataFile] = true
	}
	for e := range before.PreviousFiles() {
		if kept[e.MetadataFile] {
			continue
		}
		if err := l.files.Remove(e.MetadataFile); err != nil {
			l.log.Warn("cannot remove old metadata file", "file", e.MetadataFile, "error", err)
		}
	}
}

func snapshotID(tbl *table.Table) *int64 {
	if s := tbl.CurrentSnapshot(); s != nil {
		return &s.SnapshotID
	}
	return nil
}

// Name is the table's name, namespace.table.
func (b *Bronze) Name() string { return b.name }

// Columns are those that the handle was opened with last.
func (b *Bronze) Columns() []project.Column {
	defer b.lake.lock(b.name)()
	return b.columns
}

// Position is that of the state on which the next Append is based. Of a table
// without rows it is empty.
func (b *Bronze) Position() Position {
	defer b.lake.lock(b.name)()
	p := b.position
	p.Offsets = maps.Clone(p.Offsets)
	return p
}

// Reload reads the table again, as it must be after ErrConflict and
// ErrUnknownOutcome, and gives the position found.
func (b *Bronze) Reload(ctx context.Context) (Position, error) {
	defer b.lake.lock(b.name)()
	ident, err := identifier(b.name)
	if err != nil {
		return Position{}, err
	}
	tbl, err := b.lake.cat.LoadTable(ctx, ident)
	if err != nil {
		return Position{}, err
	}
	if tbl, err = b.lake.evolve(ctx, tbl, b.name, b.columns); err != nil {
		return Position{}, err
	}
	return b.position, b.take(tbl)
}

// take makes tbl the state that the next commit is based on.
func (b *Bronze) take(tbl *table.Table) error {
	p, err := positionOf(tbl)
	if err != nil {
		b.stale = err
		return fmt.Errorf("cannot read the position of table %s: %w", b.name, err)
	}
	b.tbl, b.position, b.stale = tbl, p, nil
	return nil
}

// follow takes tbl if nobody else moved the position; otherwise the caller,
// who goes by the position read before, must Reload first.
func (b *Bronze) follow(tbl *table.Table) error {
	p, err := positionOf(tbl)
	if err == nil && b.stale == nil && !p.equal(b.position) {
		b.stale = fmt.Errorf("%w: its position moved", ErrConflict)
	}
	if err != nil || b.stale != nil {
		return err
	}
	return b.take(tbl)
}

// positionOf reads the position of a table's current snapshot. Snapshots that
// only rearranged rows (a foreign compaction) may lack it; theirs is that of
// their parent.
func positionOf(tbl *table.Table) (Position, error) {
	s := tbl.CurrentSnapshot()
	for s != nil {
		if s.Summary != nil {
			if _, ok := s.Summary.Properties[PositionKey]; ok {
				return positionFrom(s.SnapshotID, s.Summary.Properties)
			}
			if s.Summary.Operation != table.OpReplace {
				return Position{}, fmt.Errorf("snapshot %d (%s) has no property %s: another program wrote to this table, which only ingest may", s.SnapshotID, s.Summary.Operation, PositionKey)
			}
		}
		if s.ParentSnapshotID == nil {
			break
		}
		parent := tbl.SnapshotByID(*s.ParentSnapshotID)
		if parent == nil {
			return Position{}, fmt.Errorf("snapshot %d has no property %s and its parent is expired", s.SnapshotID, PositionKey)
		}
		s = parent
	}
	return Position{}, nil
}

func encodePosition(p Position) (string, error) {
	text, err := json.Marshal(p)
	return string(text), err
}

// positionFrom reads the position of a snapshot's summary.
func positionFrom(id int64, summary map[string]string) (Position, error) {
	var p Position
	text, ok := summary[PositionKey]
	if !ok {
		return p, fmt.Errorf("snapshot %d has no property %s", id, PositionKey)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		return p, fmt.Errorf("snapshot %d: property %s is damaged: %w", id, PositionKey, err)
	}
	return p, nil
}

// Append commits rows and position in one snapshot, on top of the state whose
// position was read, and gives the snapshot's id. Without rows it only
// advances the position. The batches stay the caller's.
//
// Errors: ErrConflict and ErrUnknownOutcome ask for Reload, after which rows
// that the position found covers must be dropped; a further Append without
// Reload fails with the same. After any other error nothing has happened.
func (b *Bronze) Append(ctx context.Context, batches []arrow.RecordBatch, pos Position) (int64, error) {
	defer b.lake.lock(b.name)()
	if b.stale != nil {
		return 0, fmt.Errorf("cannot append to table %s before it is read again: %w", b.name, b.stale)
	}
	if err := checkAdvance(b.position, pos); err != nil {
		return 0, fmt.Errorf("cannot append to table %s: %w", b.name, err)
	}
	tbl, err := b.append(withOp(ctx, OpAppend), batches, pos)
	if err != nil {
		if errors.Is(err, ErrConflict) || errors.Is(err, ErrUnknownOutcome) {
			b.stale = err
		}
		return 0, fmt.Errorf("cannot append to table %s: %w", b.name, err)
	}
	return tbl.CurrentSnapshot().SnapshotID, b.take(tbl)
}

// checkAdvance refuses a position that would make rows come twice.
func checkAdvance(from, to Position) error {
	if from.TopicID != "" && from.TopicID != to.TopicID {
		return fmt.Errorf("its rows are of topic id %s, not %s: was the topic made anew? Its offsets start again, so this table cannot continue with them", from.TopicID, to.TopicID)
	}
	if to.Step < from.Step {
		return fmt.Errorf("step %d is before step %d, which the table holds", to.Step, from.Step)
	}
	for p, o := range from.Offsets {
		if next, ok := to.Offsets[p]; !ok || next < o {
			return fmt.Errorf("topic partition %d: offset %d is before %d, up to which the table holds rows", p, next, o)
		}
	}
	return nil
}

func (b *Bronze) append(ctx context.Context, batches []arrow.RecordBatch, pos Position) (*table.Table, error) {
	text, err := encodePosition(pos)
	if err != nil {
		return nil, err
	}
	files, err := b.write(ctx, batches)
	if err != nil {
		return nil, err
	}
	if err := b.lake.hook(ctx, PointFiles, b.name); err != nil {
		return nil, errors.Join(err, b.lake.removeFiles(files))
	}
	txn := b.tbl.NewTransaction()
	if err := txn.AssertRefSnapshotID(table.MainBranch); err != nil {
		return nil, errors.Join(err, b.lake.removeFiles(files))
	}
	if err := addFiles(ctx, txn, files, iceberg.Properties{PositionKey: text}); err != nil {
		return nil, errors.Join(err, b.lake.removeFiles(files))
	}
	return b.lake.commit(ctx, txn, files)
}

func (b *Bronze) write(ctx context.Context, batches []arrow.RecordBatch) ([]iceberg.DataFile, error) {
	if len(batches) == 0 {
		return nil, nil
	}
	return b.lake.writeFiles(ctx, b.tbl, batches[0].Schema(), eachBatch(batches))
}

func eachBatch(batches []arrow.RecordBatch) iter.Seq2[arrow.RecordBatch, error] {
	return func(yield func(arrow.RecordBatch, error) bool) {
		for _, b := range batches {
			if !yield(b, nil) {
				return
			}
		}
	}
}
