package project_test

import (
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"lockstep/project"
)

const goodSchema = `{"type": "record", "name": "t", "fields": [
  {"name": "k", "type": "string", "doc": "Key."},
  {"name": "n", "type": ["null", "int"], "default": null},
  {"name": "amount", "type": ["null", {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}], "default": null},
  {"name": "seen", "type": {"type": "long", "logicalType": "timestamp-millis"}}
]}`

const goodModel = `/*
description: d
unique_key: [k]
columns:
  - {name: k, type: string, description: d, data_tests: [not_null, unique, {accepted_values: [a, b]}, {relationships: {to: gold.t, field: k}}]}
*/
SELECT DISTINCT k FROM bronze.t
`

func files(change map[string]string) fstest.MapFS {
	out := fstest.MapFS{}
	for name, text := range map[string]string{
		"project.yaml":       "name: small\n",
		"sources.yaml":       "topics:\n  t: {key: k, event_time: seen, tombstone: delete}\n",
		"schemas/t.avsc":     goodSchema,
		"models/gold/t.sql":  goodModel,
		"seeds/words.csv":    "word,class\na,x\n",
		"tests/t.yaml":       "- name: one\n  model: gold.t\n  given:\n    bronze.t:\n      - {k: a, n: ~}\n  expect:\n    - {k: a}\n",
		"sources/unused.sql": "SELECT 1",
	} {
		out[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range change {
		if delete(out, name); text != "" {
			out[name] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	return out
}

func TestLoad(t *testing.T) {
	p, err := project.Load(files(nil))
	if err != nil {
		t.Fatal(err)
	}
	s := p.Sources[0]
	var types []string
	for _, c := range s.Columns() {
		types = append(types, c.Name+" "+c.Type.String())
	}
	if got, want := strings.Join(types, ", "), "k string, n int, amount decimal(12,2), seen timestamp, _partition int, _offset bigint, _timestamp timestamp, _deleted boolean"; got != want {
		t.Errorf("columns %s, want %s", got, want)
	}
	if s.Tombstone != project.TombstoneDelete || s.Partitions != 1 || s.Table() != "bronze.t" {
		t.Errorf("source %+v", s)
	}
	m := p.Models[0]
	if m.Materialized != project.Incremental || len(m.Scope) != 1 || m.Line != 6 || len(m.Columns[0].Tests) != 4 {
		t.Errorf("model %+v", m)
	}
	row := p.Tests[0].Given["bronze.t"][0]
	if value, given := row.Values["n"]; row.Line != 5 || !given || value != nil || *row.Values["k"] != "a" {
		t.Errorf("given row %+v", row)
	}
}

// TestLoadFaults: each fault is told with its file and line.
func TestLoadFaults(t *testing.T) {
	for name, c := range map[string]struct{ file, text, want string }{
		"no project file":     {"project.yaml", "", "project.yaml: the file is missing"},
		"unknown key":         {"project.yaml", "name: small\ncolour: red\n", "project.yaml:2: unknown key colour"},
		"name":                {"project.yaml", "name: No Name\n", `project.yaml:1: name "No Name" is not a plain name`},
		"log age":             {"project.yaml", "name: small\nretention: {log_age: long}\n", `retention.log_age "long" is not a duration`},
		"no topics":           {"sources.yaml", "topics: {}\n", "sources.yaml:1: no topics"},
		"key":                 {"sources.yaml", "topics:\n  t: {key: q, event_time: seen}\n", `sources.yaml:2: topic t: key: "q" is not a field of its schema`},
		"tombstone":           {"sources.yaml", "topics:\n  t: {key: k, event_time: seen, tombstone: keep}\n", `unknown tombstone rule "keep"`},
		"partitions":          {"sources.yaml", "topics:\n  t: {key: k, event_time: seen, partitions: 0}\n", "partitions must be at least 1"},
		"query":               {"sources.yaml", "topics:\n  t: {key: k, event_time: seen, query: sources/t.sql}\n", "there is no file sources/t.sql"},
		"no schema":           {"schemas/t.avsc", "", "schemas/t.avsc: the file is missing"},
		"schema not a record": {"schemas/t.avsc", `{"type": "enum"}`, "the Avro schema is a enum"},
		"field type":          {"schemas/t.avsc", `{"type": "record", "fields": [{"name": "k", "type": {"type": "array", "items": "string"}}]}`, "field k: type"},
		"field name":          {"schemas/t.avsc", strings.Replace(goodSchema, `"n"`, `"_n"`, 1), `field "_n" is not a plain name`},
		"seed name":           {"seeds/words.csv", "Word\na\n", `seeds/words.csv:1: column "Word" is not a plain name`},
		"empty seed":          {"seeds/words.csv", "\n", "seeds/words.csv:1: the seed is empty"},
		"test of no model":    {"tests/t.yaml", "- name: one\n  model: gold.q\n  expect: []\n", `tests/t.yaml:1: test "one": there is no model "gold.q"`},
		"test row":            {"tests/t.yaml", "- name: one\n  model: gold.t\n  expect:\n    - a\n", "tests/t.yaml:4: a row must be a mapping"},
		"model header":        {"models/gold/t.sql", "SELECT k FROM bronze.t", "models/gold/t.sql:1: the model has no header"},
	} {
		_, err := project.Load(files(map[string]string{c.file: c.text}))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v\nwant %s", name, err, c.want)
		}
	}
}

func TestParseType(t *testing.T) {
	for _, good := range []string{"string", "boolean", "int", "bigint", "double", "date", "timestamp", "decimal(1,0)", "decimal(38,38)"} {
		if got, err := project.ParseType(good); err != nil || got.String() != good {
			t.Errorf("%s: %v, %v", good, got, err)
		}
	}
	for _, bad := range []string{"", "text", "decimal", "decimal(0,0)", "decimal(39,1)", "decimal(3,4)", "int(4)", "String"} {
		if _, err := project.ParseType(bad); err == nil {
			t.Errorf("%q is taken for a type", bad)
		}
	}
}

func TestObjectives(t *testing.T) {
	p, err := project.Load(files(map[string]string{"project.yaml": "name: small\nslos: {freshness: 5s, error_rate: 0.5%, availability: 0.999}\n"}))
	if err != nil {
		t.Fatal(err)
	}
	want := project.DefaultObjectives
	want.Freshness, want.ErrorRate, want.Availability = 5*time.Second, 0.005, 0.999
	if p.Objectives != want {
		t.Errorf("%+v, want %+v", p.Objectives, want)
	}
	for text, fault := range map[string]string{
		"lag: soon":         `slos.lag: "soon" cannot be used`,
		"stalled: -1s":      "above 0",
		"error_rate: 100%":  "below 1",
		"availability: all": "no number",
		"latency: 1s":       "unknown key latency",
	} {
		_, err := project.Load(files(map[string]string{"project.yaml": "name: small\nslos: {" + text + "}\n"}))
		if err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v, want %q", text, err, fault)
		}
	}
}
