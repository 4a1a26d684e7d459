// Package spark is the engine of the cluster. A compiled program goes to Spark
// as one JSON document (Plan); the application in app/, Python that is embedded
// in this binary, executes it: in Structured Streaming over the log, or for a
// caller that gives it rows (Engine).
package spark

import (
	"encoding/json"
	"fmt"
	"slices"

	"lockstep/compile"
	"lockstep/project"
)

// PlanVersion is that of the document; the application refuses another one.
const PlanVersion = 1

// Plan is a program as data: what app/plan.py reads.
type Plan struct {
	Version     int               `json:"version"`
	Project     string            `json:"project"`
	Fingerprint string            `json:"fingerprint"`  // of all that the stream's state depends on
	Prints      map[string]string `json:"fingerprints"` // of the incremental models
	Topics      []PlanTopic       `json:"topics"`
	Seeds       []PlanSeed        `json:"seeds"`
	Tables      []PlanTable       `json:"tables"`    // that relations hold rows of
	Relations   []PlanRelation    `json:"relations"` // in the order of a step
	Models      []PlanModel       `json:"models"`    // all, in graph order
}

// PlanColumn is a column, its type as a project writes it.
type PlanColumn struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// PlanTopic is a source.
type PlanTopic struct {
	Topic      string       `json:"topic"`
	Table      string       `json:"table"`
	Key        string       `json:"key"`
	EventTime  string       `json:"event_time"`
	Tombstone  string       `json:"tombstone"`
	Partitions int          `json:"partitions"`
	Schema     string       `json:"schema"`
	Fields     []PlanColumn `json:"fields"`
}

// PlanSeed is a seed with its rows.
type PlanSeed struct {
	Table   string       `json:"table"`
	Columns []PlanColumn `json:"columns"`
	Rows    [][]string   `json:"rows"`
}

// PlanTable is a table that rows belong to. The cells of a row are its columns,
// then the values of the computed expressions, which keys of it need.
type PlanTable struct {
	Name     string         `json:"name"`
	Columns  []PlanColumn   `json:"columns"`
	Computed []PlanComputed `json:"computed"`
}

// PlanComputed is an expression over a table's columns.
type PlanComputed struct {
	SQL  string `json:"sql"`
	Type string `json:"type"`
}

// PlanRelation is what the stream keeps of a table.
type PlanRelation struct {
	ID      int               `json:"id"`
	Name    string            `json:"name"`
	Kind    string            `json:"kind"`
	Table   string            `json:"table"`
	Scope   []PlanColumn      `json:"scope"`
	Indexes [][]PlanPart      `json:"indexes"`
	Fold    *PlanFold         `json:"fold,omitempty"`
	Inputs  []int             `json:"inputs"` // relations that a step reads or follows here
	Step    []json.RawMessage `json:"step"`
}

// PlanPart is one part of a key: a cell of the row, or a text.
type PlanPart struct {
	Cell    *int    `json:"cell,omitempty"`
	Literal *string `json:"literal,omitempty"`
}

// PlanFold is "the first row of each key".
type PlanFold struct {
	Key   []string           `json:"key"`
	Order []compileFoldOrder `json:"order"`
	SQL   string             `json:"sql"` // the order as ORDER BY
}

type compileFoldOrder struct {
	Cell       int  `json:"cell"`
	Desc       bool `json:"desc"`
	NullsFirst bool `json:"nulls_first"`
}

// PlanModel is a model's query. Select is cut where it names a table: text,
// table, text, ..., text.
type PlanModel struct {
	Name         string       `json:"name"`
	Materialized string       `json:"materialized"`
	Fingerprint  string       `json:"fingerprint"`
	Columns      []PlanColumn `json:"columns"`
	Reads        []string     `json:"reads"`
	Select       []string     `json:"select"`
}

// NewPlan writes a program as data.
func NewPlan(p *compile.Program) (*Plan, error) {
	b := &planner{program: p, tables: map[string]*PlanTable{},
		plan: &Plan{Version: PlanVersion, Project: p.Project.Name, Fingerprint: p.Fingerprint, Prints: map[string]string{},
			Topics: []PlanTopic{}, Seeds: []PlanSeed{}, Tables: []PlanTable{}, Relations: []PlanRelation{}, Models: []PlanModel{}}}
	for _, s := range p.Project.Sources {
		b.plan.Topics = append(b.plan.Topics, PlanTopic{Topic: s.Topic, Table: s.Table(), Key: s.Key, EventTime: s.EventTime,
			Tombstone: string(s.Tombstone), Partitions: s.Partitions, Schema: string(s.Schema), Fields: columns(s.Fields)})
	}
	for _, s := range p.Project.Seeds {
		b.plan.Seeds = append(b.plan.Seeds, PlanSeed{Table: s.Name, Columns: columns(s.Columns), Rows: s.Rows})
	}
	for _, m := range p.Models {
		if err := b.model(m); err != nil {
			return nil, err
		}
	}
	if err := b.relations(); err != nil {
		return nil, err
	}
	return b.plan, nil
}

func columns(list []project.Column) []PlanColumn {
	out := make([]PlanColumn, len(list))
	for i, c := range list {
		out[i] = PlanColumn{c.Name, c.Type.String()}
	}
	return out
}

type planner struct {
	program *compile.Program
	plan    *Plan
	tables  map[string]*PlanTable
}

func (b *planner) model(m *compile.Model) error {
	parts, err := m.SelectParts()
	if err != nil {
		return fmt.Errorf("cannot write the plan of %s: %w", m.Name, err)
	}
	if m.Relation != nil {
		b.plan.Prints[m.Name] = m.Fingerprint
	}
	b.plan.Models = append(b.plan.Models, PlanModel{Name: m.Name, Materialized: string(m.Materialized), Fingerprint: m.Fingerprint,
		Columns: columns(m.Columns), Reads: m.Reads, Select: parts})
	return nil
}

func (b *planner) relations() error {
	var names []string
	for _, r := range b.program.Relations {
		if b.tables[r.Table] == nil {
			names = append(names, r.Table)
			b.tables[r.Table] = &PlanTable{Name: r.Table, Columns: columns(r.Columns), Computed: []PlanComputed{}}
		}
	}
	for _, r := range b.program.Relations {
		out := PlanRelation{ID: r.ID, Name: r.Name, Kind: string(r.Kind), Table: r.Table, Scope: columns(r.Scope), Indexes: [][]PlanPart{}, Inputs: inputs(b.program, r), Step: []json.RawMessage{}}
		for _, x := range r.Indexes {
			out.Indexes = append(out.Indexes, b.key(r, x))
		}
		if r.Fold != nil {
			out.Fold = &PlanFold{Key: r.Fold.Key, SQL: r.Fold.SQL(), Order: []compileFoldOrder{}}
			for _, o := range r.Fold.Order {
				out.Fold.Order = append(out.Fold.Order, compileFoldOrder{cell(r, o.Column), o.Desc, o.NullsFirst})
			}
		}
		for _, op := range r.Step {
			text, err := json.Marshal(b.op(op))
			if err != nil {
				return fmt.Errorf("cannot write the plan of %s: %w", r.Name, err)
			}
			out.Step = append(out.Step, text)
		}
		b.plan.Relations = append(b.plan.Relations, out)
	}
	for _, name := range names {
		b.plan.Tables = append(b.plan.Tables, *b.tables[name])
	}
	return nil
}

// inputs are the relations that must be up to date before a step of r: each
// stands before it.
func inputs(p *compile.Program, r *compile.Relation) []int {
	out := []int{}
	for _, in := range p.Relations {
		if in.Kind == compile.Raw && r.Kind == compile.Folded && in.Table == r.Table {
			out = append(out, in.ID)
		}
	}
	for _, in := range r.Inputs {
		if in.Relation != nil && !slices.Contains(out, in.Relation.ID) {
			out = append(out, in.Relation.ID)
		}
	}
	return out
}

func cell(r *compile.Relation, column string) int {
	return slices.IndexFunc(r.Columns, func(c project.Column) bool { return c.Name == column })
}

// key says where the parts of an index's tuple stand in a row. What is neither
// a column nor a text is computed beside the row's columns.
func (b *planner) key(r *compile.Relation, x *compile.Index) []PlanPart {
	t := b.tables[r.Table]
	parts := []PlanPart{}
	for i, e := range x.Exprs {
		at := cell(r, e)
		if text, ok := compile.StringLiteral(e); at < 0 && ok && x.Types[i].Kind == project.String {
			parts = append(parts, PlanPart{Literal: &text})
			continue
		}
		if at < 0 {
			c := PlanComputed{SQL: fmt.Sprintf("CAST(%s AS %s)", e, x.Types[i]), Type: x.Types[i].String()}
			n := slices.Index(t.Computed, c)
			if n < 0 {
				n = len(t.Computed)
				t.Computed = append(t.Computed, c)
			}
			at = len(t.Columns) + n
		}
		parts = append(parts, PlanPart{Cell: &at})
	}
	return parts
}

// op writes an operation.
func (b *planner) op(op compile.Op) map[string]any {
	switch op := op.(type) {
	case *compile.Keys:
		return map[string]any{"op": "keys", "out": op.Out, "from": op.From, "key": b.key(op.Relation, op.Index), "drop_nulls": op.DropNulls}
	case *compile.Lookup:
		return map[string]any{"op": "lookup", "out": op.Out, "keys": op.Keys, "relation": op.Relation.ID,
			"index": slices.IndexFunc(op.Relation.Indexes, func(x *compile.Index) bool { return x.ID == op.Index.ID }), "state": string(op.State)}
	case *compile.FoldFirst:
		return map[string]any{"op": "fold", "out": op.Out, "from": op.From}
	case *compile.Evaluate:
		return map[string]any{"op": "evaluate", "out": op.Out, "model": op.Model.Name, "inputs": op.Inputs, "touched": op.Touched}
	case *compile.Diff:
		return map[string]any{"op": "diff", "added": op.Added, "removed": op.Removed, "old": op.Old, "new": op.New}
	case *compile.Replace:
		return map[string]any{"op": "replace", "added": op.Added, "removed": op.Removed, "touched": op.Touched, "new": op.Relation.Name + ".new"}
	}
	panic(fmt.Sprintf("spark: operation %T is not known", op))
}
