//go:build stack

package stack_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/deploy/stack"
)

// grafanaBoard is what we read of a dashboard's JSON.
type grafanaBoard struct {
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name  string `json:"name"`
			Type  string `json:"type"`
			Query any    `json:"query"`
		} `json:"list"`
	} `json:"templating"`
	Panels []struct {
		Title   string `json:"title"`
		Targets []struct {
			Expr string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

func grafanaBoards(t *testing.T, x *site) (dir string, boards []grafanaBoard) {
	t.Helper()
	dir = t.TempDir()
	x.must("render", "grafana", dir)
	files, err := filepath.Glob(filepath.Join(dir, "dashboards", "*.json"))
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	for _, file := range files {
		var b grafanaBoard
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &b)
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		boards = append(boards, b)
	}
	return dir, boards
}

// variables puts in what Grafana would.
var variables = strings.NewReplacer("$__rate_interval", "20s", "$__interval", "5s", "$__range", "10m", "$instance", ".*", "$topic", ".*", "$model", ".*")

// grafanaExpressions asks Prometheus every expression of both dashboards: each
// gives a series with a value.
func grafanaExpressions(t *testing.T, x *site, w *watched) {
	_, boards := grafanaBoards(t, x)
	n := 0
	for _, b := range boards {
		for _, p := range b.Panels {
			for _, target := range p.Targets {
				n++
				series, values := w.ranged(variables.Replace(target.Expr))
				if series == 0 || values == 0 {
					t.Errorf("%s, %s: %d series with %d values: %s", b.Title, p.Title, series, values, target.Expr)
				}
			}
		}
		for _, v := range b.Templating.List {
			if v.Type != "query" {
				continue
			}
			metric, _, _ := strings.Cut(strings.TrimPrefix(v.Query.(map[string]any)["query"].(string), "label_values("), ",")
			if len(w.ask(metric)) == 0 {
				t.Errorf("%s: the variable %s has no values: %s", b.Title, v.Name, metric)
			}
		}
	}
	t.Logf("%d expressions", n)
	// The check itself must see a fault.
	if series, _ := w.ranged(`rate(lockstep_mesages_total[20s])`); series != 0 {
		t.Error("a misspelt metric gives a series")
	}
}

// TestGrafanaForm reads the dashboards with Grafana's own SDK and parses every
// expression with another parser than Prometheus'.
func TestGrafanaForm(t *testing.T) {
	cache, err := stack.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(cache, "venv", "grafana-checks")
	python := filepath.Join(venv, "bin", "python")
	if exec.Command(python, "-c", "import grafana_foundation_sdk, promql_parser").Run() != nil {
		for _, c := range [][]string{{"python3", "-m", "venv", "--clear", venv}, {python, "-m", "pip", "install", "--quiet", "grafana-foundation-sdk==1769699998!10.1.0", "promql-parser==0.12.0"}} {
			if out, err := exec.Command(c[0], c[1:]...).CombinedOutput(); err != nil {
				unavailable(t, "%v: %v\n%s", c, err, out)
			}
		}
	}
	dir, _ := grafanaBoards(t, embedded(t))
	t.Log(succeed(t, nil, python, filepath.Join("testdata", "grafana_form.py"), filepath.Join(dir, "dashboards")))
}
