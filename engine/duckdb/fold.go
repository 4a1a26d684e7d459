package duckdb

import (
	"lockstep/compile"
	"lockstep/store"
)

// runFold keeps of each key the first row in the fold's order. It is what
// row_number() = 1 gives, over the stored first row and the new rows instead of
// the key's whole history.
func (st *step) runFold(op *compile.FoldFirst) {
	codec := st.s.codecs[op.Fold]
	key := st.s.keyers[op.Fold.Indexes[0].ID]
	order := newRowOrder(op.Fold, codec)
	first := map[store.Hash][]byte{}
	var buf []byte
	var sequence []store.Hash
	for _, name := range op.From {
		rows := st.set(name)
		for i := range rows.Len() {
			buf, _ = key.key(buf[:0], rows.At(i))
			h := store.HashOf(buf)
			best, ok := first[h]
			if !ok {
				sequence = append(sequence, h)
			}
			if !ok || order.less(rows.At(i), best) {
				first[h] = rows.At(i)
			}
		}
	}
	out := &store.Rows{}
	for _, h := range sequence {
		out.Append(first[h])
	}
	st.rows[op.Out] = out
}

// rowOrder compares encoded rows as the fold's ORDER BY does.
type rowOrder struct {
	codec *store.Codec
	terms []orderTerm
	a, b  []byte
}

type orderTerm struct {
	column int
	compile.FoldOrder
}

func newRowOrder(r *compile.Relation, codec *store.Codec) *rowOrder {
	o := &rowOrder{codec: codec}
	for _, f := range r.Fold.Order {
		for i, c := range r.Columns {
			if c.Name == f.Column {
				o.terms = append(o.terms, orderTerm{column: i, FoldOrder: f})
			}
		}
	}
	return o
}

func (o *rowOrder) less(x, y []byte) bool {
	for i := range o.terms {
		t := &o.terms[i]
		column := [1]int{t.column}
		o.a, o.b = o.codec.Key(o.a[:0], x, column[:]), o.codec.Key(o.b[:0], y, column[:])
		xNull, yNull := store.IsNull(o.a), store.IsNull(o.b)
		if xNull && yNull {
			continue
		}
		if xNull || yNull {
			return xNull == t.NullsFirst
		}
		if c := store.CompareCells(o.codec.Columns()[t.column].Type, o.a, o.b); c != 0 {
			return (c < 0) != t.Desc
		}
	}
	return false
}
