package project

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Load reads the project in fsys. It reports every fault at once: the error is
// then of type Problems, and the project is not to be used.
func Load(fsys fs.FS) (*Project, error) {
	l := &loader{p: &Project{FS: fsys, Environments: map[string]Environment{"embedded": {}}}}
	l.projectFile()
	l.sourcesFile()
	l.seeds()
	l.models()
	l.tests()
	if err := l.problems.Err(); err != nil {
		return nil, err
	}
	return l.p, nil
}

type loader struct {
	p        *Project
	problems Problems
}

// identifier is a name that needs quoting in neither engine.
var identifier = regexp.MustCompile(`^[a-z_][a-z0-9_]*$`)

const identifierRemedy = "use lower-case letters, digits and _ only, as both engines take such a name without quotes"

func (l *loader) read(file string) []byte {
	text, err := fs.ReadFile(l.p.FS, file)
	if errors.Is(err, fs.ErrNotExist) {
		l.problems.Add(file, 0, "`lockstep init` makes a project that has it", "the file is missing")
	} else if err != nil {
		l.problems.Add(file, 0, "", "cannot read the file: %v", err)
	}
	return text
}

// yaml decodes text strictly: a key that is not known is a fault. line is
// added to the lines that the decoder reports.
func (l *loader) yaml(file string, line int, text []byte, into any) bool {
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	dec.KnownFields(true)
	err := dec.Decode(into)
	if err == nil || err.Error() == "EOF" {
		return true
	}
	l.yamlProblem(file, line, err)
	return false
}

var yamlLine = regexp.MustCompile(`line (\d+): `)
var yamlUnknown = regexp.MustCompile(`field (\S+) not found in type .*`)

func (l *loader) yamlProblem(file string, line int, err error) {
	messages := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		messages = typed.Errors
	}
	for _, m := range messages {
		at := line + 1
		if f := yamlLine.FindStringSubmatch(m); f != nil {
			n, _ := strconv.Atoi(f[1])
			at = line + n
			m = yamlLine.ReplaceAllString(m, "")
		}
		m = yamlUnknown.ReplaceAllString(m, "unknown key $1")
		l.problems.Add(file, at, "see the reference of project files in the README", "%s", strings.TrimPrefix(m, "yaml: "))
	}
}

func (l *loader) projectFile() {
	const file = "project.yaml"
	var y struct {
		Name         string                       `yaml:"name"`
		Environments map[string]map[string]string `yaml:"environments"`
		Batch        struct {
			Schedule string `yaml:"schedule"`
		} `yaml:"batch"`
		Retention struct {
			LogBytes  int64  `yaml:"log_bytes"`
			LogAge    string `yaml:"log_age"`
			Manifests int    `yaml:"manifests"`
		} `yaml:"retention"`
		Objectives objectivesYAML `yaml:"slos"`
	}
	text := l.read(file)
	if text == nil || !l.yaml(file, 0, text, &y) {
		return
	}
	if !identifier.MatchString(y.Name) {
		l.problems.Add(file, 1, identifierRemedy, "name %q is not a plain name", y.Name)
	}
	if y.Retention.LogAge != "" {
		if _, err := time.ParseDuration(y.Retention.LogAge); err != nil {
			l.problems.Add(file, 0, `write a duration such as "168h"`, "retention.log_age %q is not a duration", y.Retention.LogAge)
		}
	}
	l.p.Name = y.Name
	for name, settings := range y.Environments {
		l.p.Environments[name] = Environment{Settings: settings}
	}
	l.p.Batch.Schedule = y.Batch.Schedule
	l.p.Retention = Retention(y.Retention)
	l.p.Objectives = l.objectives(file, y.Objectives)
}

type sourceYAML struct {
	Key        string `yaml:"key"`
	EventTime  string `yaml:"event_time"`
	Partitions int    `yaml:"partitions"`
	Tombstone  string `yaml:"tombstone"`
	Query      string `yaml:"query"`
}

type rawYAML struct {
	File    string    `yaml:"file"`
	Columns yaml.Node `yaml:"columns"`
}

func (l *loader) sourcesFile() {
	const file = "sources.yaml"
	var y struct {
		Raw    map[string]yaml.Node `yaml:"raw"`
		Topics map[string]yaml.Node `yaml:"topics"`
	}
	text := l.read(file)
	if text == nil || !l.yaml(file, 0, text, &y) {
		return
	}
	if len(y.Topics) == 0 {
		l.problems.Add(file, 1, "name at least one topic under `topics:`", "no topics")
	}
	for _, name := range sortedKeys(y.Raw) {
		l.rawFile(file, name, y.Raw[name])
	}
	for _, topic := range sortedKeys(y.Topics) {
		l.source(file, topic, y.Topics[topic])
	}
}

// decodeNode decodes a part of a YAML file strictly, keeping its lines.
func (l *loader) decodeNode(file string, node *yaml.Node, into any) bool {
	text, err := yaml.Marshal(node)
	if err != nil {
		l.yamlProblem(file, node.Line-1, err)
		return false
	}
	return l.yaml(file, node.Line-1, text, into)
}

func (l *loader) rawFile(file, name string, node yaml.Node) {
	var y rawYAML
	if !l.decodeNode(file, &node, &y) {
		return
	}
	raw := &RawFile{Name: name, File: y.File}
	for i := 0; i+1 < len(y.Columns.Content); i += 2 {
		k, v := y.Columns.Content[i], y.Columns.Content[i+1]
		t, err := ParseType(v.Value)
		if err != nil {
			l.problems.Add(file, node.Line, "", "raw.%s: column %s: %v", name, k.Value, err)
			continue
		}
		raw.Columns = append(raw.Columns, Column{Name: k.Value, Type: t})
	}
	if y.File == "" || len(raw.Columns) == 0 {
		l.problems.Add(file, node.Line, "give `file:` and `columns:` (name: type)", "raw.%s is incomplete", name)
	}
	l.p.RawFiles = append(l.p.RawFiles, raw)
}

func (l *loader) source(file, topic string, node yaml.Node) {
	y := sourceYAML{Partitions: 1, Tombstone: string(TombstoneDeadLetter)}
	if !l.decodeNode(file, &node, &y) {
		return
	}
	s := &Source{Topic: topic, Key: y.Key, EventTime: y.EventTime, Partitions: y.Partitions, Tombstone: Tombstone(y.Tombstone), Query: y.Query, SchemaFile: "schemas/" + topic + ".avsc"}
	if !identifier.MatchString(topic) {
		l.problems.Add(file, node.Line, identifierRemedy, "topic %q is not a plain name", topic)
	}
	if s.Partitions < 1 {
		l.problems.Add(file, node.Line, "", "topic %s: partitions must be at least 1", topic)
	}
	if s.Tombstone != TombstoneDelete && s.Tombstone != TombstoneDeadLetter {
		l.problems.Add(file, node.Line, "write `delete` or `dead_letter`", "topic %s: unknown tombstone rule %q", topic, y.Tombstone)
	}
	if s.Query != "" {
		if _, err := fs.Stat(l.p.FS, s.Query); err != nil {
			l.problems.Add(file, node.Line, "write the query, or leave `query:` out for a topic that only others produce to", "topic %s: there is no file %s", topic, s.Query)
		}
	}
	l.schema(s)
	for what, column := range map[string]string{"key": s.Key, "event_time": s.EventTime} {
		if len(s.Fields) > 0 && !slices.ContainsFunc(s.Fields, func(c Column) bool { return c.Name == column }) {
			l.problems.Add(file, node.Line, "name a field of "+s.SchemaFile, "topic %s: %s: %q is not a field of its schema", topic, what, column)
		}
	}
	l.p.Sources = append(l.p.Sources, s)
}

func (l *loader) schema(s *Source) {
	s.Schema = l.read(s.SchemaFile)
	if s.Schema == nil {
		return
	}
	fields, err := AvroColumns(s.Schema)
	if err != nil {
		l.problems.Add(s.SchemaFile, 0, "", "%v", err)
	}
	for _, f := range fields {
		if !identifier.MatchString(f.Name) || strings.HasPrefix(f.Name, "_") {
			l.problems.Add(s.SchemaFile, 0, identifierRemedy+"; names with a leading _ are Lockstep's", "field %q is not a plain name", f.Name)
		}
	}
	s.Fields = fields
}

// seeds reads seeds/*.csv: tables whose rows belong to the project.
func (l *loader) seeds() {
	files, _ := fs.Glob(l.p.FS, "seeds/*.csv")
	for _, file := range files {
		records, err := csv.NewReader(strings.NewReader(string(l.read(file)))).ReadAll()
		if err != nil {
			l.problems.Add(file, 0, "", "cannot read the seed: %v", err)
			continue
		}
		if len(records) == 0 {
			l.problems.Add(file, 1, "write a header line with the column names", "the seed is empty")
			continue
		}
		seed := &Seed{Name: "seed." + strings.TrimSuffix(path.Base(file), ".csv"), File: file, Rows: records[1:]}
		for _, name := range records[0] {
			if !identifier.MatchString(name) {
				l.problems.Add(file, 1, identifierRemedy, "column %q is not a plain name", name)
			}
			seed.Columns = append(seed.Columns, Column{Name: name, Type: Type{Kind: String}})
		}
		l.p.Seeds = append(l.p.Seeds, seed)
	}
}

type headerYAML struct {
	Description  string      `yaml:"description"`
	Materialized string      `yaml:"materialized"`
	UniqueKey    []string    `yaml:"unique_key"`
	Scope        []string    `yaml:"scope"`
	PartitionBy  []string    `yaml:"partition_by"`
	Columns      []yaml.Node `yaml:"columns"`
}

type columnYAML struct {
	Name        string      `yaml:"name"`
	Type        string      `yaml:"type"`
	Description string      `yaml:"description"`
	DataTests   []yaml.Node `yaml:"data_tests"`
}

func (l *loader) models() {
	files, _ := fs.Glob(l.p.FS, "models/*/*.sql")
	for _, file := range files {
		l.model(file)
	}
	sort.Slice(l.p.Models, func(i, j int) bool { return l.p.Models[i].Name < l.p.Models[j].Name })
}

func (l *loader) model(file string) {
	text := string(l.read(file))
	namespace, table := path.Base(path.Dir(file)), strings.TrimSuffix(path.Base(file), ".sql")
	m := &Model{Name: namespace + "." + table, File: file, SQL: text, ColumnLines: map[string]int{}}
	if !identifier.MatchString(namespace) || !identifier.MatchString(table) {
		l.problems.Add(file, 0, identifierRemedy, "table name %s is not plain", m.Name)
	}
	if slices.Contains([]string{"bronze", "raw", "seed"}, namespace) {
		l.problems.Add(file, 0, "use another folder, such as silver or gold", "namespace %s is Lockstep's own", namespace)
	}
	open := strings.Index(text, "/*")
	end := strings.Index(text, "*/")
	if open < 0 || end < open || strings.TrimSpace(text[:open]) != "" {
		l.problems.Add(file, 1, "begin the file with /* ... */ that holds description, materialized, unique_key and columns", "the model has no header")
		return
	}
	before := strings.Count(text[:open], "\n")
	m.Line = 1 + strings.Count(text[:end], "\n")
	header := text[open+2 : end]
	var y headerYAML
	if !l.yaml(file, before, []byte(header), &y) {
		return
	}
	m.Description, m.Materialized = strings.TrimSpace(y.Description), Materialized(y.Materialized)
	m.UniqueKey, m.Scope, m.PartitionBy = y.UniqueKey, y.Scope, y.PartitionBy
	if y.Materialized == "" {
		m.Materialized = Incremental
	}
	if len(m.Scope) == 0 {
		m.Scope = m.UniqueKey
	}
	for i := range y.Columns {
		l.column(m, before, &y.Columns[i])
	}
	l.checkHeader(m)
	l.p.Models = append(l.p.Models, m)
}

func (l *loader) column(m *Model, before int, node *yaml.Node) {
	var y columnYAML
	line := before + node.Line
	node.Line = line
	if !l.decodeNode(m.File, node, &y) {
		return
	}
	t, err := ParseType(y.Type)
	if err != nil {
		l.problems.Add(m.File, line, "", "column %s: %v", y.Name, err)
	}
	if !identifier.MatchString(y.Name) {
		l.problems.Add(m.File, line, identifierRemedy, "column %q is not a plain name", y.Name)
	}
	if strings.TrimSpace(y.Description) == "" {
		l.problems.Add(m.File, line, "say in `description:` what the column means", "column %s is not documented", y.Name)
	}
	if _, twice := m.ColumnLines[y.Name]; twice {
		l.problems.Add(m.File, line, "remove one", "column %s is declared twice", y.Name)
	}
	c := Column{Name: y.Name, Type: t, Description: y.Description}
	for i := range y.DataTests {
		if test, ok := l.dataTest(m.File, line, &y.DataTests[i]); ok {
			c.Tests = append(c.Tests, test)
		}
	}
	m.ColumnLines[y.Name] = line
	m.Columns = append(m.Columns, c)
}

func (l *loader) dataTest(file string, line int, node *yaml.Node) (DataTest, bool) {
	switch node.Value {
	case "not_null", "unique":
		return DataTest{Kind: node.Value}, true
	}
	var y struct {
		AcceptedValues []string `yaml:"accepted_values"`
		Relationships  *struct {
			To    string `yaml:"to"`
			Field string `yaml:"field"`
		} `yaml:"relationships"`
	}
	if err := node.Decode(&y); err == nil {
		if y.AcceptedValues != nil {
			return DataTest{Kind: "accepted_values", Values: y.AcceptedValues}, true
		}
		if y.Relationships != nil {
			return DataTest{Kind: "relationships", To: y.Relationships.To, Field: y.Relationships.Field}, true
		}
	}
	l.problems.Add(file, line, "use not_null, unique, accepted_values: [...] or relationships: {to: table, field: column}", "unknown data test")
	return DataTest{}, false
}

func (l *loader) checkHeader(m *Model) {
	if m.Description == "" {
		l.problems.Add(m.File, 1, "say in `description:` what a row is", "the model is not documented")
	}
	if !slices.Contains([]Materialized{Incremental, View, BatchOnly}, m.Materialized) {
		l.problems.Add(m.File, 1, "use incremental, view or batch", "unknown materialization %q", m.Materialized)
	}
	if len(m.UniqueKey) == 0 {
		l.problems.Add(m.File, 1, "name in `unique_key:` the columns that tell two rows apart", "the model has no unique key")
	}
	for _, list := range [][]string{m.UniqueKey, m.Scope} {
		for _, name := range list {
			if _, ok := m.ColumnLines[name]; !ok {
				l.problems.Add(m.File, 1, "add it under `columns:`", "key column %s is not declared", name)
			}
		}
	}
	for _, name := range m.Scope {
		if !slices.Contains(m.UniqueKey, name) {
			l.problems.Add(m.File, 1, "a scope is made of columns of the unique key", "scope column %s is not part of the unique key", name)
		}
	}
}

type unitTestYAML struct {
	Name   string                 `yaml:"name"`
	Model  string                 `yaml:"model"`
	Given  map[string][]yaml.Node `yaml:"given"`
	Expect []yaml.Node            `yaml:"expect"`
}

func (l *loader) tests() {
	files, _ := fs.Glob(l.p.FS, "tests/*.yaml")
	for _, file := range files {
		var nodes []yaml.Node
		if !l.yaml(file, 0, l.read(file), &nodes) {
			continue
		}
		for i := range nodes {
			l.unitTest(file, &nodes[i])
		}
	}
}

func (l *loader) unitTest(file string, node *yaml.Node) {
	// Rows are read from the node itself, which knows their lines.
	var y unitTestYAML
	if !l.decodeNode(file, node, &y) {
		return
	}
	if err := node.Decode(&y); err != nil {
		l.yamlProblem(file, 0, err)
		return
	}
	t := &UnitTest{File: file, Line: node.Line, Name: y.Name, Model: y.Model, Given: map[string][]Row{}}
	for table, rows := range y.Given {
		t.Given[table] = []Row{}
		for i := range rows {
			t.Given[table] = append(t.Given[table], l.row(file, &rows[i]))
		}
	}
	for i := range y.Expect {
		t.Expect = append(t.Expect, l.row(file, &y.Expect[i]))
	}
	if !slices.ContainsFunc(l.p.Models, func(m *Model) bool { return m.Name == y.Model }) {
		l.problems.Add(file, node.Line, "name a table under models/", "test %q: there is no model %q", y.Name, y.Model)
	}
	l.p.Tests = append(l.p.Tests, t)
}

func (l *loader) row(file string, node *yaml.Node) Row {
	row := Row{Line: node.Line, Values: map[string]*string{}}
	if node.Kind != yaml.MappingNode {
		l.problems.Add(file, node.Line, "write {column: value, ...}", "a row must be a mapping")
		return row
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		k, v := node.Content[i].Value, node.Content[i+1]
		if v.Tag == "!!null" {
			row.Values[k] = nil
			continue
		}
		value := v.Value
		row.Values[k] = &value
	}
	return row
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// AvroColumns gives the columns of an Avro record schema: one per field, in
// order. A field may be a union of null and one type.
func AvroColumns(schema []byte) ([]Column, error) {
	var record struct {
		Type   string `json:"type"`
		Fields []struct {
			Name string          `json:"name"`
			Doc  string          `json:"doc"`
			Type json.RawMessage `json:"type"`
		} `json:"fields"`
	}
	if err := json.Unmarshal(schema, &record); err != nil {
		return nil, fmt.Errorf("cannot read the Avro schema: %w", err)
	}
	if record.Type != "record" {
		return nil, fmt.Errorf("the Avro schema is a %s: a topic's value must be a record", record.Type)
	}
	columns := make([]Column, 0, len(record.Fields))
	for _, f := range record.Fields {
		t, err := avroType(f.Type)
		if err != nil {
			return nil, fmt.Errorf("field %s: %w", f.Name, err)
		}
		columns = append(columns, Column{Name: f.Name, Type: t, Description: f.Doc})
	}
	return columns, nil
}

func avroType(raw json.RawMessage) (Type, error) {
	var union []json.RawMessage
	if json.Unmarshal(raw, &union) == nil {
		var types []json.RawMessage
		for _, branch := range union {
			if string(branch) != `"null"` {
				types = append(types, branch)
			}
		}
		if len(types) != 1 {
			return Type{}, fmt.Errorf("a union of %d types cannot be a column: use null and one type", len(types))
		}
		return avroType(types[0])
	}
	t := struct {
		Type        string `json:"type"`
		LogicalType string `json:"logicalType"`
		Precision   int    `json:"precision"`
		Scale       int    `json:"scale"`
	}{}
	if json.Unmarshal(raw, &t.Type) != nil {
		if err := json.Unmarshal(raw, &t); err != nil {
			return Type{}, fmt.Errorf("type %s cannot be a column: use a primitive or a logical type", raw)
		}
	}
	switch t.Type + "/" + t.LogicalType {
	case "bytes/decimal", "fixed/decimal":
		return ParseType(fmt.Sprintf("decimal(%d,%d)", t.Precision, t.Scale))
	case "int/date":
		return Type{Kind: Date}, nil
	case "long/timestamp-millis", "long/timestamp-micros", "long/local-timestamp-millis", "long/local-timestamp-micros":
		return Type{Kind: Timestamp}, nil
	}
	switch t.Type {
	case "string", "enum":
		return Type{Kind: String}, nil
	case "boolean":
		return Type{Kind: Boolean}, nil
	case "int":
		return Type{Kind: Int}, nil
	case "long":
		return Type{Kind: Bigint}, nil
	case "float", "double":
		return Type{Kind: Double}, nil
	}
	return Type{}, fmt.Errorf("type %s cannot be a column: use string, boolean, int, long, float, double, decimal, date or timestamp", raw)
}
