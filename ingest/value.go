package ingest

import (
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/twmb/avro"

	"lockstep/project"
)

// Dates and timestamps are limited to the years 1 to 9999, which every engine
// and client can hold and print.
const (
	minDay    = -719162
	maxDay    = 2932896
	minMicros = int64(minDay) * 86_400_000_000
	maxMicros = (int64(maxDay)+1)*86_400_000_000 - 1
)

// valueReader compiles readers of a column.
type valueReader struct {
	names    *names // of the writer
	column   project.Column
	nullable bool
	symbols  *avro.SchemaNode // the contract's enum, if it is one
}

func (r *valueReader) compile(node *avro.SchemaNode) (reader, error) {
	node, err := r.names.resolve(node)
	if err != nil {
		return nil, err
	}
	switch node.Type {
	case "null":
		return r.null(), nil
	case "union":
		return r.union(node)
	}
	return r.value(node)
}

func (r *valueReader) null() reader {
	if r.nullable {
		return func(_ *cursor, col *column) { col.appendNull() }
	}
	return func(c *cursor, _ *column) {
		c.fail(ReasonNull, "it is null, and the topic's schema does not allow that")
	}
}

// union reads the branch that a value says. A branch that does not fit makes
// dead letters of those values only, unless none fits.
func (r *valueReader) union(node *avro.SchemaNode) (reader, error) {
	branches := make([]reader, len(node.Branches))
	fit := 0
	var firstErr error
	for i := range node.Branches {
		read, err := r.compile(&node.Branches[i])
		if err != nil {
			firstErr = err
			read = func(c *cursor, _ *column) { c.fail(ReasonIncompatible, "%v", err) }
		} else if node.Branches[i].Type != "null" || r.nullable {
			fit++
		}
		branches[i] = read
	}
	if fit == 0 && firstErr != nil {
		return nil, firstErr
	}
	if len(branches) == 2 && node.Branches[0].Type == "null" && r.nullable {
		value := branches[1]
		return func(c *cursor, col *column) {
			switch c.branch(2) {
			case 0:
				col.appendNull()
			case 1:
				value(c, col)
			}
		}, nil
	}
	return func(c *cursor, col *column) {
		if b := c.branch(len(branches)); b >= 0 {
			branches[b](c, col)
		}
	}, nil
}

// value reads a value that is no union and not null.
func (r *valueReader) value(node *avro.SchemaNode) (reader, error) {
	read := r.primitive(node)
	if read == nil {
		return nil, fmt.Errorf("type %s cannot become the column's %s", describe(node), r.column.Type)
	}
	return read, nil
}

func describe(node *avro.SchemaNode) string {
	if node.LogicalType == "" {
		return node.Type
	}
	return node.Type + " (" + node.LogicalType + ")"
}

// isNumber: a logical type that gives the number another meaning is not to be
// taken for a plain number.
func isNumber(node *avro.SchemaNode) bool {
	t, err := columnType(node)
	return err == nil && (t.Kind == project.Int || t.Kind == project.Bigint)
}

func (r *valueReader) primitive(node *avro.SchemaNode) reader {
	switch r.column.Type.Kind {
	case project.String:
		return r.text(node)
	case project.Boolean:
		if node.Type == "boolean" {
			return func(c *cursor, col *column) { col.appendBool(c.bool()) }
		}
	case project.Int, project.Bigint:
		return r.integer(node)
	case project.Double:
		return r.double(node)
	case project.Decimal:
		if node.LogicalType == "decimal" && (node.Type == "bytes" || node.Type == "fixed") {
			return r.decimal(node)
		}
	case project.Date:
		if node.Type == "int" && node.LogicalType == "date" {
			return readDate
		}
	case project.Timestamp:
		return r.timestamp(node)
	}
	return nil
}

func (r *valueReader) text(node *avro.SchemaNode) reader {
	switch {
	case node.Type == "enum":
		return r.enum(node)
	case r.symbols != nil:
		return nil // Avro does not make an enum of a string
	case node.Type == "string", node.Type == "bytes" && node.LogicalType != "decimal":
		return readText
	}
	return nil
}

func readText(c *cursor, col *column) {
	b := c.bytes()
	if !utf8.Valid(b) {
		c.fail(ReasonText, "the string is not UTF-8")
		return
	}
	col.appendString(b)
}

func (r *valueReader) enum(node *avro.SchemaNode) reader {
	texts := make([][]byte, len(node.Symbols)) // nil: not one of the contract's
	for i, s := range node.Symbols {
		switch {
		case r.symbols == nil || slices.Contains(r.symbols.Symbols, s):
			texts[i] = []byte(s)
		case r.symbols.HasEnumDefault:
			texts[i] = []byte(r.symbols.EnumDefault)
		}
	}
	return func(c *cursor, col *column) {
		i := c.int()
		if i < 0 || int(i) >= len(texts) {
			c.fail(ReasonMalformed, "symbol %d of an enum of %d", i, len(texts))
			return
		}
		if texts[i] == nil {
			c.fail(ReasonRange, "symbol %s is not in the topic's schema", node.Symbols[i])
			return
		}
		col.appendString(texts[i])
	}
}

func (r *valueReader) integer(node *avro.SchemaNode) reader {
	switch {
	case !isNumber(node):
		return nil
	case node.Type == "int" && r.column.Type.Kind == project.Int:
		return func(c *cursor, col *column) { col.appendInt32(c.int()) }
	case node.Type == "int":
		return func(c *cursor, col *column) { col.appendInt64(int64(c.int())) }
	case r.column.Type.Kind == project.Bigint:
		return func(c *cursor, col *column) { col.appendInt64(c.long()) }
	}
	return func(c *cursor, col *column) {
		v := c.long()
		if v != int64(int32(v)) {
			c.fail(ReasonRange, "%d does not fit a column of type int", v)
			return
		}
		col.appendInt32(int32(v))
	}
}

func (r *valueReader) double(node *avro.SchemaNode) reader {
	switch {
	case node.Type == "double":
		return func(c *cursor, col *column) { col.appendDouble(c.double()) }
	case node.Type == "float":
		return func(c *cursor, col *column) { col.appendDouble(c.float()) }
	case isNumber(node) && node.Type == "int":
		return func(c *cursor, col *column) { col.appendDouble(float64(c.int())) }
	case isNumber(node):
		return func(c *cursor, col *column) { col.appendDouble(float64(c.long())) }
	}
	return nil
}

func (r *valueReader) decimal(node *avro.SchemaNode) reader {
	from, to := int32(node.Scale), int32(r.column.Type.Scale)
	precision := int32(r.column.Type.Precision)
	size := int64(node.Size)
	return func(c *cursor, col *column) {
		var b []byte
		if size > 0 {
			b = c.take(size)
		} else {
			b = c.bytes()
		}
		if c.fault != nil {
			return
		}
		v, ok := bigEndian(b)
		if ok && from != to {
			v, ok = rescale(v, from, to)
		}
		if !ok || !v.FitsInPrecision(precision) {
			c.fail(ReasonRange, "a decimal does not fit a column of type %s", r.column.Type)
			return
		}
		col.appendDec(v)
	}
}

// bigEndian reads a two's complement number of any length; false: it has more
// than 128 bits.
func bigEndian(b []byte) (decimal128.Num, bool) {
	if len(b) == 0 {
		return decimal128.Num{}, true // Avro implementations write zero so
	}
	sign := int64(int8(b[0])) >> 63
	for len(b) > 16 {
		if b[0] != byte(sign) || int8(b[1])>>7 != int8(sign) {
			return decimal128.Num{}, false
		}
		b = b[1:]
	}
	high, low := sign, uint64(sign)
	for _, x := range b {
		high = high<<8 | int64(low>>56)
		low = low<<8 | uint64(x)
	}
	return decimal128.New(high, low), true
}

// rescale changes the scale where that loses nothing.
func rescale(v decimal128.Num, from, to int32) (decimal128.Num, bool) {
	if from-to > 38 || to-from > 38 {
		return v, v == decimal128.Num{}
	}
	out, err := v.Rescale(from, to)
	return out, err == nil
}

func readDate(c *cursor, col *column) {
	v := c.int()
	if v < minDay || v > maxDay {
		c.fail(ReasonRange, "day %d is not within the years 1 to 9999", v)
		return
	}
	col.appendInt32(v)
}

func (r *valueReader) timestamp(node *avro.SchemaNode) reader {
	if node.Type != "long" {
		return nil
	}
	switch node.LogicalType {
	case "timestamp-millis", "local-timestamp-millis":
		return timestampReader(1000)
	case "timestamp-micros", "local-timestamp-micros":
		return timestampReader(1)
	}
	return nil
}

func timestampReader(micros int64) reader {
	return func(c *cursor, col *column) {
		v := c.long()
		if v < minMicros/micros || v > maxMicros/micros {
			c.fail(ReasonRange, "time %d is not within the years 1 to 9999", v)
			return
		}
		col.appendInt64(v * micros)
	}
}

// columnType is the column that a field becomes, as project.AvroColumns has it.
func columnType(node *avro.SchemaNode) (project.Type, error) {
	switch node.Type + "/" + node.LogicalType {
	case "bytes/decimal", "fixed/decimal":
		return project.ParseType(fmt.Sprintf("decimal(%d,%d)", node.Precision, node.Scale))
	case "int/date":
		return project.Type{Kind: project.Date}, nil
	case "long/timestamp-millis", "long/timestamp-micros", "long/local-timestamp-millis", "long/local-timestamp-micros":
		return project.Type{Kind: project.Timestamp}, nil
	}
	switch node.Type {
	case "string", "enum":
		return project.Type{Kind: project.String}, nil
	case "boolean":
		return project.Type{Kind: project.Boolean}, nil
	case "int":
		return project.Type{Kind: project.Int}, nil
	case "long":
		return project.Type{Kind: project.Bigint}, nil
	case "float", "double":
		return project.Type{Kind: project.Double}, nil
	}
	return project.Type{}, fmt.Errorf("type %s cannot be a column", describe(node))
}
