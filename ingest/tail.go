package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Tail decodes the accepted rows of an offset range of recorded steps again,
// by table, in batches of about StepRows. from and to are ends of steps, such
// as Committed().End and StepEnd(n). It may be called while Run works.
func (i *Ingest) Tail(ctx context.Context, from, to Offsets) (map[string][]arrow.RecordBatch, error) {
	first, err := i.records.endOf(i.records.first())
	if err != nil {
		return nil, err
	}
	if !covers(from, i.ours(first)) {
		return nil, fmt.Errorf("cannot decode the log from %v: the records of steps before %d were dropped", from, i.records.first())
	}
	if _, last := i.records.last(); !covers(last, to) {
		return nil, errors.New("cannot decode the log behind the last recorded step")
	}
	t := &tail{Ingest: i, out: map[string][]arrow.RecordBatch{}, draft: newDraft(), topics: map[string]*topic{}, dead: map[place]map[int64]bool{}}
	t.judge = &judge{maxRecord: i.cfg.MaxRecordBytes, log: i.log, schemas: newSchemas(ctx, i.cfg.Registry, i.records.schema, func() {})}
	if err := t.prepare(from, to); err != nil {
		return nil, err
	}
	var failed error
	err = readRange(ctx, &i.cfg, i.order, t.from, to, func(r *kgo.Record) {
		if failed == nil {
			failed = t.take(r)
		}
	})
	t.flush()
	return t.out, errors.Join(err, failed)
}

// ours leaves out topics that are not the project's any more.
func (i *Ingest) ours(o Offsets) Offsets {
	out := Offsets{}
	for name, parts := range o {
		if i.topics[name] != nil {
			out[name] = parts
		}
	}
	return out
}

// tail decodes recorded rows with decoders of its own.
type tail struct {
	*Ingest
	judge  *judge
	topics map[string]*topic
	from   Offsets
	dead   map[place]map[int64]bool
	draft  *draft
	out    map[string][]arrow.RecordBatch
}

func (t *tail) prepare(from, to Offsets) error {
	t.from = cloneOffsets(from)
	for name, own := range t.Ingest.topics {
		target, err := newTarget(own.source)
		if err != nil {
			return err
		}
		t.topics[name] = &topic{name: name, table: own.table, source: own.source, target: target, decoders: map[int]*compiled{}, taken: own.taken, state: Running}
		f, _ := t.records.topic(name)
		for p := range f.From {
			if t.from[name] == nil {
				t.from[name] = map[int32]int64{}
			}
			t.from[name][p] = max(t.from[name][p], f.From[p])
			t.dead[place{name, p}] = t.records.dead(name, p, t.from[name][p], to[name][p])
		}
	}
	return nil
}

func (t *tail) take(r *kgo.Record) error {
	if t.dead[place{r.Topic, r.Partition}][r.Offset] {
		return nil
	}
	t.draft.accept(r)
	if err := t.judge.again(t.topics[r.Topic], r, t.draft); err != nil {
		return fmt.Errorf("cannot decode the log again: %w", err)
	}
	if t.draft.n >= t.cfg.StepRows || t.draft.bytes >= t.cfg.StepBytes {
		t.flush()
	}
	return nil
}

// flush hands over the rows so far, without columns that models do not see.
func (t *tail) flush() {
	for table, batches := range t.draft.step(0, nil).Rows {
		t.out[table] = append(t.out[table], batches...)
	}
	t.draft = newDraft()
}
