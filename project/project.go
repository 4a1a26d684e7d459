// Package project reads a domain project: the plain files in which a user
// describes sources, schemas, models and tests.
//
// It reads a folder (any fs.FS) and gives a Project, or every fault it found
// with file, line and remedy. It checks what a file says on its own and what
// the files say of one another by name; what the SQL means is the compiler's.
package project

import "io/fs"

// Project is a whole domain project as its files describe it.
type Project struct {
	FS   fs.FS
	Name string
	// Environments by name; "embedded" always exists.
	Environments map[string]Environment
	Batch        Batch
	Retention    Retention
	Objectives   Objectives
	Sources      []*Source   // by topic
	RawFiles     []*RawFile  // by name
	Seeds        []*Seed     // by name
	Models       []*Model    // by name
	Tests        []*UnitTest // by file and name
}

// Environment says where the parts of a deployment are. The embedded one
// needs nothing.
type Environment struct {
	Settings map[string]string
}

// Batch is the schedule of the batch layer.
type Batch struct {
	Schedule string // cron expression or "@every 5m"; empty: only by command
}

// Retention limits what is kept of history.
type Retention struct {
	LogBytes  int64  // per topic partition; 0: default of the log
	LogAge    string // a duration; empty: default of the log
	Manifests int    // published manifests kept for as-of and rollback
}

// Source is a topic of change events and the bronze table made from it.
type Source struct {
	Topic      string
	Key        string // column whose text is the record's key
	EventTime  string // timestamp column: orders the replay; a tombstone's row gets the record's time there
	Partitions int
	Tombstone  Tombstone
	Query      string // file that makes its events from raw files; empty: outside producers only
	SchemaFile string
	Schema     []byte   // Avro schema, as in SchemaFile
	Fields     []Column // the schema's fields, in order
}

// Tombstone is what a record without a value means for a topic.
type Tombstone string

// The deletion rules.
const (
	TombstoneDeadLetter Tombstone = "dead_letter" // the default: not allowed here
	TombstoneDelete     Tombstone = "delete"      // the key is deleted
)

// Table is the name of the source's bronze table.
func (s *Source) Table() string { return "bronze." + s.Topic }

// Columns are those of the bronze table: the schema's fields, then where the
// record stood in the log.
func (s *Source) Columns() []Column {
	return append(append([]Column(nil), s.Fields...), LogColumns...)
}

// LogColumns stand behind the fields in every bronze table.
var LogColumns = []Column{
	{Name: "_partition", Type: Type{Kind: Int}, Description: "topic partition of the record"},
	{Name: "_offset", Type: Type{Kind: Bigint}, Description: "offset of the record in its topic partition"},
	{Name: "_timestamp", Type: Type{Kind: Timestamp}, Description: "time of the record in the log, UTC"},
	{Name: "_deleted", Type: Type{Kind: Boolean}, Description: "true: the key was deleted by this record"},
}

// RawFile is a CSV file that replay reads.
type RawFile struct {
	Name    string // the name by which source queries read it: raw.<name>
	File    string // file name in the data folder
	Columns []Column
}

// Seed is a table whose rows belong to the project: seeds/<name>.csv. Every
// column is a string; an empty field is an empty string.
type Seed struct {
	Name    string // seed.<name>
	File    string
	Columns []Column
	Rows    [][]string
}

// Materialized says how a model's rows are kept.
type Materialized string

// The materializations.
const (
	Incremental Materialized = "incremental" // kept in step by the stream, checked by the batch
	View        Materialized = "view"        // evaluated when asked
	BatchOnly   Materialized = "batch"       // as of the last batch
)

// Model is one SELECT and what its header says of it.
type Model struct {
	Name         string // namespace.table, from its path
	File         string
	SQL          string // the whole file: a leading comment is SQL too
	Line         int    // line of the SQL after the header
	Description  string
	Materialized Materialized
	UniqueKey    []string
	Scope        []string // unit of recompute; the unique key unless coarser
	PartitionBy  []string // Iceberg transforms: "month(purchased_at)"
	Columns      []Column
	ColumnLines  map[string]int
}

// Column is a documented, typed column.
type Column struct {
	Name        string
	Type        Type
	Description string
	Tests       []DataTest
}

// DataTest is a check of a column's rows.
type DataTest struct {
	Kind   string   // not_null, unique, accepted_values, relationships
	Values []string // accepted_values
	To     string   // relationships: table
	Field  string   // relationships: column of To
}

// UnitTest gives rows to tables and says which rows a model makes of them.
type UnitTest struct {
	File   string
	Line   int
	Name   string
	Model  string
	Given  map[string][]Row // by table; bronze or model
	Expect []Row
}

// Row is a row of a unit test: text per column as YAML wrote it; nil is null.
// A column left out is null.
type Row struct {
	Line   int
	Values map[string]*string
}
