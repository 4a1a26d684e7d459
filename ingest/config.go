package ingest

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/lake"
	"lockstep/project"
)

// Registry is what ingest asks of a schema registry; *registry.Client is one.
// Its errors are registry.ErrNotFound, ErrUnusable, and others, after which it
// is asked again.
type Registry interface {
	SchemaByID(ctx context.Context, id int) (*avro.Schema, error)
	Register(ctx context.Context, subject, schema string) (int, error)
}

// Config says what to ingest, from where and where to.
type Config struct {
	Project       *project.Project
	Brokers       []string  // addresses of the log
	ClientOptions []kgo.Opt // further options: TLS, SASL
	Registry      Registry
	Lake          *lake.Lake

	// Dir is the state folder for step records. Required.
	Dir string
	// MinStep: when step records were lost, numbering goes on above it, and
	// above every step that bronze knows.
	MinStep int64

	// StepRows is the most records of a step. Default 50,000. StepBytes limits
	// their bytes; default 64 MiB.
	StepRows  int
	StepBytes int64
	// StepDelay is the least time between the starts of two steps, so that
	// a quiet log does not cost a sync per record. Default 20 ms.
	StepDelay time.Duration

	// CommitEvery and CommitRows say when bronze is committed: so long after
	// the first row that is not, or with so many. Defaults 5 s and 200,000.
	CommitEvery time.Duration
	CommitRows  int
	// BufferRows are the most rows that wait for bronze before ingest does.
	// Default twice CommitRows.
	BufferRows int

	// MaintainEvery is the number of bronze commits between two runs of the
	// lake's upkeep. Default 50; negative: never.
	MaintainEvery int
	Upkeep        lake.Upkeep // default lake.DefaultUpkeep()
	// Spare names the snapshots by table that upkeep must leave.
	Spare func() map[string][]int64

	// MaxRecordBytes: a record with more is a dead letter. Default 4 MiB.
	MaxRecordBytes int

	// Hook is called at named points, for crash tests.
	Hook func(point string)
	Log  *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Project == nil || c.Registry == nil || c.Lake == nil || c.Dir == "" || len(c.Brokers)+len(c.ClientOptions) == 0 {
		return c, errors.New("cannot ingest: project, registry, lake, state folder and log must be given")
	}
	def(&c.StepRows, 50_000)
	def(&c.StepBytes, 64<<20)
	def(&c.StepDelay, 20*time.Millisecond)
	def(&c.CommitEvery, 5*time.Second)
	def(&c.CommitRows, 200_000)
	def(&c.BufferRows, 2*c.CommitRows)
	def(&c.MaintainEvery, 50)
	def(&c.MaxRecordBytes, 4<<20)
	if c.Upkeep.KeepSnapshots == 0 && c.Upkeep.CompactFiles == 0 {
		c.Upkeep = lake.DefaultUpkeep()
	}
	if c.Hook == nil {
		c.Hook = func(string) {}
	}
	if c.Spare == nil {
		c.Spare = func() map[string][]int64 { return nil }
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, nil
}

func def[T int | int64 | time.Duration](v *T, to T) {
	if *v == 0 {
		*v = to
	}
}

// client makes a client of the log.
func (c *Config) client(opts ...kgo.Opt) (*kgo.Client, error) {
	base := append([]kgo.Opt{kgo.ClientID("lockstep-ingest")}, c.ClientOptions...)
	if len(c.Brokers) > 0 {
		base = append(base, kgo.SeedBrokers(c.Brokers...))
	}
	return kgo.NewClient(append(base, opts...)...)
}
