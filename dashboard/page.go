package dashboard

// Page is what a browser needs to draw a dashboard; its rows it asks for panel
// by panel.
type Page struct {
	Name     string       `json:"name"`
	Title    string       `json:"title"`
	Text     string       `json:"text"`
	Currency string       `json:"currency"`
	Filters  []FilterPage `json:"filters"`
	Rows     []RowPage    `json:"rows"`
}

// FilterPage is a filter's control.
type FilterPage struct {
	Name    string            `json:"name"`
	Label   string            `json:"label"`
	Column  string            `json:"column"`
	Kind    string            `json:"kind"`
	Format  string            `json:"format"`
	Colors  map[string]string `json:"colors,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Values  []string          `json:"values,omitempty"`
	Default []string          `json:"default,omitempty"`
}

// RowPage is a row of panels.
type RowPage struct {
	Height int         `json:"height"`
	Panels []PanelPage `json:"panels"`
}

// PanelPage is a panel without its SQL.
type PanelPage struct {
	Name    string            `json:"name"`
	Title   string            `json:"title"`
	Text    string            `json:"text"`
	Chart   string            `json:"chart"`
	Width   int               `json:"width"`
	Columns []ColumnPage      `json:"columns"`
	Encode  map[string]string `json:"encode,omitempty"`
	Log     []string          `json:"log,omitempty"`
	Stack   string            `json:"stack,omitempty"`
	Sort    []string          `json:"sort,omitempty"`
	Search  bool              `json:"search"`
	Summary bool              `json:"summary"`
	Totals  bool              `json:"totals"`
	Page    int               `json:"page"`
	Click   []string          `json:"click"`
	Switch  []ColumnPage      `json:"switch,omitempty"`
	Drill   []ColumnPage      `json:"drill,omitempty"`
	Detail  *DetailPage       `json:"detail,omitempty"`
	Outline bool              `json:"outline"`
	Color   string            `json:"color"`
	Filters []string          `json:"filters"` // that reach it
}

// DetailPage is the table at the end of a drill.
type DetailPage struct {
	Title   string       `json:"title"`
	Columns []ColumnPage `json:"columns"`
	Search  bool         `json:"search"`
	Filters []string     `json:"filters"`
}

// ColumnPage says how a column is shown.
type ColumnPage struct {
	Name    string            `json:"name"`
	Label   string            `json:"label"`
	Format  string            `json:"format"`
	Measure bool              `json:"measure"`
	Bar     bool              `json:"bar"`
	Colors  map[string]string `json:"colors,omitempty"`
	Labels  map[string]string `json:"labels,omitempty"`
	Filter  string            `json:"filter,omitempty"` // that a choice of its values sets
	Order   []string          `json:"order,omitempty"`  // of its values
}

// Page gives the dashboard for a browser.
func (d *Dashboard) Page() Page {
	page := Page{Name: d.Name, Title: d.Title, Text: d.Text, Currency: d.Currency, Filters: []FilterPage{}}
	for _, f := range d.Filters {
		field := d.Field(f.column())
		label, kind := f.Label, f.Kind
		if label == "" {
			label = field.Label
		}
		if kind == "" {
			kind = "values"
		}
		page.Filters = append(page.Filters, FilterPage{f.Name, label, f.column(), kind, field.Format, field.Colors, field.Labels, f.Values, f.Default})
	}
	for _, r := range d.Rows {
		row := RowPage{Height: r.Height}
		if row.Height == 0 {
			row.Height = 360
		}
		for _, p := range r.Panels {
			row.Panels = append(row.Panels, d.panelPage(p))
		}
		page.Rows = append(page.Rows, row)
	}
	return page
}

func (d *Dashboard) panelPage(p *Panel) PanelPage {
	out := PanelPage{Name: p.Name, Title: p.Title, Text: p.Text, Chart: p.Chart, Width: p.Width, Encode: p.Encode, Log: p.Log, Stack: p.Stack, Sort: p.Sort,
		Search: len(p.Search) > 0, Summary: p.Summary, Totals: p.Totals, Outline: p.Builtin.Outline != "", Color: p.Builtin.Color, Click: p.Click, Filters: []string{}}
	if p.Chart == "table" || p.Builtin.Detail != nil {
		out.Page = p.pageSize()
	}
	for _, dim := range p.Dimensions {
		out.Columns = append(out.Columns, d.dimensionPage(dim))
	}
	for _, m := range p.Measures {
		out.Columns = append(out.Columns, d.measurePage(m))
	}
	for _, name := range p.Builtin.Switch {
		out.Switch = append(out.Switch, d.dimensionPage(p.dimension(name)))
	}
	for _, name := range p.Builtin.Drill {
		out.Drill = append(out.Drill, d.dimensionPage(p.dimension(name)))
	}
	out.Filters = d.reaching(p.columns, p.Builtin.Hide)
	if x := p.Builtin.Detail; x != nil {
		out.Detail = &DetailPage{Title: x.Title, Search: len(x.Search) > 0, Filters: d.reaching(x.columns, nil)}
		for _, dim := range x.Dimensions {
			out.Detail.Columns = append(out.Detail.Columns, d.dimensionPage(dim))
		}
	}
	if len(out.Click) == 0 {
		out.Click = d.firstClick(p)
	}
	return out
}

// firstClick is the first dimension that has a filter.
func (d *Dashboard) firstClick(p *Panel) []string {
	for _, dim := range p.Dimensions {
		if d.FilterOf(dim.Name) != nil {
			return []string{dim.Name}
		}
	}
	return []string{}
}

func (d *Dashboard) dimensionPage(dim Dimension) ColumnPage {
	c := d.columnPage(dim.Name, dim.Label, dim.Format)
	c.Bar = c.Format == "bar"
	return c
}

func (d *Dashboard) measurePage(m Measure) ColumnPage {
	c := d.columnPage(m.Name, m.Label, m.Format)
	c.Measure, c.Bar = true, m.Bar
	return c
}

func (d *Dashboard) columnPage(name, label, format string) ColumnPage {
	field := d.Field(name)
	if label == "" {
		label = field.Label
	}
	if format == "" {
		format = field.Format
	}
	c := ColumnPage{Name: name, Label: label, Format: format, Colors: field.Colors, Labels: field.Labels}
	if f := d.FilterOf(name); f != nil {
		c.Filter, c.Order = f.Name, f.Values
	}
	return c
}

// reaching lists the filters that narrow a source with these columns.
func (d *Dashboard) reaching(columns map[string]string, hidden []string) []string {
	out := []string{}
	for _, f := range d.Filters {
		if d.reaches(f, columns, hidden) {
			out = append(out, f.Name)
		}
	}
	return out
}
