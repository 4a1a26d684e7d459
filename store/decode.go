package store

import (
	"encoding/binary"
	"fmt"
	"math"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Decode makes one record batch of rows, with the schema
// project.ArrowSchema(columns). The caller releases it. Rows that this codec
// did not write are ErrCorrupt.
func (c *Codec) Decode(rows Rows, mem memory.Allocator) (arrow.RecordBatch, error) {
	b := array.NewRecordBuilder(mem, c.schema)
	defer b.Release()
	b.Reserve(rows.Len())
	readers := make([]cellReader, len(c.columns))
	for i, col := range c.columns {
		readers[i] = readerOf(col.Type.Kind, b.Field(i))
	}
	for i := range rows.Len() {
		if err := c.readRow(rows.At(i), readers); err != nil {
			return nil, fmt.Errorf("cannot decode row %d: %w", i, err)
		}
	}
	return b.NewRecordBatch(), nil
}

func (c *Codec) readRow(row []byte, readers []cellReader) error {
	pos := 0
	for col, read := range readers {
		end := c.ends[col](row, pos)
		if end < 0 {
			return fmt.Errorf("%w: no %s at byte %d of %d, column %s", ErrCorrupt, c.columns[col].Type, pos, len(row), c.columns[col].Name)
		}
		read(row[pos:end])
		pos = end
	}
	if pos != len(row) {
		return fmt.Errorf("%w: %d bytes behind the last column", ErrCorrupt, len(row)-pos)
	}
	return nil
}

// cellReader appends a cell, whose form was checked, to a builder.
type cellReader func(cell []byte)

func readerOf(kind project.Kind, b array.Builder) cellReader {
	read := valueReaderOf(kind, b)
	return func(cell []byte) {
		if cell[0] == tagNull {
			b.AppendNull()
			return
		}
		read(cell)
	}
}

func valueReaderOf(kind project.Kind, b array.Builder) cellReader {
	switch b := b.(type) {
	case *array.StringBuilder:
		return func(cell []byte) {
			_, size := binary.Uvarint(cell[1:])
			b.BinaryBuilder.Append(cell[1+size:])
		}
	case *array.BooleanBuilder:
		return func(cell []byte) { b.Append(cell[0] == tagTrue) }
	case *array.Int32Builder:
		return func(cell []byte) { b.Append(int32(varint(cell))) }
	case *array.Int64Builder:
		return func(cell []byte) { b.Append(varint(cell)) }
	case *array.Date32Builder:
		return func(cell []byte) { b.Append(arrow.Date32(varint(cell))) }
	case *array.Float64Builder:
		return func(cell []byte) { b.Append(math.Float64frombits(binary.BigEndian.Uint64(cell[1:]))) }
	case *array.TimestampBuilder:
		return func(cell []byte) { b.Append(arrow.Timestamp(binary.BigEndian.Uint64(cell[1:]))) }
	case *array.Decimal128Builder:
		return func(cell []byte) { b.Append(decimal(cell)) }
	}
	panic(fmt.Sprintf("store: no reader for columns of type %s", kind))
}

func varint(cell []byte) int64 {
	v, _ := binary.Varint(cell[1:])
	return v
}

func decimal(cell []byte) decimal128.Num {
	if cell[0] == tagWide {
		return decimal128.New(int64(binary.BigEndian.Uint64(cell[1:])), binary.BigEndian.Uint64(cell[9:]))
	}
	return decimal128.FromI64(varint(cell))
}
