package ingest

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/franz-go/pkg/kgo"
)

// draft is the step that is being gathered. It belongs to whoever holds the
// gatherer's lock, and after it is taken to its taker.
type draft struct {
	again   *stepRecord // the recorded step that is formed again; nil: a new one
	end     Offsets     // of again, whole
	rows    map[*topic]*rows
	n       int   // rows and dead letters
	bytes   int64 // of them
	dead    []letter
	moved   Offsets // next offsets of the topic partitions that were read
	schemas map[int]string
	facts   []fact

	oldest, newest int64 // times of accepted records, milliseconds
}

// letter is a record that was judged dead.
type letter struct {
	record  *kgo.Record
	fault   *fault
	schema  int  // id in the record; 0: none
	written bool // by an earlier run that did not record its step
}

func newDraft() *draft {
	return &draft{rows: map[*topic]*rows{}, moved: Offsets{}, schemas: map[int]string{}}
}

// of gives the rows of a topic's table.
func (d *draft) of(t *topic) *rows {
	r := d.rows[t]
	if r == nil {
		r = newRows(t.target.columns, t.lastSizes())
		d.rows[t] = r
	}
	return r
}

// uses notes that accepted rows were decoded with a schema.
func (d *draft) uses(id int, text string) { d.schemas[id] = text }

func (d *draft) accept(r *kgo.Record) {
	d.count(r)
	ms := r.Timestamp.UnixMilli()
	if ms < 0 {
		return
	}
	if d.oldest == 0 || ms < d.oldest {
		d.oldest = ms
	}
	d.newest = max(d.newest, ms)
}

func (d *draft) count(r *kgo.Record) {
	d.n++
	d.bytes += int64(len(r.Key) + len(r.Value))
}

// move notes that a topic partition was read up to an offset.
func (d *draft) move(topic string, partition int32, next int64) {
	parts := d.moved[topic]
	if parts == nil {
		parts = map[int32]int64{}
		d.moved[topic] = parts
	}
	parts[partition] = next
}

// record is what is written of a new step.
func (d *draft) record(number int64) *stepRecord {
	s := &stepRecord{Step: number, End: d.moved}
	for _, l := range d.dead {
		if s.Dead == nil {
			s.Dead = map[string]map[int32][]int64{}
		}
		topic, p := l.record.Topic, l.record.Partition
		if s.Dead[topic] == nil {
			s.Dead[topic] = map[int32][]int64{}
		}
		s.Dead[topic][p] = append(s.Dead[topic][p], l.record.Offset)
	}
	return s
}

// step hands the rows over as a step. The draft must not be used afterwards.
func (d *draft) step(number int64, end Offsets) *Step {
	s := &Step{Number: number, End: end, Rows: map[string][]arrow.RecordBatch{}, wide: map[string][]arrow.RecordBatch{}, Judged: time.Now(), Again: d.again != nil, DeadLetters: int64(len(d.dead))}
	for t, r := range d.rows {
		if r.n == 0 {
			continue
		}
		t.remember(r.sizes())
		wide := r.batch(t.first(len(r.columns)))
		s.wide[t.table] = []arrow.RecordBatch{wide}
		s.Rows[t.table] = []arrow.RecordBatch{firstColumns(wide, t.first(t.target.fixed))}
		s.Accepted += int64(r.n)
		s.Bytes += r.bytes
	}
	if d.oldest != 0 {
		s.Oldest, s.Newest = time.UnixMilli(d.oldest).UTC(), time.UnixMilli(d.newest).UTC()
	}
	return s
}
