package lake

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/compute"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// icebergType is the Iceberg type of a column.
func icebergType(t project.Type) iceberg.Type {
	switch t.Kind {
	case project.String:
		return iceberg.PrimitiveTypes.String
	case project.Boolean:
		return iceberg.PrimitiveTypes.Bool
	case project.Int:
		return iceberg.PrimitiveTypes.Int32
	case project.Bigint:
		return iceberg.PrimitiveTypes.Int64
	case project.Double:
		return iceberg.PrimitiveTypes.Float64
	case project.Decimal:
		return iceberg.DecimalTypeOf(t.Precision, t.Scale)
	case project.Date:
		return iceberg.PrimitiveTypes.Date
	case project.Timestamp:
		return iceberg.PrimitiveTypes.Timestamp
	}
	panic("lake: column type without a kind")
}

// columnType is the column type of an Iceberg type. Tables that we write have
// no other types; a foreign writer may have added one.
func columnType(t iceberg.Type) (project.Type, error) {
	switch t := t.(type) {
	case iceberg.StringType:
		return project.Type{Kind: project.String}, nil
	case iceberg.BooleanType:
		return project.Type{Kind: project.Boolean}, nil
	case iceberg.Int32Type:
		return project.Type{Kind: project.Int}, nil
	case iceberg.Int64Type:
		return project.Type{Kind: project.Bigint}, nil
	case iceberg.Float64Type:
		return project.Type{Kind: project.Double}, nil
	case iceberg.DecimalType:
		return project.Type{Kind: project.Decimal, Precision: t.Precision(), Scale: t.Scale()}, nil
	case iceberg.DateType:
		return project.Type{Kind: project.Date}, nil
	case iceberg.TimestampType:
		return project.Type{Kind: project.Timestamp}, nil
	}
	return project.Type{}, fmt.Errorf("type %s has no column type here", t)
}

// reserved are the columns whose names Iceberg keeps for itself: Spark refuses
// to read a table's own columns of these names. In the tables of a remote lake,
// which Spark reads, they have others.
var reserved = map[string]string{"_partition": "_log_partition", "_deleted": "_log_deleted"}

// StoredName is the name that a column has in the tables of a remote lake, as
// other programs see it. Rows and columns of this package have the column's own.
func StoredName(column string) string {
	if name, ok := reserved[column]; ok {
		return name
	}
	return column
}

// nameIn is the name of a new column in a table of this lake.
func (l *Lake) nameIn(column string) string {
	if l.remote {
		return StoredName(column)
	}
	return column
}

// ownName is the column of a stored name.
func ownName(name string) string {
	for column, s := range reserved {
		if s == name {
			return column
		}
	}
	return name
}

// fieldOf finds a column in a schema, under the name that it is stored under or
// its own.
func fieldOf(sc *iceberg.Schema, column string) (iceberg.NestedField, bool) {
	if f, ok := sc.FindFieldByName(StoredName(column)); ok {
		return f, true
	}
	return sc.FindFieldByName(column)
}

// columnsOf are the columns of a schema.
func columnsOf(sc *iceberg.Schema) ([]project.Column, error) {
	var columns []project.Column
	for _, f := range sc.Fields() {
		t, err := columnType(f.Type)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		columns = append(columns, project.Column{Name: ownName(f.Name), Type: t, Description: f.Doc})
	}
	return columns, nil
}

// newField is an optional field: every column of ours may be null.
func (l *Lake) newField(id int, c project.Column) iceberg.NestedField {
	return iceberg.NestedField{ID: id, Name: l.nameIn(c.Name), Type: icebergType(c.Type), Doc: c.Description}
}

// schemaFor is a schema of exactly these columns in this order. A column that
// cur has with the same name and type keeps its field id; all others get ids
// that were never used, so that files of before are not taken for them. cur
// may be nil; last is the highest id ever used.
func (l *Lake) schemaFor(cur *iceberg.Schema, last int, columns []project.Column) *iceberg.Schema {
	fields := make([]iceberg.NestedField, len(columns))
	for i, c := range columns {
		if cur != nil {
			if f, ok := fieldOf(cur, c.Name); ok && f.Type.Equals(icebergType(c.Type)) {
				fields[i] = l.newField(f.ID, c)
				continue
			}
		}
		last++
		fields[i] = l.newField(last, c)
	}
	return iceberg.NewSchema(0, fields...)
}

// evolvedSchema is cur with the new columns at its end, wider types where
// columns have them, and new descriptions. A column that columns leaves out
// stays: rows of before have it. It gives nil when nothing changes, and an
// error when a type cannot be widened.
func (l *Lake) evolvedSchema(cur *iceberg.Schema, last int, columns []project.Column) (*iceberg.Schema, error) {
	fields := append([]iceberg.NestedField(nil), cur.Fields()...)
	at := map[string]int{}
	for i, f := range fields {
		at[ownName(f.Name)] = i
	}
	changed := false
	for _, c := range columns {
		i, ok := at[c.Name]
		if !ok {
			last++
			fields, changed = append(fields, l.newField(last, c)), true
			continue
		}
		t, err := widened(fields[i].Type, icebergType(c.Type))
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", c.Name, err)
		}
		if !t.Equals(fields[i].Type) || fields[i].Doc != c.Description {
			fields[i].Type, fields[i].Doc, changed = t, c.Description, true
		}
	}
	if !changed {
		return nil, nil
	}
	return iceberg.NewSchema(0, fields...), nil
}

// widened is the type that holds the values of both, by the promotions that
// Iceberg allows.
func widened(have, want iceberg.Type) (iceberg.Type, error) {
	if have.Equals(want) {
		return have, nil
	}
	if isWider(have, want) {
		return want, nil
	}
	if isWider(want, have) {
		return have, nil
	}
	return nil, fmt.Errorf("the table has type %s, which cannot become %s: only int to bigint and a decimal of more digits with the same scale can; give the column another name", have, want)
}

// isWider says whether a column of type from can be promoted to type to.
func isWider(from, to iceberg.Type) bool {
	switch f := from.(type) {
	case iceberg.Int32Type:
		_, ok := to.(iceberg.Int64Type)
		return ok
	case iceberg.DecimalType:
		t, ok := to.(iceberg.DecimalType)
		return ok && t.Scale() == f.Scale() && t.Precision() >= f.Precision()
	}
	return false
}

var transformPattern = regexp.MustCompile(`^\s*(\w+)\s*\(\s*(?:(\d+)\s*,\s*)?(\w+)\s*\)\s*$`)

// partitionSpec reads Iceberg transforms as a project writes them: col,
// identity(col), year|month|day|hour(col), bucket(n, col), truncate(n, col).
func partitionSpec(sc *iceberg.Schema, partitionBy []string) (*iceberg.PartitionSpec, error) {
	fields := make([]iceberg.PartitionField, 0, len(partitionBy))
	for i, s := range partitionBy {
		name, text, suffix := strings.TrimSpace(s), "identity", ""
		if m := transformPattern.FindStringSubmatch(s); m != nil {
			name, text, suffix = m[3], strings.ToLower(m[1]), "_"+strings.ToLower(m[1])
			if m[2] != "" {
				text += "[" + m[2] + "]"
			}
		}
		f, ok := fieldOf(sc, name)
		if !ok {
			return nil, fmt.Errorf("partition_by %q: no column %q; write col, identity(col), year|month|day|hour(col), bucket(n, col) or truncate(n, col)", s, name)
		}
		transform, err := iceberg.ParseTransform(text)
		if _, unknown := transform.(iceberg.UnknownTransform); err != nil || unknown || !transform.CanTransform(f.Type) {
			return nil, fmt.Errorf("partition_by %q: not a transform for a column of type %s; write col, identity(col), year|month|day|hour(col), bucket(n, col) or truncate(n, col)", s, f.Type)
		}
		fields = append(fields, iceberg.PartitionField{SourceIDs: []int{f.ID}, FieldID: iceberg.PartitionDataIDStart + i,
			Name: name + strings.TrimPrefix(suffix, "_identity"), Transform: transform})
	}
	spec := iceberg.NewPartitionSpec(fields...)
	return &spec, nil
}

// samePartitions says whether two specs partition alike.
func samePartitions(a, b *iceberg.PartitionSpec) bool {
	if a.NumFields() != b.NumFields() {
		return false
	}
	for i := range a.NumFields() {
		fa, fb := a.Field(i), b.Field(i)
		if fa.Name != fb.Name || fa.SourceIDs[0] != fb.SourceIDs[0] || fa.Transform.String() != fb.Transform.String() {
			return false
		}
	}
	return true
}

// conformer turns record batches of a reader's schema into those of a table:
// columns by name, missing ones null, narrower ones widened.
type conformer struct {
	schema *arrow.Schema // with Iceberg field ids
	source []int         // by table column: the batch's column, or -1
	copied []bool        // by table column: into memory of Go's own
}

func newConformer(tbl *table.Table, from *arrow.Schema) (*conformer, error) {
	to, err := table.SchemaToArrowSchema(tbl.Schema(), nil, true, false)
	if err != nil {
		return nil, err
	}
	c := &conformer{schema: to, source: make([]int, to.NumFields()), copied: partitionTexts(tbl)}
	known := 0
	for i, f := range to.Fields() {
		c.source[i] = -1
		at := from.FieldIndices(ownName(f.Name))
		if len(at) == 0 { // rows that were read as they are stored
			at = from.FieldIndices(f.Name)
		}
		if len(at) == 1 {
			c.source[i] = at[0]
			known++
			if err := checkConforms(from.Field(at[0]).Type, f.Type); err != nil {
				return nil, fmt.Errorf("column %s: %w", f.Name, err)
			}
		}
	}
	if known != from.NumFields() {
		return nil, fmt.Errorf("the rows have columns %v, the table has %v", names(from), names(to))
	}
	return c, nil
}

// partitionTexts says which columns give a partition its text. iceberg-go keeps
// the text in place until it writes the manifest; the memory of rows that do
// not come from Go is another one's by then.
func partitionTexts(tbl *table.Table) []bool {
	spec := tbl.Spec()
	out := make([]bool, len(tbl.Schema().Fields()))
	for i, f := range tbl.Schema().Fields() {
		switch f.Type.(type) {
		case iceberg.StringType, iceberg.BinaryType, iceberg.FixedType:
			out[i] = len(spec.FieldsBySourceID(f.ID)) > 0
		}
	}
	return out
}

// ownNames is a schema with the columns' own names.
func ownNames(sc *arrow.Schema) *arrow.Schema {
	fields := sc.Fields()
	for i := range fields {
		fields[i].Name = ownName(fields[i].Name)
	}
	meta := sc.Metadata()
	return arrow.NewSchema(fields, &meta)
}

func names(s *arrow.Schema) []string {
	var n []string
	for _, f := range s.Fields() {
		n = append(n, f.Name)
	}
	return n
}

func checkConforms(from, to arrow.DataType) error {
	if arrow.TypeEqual(from, to) {
		return nil
	}
	if from.ID() == arrow.INT32 && to.ID() == arrow.INT64 {
		return nil
	}
	f, ok1 := from.(*arrow.Decimal128Type)
	t, ok2 := to.(*arrow.Decimal128Type)
	if ok1 && ok2 && f.Scale == t.Scale && f.Precision <= t.Precision {
		return nil
	}
	return fmt.Errorf("the rows have type %s, the table has %s", from, to)
}

// batch gives a new batch, which the caller releases.
func (c *conformer) batch(ctx context.Context, b arrow.RecordBatch) (arrow.RecordBatch, error) {
	cols := make([]arrow.Array, len(c.source))
	defer func() {
		for _, a := range cols {
			if a != nil {
				a.Release()
			}
		}
	}()
	for i, from := range c.source {
		to := c.schema.Field(i).Type
		switch {
		case from < 0:
			cols[i] = array.MakeArrayOfNull(memory.DefaultAllocator, to, int(b.NumRows()))
		case c.copied[i]:
			a, err := array.Concatenate([]arrow.Array{b.Column(from)}, memory.NewGoAllocator())
			if err != nil {
				return nil, err
			}
			cols[i] = a
		case arrow.TypeEqual(b.Column(from).DataType(), to):
			cols[i] = b.Column(from)
			cols[i].Retain()
		default:
			a, err := compute.CastArray(ctx, b.Column(from), compute.SafeCastOptions(to))
			if err != nil {
				return nil, fmt.Errorf("cannot widen column %s: %w", c.schema.Field(i).Name, err)
			}
			cols[i] = a
		}
	}
	return array.NewRecordBatch(c.schema, cols, b.NumRows()), nil
}
