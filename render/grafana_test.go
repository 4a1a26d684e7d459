package render

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// boards are the rendered dashboards by file.
func boards(t *testing.T) map[string]map[string]any {
	t.Helper()
	files, err := Grafana(program(t, nil), GrafanaOptions{})
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]map[string]any{}
	for _, name := range files.Names() {
		if strings.HasPrefix(name, "dashboards/") {
			var b map[string]any
			if err := json.Unmarshal([]byte(files[name]), &b); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			out[name] = b
		}
	}
	return out
}

// units are those of Grafana that the panels use.
var units = []string{"short", "s", "cps", "cpm", "Bps", "bytes", "percentunit"}

// TestLayout: panels lie on the grid without overlap or gap in a line, and each
// has a title, a description and a unit that fits what it asks.
func TestLayout(t *testing.T) {
	list := boards(t)
	if len(list) != 2 {
		t.Fatalf("%d dashboards", len(list))
	}
	for name, b := range list {
		taken := map[[2]int]string{}
		ids, titles := map[float64]bool{}, map[string]bool{}
		for _, p := range b["panels"].([]any) {
			p := p.(map[string]any)
			title, _ := p["title"].(string)
			if title == "" || titles[title+p["type"].(string)] {
				t.Errorf("%s: a title is empty or there twice: %q", name, title)
			}
			titles[title+p["type"].(string)] = true
			if id := p["id"].(float64); ids[id] || id == 0 {
				t.Errorf("%s: %s: id %v", name, title, id)
			} else {
				ids[id] = true
			}
			g := p["gridPos"].(map[string]any)
			x, y, w, h := int(g["x"].(float64)), int(g["y"].(float64)), int(g["w"].(float64)), int(g["h"].(float64))
			if x < 0 || x+w > 24 || w < 1 || h < 1 {
				t.Errorf("%s: %s lies outside of the grid: %v", name, title, g)
			}
			for i := x; i < x+w; i++ {
				for j := y; j < y+h; j++ {
					if other := taken[[2]int{i, j}]; other != "" {
						t.Fatalf("%s: %s overlaps %s", name, title, other)
					}
					taken[[2]int{i, j}] = title
				}
			}
			if p["type"] != "row" {
				checkPanel(t, name, title, p)
			}
		}
		if len(ids) < 10 {
			t.Errorf("%s has %d panels", name, len(ids))
		}
	}
}

func checkPanel(t *testing.T, name, title string, p map[string]any) {
	t.Helper()
	unit, _ := p["fieldConfig"].(map[string]any)["defaults"].(map[string]any)["unit"].(string)
	if !slices.Contains(units, unit) {
		t.Errorf("%s: %s: unit %q", name, title, unit)
	}
	targets, _ := p["targets"].([]any)
	if len(targets) == 0 {
		t.Errorf("%s: %s asks nothing", name, title)
	}
	for _, x := range targets {
		x := x.(map[string]any)
		expr, legend := x["expr"].(string), x["legendFormat"].(string)
		if legend == "" || x["refId"] == "" {
			t.Errorf("%s: %s: a query without legend or id: %v", name, title, x)
		}
		if !strings.Contains(expr, "$instance") {
			t.Errorf("%s: %s does not follow the chosen instance: %s", name, title, expr)
		}
		if want := unitOf(expr); want != nil && !slices.Contains(want, unit) {
			t.Errorf("%s: %s: unit %s for %s", name, title, unit, expr)
		}
	}
}

// unitOf gives the units that fit what an expression measures.
func unitOf(expr string) []string {
	quotient := strings.Contains(expr, " / ")
	switch {
	case strings.Contains(expr, ":ratio_"):
		return []string{"percentunit"}
	case strings.HasPrefix(expr, "histogram_quantile"), !quotient && strings.Contains(expr, "_seconds{"):
		return []string{"s"}
	case quotient && strings.Contains(expr, "rows_in_total"):
		return []string{"cps"}
	case quotient:
		return []string{"s"}
	case strings.HasPrefix(expr, "60 *"):
		return []string{"cpm"}
	case strings.Contains(expr, "_bytes_total"):
		return []string{"Bps"}
	case strings.Contains(expr, "_bytes{"):
		return []string{"bytes"}
	case strings.Contains(expr, "rate("):
		return []string{"cps"}
	}
	return []string{"short"}
}

// TestEveryNamespace: each layer of the stream has its panels, with every model
// in the list to choose from.
func TestEveryNamespace(t *testing.T) {
	p := program(t, nil)
	text := ""
	for name, b := range boards(t) {
		if strings.Contains(name, "speed") {
			raw, err := json.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			text = string(raw)
		}
	}
	for _, ns := range namespaces(p) {
		for _, what := range []string{"latency", "input rate", "processing rate"} {
			if want := strings.ToUpper(ns[:1]) + ns[1:] + ": " + what; !strings.Contains(text, `"title":"`+want+`"`) {
				t.Errorf("no panel %s", want)
			}
		}
	}
	for _, m := range stepped(p) {
		if !strings.Contains(text, `"value":"`+m+`"`) {
			t.Errorf("model %s cannot be chosen", m)
		}
	}
}
