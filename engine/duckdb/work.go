package duckdb

import (
	"sync"

	"lockstep/compile"
)

// Work is what steps did for a model.
type Work struct {
	Last    float64 // seconds of the last step
	Seconds float64 // of all steps
	In      int64   // changed rows of what the model reads
	Out     int64   // rows of the model that were added or removed
}

// works sums the work of steps by model.
type works struct {
	mu  sync.Mutex
	all map[string]Work
}

// note adds a model's share of a step.
func (w *works) note(r *compile.Relation, st *step, seconds float64) {
	if r.Kind != compile.Derived {
		return
	}
	seen := map[*compile.Relation]bool{}
	in := int64(0)
	for _, input := range r.Inputs {
		if input.Relation != nil && !seen[input.Relation] {
			seen[input.Relation] = true
			in += st.delta[input.Relation].rows()
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := w.all[r.Name]
	w.all[r.Name] = Work{Last: seconds, Seconds: sum.Seconds + seconds, In: sum.In + in, Out: sum.Out + st.delta[r].rows()}
}

func (w *works) of(model string) Work {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.all[model]
}

// rows counts what changed; nothing did where d is nil.
func (d *delta) rows() int64 {
	if d == nil {
		return 0
	}
	return int64(d.added.Len() + d.removed.Len())
}
