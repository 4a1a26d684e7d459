package apptest

import (
	"path/filepath"
	"testing"

	"lockstep/examples/olist/figures"
)

// summary is what `run --once --json` prints.
type summary struct {
	Events      int64            `json:"events"`
	Accepted    int64            `json:"accepted"`
	Rows        map[string]int64 `json:"rows"`
	DeadLetters int64            `json:"dead_letters"`
	DriftRows   int64            `json:"drift_rows"`
	Step        int64            `json:"step"`
	Manifest    int64            `json:"manifest"`
}

// TestPublicData replays a tenth of the public data: every expected figure in
// both layers, a clean verify, and nothing twice when it is run again.
func TestPublicData(t *testing.T) {
	raw := data(t, "olist10k")
	expected, err := figures.Read(data(t, "olist10k_expected.json"))
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(t.TempDir(), "state")
	run := append([]string{"run", "--once", "--speed", "max", "--state", state, "--data", raw}, freePorts...)
	var first summary
	mustJSON(t, &first, run...)
	if first.Events == 0 || first.Accepted != first.Events || first.DeadLetters != 0 || first.DriftRows != 0 || first.Manifest == 0 {
		t.Errorf("summary: %+v", first)
	}
	must(t, "verify", "--state", state)
	p := start(t, state, "--data", raw) // so that each query need not open the state
	for _, layer := range []string{"serving", "batch"} {
		t.Run(layer, func(t *testing.T) {
			for entry, want := range expected {
				got := figures.Actual(entry, func(sql string) figures.Result {
					q := query(t, state, sql, "--layer", layer)
					return figures.Result{Columns: q.Columns, Rows: q.Rows}
				})
				for _, fault := range figures.Compare(entry, want, got) {
					t.Error(fault)
				}
			}
		})
	}
	p.interrupt()
	var again summary
	mustJSON(t, &again, run...)
	if again.Events != 0 && again.Events != first.Events || again.Accepted != 0 || again.Step != first.Step {
		t.Errorf("run again: %+v, want nothing new after %+v", again, first)
	}
	if rows := query(t, state, "SELECT count(*) FROM bronze.order_status").Rows[0][0]; rows != float64(first.sum(expected["order_status"])) {
		t.Errorf("bronze.order_status has %v rows", rows)
	}
	must(t, "verify", "--state", state)
}

func (summary) sum(figures map[string]float64) (n int64) {
	for _, v := range figures {
		n += int64(v)
	}
	return n
}
