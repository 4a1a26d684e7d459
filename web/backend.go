// Package web is how a running instance is asked: HTTP handlers over TCP for
// people and over a socket in the state folder for other commands, and the
// client for that socket. Both sides are a Backend, so that a command does the
// same whether an instance runs or it opened the state itself.
package web

import (
	"context"
	"time"

	"lockstep/lake"

	"github.com/apache/arrow-go/v18/arrow/array"
)

// Backend is everything that can be asked of a state.
type Backend interface {
	// Query runs one read-only statement and sees one step across all tables.
	Query(ctx context.Context, q Query) (*Result, error)
	// Verify recomputes every model in full from bronze and compares.
	Verify(ctx context.Context, step int64) (*VerifyReport, error)
	Status(ctx context.Context) (*Status, error)
	// History lists the published manifests, newest first.
	History(ctx context.Context) ([]lake.Manifest, error)
	// Rollback serves an earlier manifest, frozen, until Release.
	Rollback(ctx context.Context, manifest int64) error
	Release(ctx context.Context) error
	// Maintain compacts and expires the lake's tables now.
	Maintain(ctx context.Context, r MaintainRequest) (*MaintainReport, error)
	// Batch runs the batch layer now, whole or in parts.
	Batch(ctx context.Context, r BatchRequest) (*BatchReport, error)
	DeadLetters(ctx context.Context, f LetterFilter) ([]Letter, error)
	// ReplayLetters sends letters to their topic again and marks them done.
	ReplayLetters(ctx context.Context, f LetterFilter) (int, error)
}

// Query is one statement.
type Query struct {
	SQL   string `json:"sql"`
	Layer string `json:"layer,omitempty"` // "serving" (default) or "batch"
	AsOf  string `json:"as_of,omitempty"` // id of a manifest, or a time (RFC 3339 or YYYY-MM-DD HH:MM:SS, UTC)
}

// Result is what a statement gave. Read the rows, then release them.
type Result struct {
	Step     int64  `json:"step"`     // the one step that it saw
	Manifest int64  `json:"manifest"` // under which manifest; 0: none yet
	Frozen   string `json:"frozen,omitempty"`
	Rows     array.RecordReader
}

// VerifyReport is the answer of Verify.
type VerifyReport struct {
	Step          int64         `json:"step"`           // of what is served
	PublishedStep int64         `json:"published_step"` // of the published tables
	Models        []ModelReport `json:"models"`
	Seconds       float64       `json:"seconds"`
}

// Clean says that nothing differs.
func (r *VerifyReport) Clean() bool {
	for _, m := range r.Models {
		if m.Served.Different() || m.Published.Different() {
			return false
		}
	}
	return true
}

// ModelReport compares one model's rows with a full recompute. Published is nil
// where the model has no published table (views, or before the first batch).
type ModelReport struct {
	Model     string      `json:"model"`
	Served    *Comparison `json:"served"`
	Published *Comparison `json:"published,omitempty"`
}

// Comparison counts rows: of the recompute, those missing in what is
// compared, those that only it has, and how many of both are the same key with
// other values.
type Comparison struct {
	Rows    int64    `json:"rows"`
	Missing int64    `json:"missing"`
	Extra   int64    `json:"extra"`
	Changed int64    `json:"different"`
	Sample  []string `json:"sample,omitempty"` // a few of them, readable
}

// Different says whether any row differs.
func (c *Comparison) Different() bool { return c != nil && (c.Missing > 0 || c.Extra > 0) }

// Status is a snapshot of a running instance.
type Status struct {
	Project     string           `json:"project"`
	State       string           `json:"state"` // state folder
	Started     time.Time        `json:"started"`
	Ready       bool             `json:"ready"`
	NotReady    []string         `json:"not_ready,omitempty"` // why not
	Step        int64            `json:"step"`                // last step served
	Frozen      string           `json:"frozen,omitempty"`    // why it does not move: rollback, rebuild
	Manifest    int64            `json:"manifest"`
	Published   time.Time        `json:"published"`    // of the manifest
	BatchStep   int64            `json:"batch_step"`   // of the manifest
	BatchNow    string           `json:"batch_now"`    // what the batch layer is doing; empty: idle
	LastBatch   *BatchReport     `json:"last_batch"`   // the last run that ended
	DriftRows   int64            `json:"drift_rows"`   // at the last hand-over
	Freshness   Freshness        `json:"freshness"`    // produced -> served
	FromBronze  Histogram        `json:"from_bronze"`  // seconds from bronze to silver and gold, by record, since the process started
	Replay      *Replay          `json:"replay"`       // nil: nothing is replayed
	Topics      []TopicStatus    `json:"topics"`       // by name
	Models      []ModelStatus    `json:"models"`       // in graph order
	Addresses   []Address        `json:"addresses"`    // what listens where
	Problems    []string         `json:"problems"`     // what an operator must look at, with the remedy
	Bytes       map[string]int64 `json:"bytes"`        // on disk, by part of the state
	MemoryBytes int64            `json:"memory_bytes"` // resident set of the process

	// Commits of bronze, each of all topics together, since the process
	// started, and the time spent in them.
	Commits       int64   `json:"commits"`
	CommitSeconds float64 `json:"commit_seconds"`
}

// Freshness in seconds over the last minutes.
type Freshness struct {
	P50   float64   `json:"p50"`
	P99   float64   `json:"p99"`
	Count int64     `json:"count"`
	Since Histogram `json:"since"` // of everything since the process started
}

// Replay says how far the replay is.
type Replay struct {
	Phase string  `json:"phase"`
	Sent  int64   `json:"sent"`
	Total int64   `json:"total"`
	Rate  float64 `json:"rate"` // events/s
	Left  float64 `json:"left"` // seconds
}

// TopicStatus is one topic and its bronze table.
type TopicStatus struct {
	Topic       string  `json:"topic"`
	Records     int64   `json:"records"`     // accepted since the state began
	Rate        float64 `json:"rate"`        // accepted per second, last 10 s
	Lag         int64   `json:"lag"`         // records in the log that are not in a step yet
	LagSeconds  float64 `json:"lag_seconds"` // how long the oldest of them has waited
	Dead        int64   `json:"dead"`        // dead letters, open
	DeadTotal   int64   `json:"dead_total"`  // records judged dead since the process started
	BronzeRows  int64   `json:"bronze_rows"`
	BronzeFiles int64   `json:"bronze_files"`
	Bytes       int64   `json:"bytes"`             // accepted since the process started, as sent
	Stopped     string  `json:"stopped,omitempty"` // why ingest does not read it, with the remedy
}

// ModelStatus is one model.
type ModelStatus struct {
	Model        string  `json:"model"`
	Materialized string  `json:"materialized"`
	Rows         int64   `json:"rows"`               // served
	OverlayRows  int64   `json:"overlay_rows"`       // since the last batch
	StepSeconds  float64 `json:"step_seconds"`       // last step's share
	StepTotal    float64 `json:"step_seconds_total"` // of all steps since the process started
	RowsIn       int64   `json:"rows_in"`            // changed rows of what it reads, since then
	RowsOut      int64   `json:"rows_out"`           // its own rows that were added or removed, since then
	BatchSeconds float64 `json:"batch_seconds"`
	Files        int64   `json:"files"`
	DriftRows    int64   `json:"drift_rows"`
}

// Address is something that listens.
type Address struct{ Name, Addr string }

// MaintainRequest says how far upkeep goes.
type MaintainRequest struct {
	// KeepFor: younger snapshots stay, so that foreign readers can end what
	// they read.
	KeepFor time.Duration `json:"keep_for"`
}

// MaintainReport says what upkeep did, by table.
type MaintainReport struct {
	Tables []TableUpkeep `json:"tables"`
}

// TableUpkeep is the upkeep of one table.
type TableUpkeep struct {
	Table       string `json:"table"`
	FilesBefore int64  `json:"files_before"`
	FilesAfter  int64  `json:"files_after"`
	Expired     int64  `json:"snapshots_expired"`
	Removed     int64  `json:"files_removed"`
}

// BatchRequest asks for a whole run (all fields empty) or a part of one.
type BatchRequest struct {
	Begin   bool     `json:"begin,omitempty"`   // only pin a step; answers the run's id
	Run     string   `json:"run,omitempty"`     // evaluate Select of this run
	Select  []string `json:"select,omitempty"`  // models
	Publish string   `json:"publish,omitempty"` // compare and publish this run
}

// BatchReport is what a run, or a part of it, did.
type BatchReport struct {
	Run      string             `json:"run"`
	Step     int64              `json:"step"`
	Manifest int64              `json:"manifest,omitempty"` // published; 0: not yet
	Started  time.Time          `json:"started"`
	Seconds  float64            `json:"seconds"`
	Models   map[string]float64 `json:"models"` // seconds by model
	Rows     map[string]int64   `json:"rows"`
	Drift    map[string]int64   `json:"drift"` // rows that differ from what was served, by model; only those
	Compare  float64            `json:"compare_seconds"`
	Tests    []string           `json:"failed_tests,omitempty"` // data tests that rows do not pass
	Error    string             `json:"error,omitempty"`
}

// LetterFilter selects dead letters; empty fields select all.
type LetterFilter struct {
	Topic     string `json:"topic,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Partition *int32 `json:"partition,omitempty"`
	Offset    *int64 `json:"offset,omitempty"`
	Done      bool   `json:"done,omitempty"` // also those that were replayed
	Limit     int    `json:"limit,omitempty"`
}

// Letter is a dead letter. Topic, partition and offset say where the record
// stood; together they are its name.
type Letter struct {
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	SchemaID  int       `json:"schema_id,omitempty"`
	Time      time.Time `json:"time"`
	Key       []byte    `json:"key"`
	Value     []byte    `json:"value"`
	Done      bool      `json:"done"`
}
