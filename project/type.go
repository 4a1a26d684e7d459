package project

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
)

// Kind is a column type without its parameters. The names are those that a
// project writes and that both engines understand.
type Kind string

// The closed list of column types. Every engine stores each of them the same.
const (
	String    Kind = "string"    // UTF-8 text
	Boolean   Kind = "boolean"   //
	Int       Kind = "int"       // 32 bit, signed
	Bigint    Kind = "bigint"    // 64 bit, signed
	Double    Kind = "double"    // IEEE 754, 64 bit
	Decimal   Kind = "decimal"   // exact; precision 1..38, scale 0..precision
	Date      Kind = "date"      // days, no zone
	Timestamp Kind = "timestamp" // microseconds, no zone
)

// Type is the type of a column: a kind, and for decimals precision and scale.
type Type struct {
	Kind             Kind
	Precision, Scale int
}

var decimalPattern = regexp.MustCompile(`^decimal\(\s*(\d+)\s*,\s*(\d+)\s*\)$`)

// ParseType reads a type as a project writes it: "string", "decimal(12,2)".
func ParseType(s string) (Type, error) {
	switch k := Kind(s); k {
	case String, Boolean, Int, Bigint, Double, Date, Timestamp:
		return Type{Kind: k}, nil
	}
	m := decimalPattern.FindStringSubmatch(s)
	if m == nil {
		return Type{}, fmt.Errorf("unknown type %q: use string, boolean, int, bigint, double, decimal(p,s), date or timestamp", s)
	}
	p, _ := strconv.Atoi(m[1])
	sc, _ := strconv.Atoi(m[2])
	if p < 1 || p > 38 || sc > p {
		return Type{}, fmt.Errorf("type %q: precision must be 1 to 38 and scale at most the precision", s)
	}
	return Type{Kind: Decimal, Precision: p, Scale: sc}, nil
}

// String is the type as a project writes it; Spark takes it as it stands.
func (t Type) String() string {
	if t.Kind == Decimal {
		return fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale)
	}
	return string(t.Kind)
}

// Arrow is the type of the column in a record batch. Timestamps are
// microseconds without a zone.
func (t Type) Arrow() arrow.DataType {
	switch t.Kind {
	case String:
		return arrow.BinaryTypes.String
	case Boolean:
		return arrow.FixedWidthTypes.Boolean
	case Int:
		return arrow.PrimitiveTypes.Int32
	case Bigint:
		return arrow.PrimitiveTypes.Int64
	case Double:
		return arrow.PrimitiveTypes.Float64
	case Decimal:
		return &arrow.Decimal128Type{Precision: int32(t.Precision), Scale: int32(t.Scale)}
	case Date:
		return arrow.FixedWidthTypes.Date32
	case Timestamp:
		return &arrow.TimestampType{Unit: arrow.Microsecond}
	}
	panic("project: type without a kind")
}

// DuckDB is the type's name in DuckDB.
func (t Type) DuckDB() string {
	switch t.Kind {
	case String:
		return "VARCHAR"
	case Int:
		return "INTEGER"
	case Decimal:
		return fmt.Sprintf("DECIMAL(%d,%d)", t.Precision, t.Scale)
	default:
		return map[Kind]string{Boolean: "BOOLEAN", Bigint: "BIGINT", Double: "DOUBLE", Date: "DATE", Timestamp: "TIMESTAMP"}[t.Kind]
	}
}

// ArrowSchema is the schema of record batches that hold these columns, all
// nullable, in order.
func ArrowSchema(columns []Column) *arrow.Schema {
	fields := make([]arrow.Field, len(columns))
	for i, c := range columns {
		fields[i] = arrow.Field{Name: c.Name, Type: c.Type.Arrow(), Nullable: true}
	}
	return arrow.NewSchema(fields, nil)
}
