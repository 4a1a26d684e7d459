package compile

// The syntax tree of a model: only what the portable subset allows. Parsing
// refuses every other node, so that no later part has to think of it.

// Query is a SELECT or a UNION with the CTEs that it may name.
type Query struct {
	CTEs []CTE
	Body Body
}

// CTE is a named query in a WITH clause.
type CTE struct {
	Name  string
	Query *Query
}

// Body is *Select or *Union.
type Body interface{ body() }

// Select is one SELECT block.
type Select struct {
	Pos      int // byte offset in the file
	Distinct bool
	Items    []Item
	From     From // nil: no FROM
	Where    Expr
	GroupBy  []Expr
	Having   Expr
	OrderBy  []Order // only in views
}

// Item is an output column of a SELECT.
type Item struct {
	Name string
	Expr Expr
}

// Union is UNION [ALL] of two bodies.
type Union struct {
	Pos         int
	All         bool
	Left, Right *Query
}

func (*Select) body() {}
func (*Union) body()  {}

// From is *Table, *Subquery or *Join.
type From interface{ from() }

// Table names a table (namespace.table) or a CTE.
type Table struct {
	Pos   int
	Name  string
	Alias string
}

// Subquery is a query in FROM.
type Subquery struct {
	Query *Query
	Alias string
}

// Join is a join with an ON condition; a cross join has none.
type Join struct {
	Pos         int
	Kind        string // INNER, LEFT, RIGHT, FULL, SEMI, ANTI, CROSS
	Left, Right From
	On          Expr
}

func (*Table) from()    {}
func (*Subquery) from() {}
func (*Join) from()     {}

// Expr is an expression.
type Expr interface{ pos() int }

// Column is a reference to a column, qualified or not.
type Column struct {
	Pos         int
	Table, Name string
}

// Literal is a constant as portable SQL text.
type Literal struct {
	Pos int
	SQL string
	Str string // the value of a string literal
	Is  string // string, number, boolean, null
}

// Interval is a constant interval.
type Interval struct {
	Pos  int
	N    int64
	Unit string
}

// Call is a function, an aggregate or an arithmetic operator.
type Call struct {
	Pos      int
	Name     string
	Args     []Expr
	Distinct bool
	Filter   Expr
	Within   []Order // WITHIN GROUP (ORDER BY ...)
	Infix    bool
}

// Cast converts a value.
type Cast struct {
	Pos  int
	Arg  Expr
	Type string // as a project writes it
	Try  bool
}

// Case is CASE WHEN ... END without an operand.
type Case struct {
	Pos   int
	Whens [][2]Expr
	Else  Expr
}

// Logic is a logical operator or comparison. Kinds: AND, OR, NOT, IS NULL,
// IS NOT NULL, IN, NOT IN, BETWEEN, and the comparison operators.
type Logic struct {
	Pos  int
	Kind string
	Args []Expr
}

// Window is a window function.
type Window struct {
	Pos       int
	Name      string
	Args      []Expr
	Partition []Expr
	Order     []Order
	Frame     string // "", or the frame's SQL
	Rows      bool   // a ROWS frame
}

// Scalar is an uncorrelated scalar subquery; only in views.
type Scalar struct {
	Pos   int
	Query *Query
}

// Order is one term of an ORDER BY.
type Order struct {
	Expr       Expr
	Desc       bool
	NullsFirst bool
}

func (e *Column) pos() int   { return e.Pos }
func (e *Literal) pos() int  { return e.Pos }
func (e *Interval) pos() int { return e.Pos }
func (e *Call) pos() int     { return e.Pos }
func (e *Cast) pos() int     { return e.Pos }
func (e *Case) pos() int     { return e.Pos }
func (e *Logic) pos() int    { return e.Pos }
func (e *Window) pos() int   { return e.Pos }
func (e *Scalar) pos() int   { return e.Pos }

// children gives the direct parts of an expression, without subqueries.
func children(e Expr) []Expr {
	switch e := e.(type) {
	case *Call:
		out := append([]Expr(nil), e.Args...)
		if e.Filter != nil {
			out = append(out, e.Filter)
		}
		for _, o := range e.Within {
			out = append(out, o.Expr)
		}
		return out
	case *Cast:
		return []Expr{e.Arg}
	case *Case:
		var out []Expr
		for _, w := range e.Whens {
			out = append(out, w[0], w[1])
		}
		if e.Else != nil {
			out = append(out, e.Else)
		}
		return out
	case *Logic:
		return e.Args
	case *Window:
		out := append([]Expr(nil), e.Args...)
		out = append(out, e.Partition...)
		for _, o := range e.Order {
			out = append(out, o.Expr)
		}
		return out
	}
	return nil
}

// walk visits e and all below it, parents first.
func walk(e Expr, visit func(Expr)) {
	if e == nil {
		return
	}
	visit(e)
	for _, c := range children(e) {
		walk(c, visit)
	}
}

// rewrite gives a copy of e with f applied to every node from the top; where
// f answers nil the node is kept and its parts are rewritten.
func rewrite(e Expr, f func(Expr) Expr) Expr {
	if e == nil {
		return nil
	}
	if r := f(e); r != nil {
		return r
	}
	list := func(in []Expr) []Expr {
		out := make([]Expr, len(in))
		for i, x := range in {
			out[i] = rewrite(x, f)
		}
		return out
	}
	orders := func(in []Order) []Order {
		out := append([]Order(nil), in...)
		for i := range out {
			out[i].Expr = rewrite(out[i].Expr, f)
		}
		return out
	}
	switch e := e.(type) {
	case *Call:
		c := *e
		c.Args, c.Within = list(e.Args), orders(e.Within)
		if e.Filter != nil {
			c.Filter = rewrite(e.Filter, f)
		}
		return &c
	case *Cast:
		c := *e
		c.Arg = rewrite(e.Arg, f)
		return &c
	case *Case:
		c := *e
		c.Whens = nil
		for _, w := range e.Whens {
			c.Whens = append(c.Whens, [2]Expr{rewrite(w[0], f), rewrite(w[1], f)})
		}
		if e.Else != nil {
			c.Else = rewrite(e.Else, f)
		}
		return &c
	case *Logic:
		c := *e
		c.Args = list(e.Args)
		return &c
	case *Window:
		c := *e
		c.Args, c.Partition, c.Order = list(e.Args), list(e.Partition), orders(e.Order)
		return &c
	}
	return e
}

// conjuncts splits an AND.
func conjuncts(e Expr) []Expr {
	if e == nil {
		return nil
	}
	if op, ok := e.(*Logic); ok && op.Kind == "AND" {
		var out []Expr
		for _, a := range op.Args {
			out = append(out, conjuncts(a)...)
		}
		return out
	}
	return []Expr{e}
}

func columnsOf(e Expr) []*Column {
	var out []*Column
	walk(e, func(x Expr) {
		if c, ok := x.(*Column); ok {
			out = append(out, c)
		}
	})
	return out
}

func hasAggregate(e Expr) bool {
	found := false
	walk(e, func(x Expr) {
		if c, ok := x.(*Call); ok && isAggregate(c.Name) {
			found = true
		}
	})
	return found
}

func windowsOf(e Expr) []*Window {
	var out []*Window
	walk(e, func(x Expr) {
		if w, ok := x.(*Window); ok {
			out = append(out, w)
		}
	})
	return out
}

// Constant is a constant that a query names.
type Constant struct {
	Text   string
	Number bool
}

// Constants lists the text and number constants of a query, so that tests can
// try the values that it tells apart.
func Constants(q *Query) []Constant {
	var out []Constant
	collect := func(e Expr) {
		walk(e, func(x Expr) {
			if l, ok := x.(*Literal); ok && l.Is == "string" {
				out = append(out, Constant{Text: l.Str})
			} else if ok && l.Is == "number" {
				out = append(out, Constant{Text: l.SQL, Number: true})
			}
		})
	}
	eachSelect(q, func(s *Select) {
		for _, e := range append(append([]Expr{s.Where, s.Having}, s.GroupBy...), conditions(s.From)...) {
			collect(e)
		}
		for _, it := range s.Items {
			collect(it.Expr)
		}
	})
	return out
}

// eachSelect visits every SELECT of a query, those in FROM and WITH included.
func eachSelect(q *Query, visit func(*Select)) {
	for _, c := range q.CTEs {
		eachSelect(c.Query, visit)
	}
	switch b := q.Body.(type) {
	case *Union:
		eachSelect(b.Left, visit)
		eachSelect(b.Right, visit)
	case *Select:
		visit(b)
		eachSubquery(b.From, func(q *Query) { eachSelect(q, visit) })
	}
}

func eachSubquery(f From, visit func(*Query)) {
	switch f := f.(type) {
	case *Subquery:
		visit(f.Query)
	case *Join:
		eachSubquery(f.Left, visit)
		eachSubquery(f.Right, visit)
	}
}
