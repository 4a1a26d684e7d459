package superset

import (
	"fmt"
	"slices"
	"strings"

	"lockstep/dashboard"
)

// layout is a dashboard in the making: its components by id, and which charts
// show which panel.
type layout struct {
	position dict
	ids      map[string][]int // panel -> its charts, by a number of this file that Superset replaces
	configs  dict
	sources  map[string]*dataset
}

// dashboard adds a dashboard with its charts.
func (b *builder) dashboard(d *dashboard.Dashboard) error {
	page := d.Page()
	l := &layout{position: dict{
		"DASHBOARD_VERSION_KEY": "v2",
		"ROOT_ID":               dict{"type": "ROOT", "id": "ROOT_ID", "children": []string{"GRID_ID"}},
		"HEADER_ID":             dict{"type": "HEADER", "id": "HEADER_ID", "meta": dict{"text": d.Title}},
	}, ids: map[string][]int{}, configs: dict{}, sources: map[string]*dataset{}}
	var rows []string
	for i, r := range d.Rows {
		id := fmt.Sprintf("ROW-%d", i+1)
		rows = append(rows, id)
		parents := []string{"ROOT_ID", "GRID_ID"}
		children := []string{}
		for j, p := range r.Panels {
			shown := page.Rows[i].Panels[j]
			charts, source, err := b.charts(d, p, shown)
			if err != nil {
				return err
			}
			l.sources[p.Name] = source
			children = append(children, l.panel(p, charts, shown, page.Rows[i].Height, append(parents, id)))
		}
		l.add("ROW", id, children, parents, dict{"background": "BACKGROUND_TRANSPARENT"})
	}
	l.add("GRID", "GRID_ID", rows, []string{"ROOT_ID"}, nil)
	uuid, slug := b.uuid("dashboard", d.Name), b.program.Project.Name+"-"+strings.ReplaceAll(d.Name, "_", "-")
	b.file("dashboards/"+d.Name+".yaml", dict{
		"dashboard_title": d.Title, "description": optional(d.Text), "slug": slug, "uuid": uuid, "position": l.position, "metadata": b.metadata(d, page, l),
		"css": "", "published": true, "is_managed_externally": true, "version": "1.0.0",
	})
	b.bundle.Dashboards = append(b.bundle.Dashboards, Link{uuid, d.Title, slug})
	return nil
}

func (l *layout) add(kind, id string, children, parents []string, meta dict) string {
	c := dict{"type": kind, "id": id, "children": children, "parents": parents}
	if meta != nil {
		c["meta"] = meta
	}
	l.position[id] = c
	return id
}

// heads of a chart or of tabs take room that the built-in page counts apart, in
// Superset's unit of 8 pixels.
const (
	unit      = 8
	chartHead = 6
	tabsHead  = 8
)

// panel adds a panel's chart, or tabs with one chart each.
func (l *layout) panel(p *dashboard.Panel, charts []Chart, page dashboard.PanelPage, pixels int, parents []string) string {
	height := pixels/unit + chartHead
	if len(charts) == 1 {
		return l.chart(p, charts[0], height, parents)
	}
	column, tabs := "COLUMN-"+p.Name, "TABS-"+p.Name
	within := append(slices.Clone(parents), column, tabs)
	var ids []string
	for i, c := range charts {
		id, row := fmt.Sprintf("TAB-%s-%d", p.Name, i+1), fmt.Sprintf("ROW-%s-%d", p.Name, i+1)
		chart := l.chart(p, c, height-tabsHead, append(slices.Clone(within), id, row))
		l.add("ROW", row, []string{chart}, append(slices.Clone(within), id), dict{"background": "BACKGROUND_TRANSPARENT"})
		ids = append(ids, l.add("TAB", id, []string{row}, within, dict{"text": "By " + strings.ToLower(page.Switch[i].Label)}))
	}
	l.add("TABS", tabs, ids, append(slices.Clone(parents), column), dict{})
	return l.add("COLUMN", column, []string{tabs}, parents, dict{"width": p.Width, "background": "BACKGROUND_TRANSPARENT"})
}

func (l *layout) chart(p *dashboard.Panel, c Chart, height int, parents []string) string {
	number := len(l.configs) + 1
	l.ids[p.Name] = append(l.ids[p.Name], number)
	l.configs[fmt.Sprint(number)] = dict{"id": number, "crossFilters": dict{"scope": "global", "chartsInScope": []int{}}}
	return l.add("CHART", fmt.Sprintf("CHART-%d", number), []string{}, parents,
		dict{"chartId": number, "uuid": c.UUID, "sliceName": c.Title, "width": p.Width, "height": height})
}

func (b *builder) metadata(d *dashboard.Dashboard, page dashboard.Page, l *layout) dict {
	return dict{
		"cross_filters_enabled":       true,
		"chart_configuration":         l.configs,
		"global_chart_configuration":  dict{"scope": dict{"rootPath": []string{"ROOT_ID"}, "excluded": []int{}}, "chartsInScope": []int{}},
		"native_filter_configuration": b.filters(d, page, l),
		"label_colors":                labelColors(d),
		"shared_label_colors":         []string{},
		"color_scheme":                colorScheme,
		"color_scheme_domain":         []string{},
		"refresh_frequency":           0,
		"timed_refresh_immune_slices": []int{},
		"expanded_slices":             dict{},
		"filter_bar_orientation":      "HORIZONTAL",
	}
}

// filters makes the dashboard's filters: lists with search. One that is only set
// by clicks has no list; Superset's cross-filters do that.
func (b *builder) filters(d *dashboard.Dashboard, page dashboard.Page, l *layout) []dict {
	out := []dict{}
	through := false
	for i, f := range d.Filters {
		through = through || len(f.Builtin.Via) > 0
		shown := page.Filters[i]
		if shown.Kind == "hidden" {
			continue
		}
		if shown.Kind == "range" {
			b.note(d, "", "the filter %s is a list of values, not a range", f.Name)
		}
		target := b.filterSource(d, f, l)
		if target == nil {
			b.note(d, "", "the filter %s is left out: no panel has its column %s", f.Name, columnOf(f))
			continue
		}
		out = append(out, dict{
			"id": "NATIVE_FILTER-" + f.Name, "name": shown.Label, "type": "NATIVE_FILTER", "filterType": "filter_select", "description": "",
			"targets":         []dict{{"datasetUuid": target.uuid, "column": dict{"name": columnOf(f)}}},
			"controlValues":   dict{"enableEmptyFilter": false, "multiSelect": true, "searchAllOptions": true, "inverseSelection": false, "defaultToFirstItem": false, "sortAscending": true},
			"scope":           dict{"rootPath": []string{"ROOT_ID"}, "excluded": l.outside(page, f.Name)},
			"defaultDataMask": chosen(f), "cascadeParentIds": []string{},
		})
	}
	if through {
		b.note(d, "", "filters reach panels that lack their column only where Superset has the feature flag ENABLE_TEMPLATE_PROCESSING")
	}
	return out
}

// outside are the charts that a filter does not reach.
func (l *layout) outside(page dashboard.Page, filter string) []int {
	out := []int{}
	for _, r := range page.Rows {
		for _, p := range r.Panels {
			if !slices.Contains(p.Filters, filter) {
				out = append(out, l.ids[p.Name]...)
			}
		}
	}
	return out
}

// chosen is what a filter holds at first.
func chosen(f *dashboard.Filter) dict {
	if len(f.Default) == 0 {
		return dict{"extraFormData": dict{}, "filterState": dict{}, "ownState": dict{}}
	}
	return dict{
		"extraFormData": dict{"filters": []dict{{"col": columnOf(f), "op": "IN", "val": f.Default}}},
		"filterState":   dict{"value": f.Default, "label": strings.Join(f.Default, ", ")},
		"ownState":      dict{},
	}
}

// filterSource is where a filter's choices come from.
func (b *builder) filterSource(d *dashboard.Dashboard, f *dashboard.Filter, l *layout) *dataset {
	column := columnOf(f)
	switch {
	case f.Table != "":
		return b.physical(f.Table, map[string]string{column: "STRING"})
	case f.Query != "":
		return b.choices(d, f)
	}
	for _, r := range d.Rows {
		for _, p := range r.Panels {
			if l.sources[p.Name].has(column) {
				return l.sources[p.Name]
			}
		}
	}
	return nil
}

func (b *builder) choices(d *dashboard.Dashboard, f *dashboard.Filter) *dataset {
	columns := []column{{name: columnOf(f), kind: "STRING"}}
	return b.virtual(strings.TrimSpace(f.Query), columns, d.Name+".filter_"+f.Name)
}
