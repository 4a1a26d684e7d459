package compile

import (
	"database/sql"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"lockstep/project"
)

// tables is the catalog of a project: empty tables in a private DuckDB, whose
// binder answers what types expressions have.
type tables struct {
	db     *sql.DB
	cols   map[string][]project.Column
	unique map[string][][]string
	cache  map[string][]string
}

func (t *tables) columns(table string) []string {
	var out []string
	for _, c := range t.cols[table] {
		out = append(out, c.Name)
	}
	return out
}

func (t *tables) uniqueKeys(table string) [][]string { return t.unique[table] }

func (t *tables) add(name string, columns []project.Column, unique ...[]string) error {
	t.cols[name], t.unique[name] = columns, unique
	namespace, _, _ := strings.Cut(name, ".")
	if _, err := t.db.Exec("CREATE SCHEMA IF NOT EXISTS " + namespace); err != nil {
		return fmt.Errorf("cannot declare %s: %w", name, err)
	}
	if _, err := t.db.Exec("CREATE OR REPLACE TABLE " + name + " (" + ColumnsSQL(columns) + ")"); err != nil {
		return fmt.Errorf("cannot declare %s: %w", name, err)
	}
	return nil
}

// ColumnsSQL declares columns in DuckDB's CREATE TABLE.
func ColumnsSQL(columns []project.Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = c.Name + " " + c.Type.DuckDB()
	}
	return strings.Join(parts, ", ")
}

func (t *tables) types(ctes []CTE, from From, exprs, groupBy []Expr) ([]string, error) {
	var b strings.Builder
	if len(ctes) > 0 {
		b.WriteString(withSQL(ctes) + " ")
	}
	b.WriteString("SELECT ")
	for i, e := range exprs {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s AS c%d", SQL(e), i)
	}
	if from != nil {
		b.WriteString(" FROM " + strings.Join(sourcesSQL(from), ", "))
	}
	if len(groupBy) > 0 {
		b.WriteString(" GROUP BY " + listSQL(groupBy))
	}
	return t.describe(b.String())
}

// sourcesSQL lists the tables of a FROM without their joins: types do not
// depend on which rows meet.
func sourcesSQL(f From) []string {
	if j, ok := f.(*Join); ok {
		return append(sourcesSQL(j.Left), sourcesSQL(j.Right)...)
	}
	return []string{fromSQL(f)}
}

// describe gives the types of the columns of a SELECT.
func (t *tables) describe(query string) ([]string, error) {
	if known, ok := t.cache[query]; ok {
		return known, nil
	}
	rows, err := t.db.Query("SELECT column_type FROM (DESCRIBE " + query + ")")
	if err != nil {
		return nil, binderMessage(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, fmt.Errorf("cannot read types: %w", err)
		}
		out = append(out, s)
	}
	t.cache[query] = out
	return out, rows.Err()
}

var binderLine = regexp.MustCompile(`\nLINE (\d+):`)

// binderError is DuckDB's message without the query that we made of it, and
// the line in that query.
type binderError struct {
	line int
	what string
}

func (e *binderError) Error() string { return e.what }

func binderMessage(err error) error {
	first, _, _ := strings.Cut(err.Error(), "\n")
	_, what, ok := strings.Cut(first, " Error: ")
	if !ok {
		what = first
	}
	e := &binderError{what: strings.TrimSpace(what)}
	if m := binderLine.FindStringSubmatch(err.Error()); m != nil {
		e.line, _ = strconv.Atoi(m[1])
	}
	return e
}

func isFloat(t string) bool   { return t == "DOUBLE" || t == "FLOAT" }
func isDecimal(t string) bool { return strings.HasPrefix(t, "DECIMAL") }
func isWhole(t string) bool {
	return strings.HasSuffix(t, "INT") || strings.HasSuffix(t, "INTEGER") || (isDecimal(t) && strings.HasSuffix(t, ",0)"))
}

// typedChecks refuses what depends on types: sums of doubles, divisions that
// the engines do differently, casts that they round differently.
func (a *analyzer) typedChecks(e *env, s *Select) {
	grouped := len(s.GroupBy) > 0 || slices.ContainsFunc(s.Items, func(it Item) bool { return hasAggregate(it.Expr) })
	var asked []Expr
	var checks []func(types []string)
	ask := func(inside bool, args []Expr, check func(types []string)) {
		at := len(asked)
		for _, x := range args {
			if grouped && (inside || !hasAggregate(x) && len(windowsOf(x)) == 0) {
				x = &Call{Name: "min", Args: []Expr{x}} // any value of the group has the type
			}
			asked = append(asked, x)
		}
		checks = append(checks, func(types []string) { check(types[at : at+len(args)]) })
	}
	var visit func(x Expr, inside bool)
	visit = func(x Expr, inside bool) {
		if w, ok := x.(*Window); ok && w.Name == "sum" {
			ask(inside, w.Args[:1], func(t []string) { refuseFloatSum(w.Pos, t[0]) })
		}
		if c, ok := x.(*Call); ok {
			typedCall(c, func(args []Expr, check func([]string)) { ask(inside || isAggregate(c.Name), args, check) })
			inside = inside || isAggregate(c.Name)
		}
		if c, ok := x.(*Cast); ok {
			ask(inside, []Expr{c.Arg}, func(t []string) { checkCast(c, t[0]) })
		}
		for _, child := range children(x) {
			visit(child, inside)
		}
	}
	for _, it := range s.Items {
		visit(it.Expr, false)
	}
	for _, x := range []Expr{s.Having} {
		if x != nil {
			visit(x, false)
		}
	}
	if s.Where != nil {
		visit(s.Where, true)
	}
	for _, g := range s.GroupBy {
		visit(g, true)
	}
	for _, on := range conditions(s.From) {
		visit(on, true)
	}
	if len(asked) == 0 {
		return
	}
	types, err := a.cat.types(e.v.flat(), e.from, asked, s.GroupBy)
	if err != nil {
		refuse(s.Pos, "", "%v", err)
	}
	for _, check := range checks {
		check(types)
	}
}

// conditions gives the ON conditions of a FROM.
func conditions(f From) []Expr {
	j, ok := f.(*Join)
	if !ok {
		return nil
	}
	out := append(conditions(j.Left), conditions(j.Right)...)
	if j.On != nil {
		out = append(out, j.On)
	}
	return out
}

func refuseFloatSum(pos int, t string) {
	if isFloat(t) {
		refuse(pos, "keep the amounts as decimal(p,s)", "a sum of doubles depends on the order in which they are added")
	}
}

func typedCall(c *Call, ask func([]Expr, func([]string))) {
	switch c.Name {
	case "sum":
		ask(c.Args[:1], func(t []string) { refuseFloatSum(c.Pos, t[0]) })
	case "/", "%":
		if !neverZero(c.Args[1]) {
			refuse(c.Args[1].pos(), "divide by nullif(x, 0)", "a division by zero is an error in Spark and infinite in DuckDB")
		}
		if c.Name == "/" {
			ask(c.Args, func(t []string) {
				if (isDecimal(t[0]) || isDecimal(t[1])) && !isFloat(t[0]) && !isFloat(t[1]) {
					refuse(c.Pos, "cast one side to double", "a decimal division has another type and scale in each engine")
				}
			})
		}
	case "round":
		ask(c.Args[:1], func(t []string) {
			if isFloat(t[0]) && len(c.Args) > 1 {
				refuse(c.Pos, "keep the value as decimal(p,s), or round when it is shown", "the engines round a double to digits differently")
			}
		})
	}
}

func neverZero(x Expr) bool {
	switch x := x.(type) {
	case *Literal:
		return strings.Trim(x.SQL, "0.-") != "" && x.Is == "number"
	case *Cast:
		return neverZero(x.Arg)
	case *Call:
		if x.Name == "nullif" && len(x.Args) == 2 {
			l, ok := x.Args[1].(*Literal)
			return ok && strings.Trim(l.SQL, "0.") == ""
		}
	}
	return false
}

func checkCast(c *Cast, from string) {
	if why, do := castDiffers(from, c.Type); why != "" {
		if call, ok := c.Arg.(*Call); ok && isFloat(from) && (call.Name == "floor" || call.Name == "ceil") && (c.Type == "int" || c.Type == "bigint") {
			return
		}
		refuse(c.Pos, do, "%s", why)
	}
}

// castDiffers says why a conversion may give other values on the other engine.
func castDiffers(from, to string) (why, do string) {
	switch {
	case (isFloat(from) || isDecimal(from)) && !isWhole(from) && (to == "int" || to == "bigint"):
		return fmt.Sprintf("a cast from %s to %s rounds in DuckDB and cuts in Spark", strings.ToLower(from), to), "cast floor(x) or ceil(x)"
	case isFloat(from) && strings.HasPrefix(to, "decimal"):
		return "a cast from double to decimal rounds differently in each engine", "keep the value as decimal from the source on, or declare double"
	case isFloat(from) && to == "string":
		return "the engines write doubles differently", "keep the number, and format it where it is shown"
	}
	return "", ""
}

// checkOutput compares what the SQL gives with what the header declares.
func checkOutput(actual string, declared project.Type) (why, do string) {
	want := declared.DuckDB()
	if actual == want || isNullType(actual) {
		return "", ""
	}
	numeric := func(t string) bool { return isFloat(t) || isDecimal(t) || isWhole(t) }
	if numeric(actual) && numeric(want) {
		return castDiffers(actual, declared.String())
	}
	return fmt.Sprintf("the SELECT gives %s, the header declares %s", strings.ToLower(actual), declared), "cast it, or correct the declared type"
}
