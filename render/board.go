package render

import (
	"fmt"
	"strings"

	"lockstep/compile"
)

// board is a Grafana dashboard in the making: panels are laid out from left to
// right and top to bottom, on Grafana's grid of 24 columns.
type board struct {
	uid, title, description string
	panels                  []*panel
	x, y, line              int // where the next panel goes, and the height of the line it stands in
}

// panel is a panel as Grafana's JSON has it.
type panel struct {
	ID          int            `json:"id"`
	Type        string         `json:"type"`
	Title       string         `json:"title"`
	Description string         `json:"description,omitempty"`
	Datasource  map[string]any `json:"datasource,omitempty"`
	Grid        grid           `json:"gridPos"`
	Targets     []*target      `json:"targets,omitempty"`
	Field       *fieldConfig   `json:"fieldConfig,omitempty"`
	Options     map[string]any `json:"options,omitempty"`
	Collapsed   *bool          `json:"collapsed,omitempty"`
	Panels      *[]*panel      `json:"panels,omitempty"` // of a row; always empty
}

type grid struct {
	H int `json:"h"`
	W int `json:"w"`
	X int `json:"x"`
	Y int `json:"y"`
}

type target struct {
	Datasource map[string]any `json:"datasource"`
	RefID      string         `json:"refId"`
	Expr       string         `json:"expr"`
	Legend     string         `json:"legendFormat"`
	Range      bool           `json:"range"`
	Instant    bool           `json:"instant"`
	EditorMode string         `json:"editorMode"`
}

type fieldConfig struct {
	Defaults  map[string]any `json:"defaults"`
	Overrides []any          `json:"overrides"`
}

var source = map[string]any{"type": "prometheus", "uid": dataSource}

func query(expr, legend string) *target {
	return &target{Datasource: source, Expr: expr, Legend: legend, Range: true, EditorMode: "code"}
}

func (b *board) add(p *panel, w, h int) *panel {
	if b.x+w > 24 {
		b.wrap()
	}
	p.ID, p.Grid = len(b.panels)+1, grid{H: h, W: w, X: b.x, Y: b.y}
	b.x, b.line = b.x+w, max(b.line, h)
	b.panels = append(b.panels, p)
	return p
}

func (b *board) wrap() { b.x, b.y, b.line = 0, b.y+b.line, 0 }

// row begins a titled line of panels.
func (b *board) row(title string) {
	b.wrap()
	open := false
	b.add(&panel{Type: "row", Title: title, Collapsed: &open, Panels: &[]*panel{}}, 24, 1)
	b.wrap()
}

func withTargets(p *panel, targets []*target) *panel {
	p.Datasource, p.Targets = source, targets
	for i, t := range targets {
		t.RefID = string(rune('A' + i))
	}
	return p
}

// stat is a single figure.
func (b *board) stat(title, description, unit string, targets ...*target) *panel {
	p := withTargets(&panel{Type: "stat", Title: title, Description: description}, targets)
	p.Field = &fieldConfig{Defaults: map[string]any{"unit": unit, "color": map[string]any{"mode": "thresholds"}, "thresholds": steps(step{"green", nil})}, Overrides: []any{}}
	p.Options = map[string]any{"colorMode": "value", "graphMode": "area", "justifyMode": "auto", "textMode": "auto", "orientation": "auto",
		"reduceOptions": map[string]any{"calcs": []string{"lastNotNull"}, "fields": "", "values": false}}
	return b.add(p, 6, 4)
}

// graph is figures over time.
func (b *board) graph(title, description, unit string, targets ...*target) *panel {
	p := withTargets(&panel{Type: "timeseries", Title: title, Description: description}, targets)
	p.Field = &fieldConfig{Defaults: map[string]any{"unit": unit, "min": 0, "color": map[string]any{"mode": "palette-classic"},
		"custom": map[string]any{"drawStyle": "line", "lineWidth": 1, "fillOpacity": 10, "showPoints": "never", "spanNulls": true}}, Overrides: []any{}}
	p.Options = map[string]any{"legend": map[string]any{"displayMode": "list", "placement": "bottom", "showLegend": true, "calcs": []string{}}, "tooltip": map[string]any{"mode": "multi", "sort": "desc"}}
	return b.add(p, 12, 8)
}

// stack draws the series on top of one another.
func (p *panel) stack() *panel {
	custom := p.Field.Defaults["custom"].(map[string]any)
	custom["stacking"], custom["fillOpacity"] = map[string]any{"mode": "normal", "group": "A"}, 40
	return p
}

type step struct {
	color string
	from  any
}

func steps(list ...step) map[string]any {
	var out []map[string]any
	for _, s := range list {
		out = append(out, map[string]any{"color": s.color, "value": s.from})
	}
	return map[string]any{"mode": "absolute", "steps": out}
}

// limits colours the figure from a limit on.
func (p *panel) limits(limit float64) *panel {
	p.Field.Defaults["thresholds"] = steps(step{"green", nil}, step{"red", limit})
	return p
}

// floor colours the figure below a limit.
func (p *panel) floor(limit float64) *panel {
	p.Field.Defaults["thresholds"] = steps(step{"red", nil}, step{"green", limit})
	return p
}

func (b *board) dashboard(p *compile.Program) map[string]any {
	return map[string]any{
		"uid": b.uid, "title": b.title, "description": b.description + " Project " + p.Project.Name + "; made by `lockstep render grafana`.",
		"tags": []string{"lockstep"}, "schemaVersion": 39, "version": 1, "editable": false, "graphTooltip": 1, "timezone": "browser",
		"refresh": "10s", "time": map[string]any{"from": "now-30m", "to": "now"}, "timepicker": map[string]any{}, "weekStart": "", "fiscalYearStartMonth": 0,
		"annotations": map[string]any{"list": []any{}}, "links": []any{map[string]any{"type": "dashboards", "tags": []string{"lockstep"}, "title": "Lockstep", "asDropdown": false, "includeVars": true, "keepTime": true,
			"icon": "external link", "targetBlank": false, "tooltip": "", "url": ""}},
		"templating": map[string]any{"list": []any{
			labelVariable("instance", "Instance", "lockstep_info"),
			labelVariable("topic", "Topic", "lockstep_messages_total"),
			listVariable("model", "Model", stepped(p)),
		}},
		"panels": b.panels,
	}
}

// labelVariable chooses among the values that a label has.
func labelVariable(name, title, metric string) map[string]any {
	q := fmt.Sprintf(`label_values(%s{job="lockstep"}, %s)`, metric, name)
	return map[string]any{"name": name, "label": title, "type": "query", "datasource": source, "definition": q, "query": map[string]any{"query": q, "refId": "StandardVariableQuery"},
		"refresh": 2, "sort": 1, "multi": true, "includeAll": true, "allValue": ".*", "hide": 0, "regex": "", "skipUrlSync": false,
		"current": everything, "options": []any{}}
}

var everything = map[string]any{"text": []string{"All"}, "value": []string{"$__all"}, "selected": true}

// listVariable chooses among fixed values.
func listVariable(name, title string, values []string) map[string]any {
	options := []any{map[string]any{"text": "All", "value": "$__all", "selected": true}}
	for _, v := range values {
		options = append(options, map[string]any{"text": v, "value": v, "selected": false})
	}
	return map[string]any{"name": name, "label": title, "type": "custom", "query": strings.Join(values, ","), "multi": true, "includeAll": true, "allValue": ".*", "hide": 0, "skipUrlSync": false,
		"current": everything, "options": options}
}
