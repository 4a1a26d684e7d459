package dashboard

import (
	"fmt"
	"slices"
	"strings"
)

// Request says what a person looks at: a panel, and what was chosen.
type Request struct {
	Dashboard string               `json:"dashboard"`
	Panel     string               `json:"panel"`
	Filters   map[string]Selection `json:"filters"` // by name of the filter
	By        string               `json:"by"`      // a dimension of switch or drill, or DetailLevel; empty: the first
	Search    string               `json:"search"`
	Sort      string               `json:"sort"`   // "NAME" or "NAME desc"; tables
	Offset    int                  `json:"offset"` // rows left out before the page
	All       bool                 `json:"all"`    // no pages: for export
}

// Selection is what is chosen in a filter: values (nil is null), or a range
// with both ends, of which one may be empty.
type Selection struct {
	Values []*string `json:"values,omitempty"`
	From   string    `json:"from,omitempty"`
	To     string    `json:"to,omitempty"`
}

func (s Selection) empty() bool { return len(s.Values) == 0 && s.From == "" && s.To == "" }

// DetailLevel is the Request.By of a panel's detail.
const DetailLevel = "detail"

const (
	defaultLimit = 5_000
	maxLimit     = 200_000
	exportLimit  = 100_000
	other        = "Other"
)

// view is a panel as a request asks for it.
type view struct {
	source     string // after FROM
	where      string
	dimensions []Dimension
	measures   []Measure
	sort       []string
	search     []string
	limit      int
	page       int // rows of a page; 0: no pages
	summary    bool
	columns    map[string]string
	hide       []string
	top        int
	color      string // the dimension that is limited to top values
	value      string // the measure by which they are the top
}

// Query makes the SQL of a panel. Columns whose names begin with _ are not
// data: _rows (before paging), _max_NAME (greatest of a measure with a bar),
// _sum_NAME (the measure over all rows).
func (d *Dashboard) Query(p *Panel, r Request) (string, error) {
	v, err := d.view(p, r)
	if err != nil {
		return "", err
	}
	conditions, err := d.conditions(v, r)
	if err != nil {
		return "", err
	}
	if v.page > 0 || r.All {
		return v.pageSQL(conditions, r)
	}
	return v.chartSQL(conditions), nil
}

// Limit is how many rows of the panel's statement are shown; one more tells
// that there are more. 0: all that the statement gives.
func (d *Dashboard) Limit(p *Panel, r Request) int {
	v, err := d.view(p, r)
	if err != nil || v.page > 0 || r.All {
		return 0
	}
	return v.limit
}

func (d *Dashboard) view(p *Panel, r Request) (*view, error) {
	if r.By == DetailLevel {
		return detailView(p)
	}
	v := &view{source: source(p.Table, p.Query), where: p.Where, measures: p.Measures, sort: p.Sort, search: slices.Clone(p.Search), limit: p.Limit,
		summary: p.Summary, columns: p.columns, hide: p.Builtin.Hide, top: p.Builtin.Top, color: p.Encode["color"], value: p.Encode["y"]}
	if p.Chart == "table" {
		v.page = p.pageSize()
	}
	first, by, err := p.swap(r.By)
	if err != nil {
		return nil, err
	}
	for _, dim := range p.Dimensions {
		if dim.Name == first {
			dim = p.dimension(by)
		}
		v.dimensions = append(v.dimensions, dim)
	}
	for i, s := range v.search {
		if s == first {
			v.search[i] = by
		}
	}
	if v.color == first {
		v.color = by
	}
	if v.limit == 0 {
		v.limit = defaultLimit
	}
	v.limit = min(v.limit, maxLimit)
	return v, nil
}

func detailView(p *Panel) (*view, error) {
	t := p.Builtin.Detail
	if t == nil {
		return nil, fmt.Errorf("panel %s has no detail", p.Name)
	}
	return &view{source: source(t.Table, t.Query), where: t.Where, dimensions: t.Dimensions, sort: t.Sort, search: t.Search,
		limit: defaultLimit, page: p.pageSize(), columns: p.Builtin.Detail.columns}, nil
}

func (p *Panel) pageSize() int {
	if p.PageSize > 0 {
		return p.PageSize
	}
	return 10
}

// swap says which dimension stands in place of which.
func (p *Panel) swap(by string) (first, with string, err error) {
	if by == "" {
		return "", "", nil
	}
	for _, path := range [][]string{p.Builtin.Drill, p.Builtin.Switch} {
		if slices.Contains(path, by) {
			return path[0], by, nil
		}
	}
	return "", "", fmt.Errorf("panel %s cannot be shown by %q", p.Name, by)
}

func (p *Panel) dimension(name string) Dimension {
	for _, d := range p.Dimensions {
		if d.Name == name {
			return d
		}
	}
	return Dimension{Name: name}
}

// source writes what a panel or filter reads, as t.
func source(table, query string) string { return from(table, query) + " AS t" }

func from(table, query string) string {
	if table != "" {
		return table
	}
	return "(" + strings.TrimSpace(query) + ")"
}

func (d Dimension) expr() string {
	if d.SQL != "" {
		return d.SQL
	}
	return "t." + d.Name
}

// conditions are all that a row must meet to be shown.
func (d *Dashboard) conditions(v *view, r Request) ([]string, error) {
	var out []string
	if v.where != "" {
		out = append(out, "("+v.where+")")
	}
	for name := range r.Filters {
		if d.Filter(name) == nil {
			return nil, fmt.Errorf("dashboard %s has no filter %q", d.Name, name)
		}
	}
	// Filters that reach the source through the same table must hold for the
	// same row of it.
	var through []Via
	held := map[Via][]string{}
	for _, f := range d.Filters {
		s := r.Filters[f.Name]
		if s.empty() || slices.Contains(v.hide, f.Name) {
			continue
		}
		if v.columns[f.column()] != "" {
			out = append(out, s.condition("t."+f.column()))
		} else if via, ok := f.via(v.columns); ok {
			if held[via] == nil {
				through = append(through, via)
			}
			held[via] = append(held[via], s.condition("v."+f.column()))
		}
	}
	for _, via := range through {
		out = append(out, fmt.Sprintf("t.%s IN (SELECT v.%s FROM %s AS v WHERE %s)", via.On, via.On, from(via.Table, via.Query), strings.Join(held[via], " AND ")))
	}
	if c := v.searchCondition(r.Search); c != "" {
		out = append(out, c)
	}
	return out, nil
}

// via finds how the filter reaches a source with these columns.
func (f *Filter) via(columns map[string]string) (Via, bool) {
	for _, via := range f.Builtin.Via {
		if columns[via.On] != "" {
			return via, true
		}
	}
	return Via{}, false
}

// reaches says whether the filter narrows a source with these columns.
func (d *Dashboard) reaches(f *Filter, columns map[string]string, hidden []string) bool {
	_, via := f.via(columns)
	return !slices.Contains(hidden, f.Name) && (via || columns[f.column()] != "")
}

func (s Selection) condition(column string) string {
	var parts []string
	if s.From != "" {
		parts = append(parts, column+" >= "+Literal(s.From))
	}
	if s.To != "" {
		parts = append(parts, column+" <= "+Literal(s.To))
	}
	if len(s.Values) > 0 {
		parts = append(parts, oneOf(column, s.Values))
	}
	return strings.Join(parts, " AND ")
}

func oneOf(column string, values []*string) string {
	var texts []string
	null := false
	for _, v := range values {
		if v == nil {
			null = true
		} else {
			texts = append(texts, *v)
		}
	}
	switch in := column + " IN (" + literals(texts) + ")"; {
	case !null:
		return in
	case len(texts) == 0:
		return column + " IS NULL"
	default:
		return "(" + in + " OR " + column + " IS NULL)"
	}
}

func (v *view) searchCondition(text string) string {
	text = strings.ToLower(strings.TrimSpace(text))
	if text == "" || len(v.search) == 0 {
		return ""
	}
	var parts []string
	for _, name := range v.search {
		for _, d := range v.dimensions {
			if d.Name == name {
				parts = append(parts, fmt.Sprintf("contains(lower(cast(%s AS string)), %s)", d.expr(), Literal(text)))
			}
		}
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}

func where(conditions []string) string {
	if len(conditions) == 0 {
		return ""
	}
	return "\nWHERE " + strings.Join(conditions, "\n  AND ")
}

// inner selects dimensions and measures, unsorted.
func (v *view) inner(conditions []string) string {
	var items, groups []string
	for _, d := range v.dimensions {
		expr := d.expr()
		if v.top > 0 && d.Name == v.color {
			expr = v.topExpr(d, conditions)
		}
		items = append(items, expr+" AS "+d.Name)
		groups = append(groups, fmt.Sprint(len(items)))
	}
	for _, m := range v.measures {
		items = append(items, m.SQL+" AS "+m.Name)
	}
	sql := "SELECT " + strings.Join(items, ", ") + "\nFROM " + v.source + where(conditions)
	if len(v.measures) > 0 && len(groups) > 0 {
		sql += "\nGROUP BY " + strings.Join(groups, ", ")
	}
	return sql
}

// topExpr is the dimension, where it is not among its top values, Other.
func (v *view) topExpr(d Dimension, conditions []string) string {
	by := "count(*)"
	for _, m := range v.measures {
		if m.Name == v.value {
			by = m.SQL
		}
	}
	expr := "cast(" + d.expr() + " AS string)"
	return fmt.Sprintf("CASE WHEN %s IN (SELECT g.item FROM (SELECT %s AS item, %s AS total FROM %s%s GROUP BY 1 ORDER BY 2 DESC NULLS LAST, 1 LIMIT %d) AS g) THEN %s ELSE '%s' END",
		expr, expr, by, v.source, where(conditions), v.top, expr, other)
}

func (v *view) chartSQL(conditions []string) string {
	if len(v.measures) == 0 {
		// Expressions over the rows of the source may order it.
		return v.inner(conditions) + v.orderBy(v.sort, "") + fmt.Sprintf("\nLIMIT %d", v.limit+1)
	}
	return "SELECT g.*\nFROM (" + v.inner(conditions) + ") AS g" + v.orderBy(v.sort, "g.") + fmt.Sprintf("\nLIMIT %d", v.limit+1)
}

// pageSQL gives a page of a table, with all about it in the same statement, so
// that both are of one step.
func (v *view) pageSQL(conditions []string, r Request) (string, error) {
	items, counts := []string{"g.*", "n._rows"}, []string{"count(*) AS _rows"}
	var sums []string
	for _, m := range v.measures {
		if m.Bar {
			counts = append(counts, fmt.Sprintf("max(%s) AS _max_%s", m.Name, m.Name))
			items = append(items, "n._max_"+m.Name)
		}
		if v.summary {
			sums = append(sums, fmt.Sprintf("%s AS _sum_%s", m.SQL, m.Name))
			items = append(items, "s._sum_"+m.Name)
		}
	}
	for _, d := range v.dimensions {
		if d.Format == "bar" {
			counts = append(counts, fmt.Sprintf("max(%s) AS _max_%s", d.Name, d.Name))
			items = append(items, "n._max_"+d.Name)
		}
	}
	inner, order, err := v.ordered(conditions, r.Sort)
	if err != nil {
		return "", err
	}
	sql := "WITH g AS (" + inner + ")\nSELECT " + strings.Join(items, ", ") + "\nFROM g CROSS JOIN (SELECT " + strings.Join(counts, ", ") + " FROM g) AS n"
	if len(sums) > 0 {
		sql += "\nCROSS JOIN (SELECT " + strings.Join(sums, ", ") + " FROM " + v.source + where(conditions) + ") AS s"
	}
	if r.All {
		return sql + order + fmt.Sprintf("\nLIMIT %d", exportLimit), nil
	}
	return sql + order + fmt.Sprintf("\nLIMIT %d OFFSET %d", v.page, max(r.Offset, 0)), nil
}

// ordered gives the rows of a table and their order: what the person chose, or
// the panel's. Rows without measures may be ordered by expressions over their
// source; these become a number that goes along.
func (v *view) ordered(conditions []string, chosen string) (inner, order string, err error) {
	inner = v.inner(conditions)
	if chosen != "" {
		column, _ := splitSort(chosen)
		if !v.shows(column) {
			return "", "", fmt.Errorf("the table cannot be sorted by %q", chosen)
		}
		return inner, v.orderBy([]string{chosen}, "g."), nil
	}
	if len(v.measures) > 0 || len(v.sort) == 0 {
		return inner, v.orderBy(v.sort, "g."), nil
	}
	number := "row_number() OVER (" + strings.TrimSpace(v.orderBy(v.sort, "")) + ") AS _order"
	return strings.Replace(inner, "\nFROM ", ", "+number+"\nFROM ", 1), "\nORDER BY g._order", nil
}

func (v *view) shows(column string) bool {
	return slices.ContainsFunc(v.dimensions, func(d Dimension) bool { return d.Name == column }) ||
		slices.ContainsFunc(v.measures, func(m Measure) bool { return m.Name == column })
}

// orderBy sorts by the given, then by all dimensions, so that the order is
// always the same.
func (v *view) orderBy(sort []string, prefix string) string {
	var parts []string
	seen := map[string]bool{}
	for _, s := range sort {
		column, descending := splitSort(s)
		if !v.shows(column) {
			if prefix == "" {
				parts = append(parts, s)
			}
			continue
		}
		seen[column] = true
		parts = append(parts, v.orderItem(column, prefix)+direction(descending))
	}
	for _, d := range v.dimensions {
		if !seen[d.Name] {
			parts = append(parts, v.orderItem(d.Name, prefix)+direction(false))
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return "\nORDER BY " + strings.Join(parts, ", ")
}

func (v *view) orderItem(column, prefix string) string {
	if prefix != "" {
		return prefix + column
	}
	for _, d := range v.dimensions {
		if d.Name == column {
			return d.expr()
		}
	}
	return column
}

func direction(descending bool) string {
	if descending {
		return " DESC NULLS LAST"
	}
	return " ASC NULLS LAST"
}

// Choices makes the SQL of a filter's choices: at most 200 values that hold
// the text.
func (d *Dashboard) Choices(f *Filter, search string) string {
	expr := "t." + f.column()
	sql := fmt.Sprintf("SELECT DISTINCT %s AS choice\nFROM %s\nWHERE %s IS NOT NULL", expr, source(f.Table, f.Query), expr)
	if text := strings.ToLower(strings.TrimSpace(search)); text != "" {
		sql += fmt.Sprintf(" AND contains(lower(cast(%s AS string)), %s)", expr, Literal(text))
	}
	return sql + "\nORDER BY 1\nLIMIT 200"
}
