package main

import (
	"fmt"
	"maps"
	"slices"

	"lockstep/embedded"
)

// printSummary says what a run did.
func (a *app) printSummary(s *embedded.Summary) error {
	if a.json {
		return a.printJSON(s)
	}
	w := a.stdout
	fmt.Fprintf(w, "events replayed  %s\n", number(s.Events))
	fmt.Fprintf(w, "records taken    %s in %s (%s/s)\n", number(s.Accepted), seconds(s.Seconds), number(int64(s.EventsPerSec)))
	fmt.Fprintf(w, "freshness        p50 %s, p99 %s (produced to served)\n", seconds(s.FreshnessP50), seconds(s.FreshnessP99))
	fmt.Fprintf(w, "dead letters     %s\n", number(s.DeadLetters))
	fmt.Fprintf(w, "drift            %s rows\n", number(s.DriftRows))
	for _, t := range s.FailedTests {
		fmt.Fprintf(w, "data test fails  %s\n", t)
	}
	fmt.Fprintf(w, "step             %s, manifest %d\n\n", number(s.Step), s.Manifest)
	var rows [][]string
	for _, table := range slices.Sorted(maps.Keys(s.Rows)) {
		rows = append(rows, []string{table, number(s.Rows[table])})
	}
	return writeTable(w, []string{"table", "rows"}, []bool{false, true}, rows)
}
