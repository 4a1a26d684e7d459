//go:build stack

package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/deploy/stack"
)

// airflow is a running Airflow, asked by its REST API.
type airflow struct {
	t          *testing.T
	url, token string
}

// dagRun is a run of a DAG as the API has it.
type dagRun struct {
	ID    string `json:"dag_run_id"`
	State string `json:"state"`
}

// taskInstance is a task of a run.
type taskInstance struct {
	Task  string     `json:"task_id"`
	State string     `json:"state"`
	Try   int        `json:"try_number"`
	Start *time.Time `json:"start_date"`
	End   *time.Time `json:"end_date"`
}

// startAirflow starts Airflow's processes on a folder that holds airflow/*.py.
func startAirflow(t *testing.T, rendered string) *airflow {
	t.Helper()
	software(t, stack.Airflow)
	s, err := stack.Up(t.Context(), stack.Options{Dir: t.TempDir(), Groups: []string{stack.Airflow}, FreePorts: true, Rendered: rendered})
	t.Cleanup(func() {
		if t.Failed() {
			for _, part := range []string{"airflow-api", "airflow-scheduler", "airflow-dags"} {
				text, _ := os.ReadFile(filepath.Join(s.Dir, "logs", part+".log"))
				t.Logf("the end of the log of %s:\n%s", part, tail(string(text)))
			}
		}
		// The test's context is done by now.
		if err := s.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	a := &airflow{t: t, url: fmt.Sprintf("http://127.0.0.1:%d", s.Port("airflow"))}
	var token struct {
		Token string `json:"access_token"`
	}
	login := map[string]string{"username": s.Config.Access.Admin, "password": s.Config.Access.AdminPassword}
	if code := ask(t, "POST", a.url+"/auth/token", "", login, &token); code >= 300 {
		t.Fatalf("Airflow gives no token: %d", code)
	}
	a.token = token.Token
	return a
}

func (a *airflow) ask(method, path string, body, v any) int {
	a.t.Helper()
	return ask(a.t, method, a.url+"/api/v2/"+path, a.token, body, v)
}

// found waits until the DAG processor has read a DAG's file.
func (a *airflow) found(dag string) {
	a.t.Helper()
	eventually(a.t, 3*time.Minute, "Airflow knows "+dag, func() bool {
		var all struct {
			DAGs []struct {
				ID string `json:"dag_id"`
			} `json:"dags"`
		}
		a.ask("GET", "dags", nil, &all)
		for _, d := range all.DAGs {
			if d.ID == dag {
				return true
			}
		}
		return false
	})
	var faults struct {
		Errors []struct {
			Stack string `json:"stack_trace"`
		} `json:"import_errors"`
	}
	if a.ask("GET", "importErrors", nil, &faults); len(faults.Errors) > 0 {
		a.t.Fatalf("Airflow cannot import a DAG: %+v", faults)
	}
}

// trigger begins a run, as an outside caller does, and waits for its end.
func (a *airflow) trigger(dag string, patience time.Duration) (dagRun, map[string]taskInstance) {
	a.t.Helper()
	a.found(dag)
	var run dagRun
	if code := a.ask("POST", "dags/"+dag+"/dagRuns", map[string]any{"logical_date": nil}, &run); code != http.StatusOK {
		a.t.Fatalf("cannot trigger %s: %d", dag, code)
	}
	// It waits for this. The runs of the schedule come after it.
	if code := a.ask("PATCH", "dags/"+dag, map[string]any{"is_paused": false}, nil); code != http.StatusOK {
		a.t.Fatalf("cannot start %s: %d", dag, code)
	}
	defer a.ask("PATCH", "dags/"+dag, map[string]any{"is_paused": true}, nil)
	begin := time.Now()
	path := "dags/" + dag + "/dagRuns/" + url.PathEscape(run.ID)
	eventually(a.t, patience, "the run of "+dag+" ends", func() bool {
		a.ask("GET", path, nil, &run)
		return run.State == "success" || run.State == "failed"
	})
	var list struct {
		Tasks []taskInstance `json:"task_instances"`
	}
	a.ask("GET", path+"/taskInstances?limit=200", nil, &list)
	tasks := map[string]taskInstance{}
	for _, i := range list.Tasks {
		tasks[i.Task] = i
	}
	a.t.Logf("%s: %s of %d tasks took %.0f s", dag, run.State, len(tasks), time.Since(begin).Seconds())
	return run, tasks
}

// log is what a try of a task wrote.
func (a *airflow) log(dag string, run dagRun, task string, try int) string {
	a.t.Helper()
	var content json.RawMessage
	path := fmt.Sprintf("dags/%s/dagRuns/%s/taskInstances/%s/logs/%d?full_content=true", dag, url.PathEscape(run.ID), task, try)
	if code := a.ask("GET", path, nil, &content); code != http.StatusOK {
		a.t.Errorf("no log of %s: %d", task, code)
	}
	return string(content)
}

// lineage is the graph of the project as the command line gives it.
type lineage struct {
	Project string `json:"project"`
	Nodes   []struct {
		Name         string   `json:"name"`
		Kind         string   `json:"kind"`
		Materialized string   `json:"materialized"`
		Reads        []string `json:"reads"`
	} `json:"nodes"`
}

// manifest is one of `lockstep history`.
type manifest struct {
	ID         int64             `json:"id"`
	Step       int64             `json:"step"`
	Attributes map[string]string `json:"attributes"`
}

func (x *site) manifests() (all []manifest) {
	x.t.Helper()
	x.mustJSON(&all, "history")
	return all
}

// program is a script that runs the product where Airflow's tasks run, with the
// addresses of the site's environment.
func (x *site) program() string {
	x.t.Helper()
	path, err := product()
	if err != nil {
		x.t.Fatal(err)
	}
	text := "#!/bin/sh\n"
	for _, e := range x.env {
		name, value, _ := strings.Cut(e, "=")
		text += "export " + name + "='" + strings.ReplaceAll(value, "'", `'\''`) + "'\n"
	}
	script := filepath.Join(x.t.TempDir(), "lockstep")
	if err := os.WriteFile(script, []byte(text+"exec '"+path+"' \"$@\"\n"), 0o755); err != nil {
		x.t.Fatal(err)
	}
	return script
}

// renderDAG renders the site's DAG into rendered/airflow.
func (x *site) renderDAG(rendered string) {
	x.t.Helper()
	x.must("render", "airflow", filepath.Join(rendered, "airflow"), "--binary", x.program(), "--retries", "1", "--retry-delay", "2s", "--parallel", "2")
}

// TestAirflow: a real Airflow runs the rendered DAG, triggered by REST. The
// tasks run in the order of the graph, all tables are new, and a full recompute
// finds no difference. Of another project a model fails.
func TestAirflow(t *testing.T) {
	x := embedded(t)
	x.caughtUp(x.start(freeRun("--scale", "0.02", "--speed", "max")...))
	rendered := t.TempDir()
	x.renderDAG(rendered)
	broken := brokenSite(t, rendered)
	a := startAirflow(t, rendered)
	t.Run("run", func(t *testing.T) { airflowRuns(t, a, x) })
	t.Run("failing model", func(t *testing.T) { airflowFails(t, a, broken) })
}

// TestAirflowCluster is TestAirflow with each model on Spark.
func TestAirflowCluster(t *testing.T) {
	long(t)
	x := onStack(t, up(t, stack.Core, stack.Spark))
	stream := x.start("speed")
	x.must("replay", "--speed", "max", "--scale", "0.01")
	x.caughtUp(stream)
	rendered := t.TempDir()
	x.renderDAG(rendered)
	airflowRuns(t, startAirflow(t, rendered), x)
}

// freeRun are the arguments of a run that leaves the batches to Airflow.
func freeRun(more ...string) []string {
	return append([]string{"run", "--schedule", "off", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}, more...)
}

func airflowRuns(t *testing.T, a *airflow, x *site) {
	var graph lineage
	x.mustJSON(&graph, "graph")
	dag := "lockstep_" + graph.Project
	a.t = t
	if before := x.manifests(); len(before) > 0 {
		t.Fatalf("something is published already: %+v", before)
	}
	run, tasks := a.trigger(dag, 25*time.Minute)
	if run.State != "success" {
		for _, i := range tasks {
			if i.State == "failed" {
				t.Errorf("%s failed:\n%s", i.Task, tail(a.log(dag, run, i.Task, i.Try)))
			}
		}
		t.Fatalf("the run is %s: %+v", run.State, tasks)
	}
	checkOrder(t, graph, tasks)
	// The schedule may have published another run since.
	said, all := a.log(dag, run, "publish", tasks["publish"].Try), x.manifests()
	if !slices.ContainsFunc(all, func(m manifest) bool { return strings.Contains(said, m.Attributes["run"]) }) {
		t.Errorf("no manifest of the run that was published: %+v\n%s", all, tail(said))
	}
	x.must("verify")
	checkAssets(t, a, dag, graph)
}

// checkOrder wants every task to begin after those that it reads have ended.
func checkOrder(t *testing.T, graph lineage, tasks map[string]taskInstance) {
	t.Helper()
	models := 0
	first, last := tasks["begin"], tasks["publish"]
	for _, n := range graph.Nodes {
		i, isTask := tasks[n.Name]
		if isTask != (n.Kind == "model" && n.Materialized != "view") {
			t.Errorf("%s, %s: a task %v", n.Name, n.Materialized, isTask)
		}
		if !isTask {
			continue
		}
		models++
		for _, r := range append([]string{"begin"}, n.Reads...) {
			if up, ok := tasks[r]; ok && i.Start.Before(*up.End) {
				t.Errorf("%s began at %s, before %s ended at %s", n.Name, i.Start, r, up.End)
			}
		}
		if i.Start.Before(*first.End) || last.Start.Before(*i.End) {
			t.Errorf("%s ran outside of begin and publish", n.Name)
		}
	}
	if models < 5 || len(tasks) != models+2 {
		t.Errorf("%d models, %d tasks", models, len(tasks))
	}
}

// checkAssets wants an event for each table, which schedules other DAGs.
func checkAssets(t *testing.T, a *airflow, dag string, graph lineage) {
	t.Helper()
	var events struct {
		Events []struct {
			URI string `json:"uri"`
		} `json:"asset_events"`
	}
	a.ask("GET", "assets/events?limit=200&source_task_id=publish&source_dag_id="+dag, nil, &events)
	var uris []string
	for _, e := range events.Events {
		uris = append(uris, e.URI)
	}
	for _, n := range graph.Nodes {
		if uri := "lockstep://" + graph.Project + "/" + n.Name; n.Kind == "model" && n.Materialized != "view" && !slices.Contains(uris, uri) {
			t.Errorf("no event for %s in %v", uri, uris)
		}
	}
}

// brokenModel fails on its rows: they do not fit into its column.
const brokenModel = `/*
description: Use per meter, in a column that is too small for it.
materialized: batch
unique_key: [meter_id]
columns:
  - {name: meter_id, type: string, description: "Meter."}
  - {name: used, type: "decimal(3,2)", description: "Too small."}
*/
SELECT meter_id, 1000 * count(*) AS used FROM silver.usage GROUP BY meter_id
`

// brokenReader reads it.
const brokenReader = `/*
description: What depends on a model that fails.
materialized: batch
unique_key: [meter_id]
columns:
  - {name: meter_id, type: string, description: "Meter."}
*/
SELECT meter_id FROM gold.broken
`

// brokenSite is a small project with a model that fails, running, and its DAG.
func brokenSite(t *testing.T, rendered string) *site {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "broken")
	embedded(t).must("init", dir)
	for name, text := range map[string]string{"broken": brokenModel, "reader": brokenReader} {
		if err := os.WriteFile(filepath.Join(dir, "models", "gold", name+".sql"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	x := embedded(t, "--project", dir)
	x.caughtUp(x.start(freeRun("--data", filepath.Join(dir, "raw"), "--speed", "max")...))
	x.renderDAG(rendered)
	return x
}

// airflowFails: the model that fails fails its task with Lockstep's message in
// the log, is tried again, and what depends on it does not run. What was
// published stays.
func airflowFails(t *testing.T, a *airflow, x *site) {
	const dag = "lockstep_broken"
	a.t = t
	run, tasks := a.trigger(dag, 10*time.Minute)
	if run.State != "failed" {
		t.Errorf("the run is %s", run.State)
	}
	for task, want := range map[string]string{"begin": "success", "silver.usage": "success", "gold.daily_cost": "success", "gold.broken": "failed", "gold.reader": "upstream_failed", "publish": "upstream_failed"} {
		if got := tasks[task].State; got != want {
			t.Errorf("%s is %s, want %s", task, got, want)
		}
	}
	if try := tasks["gold.broken"].Try; try != 2 {
		t.Errorf("the model that fails was tried %d times", try)
	}
	for _, try := range []int{1, 2} {
		if text := a.log(dag, run, "gold.broken", try); !strings.Contains(text, "cannot evaluate gold.broken") || !strings.Contains(text, "models/gold/broken.sql") {
			t.Errorf("the log of try %d does not say what failed:\n%s", try, tail(text))
		}
	}
	if all := x.manifests(); len(all) > 0 {
		t.Errorf("published was %+v", all)
	}
}
