package replay

import (
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/project"
)

// Config says what to replay, and for Run also where to and how fast.
type Config struct {
	Project *project.Project

	// Data is the folder of the raw files. Empty: the project's generator
	// makes them at Scale from Seed.
	Data  string
	Scale float64
	Seed  int64

	// WorkDir keeps the sorted events between runs. It can be deleted when
	// nothing runs; it is made again, at the price of the start-up.
	WorkDir string
	// MemoryLimit in bytes for sorting; what does not fit goes to WorkDir.
	// Default 256 MB.
	MemoryLimit int64
	// Threads for preparing. Default: one per core.
	Threads int

	Brokers       []string  // addresses of the log
	ClientOptions []kgo.Opt // further options (TLS, SASL); they win over replay's own
	Registry      *sr.Client

	// Speed is event time per wall time: 3600 plays an hour in a second. 0
	// sends as fast as the log takes it.
	Speed float64
	// BaseInterval caps the wall time between two events, so that an empty
	// night does not stall a demonstration. Default 1 s.
	BaseInterval time.Duration

	// Progress is told what was done, about twice a second and at the end, one
	// call at a time.
	Progress func(Progress)
	// Hook is called at the Points, for crash tests.
	Hook func(point string)
	Log  *slog.Logger
}

// Points are the names with which Hook is called, in order: when the inputs
// were recorded; before events are prepared; when they are, but not yet
// declared ready; when topics and schemas are there; after each record was handed to
// the client; when the log has taken the last.
var Points = []string{"replay.identity", "replay.prepare", "replay.prepared", "replay.schemas", "replay.record", "replay.sent"}

// Phase is what a replay is doing.
type Phase string

// The phases of a replay, in order.
const (
	Checking  Phase = "checking"  // reading and typing raw files, or generating them
	Preparing Phase = "preparing" // making and sorting events
	Sending   Phase = "sending"
	Done      Phase = "done"
)

// Progress is how far a replay has come.
type Progress struct {
	Phase     Phase
	Detail    string        // the file or topic at hand, while checking or preparing
	Sent      int64         // events that the log has taken, of all runs
	Total     int64         // events in all; 0 until they are prepared
	Rate      float64       // events per second of late
	Left      time.Duration // at this rate; 0: not known
	EventTime time.Time     // of the last event handed to the log
}

func (c Config) withDefaults() Config {
	if c.MemoryLimit <= 0 {
		c.MemoryLimit = 256 << 20
	}
	if c.Threads <= 0 {
		c.Threads = runtime.NumCPU()
	}
	if c.BaseInterval <= 0 {
		c.BaseInterval = time.Second
	}
	if c.Progress == nil {
		c.Progress = func(Progress) {}
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

func (c Config) check() error {
	switch {
	case c.Project == nil:
		return fmt.Errorf("cannot replay: no project")
	case c.WorkDir == "":
		return fmt.Errorf("cannot replay: no work folder")
	case c.Data == "" && c.Scale <= 0:
		return fmt.Errorf("cannot replay: neither a data folder nor a scale above 0 is given; use --data DIR or --scale N")
	case c.Speed < 0:
		return fmt.Errorf("cannot replay at speed %g; use a number above 0, or max", c.Speed)
	case len(c.sources()) == 0:
		return fmt.Errorf("cannot replay: no topic in sources.yaml has a query; the project takes events from outside producers only")
	}
	return nil
}

// sources are the topics that are replayed, by name.
func (c Config) sources() []*project.Source {
	var replayed []*project.Source
	for _, s := range c.Project.Sources {
		if s.Query != "" {
			replayed = append(replayed, s)
		}
	}
	return sortedByTopic(replayed)
}
