package dashboard

import (
	"slices"
	"strings"
)

// Dashboard is one file of dashboards/.
type Dashboard struct {
	Name     string    // file name without its ending; part of the page's address
	File     string    // where it is written
	Title    string    `yaml:"title"`
	Text     string    `yaml:"text"`     // a sentence under the title
	Position int       `yaml:"position"` // order in the menu, then by name
	Currency string    `yaml:"currency"` // ISO 4217, of the format money
	Fields   []Field   `yaml:"fields"`   // label and format of columns, for all panels
	Filters  []*Filter `yaml:"filters"`
	Rows     []*Row    `yaml:"rows"`
	Line     int       `yaml:"-"`
}

// Field says how values of a column are shown.
type Field struct {
	Name   string            `yaml:"name"`
	Label  string            `yaml:"label"`
	Format string            `yaml:"format"` // see Formats; empty: by type
	Colors map[string]string `yaml:"colors"` // value -> a name of the page's palette
	Labels map[string]string `yaml:"labels"` // value -> text shown in its place
	Line   int               `yaml:"-"`
}

// Filter narrows all panels whose source has its column.
type Filter struct {
	Name    string        `yaml:"name"`
	Label   string        `yaml:"label"`
	Column  string        `yaml:"column"`  // empty: the name
	Kind    string        `yaml:"kind"`    // values (default), range, buttons, hidden
	Table   string        `yaml:"table"`   // where the choices come from
	Query   string        `yaml:"query"`   // likewise
	Values  []string      `yaml:"values"`  // or the choices themselves, in order
	Default []string      `yaml:"default"` // chosen at first
	Builtin FilterBuiltin `yaml:"builtin"`
	Line    int           `yaml:"-"`
}

// FilterBuiltin is what Superset has no word for.
type FilterBuiltin struct {
	// Via reaches panels that lack the column: rows whose On is among those
	// of a table or query where the column matches.
	Via []Via `yaml:"via"`
}

// Via names a table or query that has both the filter's column and On.
type Via struct {
	Table string `yaml:"table"`
	Query string `yaml:"query"`
	On    string `yaml:"on"`
}

// Row is a row of panels; their widths add up to at most 12.
type Row struct {
	Height int      `yaml:"height"` // pixels on a wide screen; 0: 360
	Panels []*Panel `yaml:"panels"`
	Line   int      `yaml:"-"`
}

// Panel is one chart or table.
type Panel struct {
	Name       string            `yaml:"name"`
	Title      string            `yaml:"title"`
	Text       string            `yaml:"text"`
	Chart      string            `yaml:"chart"`
	Width      int               `yaml:"width"` // of 12
	Table      string            `yaml:"table"` // exactly one of Table and Query
	Query      string            `yaml:"query"`
	Where      string            `yaml:"where"` // always holds
	Dimensions []Dimension       `yaml:"dimensions"`
	Measures   []Measure         `yaml:"measures"`
	Encode     map[string]string `yaml:"encode"` // role -> dimension or measure
	Log        []string          `yaml:"log"`    // roles whose axis is logarithmic
	Stack      string            `yaml:"stack"`  // empty or percent
	Sort       []string          `yaml:"sort"`   // "name" or "name desc"; expressions over the rows of a table without measures
	Limit      int               `yaml:"limit"`  // rows at most; 0: 5000
	PageSize   int               `yaml:"page_size"`
	Search     []string          `yaml:"search"`  // dimensions that the search box looks into
	Summary    bool              `yaml:"summary"` // measures over all rows, as last row
	Totals     bool              `yaml:"totals"`  // total on each stack
	Click      []string          `yaml:"click"`   // dimensions whose filters a click sets; empty: the first that has one
	Builtin    Builtin           `yaml:"builtin"`
	Line       int               `yaml:"-"`
	columns    map[string]string // of the source: name -> type; set by Check
}

// Builtin is what only the built-in page does.
type Builtin struct {
	Switch  []string `yaml:"switch"`  // dimensions that can stand in place of the first of them
	Drill   []string `yaml:"drill"`   // likewise, one click deeper each
	Detail  *Detail  `yaml:"detail"`  // rows behind the deepest level
	Top     int      `yaml:"top"`     // series at most; the others are one, `Other`
	Outline string   `yaml:"outline"` // GeoJSON file of the project, drawn under a map
	Color   string   `yaml:"color"`   // scale of a numeric color: heat (default) or score
	Hide    []string `yaml:"hide"`    // filters that are not applied to this panel
}

// Detail is the table that a drill ends in.
type Detail struct {
	Title      string      `yaml:"title"`
	Table      string      `yaml:"table"`
	Query      string      `yaml:"query"`
	Where      string      `yaml:"where"`
	Dimensions []Dimension `yaml:"dimensions"`
	Sort       []string    `yaml:"sort"`
	Search     []string    `yaml:"search"`
	Line       int         `yaml:"-"`
	columns    map[string]string
}

// Dimension is a column or an expression by which rows are grouped; in a panel
// without measures, a column shown.
type Dimension struct {
	Name   string `yaml:"name"`
	Label  string `yaml:"label"`
	SQL    string `yaml:"sql"` // empty: the column of that name
	Format string `yaml:"format"`
	Line   int    `yaml:"-"`
}

// Measure is an aggregate.
type Measure struct {
	Name   string `yaml:"name"`
	Label  string `yaml:"label"`
	SQL    string `yaml:"sql"`
	Format string `yaml:"format"`
	Bar    bool   `yaml:"bar"` // tables: a bar in the cell
	Line   int    `yaml:"-"`
}

// Charts are the chart types and the roles that each needs; those with a
// question mark may be left out.
var Charts = map[string][]string{
	"table":     {},
	"bar":       {"x", "y", "color?"},
	"area":      {"x", "y", "color?"},
	"line":      {"x", "y", "color?"},
	"combo":     {"x", "y", "line"},
	"pareto":    {"x", "y", "line"},
	"bubble":    {"x", "y", "size?", "color?", "label?"},
	"sankey":    {"source", "target", "value"},
	"parallel":  {"axes?", "color?"},
	"map":       {"lng", "lat", "color?", "label?"},
	"wordcloud": {"word", "size", "color?"},
}

// Formats are the ways to show a value.
var Formats = []string{"", "text", "integer", "decimal", "money", "percent", "days", "month", "date", "datetime", "id", "badge", "bar", "ratio"}

// Column of the filter.
func (f *Filter) column() string {
	if f.Column != "" {
		return f.Column
	}
	return f.Name
}

// Panel finds a panel by name; nil: there is none.
func (d *Dashboard) Panel(name string) *Panel {
	for _, r := range d.Rows {
		for _, p := range r.Panels {
			if p.Name == name {
				return p
			}
		}
	}
	return nil
}

// Filter finds a filter by name; nil: there is none.
func (d *Dashboard) Filter(name string) *Filter {
	i := slices.IndexFunc(d.Filters, func(f *Filter) bool { return f.Name == name })
	if i < 0 {
		return nil
	}
	return d.Filters[i]
}

// FilterOf finds the filter of a column; nil: there is none.
func (d *Dashboard) FilterOf(column string) *Filter {
	i := slices.IndexFunc(d.Filters, func(f *Filter) bool { return f.column() == column })
	if i < 0 {
		return nil
	}
	return d.Filters[i]
}

// Field gives how a column is shown: the dashboard's word, or its name made
// readable.
func (d *Dashboard) Field(name string) Field {
	for _, f := range d.Fields {
		if f.Name == name {
			if f.Label == "" {
				f.Label = humanize(name)
			}
			return f
		}
	}
	return Field{Name: name, Label: humanize(name)}
}

func humanize(name string) string {
	text := strings.ReplaceAll(strings.TrimSuffix(name, "_id"), "_", " ")
	if text == "" {
		return name
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
