package replay

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/bits"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"lockstep/project"
)

// encoder writes rows of a record batch as Avro bodies of one schema. It is
// compiled once per topic and bound once per batch, so that a row costs no
// look-up and no allocation.
type encoder struct {
	source *project.Source
	fields []fieldEncoder
	bound  arrow.RecordBatch
}

// fieldEncoder encodes one column.
type fieldEncoder struct {
	name       string
	nullable   bool
	null       byte // the union's branch numbers as Avro writes them
	value      byte
	bind       func(arrow.Array) (appendValue, error)
	append     appendValue
	array      arrow.Array
	mayBeNulls bool
}

type appendValue func(dst []byte, row int) []byte

// avroType is the part of an Avro schema that a column can have.
type avroType struct {
	Type    string `json:"type"`
	Logical string `json:"logicalType"`
	Size    int    `json:"size"` // of fixed
}

// newEncoder compiles the schema of a source.
func newEncoder(s *project.Source) (*encoder, error) {
	var record struct {
		Fields []struct {
			Name string          `json:"name"`
			Type json.RawMessage `json:"type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(s.Schema, &record); err != nil {
		return nil, fmt.Errorf("cannot read schema %s: %w", s.SchemaFile, err)
	}
	if len(record.Fields) != len(s.Fields) {
		return nil, fmt.Errorf("cannot encode topic %s: schema %s has %d fields, the project %d", s.Topic, s.SchemaFile, len(record.Fields), len(s.Fields))
	}
	e := &encoder{source: s}
	for i, f := range record.Fields {
		if f.Name != s.Fields[i].Name {
			return nil, fmt.Errorf("cannot encode topic %s: field %d of schema %s is %s, the project's %s", s.Topic, i+1, s.SchemaFile, f.Name, s.Fields[i].Name)
		}
		field, err := compileField(f.Type)
		if err != nil {
			return nil, fmt.Errorf("cannot encode field %s of %s: %w", f.Name, s.SchemaFile, err)
		}
		field.name = f.Name
		e.fields = append(e.fields, field)
	}
	return e, nil
}

func compileField(raw json.RawMessage) (fieldEncoder, error) {
	branches := []json.RawMessage{raw}
	var f fieldEncoder
	var union []json.RawMessage
	if json.Unmarshal(raw, &union) == nil {
		if len(union) != 2 {
			return f, fmt.Errorf("a union of %d types; use one of null and another", len(union))
		}
		branches, f.nullable = union, true
	}
	found := false
	for i, b := range branches {
		t, err := parseAvroType(b)
		if err != nil {
			return f, err
		}
		if t.Type == "null" {
			f.null = byte(i * 2)
			continue
		}
		if found {
			return f, fmt.Errorf("a union without null; use one of null and another type")
		}
		found = true
		f.value = byte(i * 2)
		f.bind = binder(t)
	}
	if !found {
		return f, fmt.Errorf("type null; use a type with values")
	}
	return f, nil
}

func parseAvroType(raw json.RawMessage) (avroType, error) {
	var t avroType
	if json.Unmarshal(raw, &t.Type) == nil {
		return t, nil
	}
	if err := json.Unmarshal(raw, &t); err != nil {
		return t, fmt.Errorf("type %s: %w", raw, err)
	}
	return t, nil
}

// required are the fields that the schema does not allow to be null.
func (e *encoder) required() []string {
	var names []string
	for _, f := range e.fields {
		if !f.nullable {
			names = append(names, f.name)
		}
	}
	return names
}

// bindBatch points the encoder to a batch whose first columns are the fields.
func (e *encoder) bindBatch(b arrow.RecordBatch) error {
	for i := range e.fields {
		f := &e.fields[i]
		f.array = b.Column(i)
		f.mayBeNulls = f.array.NullN() > 0
		var err error
		if f.append, err = f.bind(f.array); err != nil {
			return fmt.Errorf("cannot encode field %s of topic %s: %w", f.name, e.source.Topic, err)
		}
	}
	e.bound = b
	return nil
}

// appendRow appends the Avro body of a row of the bound batch.
func (e *encoder) appendRow(dst []byte, row int) ([]byte, error) {
	for i := range e.fields {
		f := &e.fields[i]
		if f.mayBeNulls && f.array.IsNull(row) {
			if !f.nullable {
				return nil, fmt.Errorf("cannot encode an event of topic %s: field %s is null, which %s does not allow", e.source.Topic, f.name, e.source.SchemaFile)
			}
			dst = append(dst, f.null)
			continue
		}
		if f.nullable {
			dst = append(dst, f.value)
		}
		dst = f.append(dst, row)
	}
	return dst, nil
}

// binder says how a type's values are written from an Arrow column.
func binder(t avroType) func(arrow.Array) (appendValue, error) {
	return func(column arrow.Array) (appendValue, error) {
		switch a := column.(type) {
		case *array.String:
			if t.Type == "string" {
				return func(dst []byte, row int) []byte { return appendString(dst, a.Value(row)) }, nil
			}
		case *array.Boolean:
			if t.Type == "boolean" {
				return func(dst []byte, row int) []byte { return appendBool(dst, a.Value(row)) }, nil
			}
		case *array.Int32:
			if t.Type == "int" || t.Type == "long" {
				return func(dst []byte, row int) []byte { return appendLong(dst, int64(a.Value(row))) }, nil
			}
		case *array.Int64:
			if t.Type == "long" {
				return func(dst []byte, row int) []byte { return appendLong(dst, a.Value(row)) }, nil
			}
		case *array.Float64:
			return bindDouble(t, a)
		case *array.Decimal128:
			return bindDecimal(t, a)
		case *array.Date32:
			if t.Type == "int" && t.Logical == "date" {
				return func(dst []byte, row int) []byte { return appendLong(dst, int64(a.Value(row))) }, nil
			}
		case *array.Timestamp:
			return bindTimestamp(t, a)
		}
		return nil, mismatch(t, column)
	}
}

func mismatch(t avroType, column arrow.Array) error {
	return fmt.Errorf("a %s column does not fit Avro type %s %s", column.DataType(), t.Type, t.Logical)
}

func bindDouble(t avroType, a *array.Float64) (appendValue, error) {
	switch t.Type {
	case "double":
		return func(dst []byte, row int) []byte {
			return binary.LittleEndian.AppendUint64(dst, math.Float64bits(a.Value(row)))
		}, nil
	case "float":
		return func(dst []byte, row int) []byte {
			return binary.LittleEndian.AppendUint32(dst, math.Float32bits(float32(a.Value(row))))
		}, nil
	}
	return nil, mismatch(t, a)
}

func bindTimestamp(t avroType, a *array.Timestamp) (appendValue, error) {
	per := int64(1)
	switch {
	case t.Type != "long":
		return nil, mismatch(t, a)
	case t.Logical == "timestamp-millis", t.Logical == "local-timestamp-millis":
		per = 1000
	case t.Logical != "timestamp-micros" && t.Logical != "local-timestamp-micros":
		return nil, mismatch(t, a)
	}
	return func(dst []byte, row int) []byte {
		us := int64(a.Value(row))
		n := us / per
		if us%per < 0 { // before 1970, down as well
			n--
		}
		return appendLong(dst, n)
	}, nil
}

// bindDecimal writes the unscaled value as big-endian two's complement: the
// fewest bytes for bytes, sign-extended for fixed.
func bindDecimal(t avroType, a *array.Decimal128) (appendValue, error) {
	if t.Logical != "decimal" || (t.Type != "bytes" && t.Type != "fixed") {
		return nil, mismatch(t, a)
	}
	return func(dst []byte, row int) []byte {
		v := a.Value(row)
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], uint64(v.HighBits()))
		binary.BigEndian.PutUint64(b[8:], v.LowBits())
		if t.Type == "fixed" {
			for n := 16; n < t.Size; n++ {
				dst = append(dst, byte(v.HighBits()>>63))
			}
			return append(dst, b[max(0, 16-t.Size):]...)
		}
		n := decimalBytes(v.HighBits(), v.LowBits())
		dst = appendLong(dst, int64(n))
		return append(dst, b[16-n:]...)
	}, nil
}

// decimalBytes is the number of bytes that hold the value and its sign.
func decimalBytes(high int64, low uint64) int {
	if high < 0 {
		high, low = ^high, ^low
	}
	n := 64 + bits.Len64(uint64(high))
	if high == 0 {
		n = bits.Len64(low)
	}
	return n/8 + 1
}

func appendString(dst []byte, s string) []byte {
	return append(appendLong(dst, int64(len(s))), s...)
}

func appendBool(dst []byte, v bool) []byte {
	if v {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// appendLong is Avro's zigzag varint.
func appendLong(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, uint64(v<<1)^uint64(v>>63))
}
