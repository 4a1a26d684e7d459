package ingest

import (
	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/project"
)

// column gathers the values of one column. Arrow's own builders cannot take a
// value back, which a record that turns out dead in its last field needs.
type column struct {
	typ   project.Type
	n     int
	nulls int
	valid []byte // bitmap

	// One of these holds the values, by typ.
	i32  []int32 // int, date
	i64  []int64 // bigint, timestamp
	f64  []float64
	dec  []decimal128.Num
	bits []byte  // boolean, bitmap
	ends []int32 // string: end of each value in data
	data []byte
}

// mark notes that a value was appended.
func (c *column) mark() {
	if c.n&7 == 0 {
		c.valid = append(c.valid, 0)
	}
	c.valid[c.n>>3] |= 1 << (c.n & 7)
	c.n++
}

func (c *column) appendInt32(v int32)        { c.i32 = append(c.i32, v); c.mark() }
func (c *column) appendInt64(v int64)        { c.i64 = append(c.i64, v); c.mark() }
func (c *column) appendDouble(v float64)     { c.f64 = append(c.f64, v); c.mark() }
func (c *column) appendDec(v decimal128.Num) { c.dec = append(c.dec, v); c.mark() }
func (c *column) appendString(v []byte) {
	c.data = append(c.data, v...)
	c.ends = append(c.ends, int32(len(c.data)))
	c.mark()
}

func (c *column) appendBool(v bool) {
	if c.n&7 == 0 {
		c.bits = append(c.bits, 0)
	}
	if v {
		c.bits[c.n>>3] |= 1 << (c.n & 7)
	}
	c.mark()
}

func (c *column) appendNull() {
	if c.n&7 == 0 {
		c.valid = append(c.valid, 0)
	}
	c.n++
	c.nulls++
	switch c.typ.Kind {
	case project.Int, project.Date:
		c.i32 = append(c.i32, 0)
	case project.Bigint, project.Timestamp:
		c.i64 = append(c.i64, 0)
	case project.Double:
		c.f64 = append(c.f64, 0)
	case project.Decimal:
		c.dec = append(c.dec, decimal128.Num{})
	case project.String:
		c.ends = append(c.ends, int32(len(c.data)))
	case project.Boolean:
		if (c.n-1)&7 == 0 {
			c.bits = append(c.bits, 0)
		}
	}
}

// truncate takes back the last value, if there are more than n.
func (c *column) truncate(n int) {
	for c.n > n {
		c.n--
		bit := byte(1) << (c.n & 7)
		if c.valid[c.n>>3]&bit == 0 {
			c.nulls--
		}
		c.valid[c.n>>3] &^= bit
		if c.typ.Kind == project.Boolean {
			c.bits[c.n>>3] &^= bit
		}
	}
	bytes := (n + 7) / 8
	c.valid = c.valid[:min(len(c.valid), bytes)]
	switch c.typ.Kind {
	case project.Int, project.Date:
		c.i32 = c.i32[:n]
	case project.Bigint, project.Timestamp:
		c.i64 = c.i64[:n]
	case project.Double:
		c.f64 = c.f64[:n]
	case project.Decimal:
		c.dec = c.dec[:n]
	case project.Boolean:
		c.bits = c.bits[:min(len(c.bits), bytes)]
	case project.String:
		c.ends = c.ends[:n]
		end := int32(0)
		if n > 0 {
			end = c.ends[n-1]
		}
		c.data = c.data[:end]
	}
}

// array hands the values over as an Arrow array; the column must not be used
// afterwards.
func (c *column) array() arrow.Array {
	var valid *memory.Buffer
	if c.nulls > 0 {
		valid = memory.NewBufferBytes(c.valid)
	}
	buffers := []*memory.Buffer{valid, nil}
	switch c.typ.Kind {
	case project.Int, project.Date:
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(c.i32))
	case project.Bigint, project.Timestamp:
		buffers[1] = memory.NewBufferBytes(arrow.Int64Traits.CastToBytes(c.i64))
	case project.Double:
		buffers[1] = memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(c.f64))
	case project.Decimal:
		buffers[1] = memory.NewBufferBytes(arrow.Decimal128Traits.CastToBytes(c.dec))
	case project.Boolean:
		buffers[1] = memory.NewBufferBytes(c.bits)
	case project.String:
		offsets := make([]int32, len(c.ends)+1)
		copy(offsets[1:], c.ends)
		buffers[1] = memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(offsets))
		buffers = append(buffers, memory.NewBufferBytes(c.data))
	}
	data := array.NewData(c.typ.Arrow(), c.n, buffers, nil, c.nulls, 0)
	defer data.Release()
	return array.MakeFromData(data)
}

// rows are the rows of one bronze table that a draft gathers.
type rows struct {
	columns []column
	n       int
	bytes   int64 // of the records, not of the columns
}

// newRows makes room as the last rows of the table needed it: a column that
// grows from nothing is copied many times. like may be nil.
func newRows(columns []project.Column, like []size) *rows {
	r := &rows{columns: make([]column, len(columns))}
	for i, c := range columns {
		r.columns[i].typ = c.Type
		if i < len(like) {
			r.columns[i].reserve(like[i])
		}
	}
	return r
}

// size is what a column held.
type size struct {
	n, text int
}

func (r *rows) sizes() []size {
	out := make([]size, len(r.columns))
	for i := range r.columns {
		out[i] = size{r.columns[i].n, len(r.columns[i].data)}
	}
	return out
}

// reserve makes room for a little more than a size.
func (c *column) reserve(s size) {
	n := s.n + s.n/8
	c.valid = make([]byte, 0, n/8+1)
	switch c.typ.Kind {
	case project.Int, project.Date:
		c.i32 = make([]int32, 0, n)
	case project.Bigint, project.Timestamp:
		c.i64 = make([]int64, 0, n)
	case project.Double:
		c.f64 = make([]float64, 0, n)
	case project.Decimal:
		c.dec = make([]decimal128.Num, 0, n)
	case project.Boolean:
		c.bits = make([]byte, 0, n/8+1)
	case project.String:
		c.ends, c.data = make([]int32, 0, n), make([]byte, 0, s.text+s.text/8)
	}
}

// widen adds columns that the table got since, null in the rows so far.
func (r *rows) widen(columns []project.Column) {
	for _, c := range columns[len(r.columns):] {
		added := column{typ: c.Type}
		for range r.n {
			added.appendNull()
		}
		r.columns = append(r.columns, added)
	}
}

// undo takes back what a record that failed has appended.
func (r *rows) undo() {
	for i := range r.columns {
		r.columns[i].truncate(r.n)
	}
}

// batch hands the rows over; columns are the table's.
func (r *rows) batch(columns []project.Column) arrow.RecordBatch {
	arrays := make([]arrow.Array, len(r.columns))
	for i := range r.columns {
		arrays[i] = r.columns[i].array()
	}
	return array.NewRecordBatch(project.ArrowSchema(columns), arrays, int64(r.n))
}

// firstColumns is a batch of a batch's first columns, without a copy.
func firstColumns(b arrow.RecordBatch, columns []project.Column) arrow.RecordBatch {
	return array.NewRecordBatch(project.ArrowSchema(columns), b.Columns()[:len(columns)], b.NumRows())
}
