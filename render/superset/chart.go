package superset

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"lockstep/dashboard"
)

// view is a panel as one chart shows it.
type view struct {
	d          *dashboard.Dashboard
	p          *dashboard.Panel
	page       dashboard.PanelPage
	source     source
	dimensions []dashboard.ColumnPage
	measures   []dict // metrics of Superset, in the panel's order
	by         string
	swapped    string
	note       func(format string, args ...any)
}

// drawn is what a chart type makes of a view.
type drawn struct {
	kind    string // viz_type
	params  dict
	queries []dict // what the chart asks, for Superset's API
}

// charts makes the charts of a panel: one, or one for each dimension that may
// stand in place of its first. It gives what they read, too.
func (b *builder) charts(d *dashboard.Dashboard, p *dashboard.Panel, page dashboard.PanelPage) ([]Chart, *dataset, error) {
	v := view{d: d, p: p, page: page, source: b.panelSource(d, p, page.Filters)}
	v.note = func(format string, args ...any) { b.note(d, p.Name, format, args...) }
	for _, c := range page.Columns {
		if !c.Measure {
			v.dimensions = append(v.dimensions, c)
			v.source.label(c.Name, c.Label)
		}
	}
	v.measures = metrics(p, page)
	b.panelNotes(v)
	levels := page.Switch
	if len(levels) == 0 {
		levels = []dashboard.ColumnPage{{}}
	}
	var out []Chart
	for i, level := range levels {
		shown := v
		if i > 0 {
			shown = v.swap(levels[0].Name, level)
		}
		c, err := b.chart(shown)
		if err != nil {
			return nil, nil, err
		}
		out = append(out, c)
	}
	return out, v.source.dataset, nil
}

// swap puts another dimension in place of one.
func (v view) swap(first string, with dashboard.ColumnPage) view {
	v.by, v.swapped = with.Name, first
	v.dimensions = slices.Clone(v.dimensions)
	for i := range v.dimensions {
		if v.dimensions[i].Name == first {
			v.dimensions[i] = with
		}
	}
	v.source.label(with.Name, with.Label)
	v.note = func(string, ...any) {}
	return v
}

// label says how a column is called, unless that was said before.
func (s *source) label(name, label string) {
	if c := s.column(name); c != nil && c.label == "" {
		c.label = label
	}
}

// metrics are the panel's measures, as expressions with a label.
func metrics(p *dashboard.Panel, page dashboard.PanelPage) []dict {
	labels := map[string]bool{}
	for _, c := range page.Columns {
		if !c.Measure {
			labels[c.Name] = true
		}
	}
	var out []dict
	for _, m := range p.Measures {
		label := m.Name
		for _, c := range page.Columns {
			if c.Measure && c.Name == m.Name && !labels[c.Label] {
				label = c.Label
			}
		}
		labels[label] = true
		out = append(out, dict{"expressionType": "SQL", "sqlExpression": unqualify(m.SQL), "label": label, "hasCustomLabel": true,
			"optionName": "metric_" + m.Name})
	}
	return out
}

// metric is the metric of a measure, or nil where the name is none.
func (v view) metric(name string) dict {
	for i, m := range v.p.Measures {
		if m.Name == name {
			return v.measures[i]
		}
	}
	return nil
}

// role is the dimension or measure that plays it; empty: none does.
func (v view) role(name string) string {
	column := v.p.Encode[name]
	if column != "" && column == v.swapped {
		return v.by
	}
	return column
}

// shown finds how a column is shown.
func (v view) shown(name string) dashboard.ColumnPage {
	for _, c := range slices.Concat(v.dimensions, v.page.Columns) {
		if c.Name == name {
			return c
		}
	}
	return dashboard.ColumnPage{Name: name}
}

func (v view) names() []string {
	out := []string{}
	for _, c := range v.dimensions {
		out = append(out, c.Name)
	}
	return out
}

// limit of rows. Superset's own upper bound is 100,000.
func (v view) limit(most int) int {
	limit := cmp.Or(v.p.Limit, 5000)
	if limit > most {
		v.note("it shows %d rows at most", most)
		return most
	}
	return limit
}

// measureSort is the measure by which rows come first, where the panel is
// sorted by one.
func (v view) measureSort() (metric dict, descending bool) {
	if len(v.p.Sort) == 0 {
		return nil, false
	}
	name := sortWord.ReplaceAllString(v.p.Sort[0], "")
	return v.metric(name), strings.HasSuffix(strings.ToLower(v.p.Sort[0]), " desc")
}

var painters = map[string]func(view) drawn{
	"table": table, "bar": bars, "area": bars, "line": bars, "combo": combo, "pareto": pareto, "bubble": bubbles,
	"sankey": sankey, "parallel": parallel, "map": points, "wordcloud": words,
}

func (b *builder) chart(v view) (Chart, error) {
	paint := painters[v.p.Chart]
	if paint == nil {
		return Chart{}, fmt.Errorf("cannot draw panel %s of dashboard %s in Superset: its chart type %s is not known here", v.p.Name, v.d.Name, v.p.Chart)
	}
	made := paint(v)
	name := v.d.Name + "." + v.p.Name
	title := v.p.Title
	if v.by != "" {
		name += "." + v.by
		title += " by " + v.shown(v.by).Label
	}
	c := Chart{UUID: b.uuid("chart", name), Title: title, Dashboard: v.d.Name, Panel: v.p.Name, By: v.by, Type: made.kind}
	made.params["viz_type"] = made.kind
	made.params["adhoc_filters"] = []dict{}
	made.params["extra_form_data"] = dict{}
	query, err := queryContext(made)
	if err != nil {
		return c, errors.Join(fmt.Errorf("cannot write the query of chart %s", name), err)
	}
	b.file("charts/"+strings.ReplaceAll(name, ".", "_")+".yaml", dict{
		"slice_name": title, "description": optional(v.p.Text), "viz_type": made.kind, "params": made.params, "query_context": query, "cache_timeout": nil,
		"uuid": c.UUID, "dataset_uuid": v.source.uuid, "is_managed_externally": true, "version": "1.0.0",
	})
	b.bundle.Charts = append(b.bundle.Charts, c)
	return c, nil
}

// queryContext is what Superset's API answers for the chart; the page makes its
// own from the same parameters. The dataset is put in at import.
func queryContext(made drawn) (string, error) {
	for _, q := range made.queries {
		q["filters"], q["extras"], q["applied_time_extras"] = []dict{}, dict{"having": "", "where": ""}, dict{}
		q["time_range"], q["post_processing"], q["annotation_layers"] = "No filter", []dict{}, []dict{}
	}
	text, err := json.Marshal(dict{
		"datasource": dict{"id": 0, "type": "table"}, "force": false, "queries": made.queries, "form_data": made.params,
		"result_format": "json", "result_type": "full",
	})
	return string(text), err
}

// ask is a query over columns and metrics.
func ask(columns []string, metrics []dict, limit int, orderby ...[]any) dict {
	q := dict{"columns": columns, "row_limit": limit, "orderby": orderby, "series_limit": 0, "order_desc": true}
	if len(orderby) == 0 {
		q["orderby"] = []any{}
	}
	if metrics != nil {
		q["metrics"] = metrics
	}
	return q
}

// panelNotes tells what a panel of the built-in page does more.
func (b *builder) panelNotes(v view) {
	x := v.p.Builtin
	if len(x.Drill) > 1 {
		v.note("going down to %s is Superset's own Drill by", strings.Join(x.Drill[1:], ", "))
	}
	if x.Detail != nil {
		v.note("the rows behind a mark are Superset's own Drill to detail")
	}
	if x.Outline != "" {
		v.note("the outline %s is not drawn", x.Outline)
	}
	if len(v.page.Switch) > 0 {
		v.note("each choice of its switch is a tab")
	}
}
