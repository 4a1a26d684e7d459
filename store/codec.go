package store

import (
	"encoding/binary"
	"fmt"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// Codec turns record batches into row bytes and back.
//
// A row is its cells one after another. A cell is a tag byte and a value, and
// says itself where it ends:
//
//	null       0
//	string     1, uvarint length, bytes
//	boolean    1 (false) or 2 (true)
//	int, bigint, date    1, zigzag varint
//	double     1, 8 bytes; -0.0 is written as 0.0, every NaN as one NaN
//	timestamp  1, microseconds in 8 bytes
//	decimal    1, zigzag varint of the unscaled value if it fits 64 bits, else 2, 16 bytes
//
// So rows of the same columns are equal if and only if their bytes are, nulls
// equal to nulls. Cells of int, bigint and of decimals with one scale are
// interchangeable: tuples over them meet in one index.
type Codec struct {
	columns []project.Column
	schema  *arrow.Schema
	ends    []cellEnd // by column
}

// Tags.
const (
	tagNull  = 0
	tagValue = 1
	tagFalse = 1
	tagTrue  = 2
	tagWide  = 2 // a decimal of 16 bytes
)

// NewCodec makes the codec of a table's rows.
func NewCodec(columns []project.Column) *Codec {
	c := &Codec{columns: columns, schema: project.ArrowSchema(columns), ends: make([]cellEnd, len(columns))}
	for i, col := range columns {
		c.ends[i] = cellEnds[col.Type.Kind]
	}
	return c
}

// Columns are those that the codec was made for.
func (c *Codec) Columns() []project.Column { return c.columns }

// Key appends the cells of some columns of a row to dst, in the order asked
// for. The bytes are equal if and only if the tuples are, nulls equal to nulls.
// A row that this codec did not write panics.
func (c *Codec) Key(dst, row []byte, columns []int) []byte {
	at, pos := 0, 0
	for _, col := range columns {
		if col < at {
			at, pos = 0, 0 // columns out of order: walk the row again
		}
		for ; at < col; at++ {
			pos = c.mustEnd(at, row, pos)
		}
		end := c.mustEnd(at, row, pos)
		dst = append(dst, row[pos:end]...)
		at, pos = at+1, end
	}
	return dst
}

func (c *Codec) mustEnd(col int, row []byte, pos int) int {
	end := c.ends[col](row, pos)
	if end < 0 {
		panic(fmt.Sprintf("store: row of %d bytes is no row of these %d columns", len(row), len(c.columns)))
	}
	return end
}

// cellEnd says where the cell at pos ends, or -1 if none can be there.
type cellEnd func(row []byte, pos int) int

var cellEnds = map[project.Kind]cellEnd{
	project.String:    stringEnd,
	project.Boolean:   booleanEnd,
	project.Int:       varintEnd,
	project.Bigint:    varintEnd,
	project.Date:      varintEnd,
	project.Double:    eightEnd,
	project.Timestamp: eightEnd,
	project.Decimal:   decimalEnd,
}

func stringEnd(row []byte, pos int) int {
	if pos >= len(row) {
		return -1
	}
	if row[pos] == tagNull {
		return pos + 1
	}
	n, size := binary.Uvarint(row[pos+1:])
	rest := len(row) - pos - 1 - size
	if row[pos] != tagValue || size <= 0 || n > uint64(rest) {
		return -1
	}
	return pos + 1 + size + int(n)
}

func booleanEnd(row []byte, pos int) int {
	if pos >= len(row) || row[pos] > tagTrue {
		return -1
	}
	return pos + 1
}

func varintEnd(row []byte, pos int) int {
	if pos >= len(row) || row[pos] > tagValue {
		return -1
	}
	if row[pos] == tagNull {
		return pos + 1
	}
	for end := pos + 1; end < len(row) && end <= pos+binary.MaxVarintLen64; end++ {
		if row[end] < 0x80 {
			return end + 1
		}
	}
	return -1
}

func eightEnd(row []byte, pos int) int { return fixedEnd(row, pos, tagValue, 8) }

func decimalEnd(row []byte, pos int) int {
	if pos < len(row) && row[pos] == tagWide {
		return fixedEnd(row, pos, tagWide, 16)
	}
	return varintEnd(row, pos)
}

func fixedEnd(row []byte, pos int, tag byte, size int) int {
	switch {
	case pos >= len(row):
		return -1
	case row[pos] == tagNull:
		return pos + 1
	case row[pos] != tag || len(row)-pos-1 < size:
		return -1
	}
	return pos + 1 + size
}
