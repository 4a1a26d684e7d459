package ingest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/lake"
	"lockstep/project"
)

// Committed is what bronze holds whole. The snapshots have all accepted records
// below End; when another ingest wrote too, some above it.
type Committed struct {
	Step   int64
	End    Offsets
	Tables map[string]int64 // snapshot by table; 0: the table has no snapshot yet
}

// bronze appends steps to the bronze tables. One goroutine commits.
type bronze struct {
	*Ingest
	tables map[*topic]*lake.Bronze

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew at each change
	queue     []*Step
	rows      int // of queue
	since     time.Time
	queued    int64 // number of the last step that was queued
	committed Committed
	forced    int64 // commit up to this step now
	closed    bool
	failure   string // of the commit that is being tried
	commits   int    // since the last upkeep
}

// openBronze loads the tables, and finds the last recorded step that they hold
// whole.
func (i *Ingest) openBronze(ctx context.Context) (*bronze, error) {
	b := &bronze{Ingest: i, tables: map[*topic]*lake.Bronze{}, changed: make(chan struct{})}
	for _, t := range i.topics {
		handle, err := i.cfg.Lake.Bronze(ctx, t.table, t.target.columns)
		if err != nil {
			return nil, fmt.Errorf("cannot open table %s: %w", t.table, err)
		}
		b.tables[t] = handle
	}
	return b, nil
}

// positions are the offsets that the tables hold, and the greatest step that
// they name.
func (b *bronze) positions() (held Offsets, step int64) {
	held = Offsets{}
	for t, handle := range b.tables {
		p := handle.Position()
		held[t.name] = p.Offsets
		step = max(step, p.Step)
	}
	return held, step
}

// begin makes ready for a run.
func (b *bronze) begin(ctx context.Context) error {
	for t, handle := range b.tables {
		if _, err := handle.Reload(ctx); err != nil {
			return fmt.Errorf("cannot read table %s: %w", t.table, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue, b.rows, b.forced, b.closed, b.failure = nil, 0, 0, false, ""
	return b.resume(ctx)
}

// resume sets what the tables hold in terms of recorded steps.
func (b *bronze) resume(ctx context.Context) error {
	held, _ := b.positions()
	_, end := b.records.last()
	for name := range end {
		if b.topics[name] == nil {
			held[name] = end[name] // no longer the project's
		}
	}
	for name := range b.topics {
		if f, ok := b.records.topic(name); ok && held[name] == nil {
			held[name] = maps.Clone(f.From)
		}
	}
	step := b.records.covered(held)
	at, err := b.records.endOf(step)
	if err != nil {
		return err
	}
	tables, err := b.snapshots(ctx)
	if err != nil {
		return err
	}
	b.committed, b.queued = Committed{Step: step, End: at, Tables: tables}, step
	return nil
}

func (b *bronze) snapshots(ctx context.Context) (map[string]int64, error) {
	tables := map[string]int64{}
	for t := range b.tables {
		scan, err := b.cfg.Lake.Scan(ctx, t.table, 0)
		if err != nil {
			return nil, err
		}
		tables[t.table] = scan.SnapshotID
	}
	return tables, nil
}

func (b *bronze) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// snapshot is a copy of what is committed.
func (b *bronze) snapshot() Committed {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Committed{Step: b.committed.Step, End: cloneOffsets(b.committed.End), Tables: maps.Clone(b.committed.Tables)}
}

// enqueue hands over a step, and waits while too many rows wait already.
func (b *bronze) enqueue(ctx context.Context, s *Step) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.rows > 0 && b.rows+int(s.Accepted) > b.cfg.BufferRows {
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		b.mu.Lock()
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	if len(b.queue) == 0 {
		b.since = time.Now()
	}
	b.queue = append(b.queue, s)
	b.rows += int(s.Accepted)
	b.queued = s.Number
	b.notify()
	return nil
}

// run commits until it is closed, and what is queued then, unless ctx ends.
func (b *bronze) run(ctx context.Context) error {
	for {
		steps, done := b.due(ctx)
		if len(steps) > 0 {
			if err := b.commit(ctx, steps); err != nil {
				return err
			}
			b.upkeep(ctx)
		}
		if done {
			return ctx.Err()
		}
	}
}

// due waits until steps are to be committed and gives them.
func (b *bronze) due(ctx context.Context) (steps []*Step, done bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		left := b.cfg.CommitEvery - time.Since(b.since)
		now := b.rows >= b.cfg.CommitRows || left <= 0 || b.closed || b.forced > b.committed.Step
		if len(b.queue) > 0 && now || b.closed || ctx.Err() != nil {
			return b.queue, b.closed || ctx.Err() != nil
		}
		var timer <-chan time.Time
		if len(b.queue) > 0 {
			timer = time.After(left)
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		case <-timer:
		}
		b.mu.Lock()
	}
}

// commit brings all tables to the last of the steps.
func (b *bronze) commit(ctx context.Context, steps []*Step) error {
	begun := time.Now()
	last := steps[len(steps)-1]
	b.cfg.Hook("ingest.commit")
	ids := map[string]int64{}
	for _, name := range b.order {
		t := b.topics[name]
		var batches []arrow.RecordBatch
		for _, s := range steps {
			batches = append(batches, s.wide[t.table]...)
		}
		id, err := b.commitTable(ctx, t, batches, last)
		if err != nil {
			return err
		}
		if id != 0 {
			ids[t.table] = id
		}
		b.cfg.Hook("ingest.commit.table")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range steps {
		b.rows -= int(s.Accepted)
	}
	b.queue = append([]*Step(nil), b.queue[len(steps):]...)
	b.since = time.Now()
	b.committed.Step, b.committed.End = last.Number, last.End
	maps.Copy(b.committed.Tables, ids)
	b.commits++
	b.metrics.committed(time.Since(begun), ids)
	b.notify()
	return nil
}

// commitTable appends what the table does not hold yet. It tries until ctx
// ends: a full disk or another writer pass.
func (b *bronze) commitTable(ctx context.Context, t *topic, batches []arrow.RecordBatch, s *Step) (snapshot int64, err error) {
	handle := b.tables[t]
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, 10*time.Second) {
		if snapshot, err = b.tryTable(ctx, t, handle, batches, s); err == nil {
			b.fails("")
			return snapshot, nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("cannot commit step %d: %w", s.Number, errors.Join(ctx.Err(), err))
		}
		b.log.Warn("cannot commit to bronze; trying again", "table", t.table, "step", s.Number, "error", err)
		b.fails(err.Error())
		if !errors.Is(err, lake.ErrConflict) && !errors.Is(err, lake.ErrUnknownOutcome) {
			select {
			case <-ctx.Done():
			case <-time.After(pause):
			}
		}
		if _, err := handle.Reload(ctx); err != nil {
			b.log.Warn("cannot read the table again", "table", t.table, "error", err)
		}
	}
}

func (b *bronze) tryTable(ctx context.Context, t *topic, handle *lake.Bronze, batches []arrow.RecordBatch, s *Step) (int64, error) {
	for _, w := range batches {
		if n := int(w.NumCols()); n > len(handle.Columns()) {
			// Columns are only ever added at the end.
			if _, err := b.cfg.Lake.Bronze(ctx, t.table, t.first(n)); err != nil {
				return 0, err
			}
		}
	}
	columns := handle.Columns()
	held := handle.Position()
	next := lake.Position{TopicID: t.topicID(), Offsets: maps.Clone(s.End[t.name]), Step: max(held.Step, s.Number)}
	if next.Offsets == nil {
		next.Offsets = map[int32]int64{}
	}
	for p, o := range held.Offsets {
		next.Offsets[p] = max(next.Offsets[p], o)
	}
	if maps.Equal(next.Offsets, held.Offsets) || len(next.Offsets) == 0 {
		return 0, nil
	}
	fresh, err := joined(uncovered(batches, t, held.Offsets), columns)
	if err != nil {
		return 0, err
	}
	return handle.Append(ctx, fresh, next)
}

// uncovered are the rows whose records are not below the offsets.
func uncovered(batches []arrow.RecordBatch, t *topic, held map[int32]int64) []arrow.RecordBatch {
	var out []arrow.RecordBatch
	for _, b := range batches {
		partition := b.Column(t.target.logColumn(colPartition)).(*array.Int32).Int32Values()
		offset := b.Column(t.target.logColumn(colOffset)).(*array.Int64).Int64Values()
		start := -1
		for i := range partition {
			fresh := offset[i] >= held[partition[i]]
			if fresh && start < 0 {
				start = i
			} else if !fresh && start >= 0 {
				out = append(out, b.NewSlice(int64(start), int64(i)))
				start = -1
			}
		}
		if start == 0 {
			out = append(out, b)
		} else if start > 0 {
			out = append(out, b.NewSlice(int64(start), b.NumRows()))
		}
	}
	return out
}

// joinedRows is how many rows small batches are joined to, since a writer pays
// for each batch.
const joinedRows = 32_768

// joined gives batches the same columns and joins small ones.
func joined(batches []arrow.RecordBatch, columns []project.Column) ([]arrow.RecordBatch, error) {
	var out, run []arrow.RecordBatch
	var rows int64
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		b, err := concat(run, columns)
		out, run, rows = append(out, b), nil, 0
		return err
	}
	for _, b := range batches {
		run, rows = append(run, widened(b, columns)), rows+b.NumRows()
		if rows >= joinedRows {
			if err := flush(); err != nil {
				return nil, err
			}
		}
	}
	return out, flush()
}

func widened(b arrow.RecordBatch, columns []project.Column) arrow.RecordBatch {
	if int(b.NumCols()) == len(columns) {
		return b
	}
	arrays := append([]arrow.Array(nil), b.Columns()...)
	for _, c := range columns[len(arrays):] {
		arrays = append(arrays, array.MakeArrayOfNull(memory.DefaultAllocator, c.Type.Arrow(), int(b.NumRows())))
	}
	return array.NewRecordBatch(project.ArrowSchema(columns), arrays, b.NumRows())
}

func concat(batches []arrow.RecordBatch, columns []project.Column) (arrow.RecordBatch, error) {
	if len(batches) == 1 {
		return batches[0], nil
	}
	arrays := make([]arrow.Array, len(columns))
	var rows int64
	for i := range columns {
		parts := make([]arrow.Array, len(batches))
		for k, b := range batches {
			parts[k] = b.Column(i)
		}
		var err error
		if arrays[i], err = array.Concatenate(parts, memory.DefaultAllocator); err != nil {
			return nil, fmt.Errorf("cannot join rows: %w", err)
		}
	}
	for _, b := range batches {
		rows += b.NumRows()
	}
	return array.NewRecordBatch(project.ArrowSchema(columns), arrays, rows), nil
}

// upkeep runs the lake's maintenance every so many commits.
func (b *bronze) upkeep(ctx context.Context) {
	if b.cfg.MaintainEvery < 0 || b.commits < b.cfg.MaintainEvery {
		return
	}
	b.commits = 0
	b.cfg.Hook("ingest.upkeep")
	spare := map[string][]int64{}
	for table, ids := range b.cfg.Spare() {
		spare[table] = append(spare[table], ids...)
	}
	for table, id := range b.snapshot().Tables {
		spare[table] = append(spare[table], id)
	}
	report, err := b.cfg.Lake.Maintain(ctx, spare, b.cfg.Upkeep)
	b.metrics.maintained(report, err)
	if err != nil {
		b.log.Warn("upkeep of the lake is not complete", "error", err)
	}
	// From now on the merged files are to be read.
	if tables, err := b.snapshots(ctx); err == nil {
		b.mu.Lock()
		b.committed.Tables = tables
		b.mu.Unlock()
	}
}

// commitNow returns when all that was queued is committed.
func (b *bronze) commitNow(ctx context.Context) (Committed, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	want := b.queued
	for b.committed.Step < want {
		b.forced = max(b.forced, want)
		b.notify()
		if b.closed {
			return Committed{}, fmt.Errorf("cannot commit step %d: ingest ended", want)
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-ctx.Done():
		case <-changed:
		}
		b.mu.Lock()
		if err := ctx.Err(); err != nil {
			return Committed{}, fmt.Errorf("cannot commit step %d: %w", want, err)
		}
	}
	return Committed{Step: b.committed.Step, End: cloneOffsets(b.committed.End), Tables: maps.Clone(b.committed.Tables)}, nil
}

// close lets run end after a last commit.
func (b *bronze) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.notify()
}

func (b *bronze) fails(message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failure = message
}
