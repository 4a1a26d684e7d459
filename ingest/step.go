package ingest

import (
	"context"
	"maps"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Offsets are next offsets by topic and topic partition. Those left out are 0.
type Offsets = map[string]map[int32]int64

// Step is what was accepted between two sets of end offsets.
type Step struct {
	// Number is one more than that of the step before.
	Number int64
	// End is, by topic and topic partition, the next offset after the step.
	End Offsets
	// Rows are the accepted rows by table ("bronze.<topic>"), in the order of
	// offsets within a topic partition. Their schema is
	// project.ArrowSchema(source.Columns()). A table without rows is left out.
	// The batches are the receiver's to read, not to release.
	Rows map[string][]arrow.RecordBatch
	// Oldest and Newest are the times of the accepted records in the log;
	// zero when there are none. Timestamps has all of them.
	Oldest, Newest time.Time
	// Judged is when the records were judged: from then on the step is as good
	// as in bronze. A step that an earlier run recorded was judged now.
	Judged time.Time
	// Accepted and DeadLetters count the records judged.
	Accepted, DeadLetters int64
	// Bytes are those of the accepted records' keys and values.
	Bytes int64
	// Again says that the step was recorded by an earlier run.
	Again bool

	wide map[string][]arrow.RecordBatch // Rows with the columns that models do not see
}

// Timestamps calls f with the time in the log, in microseconds since 1970, of
// every accepted record that has one.
func (s *Step) Timestamps(f func(micros int64)) {
	for _, batches := range s.Rows {
		for _, b := range batches {
			column := b.Column(int(b.NumCols()) - 4 + colTimestamp).(*array.Timestamp)
			for i, v := range column.Values() {
				if column.IsValid(i) {
					f(int64(v))
				}
			}
		}
	}
}

// Consumer gets every step once, in order, from the one after its own Last.
type Consumer interface {
	// Last is the last step that the consumer holds; 0: none.
	Last() int64
	// Apply takes a step. While it works, ingest gathers the next one.
	Apply(ctx context.Context, s *Step) error
}

func cloneOffsets(o Offsets) Offsets {
	c := make(Offsets, len(o))
	for topic, parts := range o {
		c[topic] = maps.Clone(parts)
	}
	return c
}

// advance sets the offsets of from in into, where they are greater.
func advance(into, from Offsets) {
	for topic, parts := range from {
		if into[topic] == nil {
			into[topic] = map[int32]int64{}
		}
		for p, o := range parts {
			into[topic][p] = max(into[topic][p], o)
		}
	}
}

// covers says whether every offset of want is reached by have.
func covers(have, want Offsets) bool {
	for topic, parts := range want {
		for p, o := range parts {
			if have[topic][p] < o {
				return false
			}
		}
	}
	return true
}
