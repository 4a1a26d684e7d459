package superset

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/dashboard"
)

// dataset is a table of the project, or a SELECT.
type dataset struct {
	uuid        string
	schema      string // empty: a SELECT
	name        string
	sql         string
	description string
	columns     []column
}

type column struct {
	name, label, kind, description string
	hidden                         bool // only sorted by
}

func (d *dataset) file() string {
	if d.schema == "" {
		return strings.ReplaceAll(d.name, ".", "_")
	}
	return d.schema + "_" + d.name
}

func (d *dataset) has(column string) bool { return d.column(column) != nil }

func (d *dataset) column(name string) *column {
	i := slices.IndexFunc(d.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return &d.columns[i]
}

func (d *dataset) yaml(database string) dict {
	var columns []dict
	for _, c := range d.columns {
		columns = append(columns, dict{
			"column_name": c.name, "verbose_name": optional(c.label), "type": c.kind, "description": optional(c.description),
			"is_dttm": c.kind == "TIMESTAMP" || c.kind == "DATE", "is_active": true, "groupby": !c.hidden, "filterable": !c.hidden, "expression": nil,
		})
	}
	return dict{
		"table_name": d.name, "schema": optional(d.schema), "catalog": nil, "sql": optional(d.sql), "description": optional(d.description), "columns": columns,
		"metrics": []dict{{"metric_name": "count", "verbose_name": "Rows", "metric_type": "count", "expression": "count(*)"}},
		"uuid":    d.uuid,
		"params":  nil, "template_params": nil, "main_dttm_col": nil, "offset": 0, "cache_timeout": nil, "filter_select_enabled": true,
		"normalize_columns": false, "always_filter_main_dttm": false, "is_managed_externally": true, "version": "1.0.0", "database_uuid": database,
	}
}

// optional writes nothing as null.
func optional(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// modelDataset adds a model as a table, with all that its header says.
func (b *builder) modelDataset(m *compile.Model) {
	d := b.tableDataset(m.Name)
	d.description = m.Description
	for _, c := range m.Columns {
		d.columns = append(d.columns, column{name: c.Name, kind: kind(c.Type.String()), description: c.Description})
	}
}

func (b *builder) tableDataset(table string) *dataset {
	schema, name, _ := strings.Cut(table, ".")
	d := &dataset{uuid: b.uuid("dataset", table), schema: schema, name: name}
	b.datasets = append(b.datasets, d)
	return d
}

// physical finds the dataset of a table; other tables than models are added
// when they are first asked for.
func (b *builder) physical(table string, columns map[string]string) *dataset {
	schema, name, _ := strings.Cut(table, ".")
	for _, d := range b.datasets {
		if d.schema == schema && d.name == name {
			return d
		}
	}
	d := b.tableDataset(table)
	for _, c := range sortedKeys(columns) {
		d.columns = append(d.columns, column{name: c, kind: kind(columns[c])})
	}
	return d
}

// virtual finds the dataset of a SELECT, or adds it under a name that is free.
func (b *builder) virtual(sql string, columns []column, names ...string) *dataset {
	taken := func(name string) bool {
		return slices.ContainsFunc(b.datasets, func(d *dataset) bool { return d.schema == "" && d.name == name })
	}
	for _, d := range b.datasets {
		if d.sql == sql {
			return d
		}
	}
	name := names[len(names)-1]
	for _, n := range names {
		if !taken(n) {
			name = n
			break
		}
	}
	for i := 2; taken(name); i++ {
		name = fmt.Sprintf("%s_%d", names[len(names)-1], i)
	}
	d := &dataset{uuid: b.uuid("dataset", "sql/"+name), name: name, sql: sql, columns: columns}
	b.datasets = append(b.datasets, d)
	return d
}

// source is what a chart of a panel reads.
type source struct {
	*dataset
	sort []order
}

type order struct {
	column     string
	descending bool
}

// panelSource makes the dataset of a panel: the table itself where the panel
// takes it as it is, else a SELECT that holds its condition, its expressions,
// and the filters that reach it through other tables.
func (b *builder) panelSource(d *dashboard.Dashboard, p *dashboard.Panel, reaching []string) source {
	sorts := rowSorts(p)
	through := b.through(d, p, reaching)
	plain := p.Table != "" && p.Where == "" && through == "" && !slices.ContainsFunc(sorts, func(s rowSort) bool { return s.sql != "" }) &&
		!slices.ContainsFunc(p.Dimensions, func(x dashboard.Dimension) bool { return x.SQL != "" })
	var s source
	if plain {
		s.dataset = b.physical(p.Table, p.Columns())
	} else {
		columns, items := panelColumns(p, sorts)
		b.describe(p.Table, columns)
		sql := "SELECT " + strings.Join(items, ", ") + "\nFROM " + from(p.Table, p.Query) + " AS t\nWHERE " + condition(p.Where) + through
		_, base, _ := strings.Cut(p.Table, ".")
		names := []string{d.Name + "." + p.Name}
		if base != "" {
			names = []string{d.Name + "." + base, d.Name + "." + p.Name}
		}
		s.dataset = b.virtual(sql, columns, names...)
	}
	for _, r := range sorts {
		s.sort = append(s.sort, order{r.column, r.descending})
	}
	return s
}

// describe says of a table's columns what its model says.
func (b *builder) describe(table string, columns []column) {
	for _, m := range b.program.Models {
		for _, x := range m.Columns {
			i := slices.IndexFunc(columns, func(c column) bool { return c.name == x.Name })
			if m.Name == table && i >= 0 {
				columns[i].description = x.Description
			}
		}
	}
}

// panelColumns lists what a panel's SELECT gives: every column of its source,
// but for those in whose place an expression stands.
func panelColumns(p *dashboard.Panel, sorts []rowSort) (columns []column, items []string) {
	expressions := map[string]string{}
	for _, x := range p.Dimensions {
		if x.SQL != "" {
			expressions[x.Name] = x.SQL
		}
	}
	for _, name := range sortedKeys(p.Columns()) {
		if expressions[name] == "" {
			columns = append(columns, column{name: name, kind: kind(p.Columns()[name])})
			items = append(items, "t."+name)
		}
	}
	for _, x := range p.Dimensions {
		if x.SQL != "" {
			columns = append(columns, column{name: x.Name, kind: "STRING"})
			items = append(items, "("+x.SQL+") AS "+x.Name)
		}
	}
	for _, s := range sorts {
		if s.sql != "" {
			columns = append(columns, column{name: s.column, kind: "BIGINT", hidden: true})
			items = append(items, "("+s.sql+") AS "+s.column)
		}
	}
	return columns, items
}

// rowSort is an order of a panel without measures.
type rowSort struct {
	column     string
	sql        string // of the column; empty: it is one of the source
	descending bool
}

var sortWord = regexp.MustCompile(`(?i)\s+(asc|desc)$`)

// rowSorts reads how rows without measures are sorted: by columns, or by
// expressions, which become columns of the dataset.
func rowSorts(p *dashboard.Panel) []rowSort {
	if len(p.Measures) > 0 {
		return nil
	}
	var out []rowSort
	for _, s := range p.Sort {
		s = strings.TrimSpace(s)
		word := strings.ToLower(strings.TrimSpace(sortWord.FindString(s)))
		r := rowSort{column: sortWord.ReplaceAllString(s, ""), descending: word == "desc"}
		if p.Columns()[r.column] == "" {
			r.column, r.sql = fmt.Sprintf("sort_%d", len(out)+1), r.column
		}
		out = append(out, r)
	}
	return out
}

// through writes the filters that reach the panel through other tables. Their
// values are only known to Superset's templates, which an administrator turns on
// with ENABLE_TEMPLATE_PROCESSING. Where they are off, all of it is one
// comment: its own end is made by the template.
func (b *builder) through(d *dashboard.Dashboard, p *dashboard.Panel, reaching []string) string {
	type via struct {
		dashboard.Via
		columns []string
	}
	var all []*via
	for _, f := range d.Filters {
		if !slices.Contains(reaching, f.Name) || p.Columns()[columnOf(f)] != "" {
			continue
		}
		i := slices.IndexFunc(f.Builtin.Via, func(v dashboard.Via) bool { return p.Columns()[v.On] != "" })
		if i < 0 {
			continue
		}
		v := f.Builtin.Via[i]
		if strings.Contains(v.Query, "/*") || strings.Contains(v.Query, "*/") || strings.Contains(v.Query, "--") {
			b.note(d, p.Name, "the filter %s does not reach it: its query holds a comment", f.Name)
			continue
		}
		at := slices.IndexFunc(all, func(x *via) bool { return x.Via == v })
		if at < 0 {
			at = len(all)
			all = append(all, &via{Via: v})
		}
		all[at].columns = append(all[at].columns, columnOf(f))
	}
	var out strings.Builder
	for _, v := range all {
		var chosen, conditions []string
		for _, c := range v.columns {
			chosen = append(chosen, "filter_values('"+c+"')")
			conditions = append(conditions, "{% if filter_values('"+c+"') %} AND v."+c+" IN {{ filter_values('"+c+"') | where_in }}{% endif %}")
		}
		fmt.Fprintf(&out, "\n/* {%% if %s %%} {{ '*' ~ '/' }}\n  AND t.%s IN (SELECT v.%s FROM %s AS v WHERE 1 = 1%s)\n{{ '/' ~ '*' }} {%% endif %%} */",
			strings.Join(chosen, " or "), v.On, v.On, from(v.Table, v.Query), strings.Join(conditions, ""))
	}
	return out.String()
}

func from(table, query string) string {
	if table != "" {
		return table
	}
	return "(" + strings.TrimSpace(query) + ")"
}

func condition(where string) string {
	if where == "" {
		return "1 = 1"
	}
	return "(" + strings.TrimSpace(where) + ")"
}

func columnOf(f *dashboard.Filter) string {
	if f.Column != "" {
		return f.Column
	}
	return f.Name
}

// unqualify leaves out the t. before columns, which stands for what the panel
// reads: a dataset has no such name.
func unqualify(sql string) string {
	parts := strings.Split(sql, "'")
	for i := 0; i < len(parts); i += 2 { // the odd ones are between quotes
		parts[i] = qualifier.ReplaceAllString(parts[i], "")
	}
	return strings.TrimSpace(strings.Join(parts, "'"))
}

var qualifier = regexp.MustCompile(`\bt\.`)

// kind is a column's type in words that Superset and Spark know. Names are the
// project's or DuckDB's.
func kind(t string) string {
	switch upper := strings.ToUpper(t); upper {
	case "VARCHAR", "STRING":
		return "STRING"
	case "INT", "INTEGER", "SMALLINT", "TINYINT":
		return "INT"
	case "HUGEINT":
		return "DECIMAL(38, 0)"
	default:
		return upper
	}
}
