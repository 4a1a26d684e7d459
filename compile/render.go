package compile

import (
	"fmt"
	"strings"
)

// Rendering gives SQL that both engines run as it stands. The text of a tree
// is also its identity: two expressions are the same when their texts are.

// SQL renders an expression.
func SQL(e Expr) string {
	switch e := e.(type) {
	case *Column:
		if e.Table != "" {
			return e.Table + "." + e.Name
		}
		return e.Name
	case *Literal:
		return e.SQL
	case *Interval:
		return fmt.Sprintf("INTERVAL %d %s", e.N, e.Unit)
	case *Call:
		return callSQL(e)
	case *Cast:
		name := "CAST"
		if e.Try {
			name = "TRY_CAST"
		}
		return fmt.Sprintf("%s(%s AS %s)", name, SQL(e.Arg), e.Type)
	case *Case:
		var b strings.Builder
		b.WriteString("CASE")
		for _, w := range e.Whens {
			fmt.Fprintf(&b, " WHEN %s THEN %s", SQL(w[0]), SQL(w[1]))
		}
		if e.Else != nil {
			fmt.Fprintf(&b, " ELSE %s", SQL(e.Else))
		}
		return b.String() + " END"
	case *Logic:
		return opSQL(e)
	case *Window:
		return windowSQL(e)
	case *Scalar:
		return "(" + QuerySQL(e.Query) + ")"
	}
	panic(fmt.Sprintf("compile: cannot render %T", e))
}

func listSQL(list []Expr) string {
	parts := make([]string, len(list))
	for i, e := range list {
		parts[i] = SQL(e)
	}
	return strings.Join(parts, ", ")
}

func callSQL(e *Call) string {
	if e.Infix {
		if len(e.Args) == 1 {
			return fmt.Sprintf("(%s%s)", e.Name, SQL(e.Args[0]))
		}
		return fmt.Sprintf("(%s %s %s)", SQL(e.Args[0]), e.Name, SQL(e.Args[1]))
	}
	args := listSQL(e.Args)
	if e.Name == "count" && len(e.Args) == 0 {
		args = "*"
	}
	if e.Distinct {
		args = "DISTINCT " + args
	}
	s := e.Name + "(" + args + ")"
	if len(e.Within) > 0 {
		s += " WITHIN GROUP (ORDER BY " + ordersSQL(e.Within) + ")"
	}
	if e.Filter != nil {
		s += " FILTER (WHERE " + SQL(e.Filter) + ")"
	}
	return s
}

func opSQL(e *Logic) string {
	switch e.Kind {
	case "AND", "OR":
		parts := make([]string, len(e.Args))
		for i, a := range e.Args {
			parts[i] = SQL(a)
		}
		return "(" + strings.Join(parts, " "+e.Kind+" ") + ")"
	case "NOT":
		return "(NOT " + SQL(e.Args[0]) + ")"
	case "IS NULL", "IS NOT NULL":
		return "(" + SQL(e.Args[0]) + " " + e.Kind + ")"
	case "IN", "NOT IN":
		return fmt.Sprintf("(%s %s (%s))", SQL(e.Args[0]), e.Kind, listSQL(e.Args[1:]))
	case "BETWEEN":
		return fmt.Sprintf("(%s BETWEEN %s AND %s)", SQL(e.Args[0]), SQL(e.Args[1]), SQL(e.Args[2]))
	}
	return fmt.Sprintf("(%s %s %s)", SQL(e.Args[0]), e.Kind, SQL(e.Args[1]))
}

func windowSQL(e *Window) string {
	args := listSQL(e.Args)
	if e.Name == "count" && len(e.Args) == 0 {
		args = "*"
	}
	var over []string
	if len(e.Partition) > 0 {
		over = append(over, "PARTITION BY "+listSQL(e.Partition))
	}
	if len(e.Order) > 0 {
		over = append(over, "ORDER BY "+ordersSQL(e.Order))
	}
	if e.Frame != "" {
		over = append(over, e.Frame)
	}
	return fmt.Sprintf("%s(%s) OVER (%s)", e.Name, args, strings.Join(over, " "))
}

func ordersSQL(list []Order) string {
	parts := make([]string, len(list))
	for i, o := range list {
		direction, nulls := "ASC", "LAST"
		if o.Desc {
			direction = "DESC"
		}
		if o.NullsFirst {
			nulls = "FIRST"
		}
		parts[i] = fmt.Sprintf("%s %s NULLS %s", SQL(o.Expr), direction, nulls)
	}
	return strings.Join(parts, ", ")
}

// QuerySQL renders a query on one line.
func QuerySQL(q *Query) string {
	s := ""
	if len(q.CTEs) > 0 {
		s = withSQL(q.CTEs) + " "
	}
	return s + bodySQL(q.Body)
}

func withSQL(ctes []CTE) string {
	parts := make([]string, len(ctes))
	for i, c := range ctes {
		parts[i] = c.Name + " AS (" + QuerySQL(c.Query) + ")"
	}
	return "WITH " + strings.Join(parts, ", ")
}

func bodySQL(b Body) string {
	switch b := b.(type) {
	case *Union:
		op := "UNION"
		if b.All {
			op = "UNION ALL"
		}
		return fmt.Sprintf("(%s) %s (%s)", QuerySQL(b.Left), op, QuerySQL(b.Right))
	case *Select:
		return selectSQL(b)
	}
	panic(fmt.Sprintf("compile: cannot render %T", b))
}

func selectSQL(s *Select) string {
	var b strings.Builder
	b.WriteString("SELECT ")
	if s.Distinct {
		b.WriteString("DISTINCT ")
	}
	for i, item := range s.Items {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s AS %s", SQL(item.Expr), item.Name)
	}
	if s.From != nil {
		b.WriteString(" FROM " + fromSQL(s.From))
	}
	if s.Where != nil {
		b.WriteString(" WHERE " + SQL(s.Where))
	}
	if len(s.GroupBy) > 0 {
		b.WriteString(" GROUP BY " + listSQL(s.GroupBy))
	}
	if s.Having != nil {
		b.WriteString(" HAVING " + SQL(s.Having))
	}
	if len(s.OrderBy) > 0 {
		b.WriteString(" ORDER BY " + ordersSQL(s.OrderBy))
	}
	return b.String()
}

func fromSQL(f From) string {
	switch f := f.(type) {
	case *Table:
		if f.Alias == "" || f.Alias == f.Name {
			return f.Name
		}
		return f.Name + " AS " + f.Alias
	case *Subquery:
		return "(" + QuerySQL(f.Query) + ") AS " + f.Alias
	case *Join:
		right := fromSQL(f.Right)
		if _, nested := f.Right.(*Join); nested {
			right = "(" + right + ")"
		}
		if f.Kind == "CROSS" {
			return fromSQL(f.Left) + " CROSS JOIN " + right
		}
		return fmt.Sprintf("%s %s JOIN %s ON %s", fromSQL(f.Left), f.Kind, right, SQL(f.On))
	}
	panic(fmt.Sprintf("compile: cannot render %T", f))
}

// StringLiteral gives the value of an expression that is a string constant.
func StringLiteral(expr string) (string, bool) {
	if !quoted.MatchString(expr) || quoted.FindString(expr) != expr {
		return "", false
	}
	return strings.ReplaceAll(expr[1:len(expr)-1], "''", "'"), true
}
