// Package bench measures: `make bench` prints its figures. Nothing else
// imports it but tests that need a project's events without a log.
package bench

import (
	"time"

	"lockstep/engine"
	"lockstep/project"
	"lockstep/replay"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Feed hands the events of a replay over as bronze rows, n events at a time, as
// ingest would: each topic is one topic partition.
func Feed(events *replay.Events, n int, f func(step int64, rows engine.Tables) error) error {
	g := &feed{offsets: map[string]int64{}}
	for step := int64(1); ; step++ {
		rows, got, err := g.next(events, n)
		if err != nil {
			return err
		}
		if got > 0 {
			if err := f(step, rows); err != nil {
				return err
			}
		}
		if got < n {
			return nil
		}
	}
}

type feed struct{ offsets map[string]int64 }

// span is a run of rows of one batch.
type span struct {
	source   *project.Source
	batch    arrow.RecordBatch
	from, to int
}

func (g *feed) next(events *replay.Events, n int) (engine.Tables, int, error) {
	var spans []span
	open := map[string]int{} // topic -> its last span
	var ev replay.Event
	got := 0
	for ; got < n; got++ {
		more, err := events.Next(&ev)
		if err != nil {
			return nil, 0, err
		}
		if !more {
			break
		}
		if at, ok := open[ev.Source.Topic]; ok && spans[at].batch == ev.Batch && spans[at].to == ev.Row {
			spans[at].to++
			continue
		}
		ev.Batch.Retain()
		open[ev.Source.Topic] = len(spans)
		spans = append(spans, span{ev.Source, ev.Batch, ev.Row, ev.Row + 1})
	}
	out := engine.Tables{}
	for _, s := range spans {
		out[s.source.Table()] = append(out[s.source.Table()], g.rows(s))
		s.batch.Release()
	}
	return out, got, nil
}

// rows gives a span its places in the log.
func (g *feed) rows(s span) arrow.RecordBatch {
	cut := s.batch.NewSlice(int64(s.from), int64(s.to))
	defer cut.Release()
	n := s.to - s.from
	partition, offset := array.NewInt32Builder(memory.DefaultAllocator), array.NewInt64Builder(memory.DefaultAllocator)
	stamp := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: arrow.Microsecond})
	deleted := array.NewBooleanBuilder(memory.DefaultAllocator)
	now := arrow.Timestamp(time.Now().UnixMicro())
	for range n {
		partition.Append(0)
		offset.Append(g.offsets[s.source.Topic])
		g.offsets[s.source.Topic]++
		stamp.Append(now)
		deleted.Append(false)
	}
	columns := append(append([]arrow.Array(nil), cut.Columns()[:len(s.source.Fields)]...), partition.NewArray(), offset.NewArray(), stamp.NewArray(), deleted.NewArray())
	return array.NewRecordBatch(project.ArrowSchema(s.source.Columns()), columns, int64(n))
}
