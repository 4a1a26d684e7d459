package compile

import (
	"fmt"
	"strings"
)

// Fold is a "latest per key" reading of an append-only table: of each key only
// the first row in a total order counts, so the stream keeps that row and not
// the key's history.
type Fold struct {
	Key   []string
	Order []FoldOrder
}

// FoldOrder is one term of a fold's order.
type FoldOrder struct {
	Column     string
	Desc       bool
	NullsFirst bool
}

// SQL is the fold as an ORDER BY.
func (f *Fold) SQL() string {
	parts := make([]string, len(f.Order))
	for i, o := range f.Order {
		parts[i] = ordersSQL([]Order{{Expr: &Column{Name: o.Column}, Desc: o.Desc, NullsFirst: o.NullsFirst}})
	}
	return strings.Join(parts, ", ")
}

func (f *Fold) String() string {
	return fmt.Sprintf("first of (%s) by %s", strings.Join(f.Key, ", "), f.SQL())
}

// firstRow is a query that numbers the rows of a table within each key.
type firstRow struct {
	column string
	ref    *Ref
	fold   *Fold
}

// firstRow recognises SELECT ..., row_number() OVER (PARTITION BY columns
// ORDER BY columns) AS n FROM one table, with nothing else that drops or
// groups rows.
func (e *env) firstRow(s *Select) *firstRow {
	t, plain := s.From.(*Table)
	if !plain || len(e.refs) != 1 || !strings.HasPrefix(t.Name, "bronze.") || s.Where != nil || len(s.GroupBy) > 0 || s.Distinct || s.Having != nil {
		return nil
	}
	var f *firstRow
	for _, it := range s.Items {
		w, ok := it.Expr.(*Window)
		if !ok {
			if len(windowsOf(it.Expr)) > 0 {
				return nil
			}
			continue
		}
		if f != nil || w.Name != "row_number" {
			return nil
		}
		f = &firstRow{column: it.Name, ref: e.refs[0], fold: foldOf(w)}
		if f.fold == nil {
			return nil
		}
	}
	return f
}

func foldOf(w *Window) *Fold {
	f := &Fold{}
	for _, p := range w.Partition {
		c, ok := p.(*Column)
		if !ok {
			return nil
		}
		f.Key = append(f.Key, c.Name)
	}
	for _, o := range w.Order {
		c, ok := o.Expr.(*Column)
		if !ok {
			return nil
		}
		f.Order = append(f.Order, FoldOrder{Column: c.Name, Desc: o.Desc, NullsFirst: o.NullsFirst})
	}
	if len(f.Key) == 0 {
		return nil
	}
	return f
}

// markFold applies the filter n = 1 to a source that numbers its rows.
func (e *env) markFold(filter Expr, sources []*source) {
	op, ok := filter.(*Logic)
	if !ok || op.Kind != "=" {
		return
	}
	for i := range op.Args {
		c, isColumn := op.Args[i].(*Column)
		one, isLiteral := op.Args[1-i].(*Literal)
		if !isColumn || !isLiteral || one.SQL != "1" {
			continue
		}
		for _, s := range sources {
			if s.alias == c.Table && s.rel.first != nil && s.rel.first.column == c.Name {
				s.rel.first.ref.Fold = s.rel.first.fold
			}
		}
	}
}
