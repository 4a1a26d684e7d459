// Package speed is the speed layer: it takes every step of ingest through the
// stream's state and hands what changed to the serving layer.
//
// It reads steps of accepted rows and writes the store of the stream, one batch
// a step. What is served follows the store: after a crash in between, the
// serving layer is filled again from the store.
package speed

import (
	"context"
	"fmt"
	"sort"
	"sync"
	"time"

	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/ingest"
)

// Overlay is what takes the changes of a step.
type Overlay interface {
	Apply(ctx context.Context, step int64, changes []duckdb.Changes, bronze engine.Tables) error
}

// Layer consumes steps. It is an ingest.Consumer.
type Layer struct {
	Stream    *duckdb.Stream
	Overlay   Overlay
	Freshness *Freshness         // nil: not measured
	Hook      func(point string) // crash tests
	// Took is told after each step: records, and seconds that it took.
	Took func(step, records int64, seconds float64)
}

var _ ingest.Consumer = (*Layer)(nil)

// Last implements ingest.Consumer.
func (l *Layer) Last() int64 { return l.Stream.Last() }

// Apply implements ingest.Consumer.
func (l *Layer) Apply(ctx context.Context, s *ingest.Step) error {
	begin := time.Now()
	changes, err := l.Stream.StepChanges(ctx, s.Number, s.Rows)
	if err != nil {
		return fmt.Errorf("speed: %w", err)
	}
	l.hook("speed.committed")
	if err := l.Overlay.Apply(ctx, s.Number, changes, s.Rows); err != nil {
		return fmt.Errorf("speed: %w", err)
	}
	l.hook("speed.served")
	if l.Freshness != nil {
		l.Freshness.Observe(s, time.Now())
	}
	if l.Took != nil {
		l.Took(s.Number, s.Accepted, time.Since(begin).Seconds())
	}
	return nil
}

func (l *Layer) hook(point string) {
	if l.Hook != nil {
		l.Hook(point)
	}
}

// Buckets are the upper bounds of the histograms, in seconds. A service level
// objective for them is one of these.
var Buckets = []float64{0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300, 600, 1800}

// Freshness measures the time from a record's production to its being served:
// as a histogram since the start, and as quantiles over the last minutes. And,
// as a histogram, the part of it since the record was judged.
type Freshness struct {
	mu             sync.Mutex
	produced, step histogram
	recent         []sample
}

// histogram counts records by bucket; the last is above all bounds.
type histogram struct {
	counts []uint64
	sum    float64
}

func (h *histogram) add(seconds float64, records int64) {
	if h.counts == nil {
		h.counts = make([]uint64, len(Buckets)+1)
	}
	h.counts[sort.SearchFloat64s(Buckets, seconds)] += uint64(records)
	h.sum += seconds * float64(records)
}

type sample struct {
	at      time.Time
	seconds float64
	records int64
}

const window = 5 * time.Minute

// Observe notes a step that is served at a time. A step of an earlier run is
// left out: it was served then.
func (f *Freshness) Observe(s *ingest.Step, served time.Time) {
	if s.Again {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.step.add(max(0, served.Sub(s.Judged).Seconds()), s.Accepted)
	millis := map[int64]int64{} // records by age
	s.Timestamps(func(micros int64) {
		millis[max(0, served.UnixMicro()-micros)/1000]++
	})
	for ms, records := range millis {
		seconds := float64(ms) / 1000
		f.produced.add(seconds, records)
		f.recent = append(f.recent, sample{served, seconds, records})
	}
	old := 0
	for old < len(f.recent) && served.Sub(f.recent[old].at) > window {
		old++
	}
	f.recent = f.recent[old:]
}

// ObserveAge notes records of one age that are served at a time, where the step
// is another process's.
func (f *Freshness) ObserveAge(seconds float64, records int64, served time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.produced.add(seconds, records)
	f.recent = append(f.recent, sample{served, seconds, records})
	old := 0
	for old < len(f.recent) && served.Sub(f.recent[old].at) > window {
		old++
	}
	f.recent = f.recent[old:]
}

// ObserveSinceJudged notes records that are served so many seconds after they
// came into bronze.
func (f *Freshness) ObserveSinceJudged(seconds float64, records int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.step.add(seconds, records)
}

// Histogram gives the counts by bucket (the last is above all bounds) and the
// sum of all seconds.
func (f *Freshness) Histogram() (counts []uint64, sum float64) { return f.read(&f.produced) }

// SinceJudged is Histogram of the time since the records were judged, that is
// from bronze to silver and gold.
func (f *Freshness) SinceJudged() (counts []uint64, sum float64) { return f.read(&f.step) }

func (f *Freshness) read(h *histogram) (counts []uint64, sum float64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]uint64(nil), h.counts...), h.sum
}

// Quantiles gives median and 99th percentile of the last minutes, in seconds,
// and of how many records.
func (f *Freshness) Quantiles() (p50, p99 float64, records int64) {
	f.mu.Lock()
	recent := append([]sample(nil), f.recent...)
	f.mu.Unlock()
	sort.Slice(recent, func(i, j int) bool { return recent[i].seconds < recent[j].seconds })
	for _, s := range recent {
		records += s.records
	}
	at := func(q float64) float64 {
		left := int64(q * float64(records))
		for _, s := range recent {
			if left -= s.records; left < 0 {
				return s.seconds
			}
		}
		if len(recent) > 0 {
			return recent[len(recent)-1].seconds
		}
		return 0
	}
	return at(0.5), at(0.99), records
}
