package compile

import (
	"fmt"
	"slices"
	"strings"
)

// How a change travels is derived by pushing the predicate "scope = v" from
// the result of a model down to every place that names a table. What is kept
// for each output column of each query is:
//
//   - restrict: for a reference r, an expression over r's columns such that the
//     result's rows with column = v stay the same when r holds only the rows with
//     expression = v (nulls compare as equal). A reference that every scope column
//     restricts is direct.
//   - origin: for a reference r, an expression over r's columns whose value the
//     column has, in every row, from a row of r that made it. Join keys are followed
//     back through it (a via mapping).
//
// A restriction that does not survive a step of the query leaves its reason in
// lost, which is what a refusal then says.

// Ref is one place in a model that names a table.
type Ref struct {
	ID    int
	Pos   int
	Table string
	Fold  *Fold // only the first row of each key is read
	via   []viaCandidate
}

type lostReason struct {
	pos      int
	what, do string
}

type column struct {
	name      string
	restrict  map[*Ref]Expr
	origin    []map[*Ref]Expr // one a branch of a UNION; nil: not followed
	missing   bool            // null also where an outer join found no row: its origin then made no such value
	constants []string        // the literals that rows have; nil: not known
	lost      map[*Ref]lostReason
}

// relation is what a query or table gives to the query around it.
type relation struct {
	columns []column
	refs    []*Ref
	keys    [][]string // column sets that tell two rows apart
	always  bool       // may have rows while no table but seeds has any
	first   *firstRow  // a column numbers the rows of each key
}

func (r *relation) find(name string) *column {
	for i := range r.columns {
		if r.columns[i].name == name {
			return &r.columns[i]
		}
	}
	return nil
}

// viaCandidate: rows of a reference matter only where their keys equal, for
// every branch, the keys of rows of the branch's other reference.
type viaCandidate struct {
	pos      int
	keys     []Expr
	branches []viaBranch
}

type viaBranch struct {
	others []*Ref
	keys   map[*Ref][]Expr
}

// catalog answers what the analysis must know of tables and types.
type catalog interface {
	columns(table string) []string
	uniqueKeys(table string) [][]string
	// types gives the SQL types of expressions over the tables of a FROM, under
	// a GROUP BY where one is given.
	types(ctes []CTE, from From, exprs, groupBy []Expr) ([]string, error)
}

type analyzer struct {
	cat  catalog
	refs []*Ref
	view bool // evaluated over whole tables only: scopes do not matter
}

// scopeOf is what stands in front of a query: the CTEs that it may name.
type visible struct {
	ctes []CTE
	up   *visible
}

func (v *visible) lookup(name string) (*Query, *visible) {
	for at := v; at != nil; at = at.up {
		for i, c := range at.ctes {
			if c.Name == name {
				return c.Query, &visible{ctes: at.ctes[:i], up: at.up}
			}
		}
	}
	return nil, nil
}

// flat gives all visible CTEs, outermost first.
func (v *visible) flat() []CTE {
	if v == nil {
		return nil
	}
	return append(v.up.flat(), v.ctes...)
}

func (a *analyzer) query(q *Query, up *visible) *relation {
	v := &visible{ctes: q.CTEs, up: up}
	switch b := q.Body.(type) {
	case *Union:
		return a.union(b, v)
	case *Select:
		return a.selectBlock(b, v)
	}
	panic("compile: unknown body")
}

func (a *analyzer) union(u *Union, v *visible) *relation {
	left, right := a.query(u.Left, v), a.query(u.Right, v)
	if len(left.columns) != len(right.columns) {
		refuse(u.Pos, "give both sides the same columns", "UNION of %d and %d columns", len(left.columns), len(right.columns))
	}
	out := &relation{refs: append(append([]*Ref(nil), left.refs...), right.refs...), always: left.always || right.always}
	same := a.sameTypes(u, v)
	for i := range left.columns {
		l, r := left.columns[i], right.columns[i]
		c := column{name: l.name, restrict: merge(l.restrict, r.restrict), lost: merge(l.lost, r.lost), missing: l.missing || r.missing}
		if l.constants != nil && r.constants != nil {
			c.constants = append(append([]string(nil), l.constants...), r.constants...)
		}
		if !same[i] {
			c.restrict = nil
			c.lose(out.refs, lostReason{u.Pos, fmt.Sprintf("the branches of the UNION give column %s in different types", l.name), "cast both to one type"})
		}
		if l.origin != nil && r.origin != nil {
			c.origin = append(append([]map[*Ref]Expr(nil), l.origin...), r.origin...)
		}
		out.columns = append(out.columns, c)
	}
	alignBranches(out)
	if !u.All {
		out.keys = [][]string{names(out.columns)}
	} else {
		out.keys = unionKeys(left, right)
	}
	return out
}

// unionKeys: rows of two branches differ where a column is another constant in
// each; within a branch its own key tells them apart.
func unionKeys(left, right *relation) [][]string {
	at := -1
	for i, l := range left.columns {
		r := right.columns[i]
		if l.constants != nil && r.constants != nil && !slices.ContainsFunc(l.constants, func(x string) bool { return slices.Contains(r.constants, x) }) {
			at = i
		}
	}
	if at < 0 {
		return nil
	}
	var out [][]string
	for _, l := range left.keys {
		for _, r := range right.keys {
			key := append([]string{left.columns[at].name}, l...)
			for _, name := range r { // the union has the left side's names
				i := slices.IndexFunc(right.columns, func(c column) bool { return c.name == name })
				key = append(key, left.columns[i].name)
			}
			out = append(out, key)
		}
	}
	return out
}

// sameTypes says for each column whether both sides give it in one type.
func (a *analyzer) sameTypes(u *Union, v *visible) []bool {
	types := func(q *Query) []string {
		from := &Subquery{Query: q, Alias: "u"}
		cols := outputNames(q)
		exprs := make([]Expr, len(cols))
		for i, c := range cols {
			exprs[i] = &Column{Table: "u", Name: c}
		}
		t, err := a.cat.types(v.flat(), from, exprs, nil)
		if err != nil {
			refuse(u.Pos, "", "%v", err)
		}
		return t
	}
	l, r := types(u.Left), types(u.Right)
	out := make([]bool, len(l))
	for i := range l {
		out[i] = l[i] == r[i] || isNullType(l[i]) || isNullType(r[i])
	}
	return out
}

func isNullType(t string) bool { return t == `"NULL"` || t == "NULL" }

func outputNames(q *Query) []string {
	switch b := q.Body.(type) {
	case *Union:
		return outputNames(b.Left)
	case *Select:
		out := make([]string, len(b.Items))
		for i, it := range b.Items {
			out[i] = it.Name
		}
		return out
	}
	return nil
}

// alignBranches makes the branch lists of all columns equally long, so that
// the same index means the same branch; a column that cannot be aligned is not
// followed.
func alignBranches(r *relation) {
	n := 1
	for _, c := range r.columns {
		n = max(n, len(c.origin))
	}
	for i := range r.columns {
		if r.columns[i].origin != nil && len(r.columns[i].origin) != n {
			r.columns[i].origin = nil
		}
	}
}

func merge[V any](a, b map[*Ref]V) map[*Ref]V {
	out := map[*Ref]V{}
	for k, v := range a {
		out[k] = v
	}
	for k, v := range b {
		out[k] = v
	}
	return out
}

func names(cols []column) []string {
	out := make([]string, len(cols))
	for i, c := range cols {
		out[i] = c.name
	}
	return out
}

func (c *column) lose(refs []*Ref, why lostReason) {
	if c.lost == nil {
		c.lost = map[*Ref]lostReason{}
	}
	for _, r := range refs {
		if _, known := c.lost[r]; !known {
			c.lost[r] = why
		}
	}
}

// source is one entry of a FROM: an alias and what it stands for.
type source struct {
	alias    string
	rel      *relation
	nullable bool // the side of an outer join that may be missing
	outer    int  // outer joins that may leave it out
	hidden   bool // only read by a semi join
}

// env is the FROM of one SELECT.
type env struct {
	a       *analyzer
	v       *visible
	from    From
	sources []*source
	// equal is what equalities allow: a predicate on from may be passed to to.
	equal []transfer
	full  [][2]Expr // pairs of equi-keys of FULL joins
	fixed map[string]bool
	refs  []*Ref
}

type transfer struct{ from, to Expr }

func (e *env) source(c *Column) (*source, *column) {
	for _, s := range e.sources {
		if c.Table != "" && s.alias != c.Table {
			continue
		}
		if col := s.rel.find(c.Name); col != nil {
			return s, col
		}
	}
	return nil, nil
}

// restrict gives for every reference in the FROM the expression that the
// predicate "x = v" becomes there, where it can be passed on.
func (e *env) restrict(x Expr) (map[*Ref]Expr, map[*Ref]lostReason) {
	out, lost := map[*Ref]Expr{}, map[*Ref]lostReason{}
	if pair := e.fullPair(x); pair != nil {
		for _, side := range pair {
			_, col := e.source(side.(*Column))
			out = merge(out, col.restrict)
			lost = merge(lost, col.lost)
		}
		return out, lost
	}
	cols := columnsOf(x)
	if len(cols) == 0 && !hasAggregate(x) && len(windowsOf(x)) == 0 {
		for _, r := range e.refs {
			out[r] = x
		}
		return out, nil
	}
	for _, s := range e.sources {
		for _, r := range s.rel.refs {
			if expr, why := e.restrictRef(x, s, r); expr != nil {
				out[r] = expr
			} else {
				lost[r] = why
			}
		}
	}
	return out, lost
}

// restrictRef passes "x = v" to reference r inside source s.
func (e *env) restrictRef(x Expr, s *source, r *Ref) (Expr, lostReason) {
	if members := e.reach(x); len(members) > 1 { // x as a whole equals something
		for _, m := range members[1:] {
			if expr := e.within(m, s, r); expr != nil {
				return expr, lostReason{}
			}
		}
	}
	var why lostReason
	ok := true
	expr := rewrite(x, func(part Expr) Expr {
		c, isColumn := part.(*Column)
		if !isColumn || !ok {
			return nil
		}
		for i, m := range e.reach(c) {
			if i == 0 {
				if src, _ := e.source(c); src == nil || src.nullable {
					continue
				}
			}
			if sub := e.within(m, s, r); sub != nil {
				return sub
			}
		}
		ok, why = false, e.whyLost(c, s, r)
		return part
	})
	if !ok {
		return nil, why
	}
	return expr, why
}

// within substitutes the columns of m, which must all be of source s, by what
// restricts r there.
func (e *env) within(m Expr, s *source, r *Ref) Expr {
	ok := true
	expr := rewrite(m, func(part Expr) Expr {
		c, isColumn := part.(*Column)
		if !isColumn {
			return nil
		}
		src, col := e.source(c)
		if src != s || col == nil || col.restrict[r] == nil {
			ok = false
			return part
		}
		return col.restrict[r]
	})
	if !ok {
		return nil
	}
	return expr
}

func (e *env) whyLost(c *Column, s *source, r *Ref) lostReason {
	src, col := e.source(c)
	if src != nil && src.nullable {
		return lostReason{c.Pos, fmt.Sprintf("%s comes from the side of an outer join that may be missing", SQL(c)), "take scope columns from the side that is kept"}
	}
	if src == s && col != nil {
		if why, ok := col.lost[r]; ok {
			return why
		}
	}
	return lostReason{r.Pos, fmt.Sprintf("no equality leads from %s to %s", SQL(c), r.Table), "join it by equality on the scope, put a model that carries both between, or declare `materialized: batch`"}
}

// reach gives x and all that a predicate on x may be passed to, in order.
func (e *env) reach(x Expr) []Expr {
	out := []Expr{x}
	seen := map[string]bool{SQL(x): true}
	for i := 0; i < len(out); i++ {
		for _, t := range e.equal {
			if SQL(t.from) == SQL(out[i]) && !seen[SQL(t.to)] {
				seen[SQL(t.to)] = true
				out = append(out, t.to)
			}
		}
	}
	return out
}

func (e *env) fullPair(x Expr) []Expr {
	call, ok := x.(*Call)
	if !ok || len(call.Args) != 2 || (call.Name != "coalesce" && call.Name != "ifnull" && call.Name != "nvl") {
		return nil
	}
	a, b := SQL(call.Args[0]), SQL(call.Args[1])
	for _, p := range e.full {
		// Another outer join around or inside would make nulls that are not the
		// other side's keys.
		if l, _ := e.source(p[0].(*Column)); l.outer != 1 {
			continue
		}
		if r, _ := e.source(p[1].(*Column)); r.outer != 1 {
			continue
		}
		if (SQL(p[0]) == a && SQL(p[1]) == b) || (SQL(p[0]) == b && SQL(p[1]) == a) {
			return []Expr{p[0], p[1]}
		}
	}
	return nil
}

// origin follows x back to the rows that it was taken from.
func (e *env) origin(x Expr) []map[*Ref]Expr {
	var src *source
	for _, c := range columnsOf(x) {
		s, _ := e.source(c)
		if s == nil || (src != nil && s != src) {
			return nil
		}
		src = s
	}
	if src == nil || hasAggregate(x) || len(windowsOf(x)) > 0 {
		return nil
	}
	_, plain := x.(*Column)
	n := -1
	for _, c := range columnsOf(x) {
		_, col := e.source(c)
		if !plain && (src.nullable || col.missing) {
			return nil // a missing row gives an expression over nulls, which no row made
		}
		if col.origin == nil || (n >= 0 && len(col.origin) != n) {
			return nil
		}
		n = len(col.origin)
	}
	out := make([]map[*Ref]Expr, n)
	for b := range out {
		out[b] = map[*Ref]Expr{}
		for _, r := range src.rel.refs {
			ok := true
			expr := rewrite(x, func(part Expr) Expr {
				c, isColumn := part.(*Column)
				if !isColumn {
					return nil
				}
				_, col := e.source(c)
				if col.origin[b][r] == nil {
					ok = false
					return part
				}
				return col.origin[b][r]
			})
			if ok {
				out[b][r] = expr
			}
		}
	}
	return out
}

func (a *analyzer) selectBlock(s *Select, v *visible) *relation {
	e := &env{a: a, v: v, from: s.From, fixed: map[string]bool{}}
	if s.From != nil {
		a.from(e, s.From, false)
	}
	e.qualify(s)
	a.typedChecks(e, s)
	e.whereEqualities(s.Where)
	e.fix(s.Where, e.sources)
	a.scalars(s, v)
	a.windowChecks(e, s)
	out := &relation{refs: e.refs, always: a.always(e, s.From)}
	grouped := len(s.GroupBy) > 0
	if !grouped && !a.view {
		for _, it := range s.Items {
			if hasAggregate(it.Expr) {
				refuse(it.Expr.pos(), "group by the scope, or declare `materialized: view` or `batch`", "an aggregate without GROUP BY depends on every row")
			}
		}
		if s.Having != nil {
			refuse(s.Having.pos(), "group by the scope", "HAVING without GROUP BY depends on every row")
		}
	}
	for _, it := range s.Items {
		out.columns = append(out.columns, e.output(s, it))
	}
	alignBranches(out)
	out.keys = e.outputKeys(s)
	out.first = e.firstRow(s)
	for _, c := range conjuncts(s.Where) {
		e.markFold(c, e.sources)
	}
	return out
}

// output derives one output column.
func (e *env) output(s *Select, it Item) column {
	c := column{name: it.Name}
	c.restrict, c.lost = e.restrict(it.Expr)
	c.origin = e.origin(it.Expr)
	if l, ok := it.Expr.(*Literal); ok {
		c.constants = []string{l.SQL}
	}
	if x, ok := it.Expr.(*Column); ok {
		src, col := e.source(x)
		c.missing = src.nullable || col.missing
		if !src.nullable {
			c.constants = col.constants
		}
	}
	if hasAggregate(it.Expr) || len(windowsOf(it.Expr)) > 0 {
		kind := "an aggregate"
		if len(windowsOf(it.Expr)) > 0 {
			kind = "a window function"
		}
		c.restrict, c.origin = nil, nil
		c.lose(e.refs, lostReason{it.Expr.pos(), fmt.Sprintf("%s is the result of %s", it.Name, kind), "use a column of the input as scope, or put a model between"})
		return c
	}
	if len(s.GroupBy) > 0 && !closedOver(it.Expr, s.GroupBy) {
		c.restrict, c.origin = nil, nil
		c.lose(e.refs, lostReason{it.Expr.pos(), fmt.Sprintf("GROUP BY does not contain %s", SQL(it.Expr)), "add it to the GROUP BY"})
	}
	for _, w := range allWindows(s) {
		if !closedOver(it.Expr, w.Partition) {
			c.restrict = nil
			c.lost = map[*Ref]lostReason{}
			c.lose(e.refs, lostReason{w.Pos, fmt.Sprintf("PARTITION BY of %s() does not contain %s", w.Name, it.Name), "add it, so that rows of other scopes do not count"})
		}
	}
	return c
}

// always says whether a FROM may have rows while no table but seeds has any.
func (a *analyzer) always(e *env, f From) bool {
	switch f := f.(type) {
	case nil:
		return true
	case *Join:
		left, right := a.always(e, f.Left), a.always(e, f.Right)
		switch f.Kind {
		case "LEFT", "ANTI":
			return left
		case "RIGHT":
			return right
		case "FULL":
			return left || right
		}
		return left && right
	}
	alias := ""
	switch f := f.(type) {
	case *Table:
		alias = f.Alias
	case *Subquery:
		alias = f.Alias
	}
	return e.sources[slices.IndexFunc(e.sources, func(s *source) bool { return s.alias == alias })].rel.always
}

// scalars checks the subqueries of a view.
func (a *analyzer) scalars(s *Select, v *visible) {
	exprs := []Expr{s.Where, s.Having}
	for _, it := range s.Items {
		exprs = append(exprs, it.Expr)
	}
	for _, x := range exprs {
		walk(x, func(x Expr) {
			if q, ok := x.(*Scalar); ok {
				a.query(q.Query, v)
			}
		})
	}
}

func allWindows(s *Select) []*Window {
	var out []*Window
	for _, it := range s.Items {
		out = append(out, windowsOf(it.Expr)...)
	}
	return out
}

// closedOver says whether x is made of the given expressions and constants
// only.
func closedOver(x Expr, over []Expr) bool {
	for _, o := range over {
		if SQL(o) == SQL(x) {
			return true
		}
	}
	switch x := x.(type) {
	case *Column, *Window, *Scalar:
		return false
	case *Call:
		if isAggregate(x.Name) {
			return false
		}
	}
	for _, c := range children(x) {
		if !closedOver(c, over) {
			return false
		}
	}
	return true
}

// qualify gives every column reference its alias, and refuses what is not
// there or is ambiguous.
func (e *env) qualify(s *Select) {
	fix := func(x Expr) Expr {
		return rewrite(x, func(part Expr) Expr {
			c, ok := part.(*Column)
			if !ok {
				return nil
			}
			return e.qualified(c)
		})
	}
	for i := range s.GroupBy {
		if c, ok := s.GroupBy[i].(*Column); ok && c.Table == "" {
			if src, _ := e.source(c); src == nil { // an alias of the select list
				if j := slices.IndexFunc(s.Items, func(it Item) bool { return it.Name == c.Name }); j >= 0 {
					s.GroupBy[i] = s.Items[j].Expr
				}
			}
		}
		s.GroupBy[i] = fix(s.GroupBy[i])
	}
	for i := range s.Items {
		s.Items[i].Expr = fix(s.Items[i].Expr)
	}
	if s.Where != nil {
		s.Where = fix(s.Where)
	}
	if s.Having != nil {
		s.Having = fix(s.Having)
	}
}

func (e *env) qualified(c *Column) Expr {
	var found *source
	for _, s := range e.sources {
		if (c.Table == "" || c.Table == s.alias) && s.rel.find(c.Name) != nil {
			if found != nil {
				refuse(c.Pos, "write alias."+c.Name, "column %s is in more than one table", c.Name)
			}
			found = s
		}
	}
	if r, ok := refusals[c.Name]; found == nil && c.Table == "" && ok { // current_date stands without parentheses
		refuse(c.Pos, r.do, "%s: %s", c.Name, r.why)
	}
	if found == nil {
		refuse(c.Pos, "see the columns of the tables in FROM", "there is no column %s", SQL(c))
	}
	q := *c
	q.Table = found.alias
	return &q
}

// outputKeys are the column sets that tell two output rows apart.
func (e *env) outputKeys(s *Select) [][]string {
	var keys [][]string
	if s.Distinct {
		var all []string
		for _, it := range s.Items {
			all = append(all, it.Name)
		}
		keys = append(keys, all)
	}
	if len(s.GroupBy) > 0 {
		if k := e.outputNames(s, s.GroupBy); k != nil {
			keys = append(keys, k)
		}
		return keys
	}
	for _, k := range e.keys() {
		if names := e.outputNames(s, k); names != nil {
			keys = append(keys, names)
		}
	}
	for _, it := range s.Items { // a number within each partition
		if w, ok := it.Expr.(*Window); ok && w.Name == "row_number" {
			if names := e.outputNames(s, w.Partition); names != nil {
				keys = append(keys, append(names, it.Name))
			}
		}
	}
	return keys
}

// outputNames finds the output columns that have the values of expressions;
// nil if one is not selected.
func (e *env) outputNames(s *Select, exprs []Expr) []string {
	out := []string{}
	for _, x := range exprs {
		if _, literal := x.(*Literal); literal {
			continue
		}
		i := slices.IndexFunc(s.Items, func(it Item) bool { return SQL(it.Expr) == SQL(x) || e.sameValue(it.Expr, x) })
		if i < 0 {
			return nil
		}
		out = append(out, s.Items[i].Name)
	}
	return out
}

// sameValue: an inner join makes x and y equal in every row.
func (e *env) sameValue(x, y Expr) bool {
	there := func(a, b string) bool {
		return slices.ContainsFunc(e.equal, func(t transfer) bool { return SQL(t.from) == a && SQL(t.to) == b })
	}
	return there(SQL(x), SQL(y)) && there(SQL(y), SQL(x))
}

// keys of the whole FROM: one of each source. Columns of a key that equalities
// bind to what stands before, or to a constant, add nothing.
func (e *env) keys() [][]Expr {
	if len(e.sources) == 0 {
		return nil
	}
	combos := [][]Expr{{}}
	for i, s := range e.sources {
		if s.hidden {
			continue
		}
		var next [][]Expr
		for _, k := range s.rel.keys {
			var cols []Expr
			for _, n := range k {
				c := &Column{Table: s.alias, Name: n}
				if !e.fixed[SQL(c)] && !(i > 0 && e.boundBefore(c, i)) {
					cols = append(cols, c)
				}
			}
			for _, c := range combos {
				next = append(next, append(append([]Expr(nil), c...), cols...))
			}
		}
		combos = next
		if len(combos) > 16 {
			combos = combos[:16]
		}
	}
	return combos
}

// boundBefore: every row of what stands before gives one value to c. It reads
// transfers in their direction: a right join's left side may be missing.
func (e *env) boundBefore(c *Column, i int) bool {
	for _, t := range e.equal {
		if SQL(t.to) != SQL(c) {
			continue
		}
		ok := true
		for _, oc := range columnsOf(t.from) {
			s, _ := e.source(oc)
			ok = ok && slices.Index(e.sources, s) < i
		}
		if ok {
			return true
		}
	}
	return false
}

// fix notes columns that a filter holds at one constant: in every row that is
// left, or in those of a join's side that meet the other.
func (e *env) fix(condition Expr, sources []*source) {
	for _, c := range conjuncts(condition) {
		op, ok := c.(*Logic)
		if !ok || op.Kind != "=" {
			continue
		}
		for i := range op.Args {
			col, isColumn := op.Args[i].(*Column)
			if _, isLiteral := op.Args[1-i].(*Literal); !isColumn || !isLiteral {
				continue
			}
			if s, _ := e.source(col); slices.Contains(sources, s) {
				e.fixed[SQL(col)] = true
			}
		}
	}
}

// windowChecks refuses window functions whose result depends on how ties are
// ordered.
func (a *analyzer) windowChecks(e *env, s *Select) {
	for _, w := range allWindows(s) {
		if !functions[w.Name].total && !w.Rows {
			continue
		}
		var over []string
		for _, p := range w.Partition {
			over = append(over, SQL(p))
		}
		for _, o := range w.Order {
			over = append(over, SQL(o.Expr))
		}
		if len(s.GroupBy) > 0 {
			if !containsAll(over, s.GroupBy) {
				refuse(w.Pos, "add the grouping columns to its ORDER BY", "%s() has no total order: rows that tie would be taken in the order of arrival", w.Name)
			}
			continue
		}
		total := false
		for _, k := range e.keys() {
			total = total || containsAll(over, k)
		}
		if !total {
			refuse(w.Pos, "add to its ORDER BY the columns that tell two rows apart ("+e.keyHint()+")", "%s() has no total order: rows that tie would be taken in the order of arrival", w.Name)
		}
	}
}

func (e *env) keyHint() string {
	for _, k := range e.keys() {
		return listSQL(k)
	}
	return "a unique key of the input"
}

func containsAll(have []string, want []Expr) bool {
	for _, w := range want {
		if !slices.Contains(have, SQL(w)) {
			return false
		}
	}
	return true
}

// from adds a FROM to the environment. nullable: it stands on the side of an
// outer join that may be missing. It answers the sources that it added.
func (a *analyzer) from(e *env, f From, nullable bool) []*source {
	switch f := f.(type) {
	case *Table:
		return e.add(f.Alias, a.table(f, e.v), nullable, f.Pos)
	case *Subquery:
		return e.add(f.Alias, a.query(f.Query, e.v), nullable, 0)
	case *Join:
		return a.join(e, f, nullable)
	}
	panic("compile: unknown FROM")
}

func (e *env) add(alias string, rel *relation, nullable bool, pos int) []*source {
	for _, s := range e.sources {
		if s.alias == alias {
			refuse(pos, "give each table its own alias", "two tables are called %s", alias)
		}
	}
	s := &source{alias: alias, rel: rel, nullable: nullable}
	e.sources = append(e.sources, s)
	e.refs = append(e.refs, rel.refs...)
	return []*source{s}
}

func (a *analyzer) table(t *Table, v *visible) *relation {
	if !strings.Contains(t.Name, ".") {
		q, up := v.lookup(t.Name)
		if q == nil {
			refuse(t.Pos, "write namespace.table", "there is no CTE %s", t.Name)
		}
		return a.query(q, up)
	}
	cols := a.cat.columns(t.Name)
	if cols == nil {
		refuse(t.Pos, "bronze.<topic>, seed.<file> and the models are tables; see `lockstep graph`", "there is no table %s", t.Name)
	}
	r := &Ref{ID: len(a.refs), Pos: t.Pos, Table: t.Name}
	a.refs = append(a.refs, r)
	rel := &relation{refs: []*Ref{r}, keys: a.cat.uniqueKeys(t.Name), always: strings.HasPrefix(t.Name, "seed.")}
	for _, name := range cols {
		x := &Column{Name: name}
		rel.columns = append(rel.columns, column{name: name, restrict: map[*Ref]Expr{r: x}, origin: []map[*Ref]Expr{{r: x}}})
	}
	return rel
}

func (a *analyzer) join(e *env, j *Join, nullable bool) []*source {
	left := a.from(e, j.Left, nullable || j.Kind == "RIGHT" || j.Kind == "FULL")
	right := a.from(e, j.Right, nullable || j.Kind == "LEFT" || j.Kind == "FULL")
	both := append(append([]*source(nil), left...), right...)
	for _, s := range both {
		onLeft := slices.Contains(left, s)
		if j.Kind == "FULL" || (onLeft && j.Kind == "RIGHT") || (!onLeft && j.Kind == "LEFT") {
			s.outer++
		}
	}
	if j.On == nil {
		return both
	}
	j.On = rewrite(j.On, func(part Expr) Expr {
		if c, ok := part.(*Column); ok {
			return e.qualified(c)
		}
		return nil
	})
	var l, r []Expr
	for _, c := range conjuncts(j.On) {
		if x, y, ok := e.equality(c, left, right); ok {
			l, r = append(l, x), append(r, y)
		}
		if j.Kind != "RIGHT" && j.Kind != "FULL" {
			e.markFold(c, right)
		}
		if j.Kind == "INNER" || j.Kind == "RIGHT" {
			e.markFold(c, left)
		}
	}
	e.joinEqualities(j, l, r)
	switch j.Kind {
	case "INNER", "SEMI":
		e.fix(j.On, both)
	case "LEFT":
		e.fix(j.On, right)
	case "RIGHT":
		e.fix(j.On, left)
	}
	if j.Kind == "INNER" || j.Kind == "LEFT" || j.Kind == "SEMI" || j.Kind == "ANTI" {
		e.viaCandidates(j.Pos, right, r, l)
	}
	if j.Kind == "INNER" || j.Kind == "RIGHT" {
		e.viaCandidates(j.Pos, left, l, r)
	}
	if j.Kind == "SEMI" || j.Kind == "ANTI" {
		e.hide(right)
		return left
	}
	return both
}

// hide keeps sources that a semi join read from being named further on; what
// equalities say of them stays.
func (e *env) hide(hidden []*source) {
	for _, s := range hidden {
		s.nullable, s.hidden = true, true
	}
}

// equality recognises x = y with x over the left and y over the right, of one
// type; the order in the text does not matter.
func (e *env) equality(c Expr, left, right []*source) (x, y Expr, ok bool) {
	op, isOp := c.(*Logic)
	if !isOp || op.Kind != "=" {
		return nil, nil, false
	}
	side := func(x Expr) int {
		cols := columnsOf(x)
		on := 0
		for _, col := range cols {
			s, _ := e.source(col)
			switch {
			case slices.Contains(left, s):
				on |= 1
			case slices.Contains(right, s):
				on |= 2
			default:
				on |= 4
			}
		}
		return on
	}
	x, y = op.Args[0], op.Args[1]
	if side(x) == 2 && side(y) == 1 {
		x, y = y, x
	}
	if side(x) != 1 || side(y) != 2 || !e.sameType(x, y) {
		return nil, nil, false
	}
	return x, y, true
}

func (e *env) sameType(x, y Expr) bool {
	t, err := e.a.cat.types(e.v.flat(), e.from, []Expr{x, y}, nil)
	if err != nil {
		refuse(x.pos(), "", "%v", err)
	}
	return t[0] == t[1]
}

func (e *env) joinEqualities(j *Join, l, r []Expr) {
	for i := range l {
		switch j.Kind {
		case "INNER":
			e.equal = append(e.equal, transfer{l[i], r[i]}, transfer{r[i], l[i]})
		case "LEFT", "SEMI", "ANTI":
			e.equal = append(e.equal, transfer{l[i], r[i]})
		case "RIGHT":
			e.equal = append(e.equal, transfer{r[i], l[i]})
		case "FULL":
			_, lc := l[i].(*Column)
			_, rc := r[i].(*Column)
			if lc && rc {
				e.full = append(e.full, [2]Expr{l[i], r[i]})
			}
		}
	}
}

// whereEqualities reads x = y between two tables in WHERE, as in a join that
// is written with commas.
func (e *env) whereEqualities(where Expr) {
	for _, c := range conjuncts(where) {
		for _, s := range e.sources {
			rest := slices.DeleteFunc(slices.Clone(e.sources), func(o *source) bool { return o == s })
			if x, y, ok := e.equality(c, []*source{s}, rest); ok {
				e.equal = append(e.equal, transfer{x, y}, transfer{y, x})
				e.viaCandidates(c.pos(), rest, []Expr{y}, []Expr{x})
				e.viaCandidates(c.pos(), []*source{s}, []Expr{x}, []Expr{y})
				break
			}
		}
	}
}

// viaCandidates notes for the references of a side of a join whose rows
// matter only where they meet the other side: by which keys they meet it.
func (e *env) viaCandidates(pos int, side []*source, keys, otherKeys []Expr) {
	for _, s := range side {
		for _, r := range s.rel.refs {
			var mine, theirs []Expr
			for i, k := range keys {
				if x := e.within(k, s, r); x != nil {
					mine, theirs = append(mine, x), append(theirs, otherKeys[i])
				}
			}
			if len(mine) == 0 {
				continue
			}
			// All keys at once, then each on its own: fewer keys find more rows,
			// but may be followed back where all together are not.
			e.addVia(r, pos, mine, theirs)
			for i := range mine {
				if len(mine) > 1 {
					e.addVia(r, pos, mine[i:i+1], theirs[i:i+1])
				}
			}
		}
	}
}

func (e *env) addVia(r *Ref, pos int, keys, otherKeys []Expr) {
	var branches []viaBranch
	for i, k := range otherKeys {
		origin := e.origin(k)
		if origin == nil || (i > 0 && len(origin) != len(branches)) {
			return
		}
		if i == 0 {
			for range origin {
				branches = append(branches, viaBranch{keys: map[*Ref][]Expr{}})
			}
		}
		for b := range origin {
			for ref, x := range origin[b] {
				if len(branches[b].keys[ref]) == i {
					branches[b].keys[ref] = append(branches[b].keys[ref], x)
				}
			}
		}
	}
	for b := range branches {
		for ref, ks := range branches[b].keys {
			if len(ks) == len(otherKeys) {
				branches[b].others = append(branches[b].others, ref)
			}
		}
		slices.SortFunc(branches[b].others, func(x, y *Ref) int { return x.ID - y.ID })
		if len(branches[b].others) == 0 {
			return
		}
	}
	r.via = append(r.via, viaCandidate{pos: pos, keys: keys, branches: branches})
}
