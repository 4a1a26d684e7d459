package store

import (
	"encoding/binary"
	"fmt"
	"math"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
)

// Encode gives the rows of a record batch. Column i must have the Arrow type of
// the codec's column i; names are not compared. Also taken, as engines give
// them: strings as views or large strings, timestamps without a zone in
// another unit, decimals of the same scale in another precision, and untyped
// nulls. A value that does not fit the column's type is an error.
func (c *Codec) Encode(rec arrow.RecordBatch) (Rows, error) {
	if int(rec.NumCols()) != len(c.columns) {
		return Rows{}, fmt.Errorf("cannot encode record batch: it has %d columns, not %d", rec.NumCols(), len(c.columns))
	}
	writers := make([]cellWriter, len(c.columns))
	for i, col := range c.columns {
		w, err := writerOf(col.Type, rec.Column(i))
		if err != nil {
			return Rows{}, fmt.Errorf("cannot encode column %s: %w", col.Name, err)
		}
		writers[i] = w
	}
	return writeRows(int(rec.NumRows()), writers), nil
}

func writeRows(n int, writers []cellWriter) Rows {
	rows := Rows{ends: make([]int, n), arena: make([]byte, 0, n*8*len(writers))}
	for i := range n {
		for _, write := range writers {
			rows.arena = write(rows.arena, i)
		}
		rows.ends[i] = len(rows.arena)
	}
	return rows
}

// cellWriter appends the cell of row i.
type cellWriter func(dst []byte, i int) []byte

func writerOf(t project.Type, arr arrow.Array) (cellWriter, error) {
	if _, untyped := arr.(*array.Null); untyped {
		return func(dst []byte, _ int) []byte { return append(dst, tagNull) }, nil
	}
	write, err := valueWriterOf(t, arr)
	if err != nil || arr.NullN() == 0 {
		return write, err
	}
	return func(dst []byte, i int) []byte {
		if arr.IsNull(i) {
			return append(dst, tagNull)
		}
		return write(dst, i)
	}, nil
}

// valueWriterOf gives the writer for cells that are not null.
func valueWriterOf(t project.Type, arr arrow.Array) (cellWriter, error) {
	switch a := arr.(type) {
	case *array.String, *array.LargeString, *array.StringView:
		if t.Kind == project.String {
			return stringWriter(a.(interface{ Value(int) string })), nil
		}
	case *array.Boolean:
		if t.Kind == project.Boolean {
			return booleanWriter(a), nil
		}
	case *array.Int32:
		if t.Kind == project.Int {
			return varintWriter(a.Int32Values()), nil
		}
	case *array.Int64:
		if t.Kind == project.Bigint {
			return varintWriter(a.Int64Values()), nil
		}
	case *array.Date32:
		if t.Kind == project.Date {
			return varintWriter(a.Date32Values()), nil
		}
	case *array.Float64:
		if t.Kind == project.Double {
			return doubleWriter(a.Float64Values()), nil
		}
	case *array.Timestamp:
		if t.Kind == project.Timestamp {
			return timestampWriter(a)
		}
	case *array.Decimal128:
		if t.Kind == project.Decimal {
			return decimalWriter(t, a)
		}
	}
	return nil, fmt.Errorf("it is %s, not %s: cast it to %s", arr.DataType(), t.Arrow(), t)
}

func stringWriter(a interface{ Value(int) string }) cellWriter {
	return func(dst []byte, i int) []byte {
		v := a.Value(i)
		dst = binary.AppendUvarint(append(dst, tagValue), uint64(len(v)))
		return append(dst, v...)
	}
}

func booleanWriter(a *array.Boolean) cellWriter {
	return func(dst []byte, i int) []byte {
		if a.Value(i) {
			return append(dst, tagTrue)
		}
		return append(dst, tagFalse)
	}
}

func varintWriter[T ~int32 | ~int64](values []T) cellWriter {
	return func(dst []byte, i int) []byte {
		return binary.AppendVarint(append(dst, tagValue), int64(values[i]))
	}
}

var nan = math.Float64bits(math.NaN())

func doubleWriter(values []float64) cellWriter {
	return func(dst []byte, i int) []byte {
		v := values[i] + 0.0 // -0.0 + 0.0 is 0.0
		bits := math.Float64bits(v)
		if v != v {
			bits = nan
		}
		return binary.BigEndian.AppendUint64(append(dst, tagValue), bits)
	}
}

func timestampWriter(a *array.Timestamp) (cellWriter, error) {
	values, err := micros(a)
	if err != nil {
		return nil, err
	}
	return func(dst []byte, i int) []byte {
		return binary.BigEndian.AppendUint64(append(dst, tagValue), uint64(values[i]))
	}, nil
}

// micros converts to microseconds and refuses what would lose something.
func micros(a *array.Timestamp) ([]arrow.Timestamp, error) {
	t := a.DataType().(*arrow.TimestampType)
	if t.TimeZone != "" {
		return nil, fmt.Errorf("it has the time zone %s: cast it to a timestamp without one", t.TimeZone)
	}
	values := a.TimestampValues()
	if t.Unit == arrow.Microsecond {
		return values, nil
	}
	out := make([]arrow.Timestamp, len(values))
	for i, v := range values {
		if a.IsNull(i) {
			continue
		}
		us, exact := toMicros(int64(v), t.Unit)
		if !exact {
			return nil, fmt.Errorf("row %d: %d%s is no whole number of microseconds in 64 bits", i, v, t.Unit)
		}
		out[i] = arrow.Timestamp(us)
	}
	return out, nil
}

func toMicros(v int64, unit arrow.TimeUnit) (us int64, exact bool) {
	switch unit {
	case arrow.Nanosecond:
		return v / 1000, v%1000 == 0
	case arrow.Millisecond:
		us = v * 1000
		return us, us/1000 == v
	default:
		us = v * 1_000_000
		return us, us/1_000_000 == v
	}
}

func decimalWriter(t project.Type, a *array.Decimal128) (cellWriter, error) {
	from := a.DataType().(*arrow.Decimal128Type)
	if int(from.Scale) != t.Scale {
		return nil, fmt.Errorf("it is %s, not %s: cast it to %s", from, t.Arrow(), t)
	}
	values := a.Values()
	if int(from.Precision) > t.Precision {
		for i, v := range values {
			if !a.IsNull(i) && !v.FitsInPrecision(int32(t.Precision)) {
				return nil, fmt.Errorf("row %d: %s does not fit %s", i, v.ToString(from.Scale), t)
			}
		}
	}
	return func(dst []byte, i int) []byte { return appendDecimal(dst, values[i]) }, nil
}

func appendDecimal(dst []byte, v decimal128.Num) []byte {
	low := int64(v.LowBits())
	if v.HighBits() == low>>63 {
		return binary.AppendVarint(append(dst, tagValue), low)
	}
	dst = binary.BigEndian.AppendUint64(append(dst, tagWide), uint64(v.HighBits()))
	return binary.BigEndian.AppendUint64(dst, v.LowBits())
}
