package registry

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/avro"
)

// Schema resolution looks at the types under logical types. A reader then takes
// a number of one unit for one of another, and nothing fails.

// unit is what a number or its bytes count; empty: unsaid.
func unit(n *avro.SchemaNode) string {
	switch n.LogicalType {
	case "decimal":
		return fmt.Sprintf("decimal(%d,%d)", n.Precision, n.Scale)
	case "date":
		return "days"
	case "time-millis", "time-micros", "duration":
		return n.LogicalType
	case "timestamp-millis", "local-timestamp-millis":
		return "timestamp in milliseconds"
	case "timestamp-micros", "local-timestamp-micros":
		return "timestamp in microseconds"
	case "timestamp-nanos", "local-timestamp-nanos":
		return "timestamp in nanoseconds"
	}
	return ""
}

func unitsDiffer(w, r *avro.SchemaNode) bool {
	wu, ru := unit(w), unit(r)
	if w.LogicalType == "decimal" || r.LogicalType == "decimal" {
		return wu != ru
	}
	return wu != "" && ru != "" && wu != ru
}

// sameUnits compares two schemas that resolve, with references expanded. A name
// that stays closes a circle, whose definition was compared on the way to it.
func sameUnits(w, r *avro.SchemaNode, path string) error {
	switch {
	case w.Type == "union":
		for i := range w.Branches {
			if err := sameUnits(&w.Branches[i], r, path); err != nil {
				return err
			}
		}
		return nil
	case r.Type == "union":
		if b := branchFor(w, r); b != nil {
			return sameUnits(w, b, path)
		}
		return nil
	case unitsDiffer(w, r):
		return fmt.Errorf("at %s: data in %s would be read as %s", place(path), describe(w), describe(r))
	}
	return sameUnitsWithin(w, r, path)
}

func sameUnitsWithin(w, r *avro.SchemaNode, path string) error {
	if w.Type != r.Type {
		return nil
	}
	switch w.Type {
	case "array":
		return sameUnits(w.Items, r.Items, path+".items")
	case "map":
		return sameUnits(w.Values, r.Values, path+".values")
	case "record", "error":
		for i := range r.Fields {
			rf := &r.Fields[i]
			if wf := writerField(w, rf); wf != nil {
				if err := sameUnits(&wf.Type, &rf.Type, path+"."+rf.Name); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func writerField(w *avro.SchemaNode, rf *avro.SchemaField) *avro.SchemaField {
	for _, name := range append([]string{rf.Name}, rf.Aliases...) {
		for i := range w.Fields {
			if w.Fields[i].Name == name {
				return &w.Fields[i]
			}
		}
	}
	return nil
}

// branchFor is the branch of a reader's union that reads w: one of its own type
// and name, else the first that its type is promoted to.
func branchFor(w, union *avro.SchemaNode) *avro.SchemaNode {
	var promoted *avro.SchemaNode
	for i := range union.Branches {
		b := &union.Branches[i]
		if b.Type == w.Type && (b.Name == "" || sameName(w, b)) {
			return b
		}
		if promoted == nil && slices.Contains(promotions[w.Type], b.Type) {
			promoted = b
		}
	}
	return promoted
}

var promotions = map[string][]string{
	"int":    {"long", "float", "double"},
	"long":   {"float", "double"},
	"float":  {"double"},
	"string": {"bytes"},
	"bytes":  {"string"},
}

func sameName(w, r *avro.SchemaNode) bool {
	if lastPart(w.Name) == lastPart(r.Name) {
		return true
	}
	return slices.ContainsFunc(r.Aliases, func(a string) bool { return lastPart(a) == lastPart(w.Name) })
}

func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func place(path string) string {
	if path == "" {
		return "the root"
	}
	return path[1:]
}

func describe(n *avro.SchemaNode) string {
	if u := unit(n); u != "" {
		return u
	}
	return n.Type
}
