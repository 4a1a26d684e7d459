package store

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// seeded gives a random source and prints its seed should the test fail; SEED
// in the environment replays one.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

var kinds = []project.Kind{
	project.String, project.Boolean, project.Int, project.Bigint,
	project.Double, project.Decimal, project.Date, project.Timestamp,
}

func randomColumns(r *rand.Rand) []project.Column {
	columns := make([]project.Column, 1+r.IntN(8))
	for i := range columns {
		t := project.Type{Kind: kinds[r.IntN(len(kinds))]}
		if t.Kind == project.Decimal {
			t.Precision = 1 + r.IntN(38)
			t.Scale = r.IntN(t.Precision + 1)
		}
		columns[i] = project.Column{Name: fmt.Sprintf("c%d", i), Type: t}
	}
	return columns
}

// randomCell is nil or a value of a column's type; few distinct ones, so that
// equal tuples occur, and the extreme ones among them.
func randomCell(r *rand.Rand, t project.Type) any {
	if r.IntN(4) == 0 {
		return nil
	}
	switch t.Kind {
	case project.String:
		return pick(r, "", "a", "b", "\x00", "a\x00", "é", strings.Repeat("x", 127), strings.Repeat("y", 200))
	case project.Boolean:
		return r.IntN(2) == 0
	case project.Int:
		return pick[int32](r, 0, 1, -1, 63, 64, math.MinInt32, math.MaxInt32, r.Int32())
	case project.Bigint:
		return pick[int64](r, 0, 1, -1, math.MinInt64, math.MaxInt64, r.Int64())
	case project.Double:
		return pick(r, 0, 1.5, -1, math.Inf(1), math.Inf(-1), math.NaN(), math.MaxFloat64, math.SmallestNonzeroFloat64, r.NormFloat64())
	case project.Date:
		return arrow.Date32(pick[int32](r, 0, -1, 20000, math.MinInt32, math.MaxInt32))
	case project.Timestamp:
		return arrow.Timestamp(pick[int64](r, 0, -1, 1_700_000_000_000_000, math.MinInt64, math.MaxInt64, r.Int64()))
	}
	largest := decimal128.GetMaxValue(int32(t.Precision))
	return pick(r, decimal128.FromI64(0), decimal128.FromI64(1), decimal128.FromI64(-1), largest, largest.Negate(),
		decimal128.New(0, 1<<63), decimal128.New(-1, 1<<63), decimal128.New(-1, 1<<63-1))
}

func pick[T any](r *rand.Rand, values ...T) T { return values[r.IntN(len(values))] }

func appendCell(b array.Builder, v any) {
	switch v := v.(type) {
	case nil:
		b.AppendNull()
	case string:
		b.(*array.StringBuilder).Append(v)
	case bool:
		b.(*array.BooleanBuilder).Append(v)
	case int32:
		b.(*array.Int32Builder).Append(v)
	case int64:
		b.(*array.Int64Builder).Append(v)
	case float64:
		b.(*array.Float64Builder).Append(v)
	case arrow.Date32:
		b.(*array.Date32Builder).Append(v)
	case arrow.Timestamp:
		b.(*array.TimestampBuilder).Append(v)
	case decimal128.Num:
		b.(*array.Decimal128Builder).Append(v)
	}
}

func recordOf(columns []project.Column, cells [][]any) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(columns))
	defer b.Release()
	for _, row := range cells {
		for i, v := range row {
			appendCell(b.Field(i), v)
		}
	}
	return b.NewRecordBatch()
}

func randomCells(r *rand.Rand, columns []project.Column, n int) [][]any {
	cells := make([][]any, n)
	for i := range cells {
		for _, c := range columns {
			cells[i] = append(cells[i], randomCell(r, c.Type))
		}
	}
	return cells
}

func mustEncode(t testing.TB, c *Codec, rec arrow.RecordBatch) Rows {
	t.Helper()
	rows, err := c.Encode(rec)
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestRowsComeBackAsTheyWere(t *testing.T) {
	r := seeded(t)
	for range 300 {
		columns := randomColumns(r)
		c := NewCodec(columns)
		rec := recordOf(columns, randomCells(r, columns, r.IntN(50)))
		// A slice: arrays with an offset must work too.
		from := r.Int64N(rec.NumRows() + 1)
		part := rec.NewSlice(from, rec.NumRows())
		got, err := c.Decode(mustEncode(t, c, part), memory.DefaultAllocator)
		if err != nil {
			t.Fatal(err)
		}
		if !array.RecordEqual(got, part) && !array.RecordApproxEqual(got, part, array.WithNaNsEqual(true)) {
			t.Fatalf("got %v, want %v", got, part)
		}
		if !got.Schema().Equal(project.ArrowSchema(columns)) {
			t.Fatalf("schema %v, want that of %v", got.Schema(), columns)
		}
	}
}

// cellText is a text that two cells share if and only if they are equal.
func cellText(v any) string {
	if f, ok := v.(float64); ok {
		if f != f {
			return "NaN"
		}
		return fmt.Sprintf("%x", f+0)
	}
	return fmt.Sprintf("%T %q", v, fmt.Sprint(v))
}

func TestKeysAreEqualIfTheTuplesAre(t *testing.T) {
	r := seeded(t)
	for range 100 {
		columns := randomColumns(r)
		c := NewCodec(columns)
		cells := randomCells(r, columns, 60)
		rows := mustEncode(t, c, recordOf(columns, cells))
		at := make([]int, r.IntN(2*len(columns)+1))
		for i := range at {
			at[i] = r.IntN(len(columns))
		}
		texts := map[string]string{}
		for i := range rows.Len() {
			key := string(c.Key(nil, rows.At(i), at))
			var text strings.Builder
			for _, col := range at {
				fmt.Fprintf(&text, "%s|", cellText(cells[i][col]))
			}
			texts[key+"→"] = text.String()
			if texts[key+"→"] != text.String() || texts["←"+text.String()] != "" && texts["←"+text.String()] != key {
				t.Fatalf("columns %v of %v: key %x for %q, and not for %q only", at, columns, key, text.String(), texts[key+"→"])
			}
			texts["←"+text.String()] = key
		}
	}
}

func TestEqualDoublesHaveEqualBytes(t *testing.T) {
	columns := []project.Column{{Name: "v", Type: project.Type{Kind: project.Double}}}
	otherNaN := math.Float64frombits(math.Float64bits(math.NaN()) ^ 1)
	rows := mustEncode(t, NewCodec(columns), recordOf(columns, [][]any{
		{0.0}, {math.Copysign(0, -1)}, {math.NaN()}, {otherNaN}, {-math.NaN()},
	}))
	for _, pair := range [][2]int{{0, 1}, {2, 3}, {2, 4}} {
		if !bytes.Equal(rows.At(pair[0]), rows.At(pair[1])) {
			t.Errorf("row %d is %x, row %d is %x", pair[0], rows.At(pair[0]), pair[1], rows.At(pair[1]))
		}
	}
}

// build fills a builder of any type.
func build[B array.Builder](b B, fill func(B)) arrow.Array {
	defer b.Release()
	fill(b)
	return b.NewArray()
}

func timestamps(unit arrow.TimeUnit, zone string, values ...int64) arrow.Array {
	b := array.NewTimestampBuilder(memory.DefaultAllocator, &arrow.TimestampType{Unit: unit, TimeZone: zone})
	return build(b, func(b *array.TimestampBuilder) {
		b.AppendNull()
		for _, v := range values {
			b.Append(arrow.Timestamp(v))
		}
	})
}

func decimals(precision, scale int32, values ...int64) arrow.Array {
	b := array.NewDecimal128Builder(memory.DefaultAllocator, &arrow.Decimal128Type{Precision: precision, Scale: scale})
	return build(b, func(b *array.Decimal128Builder) {
		for _, v := range values {
			b.Append(decimal128.FromI64(v))
		}
	})
}

func TestEncodeTakesWhatEnginesGive(t *testing.T) {
	mem := memory.DefaultAllocator
	ts, text, dec := project.Type{Kind: project.Timestamp}, project.Type{Kind: project.String}, project.Type{Kind: project.Decimal, Precision: 4, Scale: 2}
	tests := []struct {
		name string
		typ  project.Type
		in   arrow.Array
		want []string // as Arrow prints the decoded values; nil: refused
		err  string
	}{
		{"string view", text, build(array.NewStringViewBuilder(mem), func(b *array.StringViewBuilder) { b.Append("a"); b.Append("a view of more than twelve bytes") }), []string{"a", "a view of more than twelve bytes"}, ""},
		{"large string", text, build(array.NewLargeStringBuilder(mem), func(b *array.LargeStringBuilder) { b.Append("a"); b.AppendNull() }), []string{"a", "(null)"}, ""},
		{"untyped nulls", text, array.NewNull(2), []string{"(null)", "(null)"}, ""},
		{"seconds", ts, timestamps(arrow.Second, "", 1), []string{"(null)", "1970-01-01T00:00:01"}, ""},
		{"milliseconds", ts, timestamps(arrow.Millisecond, "", -1), []string{"(null)", "1969-12-31T23:59:59.999"}, ""},
		{"nanoseconds", ts, timestamps(arrow.Nanosecond, "", 2000), []string{"(null)", "1970-01-01T00:00:00.000002"}, ""},
		{"nanoseconds between", ts, timestamps(arrow.Nanosecond, "", 2001), nil, "no whole number of microseconds"},
		{"seconds too far", ts, timestamps(arrow.Second, "", math.MaxInt64/10), nil, "no whole number of microseconds"},
		{"with zone", ts, timestamps(arrow.Microsecond, "UTC", 1), nil, "time zone UTC"},
		{"wider decimal", dec, decimals(38, 2, 9999, -9999), []string{"99.99", "-99.99"}, ""},
		{"decimal too large", dec, decimals(38, 2, 1, 10000), nil, "row 1: 100.00 does not fit decimal(4,2)"},
		{"decimal of another scale", dec, decimals(4, 1, 1), nil, "cast it to decimal(4,2)"},
		{"another type", text, decimals(4, 1, 1), nil, "cast it to string"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCodec([]project.Column{{Name: "v", Type: tt.typ}})
			schema := arrow.NewSchema([]arrow.Field{{Name: "v", Type: tt.in.DataType(), Nullable: true}}, nil)
			rows, err := c.Encode(array.NewRecordBatch(schema, []arrow.Array{tt.in}, int64(tt.in.Len())))
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), "column v") {
					t.Fatalf("error %v, want one of column v with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			rec, err := c.Decode(rows, mem)
			if err != nil {
				t.Fatal(err)
			}
			for i, want := range tt.want {
				if got := rec.Column(0).ValueStr(i); got != want {
					t.Errorf("row %d is %q, want %q", i, got, want)
				}
			}
		})
	}
}

func TestEncodeRefusesAnotherNumberOfColumns(t *testing.T) {
	columns := randomColumns(seeded(t))
	c := NewCodec(append(columns, columns[0]))
	if _, err := c.Encode(recordOf(columns, nil)); err == nil {
		t.Fatal("no error")
	}
}

func TestDecodeRefusesDamagedRows(t *testing.T) {
	r := seeded(t)
	for range 2000 {
		columns := randomColumns(r)
		c := NewCodec(columns)
		rows := mustEncode(t, c, recordOf(columns, randomCells(r, columns, 1)))
		row := bytes.Clone(rows.At(0))
		if r.IntN(2) == 0 {
			row = row[:r.IntN(len(row))]
		} else {
			row = append(row, byte(r.IntN(256)))
		}
		var damaged Rows
		damaged.Append(row)
		if _, err := c.Decode(damaged, memory.DefaultAllocator); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%x of %v: error %v", row, columns, err)
		}
	}
}
