package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/engine/spark"
	"lockstep/lake"
	"lockstep/project"
)

// A name of the project points to a SELECT. The SQL of a model never changes:
// it runs in a session whose catalog of names holds one view for each.

// names says what the tables of the project point to.
type names struct {
	program *compile.Program
	tables  []string // all of them, each behind what it reads
	// of gives a table's rows as a SELECT; empty: there is no such table.
	of func(ctx context.Context, table string) (string, error)
	// lax: a view of the project that does not fit the tables is left out, as
	// those of today may not fit what was published long ago.
	lax bool
}

// allTables lists all tables of a program, each behind what it reads.
func allTables(p *compile.Program) []string {
	var out []string
	for _, s := range p.Project.Sources {
		out = append(out, s.Table())
	}
	for _, s := range p.Project.Seeds {
		out = append(out, s.Name)
	}
	for _, m := range p.Models {
		out = append(out, m.Name)
	}
	return out
}

// closure adds to tables what views among them read.
func (n names) closure(wanted []string) []string {
	need := map[string]bool{}
	for _, t := range wanted {
		need[t] = true
	}
	for i := len(n.program.Models) - 1; i >= 0; i-- {
		if m := n.program.Models[i]; need[m.Name] && m.Materialized == project.View {
			for _, t := range m.Reads {
				need[t] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(n.tables), func(t string) bool { return !need[t] })
}

// catalogOfNames is that of every session of ours.
const catalogOfNames = "names"

// namesSettings make the catalog: it lives in the session, and ends with it.
var namesSettings = map[string]string{
	"spark.sql.catalog." + catalogOfNames:                    "org.apache.iceberg.spark.SparkCatalog",
	"spark.sql.catalog." + catalogOfNames + ".catalog-impl":  "org.apache.iceberg.inmemory.InMemoryCatalog",
	"spark.sql.catalog." + catalogOfNames + ".cache-enabled": "false",
}

// session opens a session in which tables of the project have their names.
func (b *Backend) session(ctx context.Context, n names, wanted []string, settings map[string]string) (*spark.Session, error) {
	all := map[string]string{}
	for _, set := range []map[string]string{namesSettings, settings} {
		for k, v := range set {
			all[k] = v
		}
	}
	s, err := b.server.Open(ctx, all)
	if err != nil {
		return nil, err
	}
	if err := n.create(ctx, s, catalogOfNames, n.closure(wanted), nil); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// create makes the views of tables in a catalog, which is then the session's.
// there, if it is given, holds what views are there already, as text by table.
func (n names) create(ctx context.Context, s *spark.Session, catalog string, tables []string, there map[string]string) error {
	made := map[string]bool{}
	for _, table := range tables {
		namespace, _, _ := strings.Cut(table, ".")
		if !made[namespace] && there[namespace] == "" {
			if err := s.Exec(ctx, "CREATE NAMESPACE IF NOT EXISTS "+catalog+"."+namespace); err != nil {
				return err
			}
			made[namespace] = true
		}
	}
	if there[catalog] == "" {
		if err := s.Exec(ctx, "USE "+catalog); err != nil {
			return err
		}
	}
	for _, table := range tables {
		text, err := n.of(ctx, table)
		if err != nil {
			return err
		}
		if text == "" || there[table] == text {
			continue
		}
		if err := s.Exec(ctx, "CREATE OR REPLACE VIEW "+table+" AS "+text); err != nil && !n.mayMiss(table, err) {
			return fmt.Errorf("cannot make the view of %s: %w", table, err)
		}
		if there != nil {
			namespace, _, _ := strings.Cut(table, ".")
			there[table], there[namespace], there[catalog] = text, "made", "used"
		}
	}
	return nil
}

func (n names) mayMiss(table string, err error) bool {
	m := n.program.Model(table)
	var answer *spark.SQLError
	return n.lax && m != nil && m.Materialized == project.View && errors.As(err, &answer)
}

var word = regexp.MustCompile(`[A-Za-z_][A-Za-z0-9_]*`)

// mentioned lists the tables that a statement may name: those whose name is a
// word of it.
func (n names) mentioned(sql string) []string {
	words := map[string]bool{}
	for _, w := range word.FindAllString(strings.ToLower(sql), -1) {
		words[w] = true
	}
	return slices.DeleteFunc(slices.Clone(n.tables), func(t string) bool {
		_, name, _ := strings.Cut(t, ".")
		return !words[strings.ToLower(name)]
	})
}

// pinned are the names at a moment. A query that reads them sees one step
// across all tables.
func (b *Backend) pinned(m *moment) names {
	n := names{program: b.program, tables: allTables(b.program), lax: !m.live}
	if !m.live && m.manifest != nil {
		for _, t := range slices.Sorted(maps.Keys(m.manifest.Tables)) { // of models that are gone
			if b.program.Model(t) == nil {
				n.tables = append(n.tables, t)
			}
		}
	}
	n.of = func(ctx context.Context, table string) (string, error) {
		if text, err := b.input(ctx, table, m.ends); text != "" || err != nil {
			return text, err
		}
		model := b.program.Model(table)
		switch {
		case model != nil && model.Materialized == project.View:
			return model.Select, nil
		case !m.live && m.manifest != nil && m.manifest.Tables[table] != 0: // with the columns that it had
			return "SELECT * FROM " + versionSQL(table, m.manifest.Tables[table]), nil
		case m.live && model.Relation != nil:
			return servedSQL(model.Relation, model.Fingerprint, baseSQL(model, m), speedSQL(m.speed), m.after(), m.step), nil
		}
		return "SELECT " + columnNames(model.Columns, "") + " FROM " + baseSQL(model, m), nil
	}
	return n
}

// input gives bronze tables below the end of a step, and seeds.
func (b *Backend) input(ctx context.Context, table string, ends map[string]map[int32]int64) (string, error) {
	for _, s := range b.program.Project.Sources {
		if s.Table() == table {
			return b.bronze(ctx, s, duckdb.Below(ends[s.Topic]))
		}
	}
	for _, s := range b.program.Project.Seeds {
		if s.Name == table {
			return seedSQL(s), nil
		}
	}
	return "", nil
}

// bronze gives rows of a bronze table. No snapshot is named: the table only
// grows, so that what a condition on offsets keeps is the same in all that
// come later. Columns that the table does not have yet are null.
func (b *Backend) bronze(ctx context.Context, s *project.Source, where string) (string, error) {
	head, err := b.lake.Head(ctx, s.Table())
	if errors.Is(err, lake.ErrNoTable) {
		return "SELECT " + columnNames(s.Columns(), "") + " FROM " + emptySQL(s.Columns()), nil
	}
	if err != nil {
		return "", fmt.Errorf("cannot read %s: %w", s.Table(), err)
	}
	parts := make([]string, len(s.Columns()))
	for i, c := range s.Columns() {
		expr := lake.StoredName(c.Name)
		if !slices.ContainsFunc(head.Columns, func(h project.Column) bool { return h.Name == c.Name }) {
			expr = fmt.Sprintf("CAST(NULL AS %s)", sparkType(c.Type))
		}
		if parts[i] = expr; expr != c.Name {
			parts[i] += " AS " + c.Name
		}
	}
	return fmt.Sprintf("SELECT * FROM (SELECT %s FROM lake.%s) WHERE %s", strings.Join(parts, ", "), s.Table(), where), nil
}

// baseSQL is a model's table at a moment's manifest.
func baseSQL(model *compile.Model, m *moment) string {
	if id := m.snapshot(model); id != 0 {
		return versionSQL(model.Name, id)
	}
	return emptySQL(model.Columns)
}

// versionSQL is a table of the lake at a snapshot.
func versionSQL(table string, snapshot int64) string {
	return fmt.Sprintf("lake.%s VERSION AS OF %d", table, snapshot)
}

// speedSQL is the speed table at a snapshot; empty: there is none.
func speedSQL(snapshot int64) string {
	if snapshot == 0 {
		return ""
	}
	return versionSQL(speedTable, snapshot)
}

// newest stands for the newest step.
const newest = -1

// servedSQL gives the rows of a model after step until, over its table as of
// step after:
//
//	the table's rows whose scope no step in (after, until] changed
//	∪ of each scope that one changed, the rows of the last such step.
func servedSQL(r *compile.Relation, fingerprint, base, speed string, after, until int64) string {
	columns := columnNames(r.Columns, "")
	if speed == "" {
		return "SELECT " + columns + " FROM " + base
	}
	where := fmt.Sprintf("model = %s AND fingerprint = %s AND step > %d", textSQL(r.Name), textSQL(fingerprint), after)
	if until != newest {
		where += fmt.Sprintf(" AND step <= %d", until)
	}
	changed := fmt.Sprintf("SELECT DISTINCT from_json(scope, %s) AS s FROM %s WHERE %s", textSQL(jsonSchema(r.Scope)), speed, where)
	same := make([]string, len(r.Scope))
	for i, c := range r.Scope {
		same[i] = fmt.Sprintf("b.%s <=> t.s.%s", c.Name, c.Name)
	}
	last := fmt.Sprintf("SELECT from_json(row, %s) AS r, empty, step, max(step) OVER (PARTITION BY scope) AS last FROM %s WHERE %s", textSQL(jsonSchema(r.Columns)), speed, where)
	return fmt.Sprintf("SELECT %s FROM %s AS b LEFT ANTI JOIN (%s) AS t ON %s UNION ALL SELECT %s FROM (%s) AS o WHERE step = last AND NOT empty",
		columns, base, changed, strings.Join(same, " AND "), columnNames(r.Columns, "r."), last)
}

// sparkType is a column type as Spark's DDL names it.
func sparkType(t project.Type) string {
	if t.Kind == project.Timestamp {
		return "timestamp_ntz"
	}
	return t.String()
}

// jsonSchema is the schema of a JSON object for from_json.
func jsonSchema(columns []project.Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = "`" + c.Name + "` " + sparkType(c.Type)
	}
	return strings.Join(parts, ", ")
}

func columnNames(columns []project.Column, prefix string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = prefix + c.Name
	}
	return strings.Join(out, ", ")
}

// emptySQL is a table without rows, in parentheses.
func emptySQL(columns []project.Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprintf("CAST(NULL AS %s) AS %s", sparkType(c.Type), c.Name)
	}
	return "(SELECT " + strings.Join(parts, ", ") + " WHERE FALSE)"
}

// seedSQL is a seed with its rows in the text.
func seedSQL(s *project.Seed) string {
	if len(s.Rows) == 0 {
		return "SELECT * FROM " + emptySQL(s.Columns)
	}
	rows := make([]string, len(s.Rows))
	for i, row := range s.Rows {
		cells := make([]string, len(row))
		for c, v := range row {
			cells[c] = textSQL(v)
		}
		rows[i] = "(" + strings.Join(cells, ", ") + ")"
	}
	return fmt.Sprintf("SELECT * FROM VALUES %s AS t(%s)", strings.Join(rows, ", "), columnNames(s.Columns, ""))
}

var escape = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`)

// textSQL is a text as a literal of Spark SQL.
func textSQL(s string) string { return "'" + escape.Replace(s) + "'" }
