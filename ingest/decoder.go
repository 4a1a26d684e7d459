package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/avro"

	"lockstep/project"
)

// decoder appends bodies of one writer schema to the columns of one table.
// Fields are matched by name, types promoted as Avro allows, and every value
// is checked against its column.
type decoder struct {
	fields  []decodeField
	missing []missingField // columns that the writer does not have
}

type decodeField struct {
	name   string
	column int // -1: passed over
	read   reader
	skip   skipper
}

type missingField struct {
	column int
	read   reader // of the default; nil: null
	value  []byte // the default, as Avro
}

// reader appends the value at the cursor to a column.
type reader func(c *cursor, col *column)

// target is the table that records become rows of.
type target struct {
	source  *project.Source
	fields  map[string]*avro.SchemaField // the contract's, by name
	names   *names                       // of the contract
	root    *avro.SchemaNode
	columns []project.Column // fields, log columns, then extras
	fixed   int              // columns that are not extras
}

func newTarget(s *project.Source) (*target, error) {
	parsed, err := avro.Parse(string(s.Schema))
	if err != nil {
		return nil, fmt.Errorf("cannot read schema %s: %w", s.SchemaFile, err)
	}
	root := parsed.Root()
	t := &target{source: s, root: root, names: newNames(root), fields: map[string]*avro.SchemaField{}, columns: s.Columns()}
	t.fixed = len(t.columns)
	for i := range root.Fields {
		t.fields[root.Fields[i].Name] = &root.Fields[i]
	}
	return t, nil
}

// Positions of the log's columns behind the fields.
const (
	colPartition = iota
	colOffset
	colTimestamp
	colDeleted
)

func (t *target) logColumn(i int) int { return len(t.source.Fields) + i }

// column finds a field's column; log columns are not to be found.
func (t *target) column(name string) int {
	i := slices.IndexFunc(t.columns, func(c project.Column) bool { return c.Name == name })
	if i >= len(t.source.Fields) && i < t.fixed {
		return -1
	}
	return i
}

// compile makes the decoder of a writer schema, as the reader that the
// contract is. An error says why its records cannot become rows.
func (t *target) compile(writer *avro.SchemaNode) (*decoder, error) {
	if writer.Type != "record" {
		return nil, fmt.Errorf("the schema is a %s, not a record", writer.Type)
	}
	if !t.sameName(writer) {
		return nil, fmt.Errorf("the schema is of record %s, the topic's is %s", writer.Name, t.root.Name)
	}
	n := newNames(writer)
	d := &decoder{}
	has := map[int]bool{}
	for i := range writer.Fields {
		f, err := t.compileField(n, &writer.Fields[i])
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", writer.Fields[i].Name, err)
		}
		if f.column >= 0 && has[f.column] {
			return nil, fmt.Errorf("field %s: another field already is column %s", f.name, t.columns[f.column].Name)
		}
		has[f.column] = true
		d.fields = append(d.fields, f)
	}
	for i, c := range t.columns {
		if has[i] || i >= len(t.source.Fields) && i < t.fixed {
			continue
		}
		m, err := t.compileMissing(i)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", c.Name, err)
		}
		d.missing = append(d.missing, m)
	}
	return d, nil
}

func (t *target) sameName(writer *avro.SchemaNode) bool {
	last := func(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }
	same := func(alias string) bool { return last(alias) == last(writer.Name) }
	return same(t.root.Name) || slices.ContainsFunc(t.root.Aliases, same)
}

// readerName is the contract's name of a writer's field: its own, or that of
// the field which has it as an alias.
func (t *target) readerName(name string) string {
	if t.fields[name] == nil {
		for _, f := range t.root.Fields {
			if slices.Contains(f.Aliases, name) {
				return f.Name
			}
		}
	}
	return name
}

func (t *target) compileField(n *names, f *avro.SchemaField) (decodeField, error) {
	d := decodeField{name: f.Name, column: t.column(t.readerName(f.Name))}
	var err error
	if d.column < 0 {
		d.skip, err = n.skip(&f.Type)
		return d, err
	}
	r := valueReader{names: n, column: t.columns[d.column], nullable: true}
	if own := t.fields[t.columns[d.column].Name]; own != nil {
		if r.symbols, r.nullable, err = t.reads(&own.Type); err != nil {
			return d, err
		}
	}
	d.read, err = r.compile(&f.Type)
	return d, err
}

// reads says what the contract allows in a field: an enum's node, and nulls.
func (t *target) reads(node *avro.SchemaNode) (enum *avro.SchemaNode, nullable bool, err error) {
	if node, err = t.names.resolve(node); err != nil {
		return nil, false, err
	}
	switch node.Type {
	case "enum":
		return node, false, nil
	case "null":
		return nil, true, nil
	case "union":
		for i := range node.Branches {
			e, null, err := t.reads(&node.Branches[i])
			if err != nil {
				return nil, false, err
			}
			nullable = nullable || null
			if e != nil {
				enum = e
			}
		}
	}
	return enum, nullable, nil
}

// compileMissing is what a column gets that the writer's schema does not have:
// the contract's default, or null where the contract allows it.
func (t *target) compileMissing(column int) (missingField, error) {
	m := missingField{column: column}
	f := t.fields[t.columns[column].Name]
	if f == nil {
		return m, nil
	}
	enum, nullable, err := t.reads(&f.Type)
	if err != nil {
		return m, err
	}
	if !f.HasDefault {
		if !nullable {
			return m, errors.New("the schema does not have it, and the topic's has no default for it")
		}
		return m, nil
	}
	if f.Default == nil {
		return m, nil
	}
	s, err := f.Type.Schema()
	if err != nil {
		return m, err
	}
	if m.value, err = s.Encode(f.Default); err != nil {
		return m, fmt.Errorf("its default cannot be used: %w", err)
	}
	r := valueReader{names: t.names, column: t.columns[column], nullable: nullable, symbols: enum}
	m.read, err = r.compile(&f.Type)
	return m, err
}

// decode appends a body's values; the log's columns are the caller's. After a
// fault the rows must be undone.
func (d *decoder) decode(body []byte, into *rows) *fault {
	c := cursor{b: body, work: idleWork}
	for i := range d.fields {
		f := &d.fields[i]
		if f.column < 0 {
			f.skip(&c, 0)
		} else {
			f.read(&c, &into.columns[f.column])
		}
		if c.fault != nil {
			c.fault.detail = "field " + f.name + ": " + c.fault.detail
			return c.fault
		}
	}
	if c.i != len(body) {
		return &fault{ReasonTrailing, fmt.Sprintf("%d bytes follow the body of %d", len(body)-c.i, c.i)}
	}
	for _, m := range d.missing {
		if m.read == nil {
			into.columns[m.column].appendNull()
			continue
		}
		m.read(&cursor{b: m.value}, &into.columns[m.column])
	}
	return nil
}
