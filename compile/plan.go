package compile

import (
	"fmt"

	"lockstep/project"
)

// A Program is a compiled project: what every engine executes.
type Program struct {
	Project *project.Project
	// Models in graph order: a model stands behind all that it reads.
	Models []*Model
	// Relations that the stream keeps, in the order in which a step goes
	// through them: bronze tables, folds of them, incremental models.
	Relations []*Relation
	// Fingerprint of everything that the stream's state depends on.
	Fingerprint string
}

// Model is a compiled model.
type Model struct {
	*project.Model
	Query *Query
	// Reads lists the tables that the SQL names, sorted.
	Reads []string
	// Select is the SQL with its output cast to the declared types, in their
	// order. Its table names are the project's.
	Select      string
	Fingerprint string
	// KeyProved: the SQL shows that the unique key tells two rows apart. Only
	// then do other models rely on it.
	KeyProved bool
	// Relation of an incremental model; nil for views and batch models.
	Relation *Relation
}

// RelationKind says how the rows of a relation come about in a step.
type RelationKind string

// The kinds of relations.
const (
	Raw     RelationKind = "raw"   // every row of a bronze table
	Folded  RelationKind = "fold"  // the first row of each key of a bronze table
	Derived RelationKind = "model" // the rows of an incremental model
)

// Relation is a set of rows that the stream keeps and finds by its indexes.
type Relation struct {
	ID      int // position in Program.Relations
	Name    string
	Kind    RelationKind
	Table   string // as the SQL names it
	Columns []project.Column
	Indexes []*Index
	Fold    *Fold  // Folded
	Model   *Model // Derived
	Step    []Op   // how a step brings it up to date
	Inputs  []*Input
	Scope   []project.Column // Folded: the key; Derived: the scope columns
}

// Index finds rows of a relation by the values of expressions. The first index
// of a fold or model is by its scope and holds every row.
type Index struct {
	ID    uint32
	Exprs []string // SQL over the relation's columns
	Types []project.Type
	// Columns are the positions of the expressions where each is a plain
	// column; nil otherwise.
	Columns []int
}

// Input is one place in a model that names a table, and how rows and scopes
// lead to one another there.
type Input struct {
	Ref      *Ref
	Relation *Relation // nil: a seed, which never changes
	// Scope (direct): the scope as expressions over the relation's columns.
	Scope *Index
	// Via: rows matter where their keys equal those of other inputs.
	Via *Via
}

// Via leads through join keys to inputs that are nearer to the scope.
type Via struct {
	Keys   *Index // of this input
	Others []ViaOther
}

// ViaOther is one input that the keys lead to: one a branch of a UNION.
type ViaOther struct {
	Input *Input
	Keys  *Index // of the other input, equal to Via.Keys
}

// State names which rows a lookup sees: those before the step, or those with
// the step's changes to relations that were stepped already.
type State string

// The states.
const (
	Old State = "old"
	New State = "new"
)

// Op is one operation of a step. Sets of rows and sets of tuples are named;
// <relation>.added and <relation>.removed are what a step changes in a
// relation, <relation>.touched its touched scopes.
type Op interface{ String() string }

// Keys: Out += the distinct tuples of an index's expressions over the rows of From.
type Keys struct {
	Out, From string
	Relation  *Relation // of the rows in From
	Index     *Index
	DropNulls bool // tuples with a null meet nothing in an equi-join
}

// Lookup: Out = the rows of a relation whose index tuple is in Keys.
type Lookup struct {
	Out, Keys string
	Relation  *Relation
	Index     *Index
	State     State
}

// FoldFirst: Out = of each key the first row of the union of From.
type FoldFirst struct {
	Out  string
	From []string
	Fold *Relation
}

// Evaluate: Out = the model's rows over its inputs that are of touched scopes.
type Evaluate struct {
	Out     string
	Model   *Relation
	Inputs  map[string][]string // table -> row sets; together, each row once
	Touched string
}

// Diff: Added and Removed = the multiset difference of New and Old.
type Diff struct{ Added, Removed, Old, New string }

// Replace writes Added and Removed to all indexes of a relation, and notes the
// touched scopes, also those that became empty.
type Replace struct {
	Relation                *Relation
	Added, Removed, Touched string
}

func (o *Keys) String() string {
	return fmt.Sprintf("keys %s += (%s) of %s", o.Out, join(o.Index.Exprs), o.From)
}
func (o *Lookup) String() string {
	return fmt.Sprintf("lookup %s = %s %s where (%s) in %s", o.Out, o.State, o.Relation.Name, join(o.Index.Exprs), o.Keys)
}
func (o *FoldFirst) String() string {
	return fmt.Sprintf("fold %s = %s over %s", o.Out, o.Fold.Fold, join(o.From))
}
func (o *Evaluate) String() string {
	return fmt.Sprintf("sql %s = %s for %s", o.Out, o.Model.Name, o.Touched)
}
func (o *Diff) String() string {
	return fmt.Sprintf("diff %s, %s = %s against %s", o.Added, o.Removed, o.New, o.Old)
}
func (o *Replace) String() string {
	return fmt.Sprintf("replace %s by %s, %s in %s", o.Relation.Name, o.Added, o.Removed, o.Touched)
}

// Added, Removed and Touched name the sets of a relation.
func (r *Relation) Added() string   { return r.Name + ".added" }
func (r *Relation) Removed() string { return r.Name + ".removed" }
func (r *Relation) Touched() string { return r.Name + ".touched" }

// index gives the relation's index over expressions, made when it is new.
func (r *Relation) index(exprs []string, types []project.Type) *Index {
	for _, x := range r.Indexes {
		if join(x.Exprs) == join(exprs) {
			return x
		}
	}
	x := &Index{ID: uint32(r.ID)<<8 | uint32(len(r.Indexes)), Exprs: exprs, Types: types}
	for _, e := range exprs {
		at := -1
		for i, c := range r.Columns {
			if c.Name == e {
				at = i
			}
		}
		if at < 0 {
			x.Columns = nil
			break
		}
		x.Columns = append(x.Columns, at)
	}
	r.Indexes = append(r.Indexes, x)
	return x
}

// planFold: the stored first rows of the touched keys, and the new rows, give
// the new first rows.
func planFold(r, raw *Relation) {
	scope := r.Indexes[0]
	r.Step = []Op{
		&Keys{Out: r.Touched(), From: raw.Added(), Relation: raw, Index: &Index{Exprs: scope.Exprs, Types: scope.Types, Columns: scope.Columns}},
		&Lookup{Out: r.Name + ".old", Keys: r.Touched(), Relation: r, Index: scope, State: Old},
		&FoldFirst{Out: r.Name + ".new", From: []string{r.Name + ".old", raw.Added()}, Fold: r},
		&Diff{Added: r.Added(), Removed: r.Removed(), Old: r.Name + ".old", New: r.Name + ".new"},
		&Replace{Relation: r, Added: r.Added(), Removed: r.Removed(), Touched: r.Touched()},
	}
}

// planModel writes the step of a model: changed rows to touched scopes, touched
// scopes to the rows that the model reads, then the model, and what it changed.
func planModel(r *Relation) {
	p := &modelPlan{r: r, read: map[*Input]string{}}
	for _, in := range r.Inputs {
		if in.Relation == nil {
			continue
		}
		// Removed rows reach scopes through what was, added rows through what is.
		p.touch(in, in.Relation.Removed(), Old)
		p.touch(in, in.Relation.Added(), New)
	}
	inputs := map[string][]string{}
	for _, in := range r.Inputs {
		inputs[in.Ref.Table] = nil
	}
	for _, in := range r.Inputs {
		if in.Relation == nil {
			continue
		}
		set := p.rows(in)
		have := inputs[in.Ref.Table]
		if !contains(have, set) {
			inputs[in.Ref.Table] = append(have, set)
		}
	}
	p.ops = append(p.ops,
		&Evaluate{Out: r.Name + ".new", Model: r, Inputs: inputs, Touched: r.Touched()},
		&Lookup{Out: r.Name + ".old", Keys: r.Touched(), Relation: r, Index: r.Indexes[0], State: Old},
		&Diff{Added: r.Added(), Removed: r.Removed(), Old: r.Name + ".old", New: r.Name + ".new"},
		&Replace{Relation: r, Added: r.Added(), Removed: r.Removed(), Touched: r.Touched()})
	r.Step = p.ops
}

type modelPlan struct {
	r    *Relation
	ops  []Op
	read map[*Input]string
	n    int
}

func (p *modelPlan) name(what string) string {
	p.n++
	return fmt.Sprintf("%s.%s%d", p.r.Name, what, p.n)
}

// touch follows rows of an input to touched scopes.
func (p *modelPlan) touch(in *Input, rows string, state State) {
	if in.Via == nil {
		p.ops = append(p.ops, &Keys{Out: p.r.Touched(), From: rows, Relation: in.Relation, Index: in.Scope})
		return
	}
	keys := p.name("keys")
	p.ops = append(p.ops, &Keys{Out: keys, From: rows, Relation: in.Relation, Index: in.Via.Keys, DropNulls: true})
	for _, other := range in.Via.Others {
		met := p.name("met")
		p.ops = append(p.ops, &Lookup{Out: met, Keys: keys, Relation: other.Input.Relation, Index: other.Keys, State: state})
		p.touch(other.Input, met, state)
	}
}

// rows reads what the touched scopes need of an input.
func (p *modelPlan) rows(in *Input) string {
	if set, ok := p.read[in]; ok {
		return set
	}
	keys, index := p.r.Touched(), in.Scope
	if in.Via != nil {
		keys, index = p.name("keys"), in.Via.Keys
		for _, other := range in.Via.Others {
			from := p.rows(other.Input)
			p.ops = append(p.ops, &Keys{Out: keys, From: from, Relation: other.Input.Relation, Index: other.Keys, DropNulls: true})
		}
	}
	for other, set := range p.read { // two places that read the same rows share them
		if in.Via == nil && other.Via == nil && other.Relation == in.Relation && other.Scope == in.Scope {
			p.read[in] = set
			return set
		}
	}
	set := p.name("rows")
	p.ops = append(p.ops, &Lookup{Out: set, Keys: keys, Relation: in.Relation, Index: index, State: New})
	p.read[in] = set
	return set
}
