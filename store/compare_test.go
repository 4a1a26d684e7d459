package store

import (
	"bytes"
	"cmp"
	"testing"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// compareValues is the order that CompareCells promises, over Go values.
func compareValues(a, b any) int {
	switch a := a.(type) {
	case string:
		return cmp.Compare(a, b.(string))
	case bool:
		if a == b.(bool) {
			return 0
		} else if a {
			return 1
		}
		return -1
	case int32:
		return cmp.Compare(a, b.(int32))
	case int64:
		return cmp.Compare(a, b.(int64))
	case float64:
		return -cmp.Compare(-a, -b.(float64)) // cmp has NaN below every number
	case arrow.Date32:
		return cmp.Compare(a, b.(arrow.Date32))
	case arrow.Timestamp:
		return cmp.Compare(a, b.(arrow.Timestamp))
	case decimal128.Num:
		return a.BigInt().Cmp(b.(decimal128.Num).BigInt())
	}
	panic("no such type")
}

func TestCellsAreOrderedAsTheirValues(t *testing.T) {
	r := seeded(t)
	for range 3000 {
		columns := randomColumns(r)[:1]
		c := NewCodec(columns)
		values := [][]any{{randomCell(r, columns[0].Type)}, {randomCell(r, columns[0].Type)}}
		rows := mustEncode(t, c, recordOf(columns, values))
		a, b := c.Key(nil, rows.At(0), []int{0}), c.Key(nil, rows.At(1), []int{0})
		if IsNull(a) != (values[0][0] == nil) {
			t.Fatalf("%v is null: %v", values[0][0], IsNull(a))
		}
		if IsNull(a) || IsNull(b) {
			continue
		}
		if got, want := CompareCells(columns[0].Type, a, b), compareValues(values[0][0], values[1][0]); got != want {
			t.Fatalf("%s: %v against %v is %d, want %d", columns[0].Type, values[0][0], values[1][0], got, want)
		}
	}
}

func TestTextCellIsTheCellOfAString(t *testing.T) {
	columns := []project.Column{{Name: "v", Type: project.Type{Kind: project.String}}}
	for _, s := range []string{"", "a", string(make([]byte, 300))} {
		rows := mustEncode(t, NewCodec(columns), recordOf(columns, [][]any{{s}}))
		if got := TextCell(s); !bytes.Equal(got, rows.At(0)) {
			t.Errorf("%q: %x, want %x", s, got, rows.At(0))
		}
	}
}
