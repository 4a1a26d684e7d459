// Package compile turns a project into a Program: it reads each model's syntax
// tree, proves how a change of each input reaches the model's scopes, and
// writes the plan of a step that an engine only executes. What it cannot prove
// it refuses, with file, line and remedy.
package compile

import (
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"lockstep/project"

	_ "github.com/duckdb/duckdb-go/v2" // its parser and binder
)

// Version is part of every fingerprint: state that another version of the
// compiler planned is rebuilt.
const Version = 1

// Compile compiles a project. Every fault is reported at once: the error is
// then of type project.Problems.
func Compile(p *project.Project) (*Program, error) { return compileGiven(p, nil) }

// Given compiles a part of a project in which the rows of some models are
// given from outside, as those of a bronze table are. A test that gives rows
// to a model then runs what stands behind it, step by step too.
func Given(p *project.Project, models []string) (*Program, error) { return compileGiven(p, models) }

func compileGiven(p *project.Project, given []string) (*Program, error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return nil, fmt.Errorf("cannot open DuckDB: %w", err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	c := &compiler{
		program: &Program{Project: p},
		given:   given,
		db:      db,
		tables:  &tables{db: db, cols: map[string][]project.Column{}, unique: map[string][][]string{}, cache: map[string][]string{}},
		models:  map[string]*Model{},
		bronze:  map[string]*Relation{},
		folds:   map[string]*Relation{},
	}
	for _, s := range Prelude {
		if _, err := db.Exec(s); err != nil {
			return nil, fmt.Errorf("cannot prepare DuckDB: %w", err)
		}
	}
	return c.compile()
}

type compiler struct {
	program  *Program
	given    []string // models whose rows come from outside
	db       *sql.DB
	tables   *tables
	models   map[string]*Model
	bronze   map[string]*Relation
	folds    map[string]*Relation
	problems project.Problems
}

func (c *compiler) compile() (*Program, error) {
	if err := c.declare(); err != nil {
		return nil, err
	}
	for _, m := range c.compiled() {
		c.parse(m)
	}
	c.order()
	if err := c.problems.Err(); err != nil {
		return nil, err
	}
	for _, m := range c.program.Models {
		c.fingerprint(m)
		c.check(m)
	}
	if err := c.problems.Err(); err != nil {
		return nil, err
	}
	c.plan()
	return c.program, c.problems.Err()
}

// compiled lists the models to compile.
func (c *compiler) compiled() []*project.Model {
	return slices.DeleteFunc(slices.Clone(c.program.Project.Models), func(m *project.Model) bool { return slices.Contains(c.given, m.Name) })
}

// problem notes an error at its place in a model's file.
func (c *compiler) problem(m *project.Model, err error) {
	var at *parseError
	if !errors.As(err, &at) {
		c.problems.Add(m.File, m.Line, "", "%v", err)
		return
	}
	line := 1 + strings.Count(m.SQL[:min(at.pos, len(m.SQL))], "\n")
	if at.pos == 0 {
		line = m.Line
	}
	c.problems.Add(m.File, line, at.do, "%s", at.what)
}

// declare makes the tables that models may name.
func (c *compiler) declare() error {
	p := c.program.Project
	if err := c.reservedNames(); err != nil || len(c.problems) > 0 {
		return errors.Join(err, c.problems.Err())
	}
	for _, s := range p.Sources {
		if err := c.tables.add(s.Table(), s.Columns(), []string{"_partition", "_offset"}); err != nil {
			return err
		}
	}
	for _, s := range p.Seeds {
		if err := c.tables.add(s.Name, s.Columns); err != nil {
			return err
		}
	}
	for _, m := range p.Models {
		if err := c.tables.add(m.Name, m.Columns, m.UniqueKey); err != nil {
			return err
		}
	}
	return nil
}

// reservedNames finds columns that SQL reads as words of its own.
func (c *compiler) reservedNames() error {
	rows, err := c.db.Query("SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category NOT IN ('unreserved', 'column_name')")
	if err != nil {
		return fmt.Errorf("cannot read the reserved words: %w", err)
	}
	defer rows.Close()
	reserved := map[string]bool{}
	for rows.Next() {
		var word string
		if err := rows.Scan(&word); err != nil {
			return fmt.Errorf("cannot read the reserved words: %w", err)
		}
		reserved[word] = true
	}
	const remedy = "take another name: it would need quotes, which the engines write differently"
	for _, s := range c.program.Project.Sources {
		for _, f := range s.Fields {
			if reserved[f.Name] {
				c.problems.Add(s.SchemaFile, 0, remedy, "field %q is a word of SQL", f.Name)
			}
		}
	}
	for _, s := range c.program.Project.Seeds {
		for _, f := range s.Columns {
			if reserved[f.Name] {
				c.problems.Add(s.File, 1, remedy, "column %q is a word of SQL", f.Name)
			}
		}
	}
	for _, m := range c.program.Project.Models {
		for _, f := range m.Columns {
			if reserved[f.Name] {
				c.problems.Add(m.File, m.ColumnLines[f.Name], remedy, "column %q is a word of SQL", f.Name)
			}
		}
	}
	return rows.Err()
}

func (c *compiler) parse(pm *project.Model) {
	m := &Model{Model: pm}
	c.models[m.Name] = m
	if at := checkTokens(pm.SQL); at != nil {
		c.problem(pm, at)
		return
	}
	q, err := parse(c.db, pm.SQL, pm.Materialized != project.Incremental)
	if err != nil {
		c.problem(pm, err)
		return
	}
	m.Query = q
	m.Reads = reads(q)
	for _, table := range m.Reads {
		if c.tables.columns(table) == nil {
			c.problem(pm, &parseError{pos: tablePos(q, table), what: "there is no table " + table, do: "bronze.<topic>, seed.<file> and the models are tables; see `lockstep graph`"})
		}
	}
}

// reads lists the qualified tables that a query names.
func reads(q *Query) []string {
	seen := map[string]bool{}
	tablesOf(q, func(t *Table) {
		if strings.Contains(t.Name, ".") {
			seen[t.Name] = true
		}
	})
	var out []string
	for name := range seen {
		out = append(out, name)
	}
	sort.Strings(out)
	return out
}

func tablePos(q *Query, name string) int {
	pos := 0
	tablesOf(q, func(t *Table) {
		if t.Name == name {
			pos = t.Pos
		}
	})
	return pos
}

// tablesOf visits every table that a query names, subqueries and CTEs included.
func tablesOf(q *Query, visit func(*Table)) {
	for _, c := range q.CTEs {
		tablesOf(c.Query, visit)
	}
	switch b := q.Body.(type) {
	case *Union:
		tablesOf(b.Left, visit)
		tablesOf(b.Right, visit)
	case *Select:
		fromTables(b.From, visit)
		exprs := append([]Expr{b.Where, b.Having}, b.GroupBy...)
		for _, it := range b.Items {
			exprs = append(exprs, it.Expr)
		}
		for _, e := range append(exprs, conditions(b.From)...) {
			if e != nil {
				walk(e, func(x Expr) {
					if s, ok := x.(*Scalar); ok {
						tablesOf(s.Query, visit)
					}
				})
			}
		}
	}
}

func fromTables(f From, visit func(*Table)) {
	switch f := f.(type) {
	case *Table:
		visit(f)
	case *Subquery:
		tablesOf(f.Query, visit)
	case *Join:
		fromTables(f.Left, visit)
		fromTables(f.Right, visit)
	}
}

// order sorts the models so that each stands behind what it reads.
func (c *compiler) order() {
	done := map[string]bool{}
	all := c.compiled()
	for len(c.program.Models) < len(all) {
		before := len(c.program.Models)
		for _, pm := range all {
			m := c.models[pm.Name]
			ready := !done[m.Name]
			for _, t := range m.Reads {
				ready = ready && (c.models[t] == nil || done[t])
			}
			if ready {
				done[m.Name] = true
				c.program.Models = append(c.program.Models, m)
				break
			}
		}
		if len(c.program.Models) == before {
			c.cycle(done)
			return
		}
	}
}

func (c *compiler) cycle(done map[string]bool) {
	var names []string
	for _, pm := range c.compiled() {
		if !done[pm.Name] {
			names = append(names, pm.Name)
		}
	}
	for _, n := range names {
		m := c.models[n]
		c.problem(m.Model, &parseError{what: "these models read one another in a circle: " + join(names), do: "move what both need into a model of its own"})
		return
	}
}

// fingerprint identifies what a model's rows depend on besides the data.
func (c *compiler) fingerprint(m *Model) {
	h := sha256.New()
	fmt.Fprintf(h, "%d\n%s\n%s\n%v\n%v\n", Version, m.Name, QuerySQL(m.Query), m.UniqueKey, m.Scope)
	for _, col := range m.Columns {
		fmt.Fprintf(h, "%s %s\n", col.Name, col.Type)
	}
	for _, table := range m.Reads {
		fmt.Fprintln(h, table, c.tableFingerprint(table))
	}
	m.Fingerprint = hex.EncodeToString(h.Sum(nil)[:8])
}

func (c *compiler) tableFingerprint(table string) string {
	if up := c.models[table]; up != nil {
		return up.Fingerprint
	}
	out := ColumnsSQL(c.tables.cols[table])
	for _, s := range c.program.Project.Seeds {
		if s.Name == table {
			out += fmt.Sprint(s.Rows)
		}
	}
	return out
}

// check analyses a model and notes every fault.
func (c *compiler) check(m *Model) {
	text := strings.TrimRight(strings.TrimSpace(m.SQL), ";")
	types, err := c.tables.describe(text)
	if err != nil {
		line := m.Line
		var at *binderError
		if errors.As(err, &at) && at.line > 0 { // the query is the file's text
			line = at.line + strings.Count(m.SQL[:strings.Index(m.SQL, text)], "\n")
		}
		c.problems.Add(m.File, line, "see the columns of the tables in FROM, and cast where types differ", "%v", err)
		return
	}
	c.checkColumns(m, types)
	m.Select = selectCast(m, text)
	if m.Materialized != project.Incremental {
		a := &analyzer{cat: c.tables, view: true}
		if err := catch(func() { c.prove(m, a.query(m.Query, nil)) }); err != nil {
			c.problem(m.Model, err)
		}
		return
	}
	for _, table := range m.Reads {
		if up := c.models[table]; up != nil && up.Materialized != project.Incremental {
			c.problem(m.Model, &parseError{pos: tablePos(m.Query, table), what: fmt.Sprintf("an incremental model cannot read %s, which is a %s", table, up.Materialized), do: "read what it is made from, or declare this model view or batch"})
			return
		}
	}
	a := &analyzer{cat: c.tables}
	var rel *relation
	if err := catch(func() { rel = a.query(m.Query, nil) }); err != nil {
		c.problem(m.Model, err)
		return
	}
	if rel.always {
		c.problem(m.Model, &parseError{what: "rows of this model exist before any record arrives: they come from a seed, or from a SELECT without FROM, that no record has to meet", do: "take the rows from a bronze table or a model and join the seed to them, or declare `materialized: view`"})
		return
	}
	c.prove(m, rel)
	m.Relation = &Relation{Name: m.Name, Kind: Derived, Table: m.Name, Columns: m.Columns, Model: m}
	if err := catch(func() { c.inputs(m, a, rel) }); err != nil {
		c.problem(m.Model, err)
	}
}

// prove keeps a model's unique key for those that read it only where the SQL
// shows that it tells two rows apart: an order by a key that does not would
// depend on the order of arrival.
func (c *compiler) prove(m *Model, rel *relation) {
	m.KeyProved = slices.ContainsFunc(rel.keys, func(key []string) bool {
		return !slices.ContainsFunc(key, func(name string) bool { return !slices.Contains(m.UniqueKey, name) })
	})
	c.tables.unique[m.Name] = nil
	if m.KeyProved {
		c.tables.unique[m.Name] = [][]string{m.UniqueKey}
	}
}

func (c *compiler) checkColumns(m *Model, types []string) {
	actual := outputNames(m.Query)
	for i, name := range actual {
		j := slices.IndexFunc(m.Columns, func(col project.Column) bool { return col.Name == name })
		if j < 0 {
			c.problems.Add(m.File, 1, "add name, type and description under `columns:`", "column %s of the SELECT is not declared", name)
			continue
		}
		if why, do := checkOutput(types[i], m.Columns[j].Type); why != "" {
			c.problems.Add(m.File, m.ColumnLines[name], do, "column %s: %s", name, why)
		}
		if slices.Index(actual, name) != i {
			c.problems.Add(m.File, m.Line, "rename one", "the SELECT gives column %s twice", name)
		}
	}
	c.checkDataTests(m)
	for _, col := range m.Columns {
		if !slices.Contains(actual, col.Name) {
			c.problems.Add(m.File, m.ColumnLines[col.Name], "remove it, or select it", "column %s is declared but not selected", col.Name)
		}
	}
}

// checkDataTests refuses a relationship to what is not there.
func (c *compiler) checkDataTests(m *Model) {
	for _, col := range m.Columns {
		for _, t := range col.Tests {
			if t.Kind == "relationships" && !slices.Contains(c.tables.columns(t.To), t.Field) {
				c.problems.Add(m.File, m.ColumnLines[col.Name], "name a table of the project and a column of it", "column %s: there is no %s.%s to relate to", col.Name, t.To, t.Field)
			}
		}
	}
}

// selectCast wraps a model's text so that both engines store the same types.
func selectCast(m *Model, text string) string {
	parts := make([]string, len(m.Columns))
	for i, col := range m.Columns {
		parts[i] = fmt.Sprintf("CAST(m.%s AS %s) AS %s", col.Name, col.Type, col.Name)
	}
	return fmt.Sprintf("SELECT %s FROM (\n%s\n) AS m", strings.Join(parts, ", "), text)
}

// inputs decides for each reference how a change travels: directly, or via
// join keys; and refuses what it cannot prove.
func (c *compiler) inputs(m *Model, a *analyzer, rel *relation) {
	inputs := map[*Ref]*Input{}
	c.settleFolds(a.refs)
	for _, r := range a.refs {
		in := &Input{Ref: r}
		if !strings.HasPrefix(r.Table, "seed.") {
			in.Relation = c.relation(r)
		}
		inputs[r] = in
		m.Relation.Inputs = append(m.Relation.Inputs, in)
	}
	settled := map[*Input]bool{}
	for _, in := range m.Relation.Inputs {
		if in.Relation == nil {
			settled[in] = true
		} else if exprs := scopeExprs(m, rel, in.Ref); exprs != nil {
			if !slices.ContainsFunc(exprs, func(x Expr) bool { return len(columnsOf(x)) > 0 }) {
				refuse(in.Ref.Pos, "add a column of it to the scope, or declare `materialized: batch`", "the scope (%s) is one constant here: every change of %s would compute all its rows again", join(m.Scope), in.Ref.Table)
			}
			in.Scope = c.indexOf(in, m.Relation.scopeTypes(m), exprs)
			settled[in] = true
		}
	}
	for again := true; again; {
		again = false
		for _, in := range m.Relation.Inputs {
			if !settled[in] {
				if via := c.via(in, inputs, settled); via != nil {
					in.Via, settled[in], again = via, true, true
				}
			}
		}
	}
	for _, in := range m.Relation.Inputs {
		if !settled[in] {
			refuseInput(m, rel, in)
		}
		refuseSelfJoin(m, in)
	}
}

// scopeTypes are the declared types of the scope columns.
func (r *Relation) scopeTypes(m *Model) []project.Type {
	var out []project.Type
	for _, name := range m.Scope {
		out = append(out, columnType(m.Columns, name))
	}
	return out
}

func columnType(columns []project.Column, name string) project.Type {
	for _, c := range columns {
		if c.Name == name {
			return c.Type
		}
	}
	return project.Type{}
}

// scopeExprs gives the scope as expressions over a reference, or nil.
func scopeExprs(m *Model, rel *relation, r *Ref) []Expr {
	var out []Expr
	for _, name := range m.Scope {
		col := rel.find(name)
		if col == nil || col.restrict[r] == nil {
			return nil
		}
		out = append(out, col.restrict[r])
	}
	return out
}

// indexOf makes the index over expressions of an input's relation. types nil:
// the types that the expressions have.
func (c *compiler) indexOf(in *Input, types []project.Type, exprs []Expr) *Index {
	actual, err := c.tables.types(nil, &Table{Name: in.Ref.Table, Alias: in.Ref.Table}, exprs, nil)
	if err != nil {
		refuse(in.Ref.Pos, "", "%v", err)
	}
	texts := make([]string, len(exprs))
	for i, x := range exprs {
		texts[i] = SQL(x)
		if types != nil && actual[i] != types[i].DuckDB() {
			texts[i] = SQL(&Cast{Arg: x, Type: types[i].String()})
		}
	}
	if types == nil {
		for _, t := range actual {
			types = append(types, duckType(in.Ref.Pos, t))
		}
	}
	return in.Relation.index(texts, types)
}

// duckType is the project's type for a type of DuckDB.
func duckType(pos int, t string) project.Type {
	for _, k := range []project.Kind{project.String, project.Boolean, project.Int, project.Bigint, project.Double, project.Date, project.Timestamp} {
		if (project.Type{Kind: k}).DuckDB() == t {
			return project.Type{Kind: k}
		}
	}
	if pt, err := project.ParseType(strings.ToLower(t)); err == nil {
		return pt
	}
	refuse(pos, "cast it to a type that a column may have", "a key of type %s", strings.ToLower(t))
	return project.Type{}
}

// via finds join keys that lead from an input to inputs that are settled.
func (c *compiler) via(in *Input, inputs map[*Ref]*Input, settled map[*Input]bool) *Via {
	for _, cand := range in.Ref.via {
		others := make([]*Input, 0, len(cand.branches))
		for _, b := range cand.branches {
			for _, r := range b.others {
				if o := inputs[r]; settled[o] && o.Relation != nil {
					others = append(others, o)
					break
				}
			}
		}
		if len(others) != len(cand.branches) {
			continue
		}
		via := &Via{Keys: c.indexOf(in, nil, cand.keys)}
		for i, o := range others {
			via.Others = append(via.Others, ViaOther{Input: o, Keys: c.indexOf(o, via.Keys.Types, cand.branches[i].keys[o.Ref])})
		}
		return via
	}
	return nil
}

func refuseInput(m *Model, rel *relation, in *Input) {
	for _, name := range m.Scope {
		col := rel.find(name)
		if col == nil || col.restrict[in.Ref] != nil {
			continue
		}
		why, ok := col.lost[in.Ref]
		if !ok {
			why = lostReason{in.Ref.Pos, "no equality leads there", "join it by equality on the scope, put a model that carries the scope between, or declare `materialized: batch`"}
		}
		if why.pos == 0 {
			why.pos = in.Ref.Pos
		}
		refuse(why.pos, why.do, "cannot tell which %s (%s) a change of %s touches: %s", "scopes", join(m.Scope), in.Ref.Table, why.what)
	}
}

// refuseSelfJoin: a table that is reached only through another reading of
// itself joins rows across scopes.
func refuseSelfJoin(m *Model, in *Input) {
	if in.Via == nil {
		return
	}
	var visit func(at *Input, depth int)
	visit = func(at *Input, depth int) {
		if at.Via == nil || depth > 32 {
			return
		}
		for _, o := range at.Via.Others {
			if o.Input.Ref.Table == in.Ref.Table {
				refuse(in.Ref.Pos, "join it on the scope columns too, or put a model between that carries what is needed of the other rows", "%s is joined with itself across scopes (%s)", in.Ref.Table, join(m.Scope))
			}
			visit(o.Input, depth+1)
		}
	}
	visit(in, 0)
}

// settleFolds: a table name stands for one set of rows in a model, so a fold
// holds only where every reading of the table is the same fold.
func (c *compiler) settleFolds(refs []*Ref) {
	specs := map[string]map[string]bool{}
	spec := func(r *Ref) string {
		if r.Fold == nil {
			return ""
		}
		return r.Fold.String()
	}
	for _, r := range refs {
		if specs[r.Table] == nil {
			specs[r.Table] = map[string]bool{}
		}
		specs[r.Table][spec(r)] = true
	}
	for _, r := range refs {
		if len(specs[r.Table]) > 1 {
			r.Fold = nil
		}
	}
}

// relation gives what the stream keeps for a reference.
func (c *compiler) relation(r *Ref) *Relation {
	if m := c.models[r.Table]; m != nil {
		return m.Relation
	}
	raw := c.bronze[r.Table]
	if raw == nil {
		raw = &Relation{Name: r.Table, Kind: Raw, Table: r.Table, Columns: c.tables.cols[r.Table]}
		c.bronze[r.Table] = raw
	}
	if r.Fold == nil {
		return raw
	}
	spec := r.Table + " " + r.Fold.String()
	f := c.folds[spec]
	if f == nil {
		f = &Relation{Name: c.foldName(r), Kind: Folded, Table: r.Table, Columns: raw.Columns, Fold: r.Fold}
		c.folds[spec] = f
	}
	return f
}

// foldName is short; two folds of a table by one key and different orders are
// numbered.
func (c *compiler) foldName(r *Ref) string {
	base := r.Table + "/first(" + strings.Join(r.Fold.Key, ",") + ")"
	name := base
	for n := 2; ; n++ {
		taken := false
		for _, f := range c.folds {
			taken = taken || f.Name == name
		}
		if !taken {
			return name
		}
		name = fmt.Sprintf("%s%d", base, n)
	}
}

// plan numbers the relations and writes their steps. Indexes were numbered
// within their relation; here they get their place.
func (c *compiler) plan() {
	for _, s := range c.program.Project.Sources {
		c.place(c.bronze[s.Table()])
	}
	for _, name := range c.given {
		c.place(c.bronze[name])
	}
	specs := make([]string, 0, len(c.folds))
	for spec := range c.folds {
		specs = append(specs, spec)
	}
	sort.Strings(specs)
	for _, spec := range specs {
		c.place(c.folds[spec])
	}
	for _, m := range c.program.Models {
		c.place(m.Relation)
	}
	for _, r := range c.program.Relations {
		switch r.Kind {
		case Folded:
			planFold(r, c.bronze[r.Table])
		case Derived:
			planModel(r)
		}
	}
	h := sha256.New()
	for _, m := range c.program.Models {
		if m.Relation != nil {
			fmt.Fprintln(h, m.Name, m.Fingerprint)
		}
	}
	c.program.Fingerprint = hex.EncodeToString(h.Sum(nil)[:8])
}

func (c *compiler) place(r *Relation) {
	if r == nil {
		return
	}
	var scope []string
	switch r.Kind {
	case Folded:
		scope = r.Fold.Key
	case Derived:
		scope = r.Model.Scope
	}
	indexes := r.Indexes
	r.ID, r.Indexes = len(c.program.Relations), nil
	if scope != nil {
		var types []project.Type
		for _, n := range scope {
			t := columnType(r.Columns, n)
			types = append(types, t)
			r.Scope = append(r.Scope, project.Column{Name: n, Type: t})
		}
		r.index(scope, types)
	}
	for _, x := range indexes { // keep the pointers that inputs hold
		if have := slices.IndexFunc(r.Indexes, func(y *Index) bool { return join(y.Exprs) == join(x.Exprs) }); have >= 0 {
			*x = *r.Indexes[have]
			r.Indexes[have] = x
			continue
		}
		x.ID = uint32(r.ID)<<8 | uint32(len(r.Indexes))
		r.Indexes = append(r.Indexes, x)
	}
	c.program.Relations = append(c.program.Relations, r)
}

func join(list []string) string { return strings.Join(list, ", ") }

func contains(list []string, s string) bool { return slices.Contains(list, s) }

// Model finds a compiled model by name; nil if there is none.
func (p *Program) Model(name string) *Model {
	for _, m := range p.Models {
		if m.Name == name {
			return m
		}
	}
	return nil
}
