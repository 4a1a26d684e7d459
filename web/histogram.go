package web

import "sync"

// FreshnessBounds are the upper bounds, in seconds, of the freshness histogram.
var FreshnessBounds = []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60}

// Histogram counts observations by upper bound.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"` // at or below the bound of the same place
	Count  uint64    `json:"count"`
	Sum    float64   `json:"sum"`
}

// Observations collects a Histogram. It is safe for concurrent use; the zero
// value counts by FreshnessBounds.
type Observations struct {
	mu sync.Mutex
	h  Histogram
}

// Observe counts a value n times.
func (o *Observations) Observe(value float64, n uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.h.Counts == nil {
		o.h.Bounds, o.h.Counts = FreshnessBounds, make([]uint64, len(FreshnessBounds))
	}
	for i, bound := range o.h.Bounds {
		if value <= bound {
			o.h.Counts[i] += n
		}
	}
	o.h.Count += n
	o.h.Sum += value * float64(n)
}

// Snapshot is what was observed so far.
func (o *Observations) Snapshot() Histogram {
	o.mu.Lock()
	defer o.mu.Unlock()
	h := o.h
	h.Counts = append([]uint64(nil), o.h.Counts...)
	return h
}
