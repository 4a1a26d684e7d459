package web

import (
	"maps"

	"lockstep/batch"
)

// NewBatchReport is what is told of a run, or of the part of it that is done.
func NewBatchReport(rep *batch.Report) *BatchReport {
	out := &BatchReport{Run: rep.ID, Step: rep.Pin.Step, Manifest: rep.Manifest.ID, Started: rep.Started, Seconds: rep.Took,
		Models: maps.Clone(rep.Run.Seconds), Rows: maps.Clone(rep.Rows), Drift: map[string]int64{}, Compare: rep.Compare}
	for _, d := range rep.Drift {
		out.Drift[d.Model] = d.Rows
	}
	for _, f := range rep.Failures {
		out.Tests = append(out.Tests, f.String())
	}
	return out
}
