package dashboard

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// Check reads the dashboards of a project and tries every statement that they
// can make on empty tables. It gives the dashboards that can be shown, and the
// faults of the others (of type project.Problems).
func Check(ctx context.Context, fsys fs.FS, program *compile.Program) ([]*Dashboard, error) {
	read, err := Load(fsys)
	var problems project.Problems
	if err != nil && !errors.As(err, &problems) {
		return nil, err
	}
	if len(read) == 0 {
		return nil, problems.Err()
	}
	t, err := openTables(ctx, program)
	if err != nil {
		return nil, err
	}
	defer t.session.Close()
	var out []*Dashboard
	for _, d := range read {
		var own project.Problems
		t.dashboard(ctx, d, &own)
		if len(own) == 0 {
			out = append(out, d)
		}
		problems = append(problems, own...)
	}
	return out, problems.Err()
}

// Columns are those of what the panel reads: name and type as DuckDB or the
// model writes it. Nil before Check.
func (p *Panel) Columns() map[string]string { return p.columns }

// Columns are those of what the detail reads. Nil before Check.
func (d *Detail) Columns() map[string]string { return d.columns }

// tables are the project's, without rows.
type tables struct {
	session *duckdb.Session
	columns map[string]map[string]string // table -> column -> type
}

func openTables(ctx context.Context, program *compile.Program) (*tables, error) {
	s, err := duckdb.OpenMemory(ctx, duckdb.Options{Threads: 1})
	if err != nil {
		return nil, err
	}
	t := &tables{session: s, columns: map[string]map[string]string{}}
	for _, src := range program.Project.Sources {
		err = errors.Join(err, t.create(ctx, src.Table(), src.Columns()))
	}
	for _, m := range program.Models {
		err = errors.Join(err, t.create(ctx, m.Name, m.Columns))
	}
	if err = errors.Join(err, s.CreateSeeds(ctx, program.Project)); err != nil {
		s.Close()
		return nil, fmt.Errorf("cannot check dashboards: %w", err)
	}
	for _, seed := range program.Project.Seeds {
		t.note(seed.Name, seed.Columns)
	}
	return t, nil
}

func (t *tables) create(ctx context.Context, name string, columns []project.Column) error {
	namespace, _, _ := strings.Cut(name, ".")
	t.note(name, columns)
	return errors.Join(t.session.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+namespace), t.session.CreateTable(ctx, name, columns))
}

func (t *tables) note(name string, columns []project.Column) {
	t.columns[name] = map[string]string{}
	for _, c := range columns {
		t.columns[name][c.Name] = c.Type.String()
	}
}

func (t *tables) dashboard(ctx context.Context, d *Dashboard, problems *project.Problems) {
	add := func(line int, do, format string, args ...any) { problems.Add(d.File, line, do, format, args...) }
	for _, f := range d.Filters {
		t.filter(ctx, f, add)
	}
	for _, r := range d.Rows {
		for _, p := range r.Panels {
			t.panel(ctx, d, p, add)
		}
	}
	if len(*problems) > 0 {
		return
	}
	for _, r := range d.Rows {
		for _, p := range r.Panels {
			t.statements(ctx, d, p, add)
		}
	}
}

type addFunc func(line int, do, format string, args ...any)

func (t *tables) filter(ctx context.Context, f *Filter, add addFunc) {
	need := func(what, table, query string, names ...string) {
		columns := t.sourceColumns(ctx, f.Line, what, table, query, add)
		for _, name := range names {
			if columns != nil && columns[name] == "" {
				add(f.Line, "use one of "+strings.Join(sorted(columns), ", "), "%s: its source has no column %q", what, name)
			}
		}
	}
	if f.Table != "" || f.Query != "" {
		need("filter "+f.Name, f.Table, f.Query, f.column())
	}
	for _, via := range f.Builtin.Via {
		need("the via of filter "+f.Name, via.Table, via.Query, f.column(), via.On)
	}
}

// panel finds the columns of what it and its detail show.
func (t *tables) panel(ctx context.Context, d *Dashboard, p *Panel, add addFunc) {
	p.columns = t.sourceColumns(ctx, p.Line, "panel "+p.Name, p.Table, p.Query, add)
	if p.columns == nil {
		return
	}
	for _, name := range slices.Concat(p.Builtin.Switch, p.Builtin.Drill) {
		if p.dimension(name).SQL == "" && p.columns[name] == "" {
			add(p.Line, "use one of "+strings.Join(sorted(p.columns), ", "), "panel %s: its source has no column %q", p.Name, name)
		}
	}
	for _, name := range p.Builtin.Drill {
		if d.FilterOf(name) == nil {
			add(p.Line, "declare a filter (kind hidden, if it shall have no control)", "panel %s: it drills by %q, which has no filter", p.Name, name)
		}
	}
	for _, name := range p.Click {
		if d.FilterOf(name) == nil {
			add(p.Line, "declare a filter (kind hidden, if it shall have no control)", "panel %s: a click chooses %q, which has no filter", p.Name, name)
		}
	}
	if x := p.Builtin.Detail; x != nil {
		x.columns = t.sourceColumns(ctx, x.Line, "the detail of panel "+p.Name, x.Table, x.Query, add)
	}
}

func (t *tables) sourceColumns(ctx context.Context, line int, what, table, query string, add addFunc) map[string]string {
	if table != "" {
		if t.columns[table] == nil {
			add(line, "name a table of the project", "%s: there is no table %q", what, table)
		}
		return t.columns[table]
	}
	columns, err := t.describe(ctx, query)
	if err != nil {
		add(line, "write one SELECT over the project's tables", "%s: %s", what, cause(err))
		return nil
	}
	return columns
}

func (t *tables) describe(ctx context.Context, query string) (map[string]string, error) {
	if err := t.session.CheckReadOnly(query); err != nil {
		return nil, err
	}
	columns := map[string]string{}
	err := t.session.Each(ctx, "DESCRIBE "+query, func(rec arrow.RecordBatch) error {
		name, kind := rec.Column(0).(*array.String), rec.Column(1).(*array.String)
		for i := range int(rec.NumRows()) {
			columns[strings.Clone(name.Value(i))] = strings.Clone(kind.Value(i)) // the batch is reused
		}
		return nil
	})
	return columns, err
}

// statements tries all that the panel can ask, with each filter that reaches
// it.
func (t *tables) statements(ctx context.Context, d *Dashboard, p *Panel, add addFunc) {
	levels := append([]string{""}, slices.Concat(p.Builtin.Switch, p.Builtin.Drill)...)
	if p.Builtin.Detail != nil {
		levels = append(levels, DetailLevel)
	}
	filters := map[string]Selection{}
	for _, f := range d.Filters {
		filters[f.Name] = Selection{Values: []*string{nil}}
	}
	for _, by := range levels {
		for _, r := range []Request{{By: by}, {By: by, Filters: filters, Search: "0"}} {
			sql, err := d.Query(p, r)
			var types map[string]string
			if err == nil {
				types, err = t.describe(ctx, sql)
			}
			if err != nil {
				add(p.Line, "see the expressions of its dimensions, measures, where and sort", "panel %s: %s", p.Name, cause(err))
				return
			}
			d.formats(p, by, types)
		}
	}
}

// formats gives columns without a format the one of their type.
func (d *Dashboard) formats(p *Panel, by string, types map[string]string) {
	set := func(name string, format *string) {
		if *format == "" && d.Field(name).Format == "" {
			*format = formatOf(types[name])
		}
	}
	dimensions := p.Dimensions
	if by == DetailLevel {
		dimensions = p.Builtin.Detail.Dimensions
	}
	for i := range dimensions {
		set(dimensions[i].Name, &dimensions[i].Format)
	}
	for i := range p.Measures {
		set(p.Measures[i].Name, &p.Measures[i].Format)
	}
}

func formatOf(kind string) string {
	switch kind {
	case "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT":
		return "integer"
	case "FLOAT", "DOUBLE":
		return "decimal"
	case "DATE":
		return "date"
	case "TIMESTAMP":
		return "datetime"
	}
	if strings.HasPrefix(kind, "DECIMAL") {
		return "decimal"
	}
	return ""
}

// cause is what DuckDB says, without the statement around it.
func cause(err error) string {
	text := err.Error()
	for e := err; e != nil; e = errors.Unwrap(e) {
		text = e.Error()
	}
	first, _, _ := strings.Cut(text, "\n")
	return first
}
