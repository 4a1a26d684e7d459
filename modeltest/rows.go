package modeltest

import (
	"fmt"
	"math/big"
	"sort"
	"strconv"
	"strings"
	"time"

	"lockstep/project"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Row holds a row as text per column, in the order of the columns; nil is null.
type Row []*string

// Record makes a record batch of rows. Text that is no value of its column's
// type is an error that names the column.
func Record(columns []project.Column, rows []Row) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(columns))
	defer b.Release()
	for _, row := range rows {
		for i, c := range columns {
			if row[i] == nil {
				b.Field(i).AppendNull()
				continue
			}
			if err := appendText(b.Field(i), c.Type, *row[i]); err != nil {
				return nil, fmt.Errorf("column %s: %w", c.Name, err)
			}
		}
	}
	return b.NewRecordBatch(), nil
}

// timeLayouts are the ways to write a time in a test; the fraction is optional.
var timeLayouts = []string{"2006-01-02 15:04:05", "2006-01-02T15:04:05", "2006-01-02T15:04:05Z", "2006-01-02"}

func parseTime(s string) (time.Time, error) {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a time: write YYYY-MM-DD HH:MM:SS", s)
}

func appendText(b array.Builder, t project.Type, s string) error {
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(s)
	case *array.BooleanBuilder:
		v, err := strconv.ParseBool(s)
		if err != nil {
			return fmt.Errorf("%q is not true or false", s)
		}
		b.Append(v)
	case *array.Int32Builder:
		v, err := strconv.ParseInt(s, 10, 32)
		if err != nil {
			return fmt.Errorf("%q is not an int", s)
		}
		b.Append(int32(v))
	case *array.Int64Builder:
		v, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return fmt.Errorf("%q is not a bigint", s)
		}
		b.Append(v)
	case *array.Float64Builder:
		v, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return fmt.Errorf("%q is not a double", s)
		}
		b.Append(v)
	case *array.Decimal128Builder:
		v, err := parseDecimal(s, t)
		if err != nil {
			return err
		}
		b.Append(v)
	case *array.Date32Builder:
		v, err := parseTime(s)
		if err != nil {
			return err
		}
		b.Append(arrow.Date32FromTime(v))
	case *array.TimestampBuilder:
		v, err := parseTime(s)
		if err != nil {
			return err
		}
		b.Append(arrow.Timestamp(v.UnixMicro()))
	default:
		return fmt.Errorf("no values of type %s", t)
	}
	return nil
}

func parseDecimal(s string, t project.Type) (decimal128.Num, error) {
	r, ok := new(big.Rat).SetString(s)
	if !ok {
		return decimal128.Num{}, fmt.Errorf("%q is not a number", s)
	}
	r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Scale)), nil)))
	if !r.IsInt() {
		return decimal128.Num{}, fmt.Errorf("%q has more than %d decimals", s, t.Scale)
	}
	limit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(t.Precision)), nil)
	if r.Num().CmpAbs(limit) >= 0 {
		return decimal128.Num{}, fmt.Errorf("%q has more than %d digits", s, t.Precision)
	}
	return decimal128.FromBigInt(r.Num()), nil
}

// Difference of two tables as readable lines: rows only in want, rows only in
// got, at most a few of each; empty if they hold the same rows.
func Difference(columns []project.Column, want, got []arrow.RecordBatch) ([]string, error) {
	codec := store.NewCodec(columns)
	count := map[string]int{}
	for sign, batches := range map[int][]arrow.RecordBatch{1: want, -1: got} {
		for _, b := range batches {
			rows, err := codec.Encode(b)
			if err != nil {
				return nil, err
			}
			for i := range rows.Len() {
				count[string(rows.At(i))] += sign
			}
		}
	}
	var missing, extra store.Rows
	for row, n := range count {
		for ; n > 0; n-- {
			missing.Append([]byte(row))
		}
		for ; n < 0; n++ {
			extra.Append([]byte(row))
		}
	}
	var out []string
	for _, side := range []struct {
		sign string
		rows store.Rows
	}{{"-", missing}, {"+", extra}} {
		lines, err := describe(codec, side.rows)
		if err != nil {
			return nil, err
		}
		for i, line := range lines {
			if i == maxLines {
				out = append(out, fmt.Sprintf("%s ... and %d more", side.sign, len(lines)-i))
				break
			}
			out = append(out, side.sign+" "+line)
		}
	}
	return out, nil
}

const maxLines = 8

func describe(codec *store.Codec, rows store.Rows) ([]string, error) {
	rec, err := codec.Decode(rows, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	var out []string
	for i := range int(rec.NumRows()) {
		var cells []string
		for c := range int(rec.NumCols()) {
			cells = append(cells, rec.ColumnName(c)+"="+cellText(rec.Column(c), i))
		}
		out = append(out, strings.Join(cells, " "))
	}
	sort.Strings(out)
	return out, nil
}

func cellText(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	switch a := a.(type) {
	case *array.Timestamp:
		return a.Value(i).ToTime(arrow.Microsecond).Format("2006-01-02T15:04:05.999999")
	case *array.Decimal128:
		return a.Value(i).ToString(a.DataType().(*arrow.Decimal128Type).Scale)
	case *array.String:
		return strconv.Quote(a.Value(i))
	}
	return a.ValueStr(i)
}
