package compile

import (
	"fmt"
	"strings"

	"lockstep/project"
)

// Explanation says how changes reach a model and what a step reads. Its JSON
// is part of the command line's contract.
type Explanation struct {
	Model        string         `json:"model"`
	File         string         `json:"file"`
	Materialized string         `json:"materialized"`
	Evaluated    string         `json:"evaluated"` // in one sentence: when its rows come about
	Scope        []string       `json:"scope"`
	UniqueKey    []string       `json:"unique_key"`
	Fingerprint  string         `json:"fingerprint"`
	Inputs       []ExplainInput `json:"inputs"`
	ReadBy       []string       `json:"read_by"`
	Plan         []string       `json:"plan"` // the operations of a step, in order
}

// ExplainInput is one place in the model that names a table.
type ExplainInput struct {
	Table  string   `json:"table"`
	Line   int      `json:"line"`
	Kept   string   `json:"kept"`   // what the stream keeps of the table for it
	Travel string   `json:"travel"` // direct, via, never, all
	Path   []string `json:"path"`   // from a change to the scopes, one hop each
	Reads  string   `json:"reads"`  // what a step reads of it, and by which index
	Whole  bool     `json:"whole"`  // a step reads it whole
}

// Explain explains a model of a compiled project; nil if there is none.
func Explain(p *Program, name string) *Explanation {
	m := p.Model(name)
	if m == nil {
		return nil
	}
	e := &Explanation{Model: m.Name, File: m.File, Materialized: string(m.Materialized), UniqueKey: m.UniqueKey,
		Fingerprint: m.Fingerprint, ReadBy: append([]string{}, Graph(p).Readers(m.Name)...), Inputs: []ExplainInput{}, Plan: []string{}}
	switch m.Materialized {
	case project.Incremental:
		e.Evaluated = "in every step, for the scopes that the step touches"
		e.Scope = m.Scope
		for _, in := range m.Relation.Inputs {
			e.Inputs = append(e.Inputs, explainInput(m, in))
		}
		for _, op := range m.Relation.Step {
			e.Plan = append(e.Plan, op.String())
		}
		return e
	case project.View:
		e.Evaluated = "when it is asked, over whole tables: its rows are never kept"
	default:
		e.Evaluated = "by every batch, over whole tables: its rows are those of the last batch"
	}
	for _, t := range m.Reads {
		e.Inputs = append(e.Inputs, ExplainInput{Table: t, Line: m.lineOf(tablePos(m.Query, t)), Kept: "nothing", Travel: "all",
			Path: []string{"any change counts when it is next evaluated"}, Reads: "all rows", Whole: true})
	}
	return e
}

// lineOf gives the line of a byte offset in the model's file.
func (m *Model) lineOf(pos int) int {
	return 1 + strings.Count(m.SQL[:min(pos, len(m.SQL))], "\n")
}

func explainInput(m *Model, in *Input) ExplainInput {
	out := ExplainInput{Table: in.Ref.Table, Line: m.lineOf(in.Ref.Pos)}
	if in.Relation == nil {
		out.Kept, out.Travel, out.Whole = "the seed's rows, in memory", "never", true
		out.Path = []string{"a seed changes only with the project's files, and then the model is rebuilt"}
		out.Reads = "all rows: a seed is small and has no index"
		return out
	}
	switch in.Relation.Kind {
	case Folded:
		out.Kept = fmt.Sprintf("only the %s: a key's history is not read again", in.Relation.Fold)
	case Raw:
		out.Kept = "every row"
	default:
		out.Kept = "every row of the model"
	}
	out.Path = travel(m, in, map[*Input]bool{})
	if in.Via == nil {
		out.Travel = "direct"
		out.Reads = fmt.Sprintf("the rows whose (%s) is a touched scope, by that index", join(in.Scope.Exprs))
		return out
	}
	out.Travel = "via"
	var others []string
	for _, o := range in.Via.Others {
		others = append(others, fmt.Sprintf("(%s) of the rows read of %s at line %d", join(o.Keys.Exprs), o.Input.Ref.Table, m.lineOf(o.Input.Ref.Pos)))
	}
	out.Reads = fmt.Sprintf("the rows whose (%s) equals %s, by that index", join(in.Via.Keys.Exprs), strings.Join(others, " or "))
	return out
}

// travel describes the hops from a changed row to the touched scopes.
func travel(m *Model, in *Input, seen map[*Input]bool) []string {
	if in.Via == nil {
		return []string{fmt.Sprintf("a row of %s gives the scope (%s) = (%s)", in.Ref.Table, join(m.Scope), join(in.Scope.Exprs))}
	}
	if seen[in] {
		return nil
	}
	seen[in] = true
	var out []string
	for _, o := range in.Via.Others {
		out = append(out, fmt.Sprintf("a row of %s leads by (%s) to the rows of %s with equal (%s)", in.Ref.Table, join(in.Via.Keys.Exprs), o.Input.Ref.Table, join(o.Keys.Exprs)))
		out = append(out, travel(m, o.Input, seen)...)
	}
	return out
}

// Text is the explanation for people.
func (e *Explanation) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s (%s, %s)\n", e.Model, e.Materialized, e.File)
	fmt.Fprintf(&b, "  evaluated    %s\n", e.Evaluated)
	if len(e.Scope) > 0 {
		fmt.Fprintf(&b, "  scope        %s: the unit that a step computes again\n", join(e.Scope))
	}
	fmt.Fprintf(&b, "  unique key   %s\n", join(e.UniqueKey))
	fmt.Fprintf(&b, "  fingerprint  %s\n", e.Fingerprint)
	if len(e.ReadBy) > 0 {
		fmt.Fprintf(&b, "  read by      %s\n", join(e.ReadBy))
	}
	for _, in := range e.Inputs {
		fmt.Fprintf(&b, "\n%s, line %d: %s\n", in.Table, in.Line, in.Travel)
		for i, p := range in.Path {
			label := "change"
			if i > 0 {
				label = "then"
			}
			fmt.Fprintf(&b, "  %-12s %s\n", label, p)
		}
		fmt.Fprintf(&b, "  %-12s %s\n", "step reads", in.Reads)
		fmt.Fprintf(&b, "  %-12s %s\n", "kept", in.Kept)
	}
	return b.String()
}
