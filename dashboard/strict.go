package dashboard

import (
	"reflect"
	"strings"

	"lockstep/project"

	"go.yaml.in/yaml/v3"
)

// checkKeys finds keys that the type does not know. The decoder's own check
// stops at types that decode themselves, which ours do to keep their lines.
func checkKeys(problems *project.Problems, file string, node *yaml.Node, t reflect.Type) {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case node.Kind == yaml.DocumentNode && len(node.Content) > 0:
		checkKeys(problems, file, node.Content[0], t)
	case node.Kind == yaml.SequenceNode && t.Kind() == reflect.Slice:
		for _, item := range node.Content {
			checkKeys(problems, file, item, t.Elem())
		}
	case node.Kind == yaml.MappingNode && t.Kind() == reflect.Struct:
		fields := yamlFields(t)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			field, known := fields[key.Value]
			if !known {
				problems.Add(file, key.Line, "the keys here are "+strings.Join(sorted(fields), ", "), "unknown key %s", key.Value)
				continue
			}
			checkKeys(problems, file, node.Content[i+1], field)
		}
	}
}

func yamlFields(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		f := t.Field(i)
		name := f.Tag.Get("yaml")
		if name != "" && name != "-" {
			fields[name] = f.Type
		}
	}
	return fields
}

// The types below keep the line that they stand on; a dimension may be only
// its name.

func keepLine[T any](node *yaml.Node, into *T, line *int) error {
	err := node.Decode(into)
	*line = node.Line
	return err
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *Field) UnmarshalYAML(node *yaml.Node) error {
	type plain Field
	return keepLine(node, (*plain)(f), &f.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (f *Filter) UnmarshalYAML(node *yaml.Node) error {
	type plain Filter
	return keepLine(node, (*plain)(f), &f.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (r *Row) UnmarshalYAML(node *yaml.Node) error {
	type plain Row
	return keepLine(node, (*plain)(r), &r.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (p *Panel) UnmarshalYAML(node *yaml.Node) error {
	type plain Panel
	return keepLine(node, (*plain)(p), &p.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Detail) UnmarshalYAML(node *yaml.Node) error {
	type plain Detail
	return keepLine(node, (*plain)(d), &d.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (d *Dimension) UnmarshalYAML(node *yaml.Node) error {
	if node.Kind == yaml.ScalarNode {
		d.Name, d.Line = node.Value, node.Line
		return nil
	}
	type plain Dimension
	return keepLine(node, (*plain)(d), &d.Line)
}

// UnmarshalYAML implements yaml.Unmarshaler.
func (m *Measure) UnmarshalYAML(node *yaml.Node) error {
	type plain Measure
	return keepLine(node, (*plain)(m), &m.Line)
}
