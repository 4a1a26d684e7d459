package web

// Histogram counts observations by upper bound.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"` // at or below the bound of the same place
	Count  uint64    `json:"count"`
	Sum    float64   `json:"sum"`
}

// NewHistogram makes one of counts per bucket, the last of which is above all
// bounds; nil: nothing was observed.
func NewHistogram(bounds []float64, counts []uint64, sum float64) Histogram {
	h := Histogram{Bounds: bounds, Counts: make([]uint64, len(bounds)), Sum: sum}
	for i, c := range counts {
		h.Count += c
		if i < len(bounds) {
			h.Counts[i] = h.Count
		}
	}
	return h
}
