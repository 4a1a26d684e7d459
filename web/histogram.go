package web

// Histogram counts observations by upper bound.
type Histogram struct {
	Bounds []float64 `json:"bounds"`
	Counts []uint64  `json:"counts"` // at or below the bound of the same place
	Count  uint64    `json:"count"`
	Sum    float64   `json:"sum"`
}
