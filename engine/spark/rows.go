package spark

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"sync/atomic"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/beltran/gohive/hiveserver"
)

// schema gives the columns of a statement's result.
func (s *Session) schema(ctx context.Context, op *hiveserver.TOperationHandle) (*arrow.Schema, error) {
	req := hiveserver.NewTGetResultSetMetadataReq()
	req.OperationHandle = op
	var fields []arrow.Field
	err := s.call(func(c *hiveserver.TCLIServiceClient) error {
		answer, err := c.GetResultSetMetadata(context.WithoutCancel(ctx), req)
		if err == nil {
			err = status(answer.GetStatus())
		}
		if err != nil {
			return err
		}
		if answer.Schema == nil {
			return nil
		}
		for _, column := range answer.Schema.Columns {
			fields = append(fields, arrow.Field{Name: column.ColumnName, Type: arrowType(column.TypeDesc), Nullable: true})
		}
		return nil
	})
	return arrow.NewSchema(fields, nil), err
}

// arrowType is the type of a column; what has none here is text.
func arrowType(t *hiveserver.TTypeDesc) arrow.DataType {
	if t == nil || len(t.Types) == 0 || t.Types[0].PrimitiveEntry == nil {
		return arrow.BinaryTypes.String
	}
	entry := t.Types[0].PrimitiveEntry
	switch entry.Type {
	case hiveserver.TTypeId_BOOLEAN_TYPE:
		return arrow.FixedWidthTypes.Boolean
	case hiveserver.TTypeId_TINYINT_TYPE, hiveserver.TTypeId_SMALLINT_TYPE, hiveserver.TTypeId_INT_TYPE:
		return arrow.PrimitiveTypes.Int32
	case hiveserver.TTypeId_BIGINT_TYPE:
		return arrow.PrimitiveTypes.Int64
	case hiveserver.TTypeId_FLOAT_TYPE, hiveserver.TTypeId_DOUBLE_TYPE:
		return arrow.PrimitiveTypes.Float64
	case hiveserver.TTypeId_DATE_TYPE:
		return arrow.FixedWidthTypes.Date32
	case hiveserver.TTypeId_TIMESTAMP_TYPE:
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	case hiveserver.TTypeId_DECIMAL_TYPE:
		return &arrow.Decimal128Type{Precision: qualifier(entry, "precision", 38), Scale: qualifier(entry, "scale", 18)}
	}
	return arrow.BinaryTypes.String
}

func qualifier(entry *hiveserver.TPrimitiveTypeEntry, name string, otherwise int32) int32 {
	if entry.TypeQualifiers != nil {
		if q := entry.TypeQualifiers.Qualifiers[name]; q != nil && q.I32Value != nil {
			return *q.I32Value
		}
	}
	return otherwise
}

// reader fetches a result, one record batch after another.
type reader struct {
	refs    atomic.Int64
	ctx     context.Context
	session *Session
	op      *hiveserver.TOperationHandle
	types   *arrow.Schema
	batch   arrow.RecordBatch
	err     error
	ended   bool
}

var _ array.RecordReader = (*reader)(nil)

func newReader(ctx context.Context, s *Session, op *hiveserver.TOperationHandle, schema *arrow.Schema) *reader {
	r := &reader{ctx: ctx, session: s, op: op, types: schema}
	r.refs.Store(1)
	return r
}

func (r *reader) Schema() *arrow.Schema          { return r.types }
func (r *reader) RecordBatch() arrow.RecordBatch { return r.batch }
func (r *reader) Record() arrow.RecordBatch      { return r.batch }
func (r *reader) Err() error                     { return r.err }
func (r *reader) Retain()                        { r.refs.Add(1) }

func (r *reader) Release() {
	if r.refs.Add(-1) != 0 {
		return
	}
	r.drop()
	r.session.finish(r.op)
}

func (r *reader) drop() {
	if r.batch != nil {
		r.batch.Release()
		r.batch = nil
	}
}

// Next fetches further rows. The end is an answer without any.
func (r *reader) Next() bool {
	r.drop()
	if r.ended || r.err != nil {
		return false
	}
	if err := r.ctx.Err(); err != nil {
		r.err = err
		return false
	}
	columns, err := r.fetch()
	if err == nil {
		r.batch, err = record(r.types, columns)
	}
	if err != nil {
		r.err = fmt.Errorf("cannot read rows from Spark: %w", err)
		return false
	}
	r.ended = r.batch.NumRows() == 0
	return !r.ended
}

func (r *reader) fetch() (columns []*hiveserver.TColumn, err error) {
	req := hiveserver.NewTFetchResultsReq()
	req.OperationHandle, req.Orientation, req.MaxRows = r.op, hiveserver.TFetchOrientation_FETCH_NEXT, fetchRows
	err = r.session.call(func(c *hiveserver.TCLIServiceClient) error {
		answer, err := c.FetchResults(context.WithoutCancel(r.ctx), req)
		if err == nil {
			err = status(answer.GetStatus())
		}
		if err == nil && answer.Results != nil {
			columns = answer.Results.Columns
		}
		return err
	})
	return columns, err
}

// record makes a record batch of the columns of one answer.
func record(schema *arrow.Schema, columns []*hiveserver.TColumn) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	if len(columns) > 0 && len(columns) != schema.NumFields() {
		return nil, fmt.Errorf("it gives %d columns for %d", len(columns), schema.NumFields())
	}
	for i, c := range columns {
		if err := fill(b.Field(i), c); err != nil {
			return nil, fmt.Errorf("column %s: %w", schema.Field(i).Name, err)
		}
	}
	return b.NewRecordBatch(), nil
}

// null says whether a value is missing: one bit for each, as few bytes as
// hold the last bit that is set.
func null(nulls []byte, i int) bool { return i/8 < len(nulls) && nulls[i/8]&(1<<(i%8)) != 0 }

func each[T any](b array.Builder, values []T, nulls []byte, add func(T) error) error {
	for i, v := range values {
		if null(nulls, i) {
			b.AppendNull()
		} else if err := add(v); err != nil {
			return err
		}
	}
	return nil
}

// fill adds the values of a column as the protocol has them: whole and real
// numbers and truth values as such, all else as text.
func fill(b array.Builder, c *hiveserver.TColumn) error {
	switch {
	case c.IsSetBoolVal():
		b := b.(*array.BooleanBuilder)
		return each(b, c.BoolVal.Values, c.BoolVal.Nulls, func(v bool) error { b.Append(v); return nil })
	case c.IsSetByteVal():
		b := b.(*array.Int32Builder)
		return each(b, c.ByteVal.Values, c.ByteVal.Nulls, func(v int8) error { b.Append(int32(v)); return nil })
	case c.IsSetI16Val():
		b := b.(*array.Int32Builder)
		return each(b, c.I16Val.Values, c.I16Val.Nulls, func(v int16) error { b.Append(int32(v)); return nil })
	case c.IsSetI32Val():
		b := b.(*array.Int32Builder)
		return each(b, c.I32Val.Values, c.I32Val.Nulls, func(v int32) error { b.Append(v); return nil })
	case c.IsSetI64Val():
		b := b.(*array.Int64Builder)
		return each(b, c.I64Val.Values, c.I64Val.Nulls, func(v int64) error { b.Append(v); return nil })
	case c.IsSetDoubleVal():
		b := b.(*array.Float64Builder)
		return each(b, c.DoubleVal.Values, c.DoubleVal.Nulls, func(v float64) error { b.Append(v); return nil })
	case c.IsSetBinaryVal():
		b := b.(*array.StringBuilder)
		return each(b, c.BinaryVal.Values, c.BinaryVal.Nulls, func(v []byte) error { b.Append(fmt.Sprintf("%x", v)); return nil })
	case c.IsSetStringVal():
		return each(b, c.StringVal.Values, c.StringVal.Nulls, func(v string) error { return fillText(b, v) })
	}
	return nil // no rows
}

func fillText(b array.Builder, v string) error {
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(strings.Clone(v))
	case *array.Date32Builder:
		t, err := time.Parse(time.DateOnly, v)
		if err != nil {
			return err
		}
		b.Append(arrow.Date32FromTime(t))
	case *array.TimestampBuilder:
		t, err := parseTime(v)
		if err != nil {
			return err
		}
		b.Append(arrow.Timestamp(t.UnixMicro()))
	case *array.Decimal128Builder:
		n, err := parseDecimal(v, b.Type().(*arrow.Decimal128Type).Scale)
		if err != nil {
			return err
		}
		b.Append(n)
	default:
		return fmt.Errorf("text %q for a column of type %s", v, b.Type())
	}
	return nil
}

// parseTime reads a timestamp; a session of ours has the time zone UTC.
func parseTime(v string) (time.Time, error) {
	t, err := time.Parse("2006-01-02 15:04:05.999999", v)
	if err != nil {
		return t, fmt.Errorf("cannot read the timestamp %q", v)
	}
	return t, nil
}

// parseDecimal reads all digits of a decimal, 1E-7 among them: Spark writes a
// value as Java does.
func parseDecimal(v string, scale int32) (decimal128.Num, error) {
	r, ok := new(big.Rat).SetString(v)
	if !ok {
		return decimal128.Num{}, fmt.Errorf("cannot read the decimal %q", v)
	}
	unscaled := r.Mul(r, new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(scale)), nil)))
	if !unscaled.IsInt() || unscaled.Num().BitLen() > 127 {
		return decimal128.Num{}, fmt.Errorf("the decimal %q does not fit %d digits behind the point", v, scale)
	}
	return decimal128.FromBigInt(unscaled.Num()), nil
}
