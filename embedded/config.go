// Package embedded wires all parts into one process, in the order in which the
// data flows, and stops them in reverse. The parts do not know it.
package embedded

import (
	"log/slog"
	"time"

	"lockstep/compile"
	"lockstep/replay"
)

// Config says which state to open and how.
type Config struct {
	Program *compile.Program
	Dir     string // state folder
	Log     *slog.Logger
	Version string // of the binary

	// Addresses; empty: the default, which moves to the next free port when it
	// is taken. Quiet listens nowhere but in private, for commands that only
	// need the state.
	Listen, Kafka, Registry string
	Quiet                   bool

	MemoryLimit int64 // bytes for queries and batches together; 0: 1 GiB
	DiskLimit   int64 // bytes of the state folder; 0: no limit but the disk's
	CommitEvery time.Duration
	Hook        func(point string) // crash tests
}

// RunOptions says what the main job replays and when it ends.
type RunOptions struct {
	Data  string  // folder of raw files
	Scale float64 // or synthetic; 0 and no Data: outside producers only
	Speed float64 // event time per wall time; 0: as fast as it goes
	Once  bool    // end when the source is at its end and all layers caught up
	// Schedule of the batch layer; empty: the project's.
	Schedule string
	Progress func(Progress)
}

// Progress is told to whoever draws bars, about twice a second.
type Progress struct {
	Replay   replay.Progress
	Step     int64
	Accepted int64   // records in steps
	Dead     int64   // dead letters
	Lag      int64   // records in the log that are in no step yet
	Rate     float64 // records/s through the stream, last seconds
	Batch    string  // what the batch layer is doing; empty: idle
	Rebuild  string  // what is being rebuilt; empty: nothing
}

// Summary is what a run did.
type Summary struct {
	Events       int64            `json:"events"`   // sent by the replay in this run
	Accepted     int64            `json:"accepted"` // records taken into steps in this run
	Seconds      float64          `json:"seconds"`  // from the first event sent to all layers caught up
	EventsPerSec float64          `json:"events_per_second"`
	FreshnessP50 float64          `json:"freshness_p50_seconds"`
	FreshnessP99 float64          `json:"freshness_p99_seconds"`
	Rows         map[string]int64 `json:"rows"` // served, per table
	DeadLetters  int64            `json:"dead_letters"`
	DriftRows    int64            `json:"drift_rows"`
	FailedTests  []string         `json:"failed_tests,omitempty"` // data tests of the last batch
	Step         int64            `json:"step"`
	Manifest     int64            `json:"manifest"`
}
