// Package projecttext writes whole domain projects as one small text, for
// tests of what a project means. A text has sections:
//
//	anything before the first section is a comment
//	-- gold.total (k; scope k): k string, n bigint --
//	SELECT ...
//
// A section is a model: its name, its unique key, after a semicolon its scope,
// `view` or `batch`, and its columns. Its SQL begins at line 2 of the model's
// file. A section named like a file ("-- seeds/words.csv --") is that file.
// The topics are always the same four, small and of all types: see Sources. What stands behind
// a line that begins with "==== " is the test's own.
package projecttext

import (
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing/fstest"
)

// Sources are the topics of every project text, with the fields of each.
var Sources = map[string]string{
	"a":    "k string, j string, x string, n int, m bigint, amount decimal(12,2), d double, flag boolean, ts timestamp",
	"b":    "k string, j string, y string, n int, m bigint, amount decimal(12,2), d double, ts timestamp",
	"c":    "id string, up string, label string, ts timestamp",
	"link": "src string, dst string, ts timestamp",
}

// Fields whose name differs from the topic's first field are never the key.
var keys = map[string]string{"a": "k", "b": "k", "c": "id", "link": "src"}

var deletes = map[string]bool{"a": true, "c": true}

var (
	section = regexp.MustCompile(`(?m)^-- (.+) --$`)
	model   = regexp.MustCompile(`^([a-z_]+)\.([a-z0-9_]+) \(([^;)]*)(?:; ([^)]*))?\): (.+)$`)
)

// FS makes the project's files from a text.
func FS(text string) (fs.FS, error) {
	out := fstest.MapFS{
		"project.yaml":    file("name: small\n"),
		"sources.yaml":    file(sourcesYAML()),
		"seeds/words.csv": file("word,class\nk1,red\nk2,blue\n"),
	}
	for topic, fields := range Sources {
		out["schemas/"+topic+".avsc"] = file(schema(topic, fields))
	}
	text, _, _ = strings.Cut(text, "\n==== ")
	marks := section.FindAllStringSubmatchIndex(text, -1)
	for i, m := range marks {
		end := len(text)
		if i+1 < len(marks) {
			end = marks[i+1][0]
		}
		name, body := text[m[2]:m[3]], strings.TrimSpace(text[m[1]:end])+"\n"
		if strings.Contains(name, "/") {
			out[name] = file(body)
			continue
		}
		path, header, err := modelFile(name)
		if err != nil {
			return nil, err
		}
		out[path] = file(header + body)
	}
	return out, nil
}

func file(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }

func sourcesYAML() string {
	var b strings.Builder
	b.WriteString("topics:\n")
	for topic := range Sources {
		rule := "dead_letter"
		if deletes[topic] {
			rule = "delete"
		}
		fmt.Fprintf(&b, "  %s: {key: %s, event_time: ts, tombstone: %s}\n", topic, keys[topic], rule)
	}
	return b.String()
}

var avro = map[string]string{
	"string": `"string"`, "int": `"int"`, "bigint": `"long"`, "double": `"double"`, "boolean": `"boolean"`,
	"timestamp":     `{"type": "long", "logicalType": "timestamp-micros"}`,
	"decimal(12,2)": `{"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 2}`,
}

func schema(topic, fields string) string {
	var parts []string
	for _, f := range split(fields) {
		name, t, _ := strings.Cut(f, " ")
		parts = append(parts, fmt.Sprintf(`{"name": %q, "type": ["null", %s], "default": null}`, name, avro[t]))
	}
	return fmt.Sprintf(`{"type": "record", "name": %q, "fields": [%s]}`, topic, strings.Join(parts, ", "))
}

// split cuts at commas that are not inside parentheses.
func split(list string) []string {
	var out []string
	depth, from := 0, 0
	for i, r := range list + "," {
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ',' && depth == 0:
			out = append(out, strings.TrimSpace(list[from:i]))
			from = i + 1
		}
	}
	return out
}

// modelFile gives the path and the header, one line, of a model's section.
func modelFile(name string) (path, header string, err error) {
	m := model.FindStringSubmatch(name)
	if m == nil {
		return "", "", fmt.Errorf("cannot read section %q: write `namespace.table (key; scope x): column type, ...`", name)
	}
	materialized, scope := "incremental", m[3]
	for _, word := range strings.Split(m[4], ";") {
		switch word = strings.TrimSpace(word); {
		case word == "view" || word == "batch":
			materialized = word
		case strings.HasPrefix(word, "scope "):
			scope = strings.TrimPrefix(word, "scope ")
		}
	}
	var columns []string
	for _, c := range split(m[5]) {
		n, t, _ := strings.Cut(c, " ")
		columns = append(columns, fmt.Sprintf("{name: %s, type: %q, description: d}", n, t))
	}
	header = fmt.Sprintf("/* {description: d, materialized: %s, unique_key: [%s], scope: [%s], columns: [%s]} */\n",
		materialized, m[3], scope, strings.Join(columns, ", "))
	return fmt.Sprintf("models/%s/%s.sql", m[1], m[2]), header, nil
}
