package render

import (
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/compile"
	"lockstep/examples/olist"
	"lockstep/project"
	"lockstep/web"
)

var update = flag.Bool("update", false, "write the golden files")

// program compiles the bundled project, with other lines in project.yaml where
// change gives some.
func program(t *testing.T, change func(*project.Project)) *compile.Program {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(p)
	}
	compiled, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// cluster are the options of an environment with every part.
var clusterPrometheus = PrometheusOptions{Lockstep: []string{"127.0.0.1:8080"}, PasswordFile: "/run/secrets/lockstep", Kafka: []string{"127.0.0.1:9404", "127.0.0.1:9405", "127.0.0.1:9406"},
	Spark: []string{"127.0.0.1:4040"}, MinIO: []string{"127.0.0.1:9000"}, Alertmanager: []string{"127.0.0.1:9093"}, Webhook: "http://127.0.0.1:9999/alerts"}

func rendered(t *testing.T, p *compile.Program) map[string]Files {
	t.Helper()
	out := map[string]Files{}
	add := func(name string, f Files, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		out[name] = f
	}
	airflow := AirflowOptions{Environment: "embedded", State: "/var/lib/lockstep", Retries: 2, RetryDelay: 30 * time.Second, Timeout: time.Hour, Parallel: 4}
	f, err := Airflow(p, airflow)
	add("airflow", f, err)
	airflow.Environment, airflow.Binary, airflow.Project = "cluster", "/opt/lockstep/bin/lockstep", "/opt/projects/a b"
	f, err = Airflow(p, airflow)
	add("airflow_cluster", f, err)
	f, err = Prometheus(p, PrometheusOptions{Lockstep: []string{"127.0.0.1:8080"}})
	add("prometheus", f, err)
	f, err = Prometheus(p, clusterPrometheus)
	add("prometheus_cluster", f, err)
	f, err = Grafana(p, GrafanaOptions{Prometheus: "http://127.0.0.1:9090", Dashboards: "/var/lib/grafana/dashboards"})
	add("grafana", f, err)
	return out
}

// TestGolden: what is rendered of the bundled project is what is checked in, so
// that a change of it is seen. `go test ./render -update` writes it anew.
func TestGolden(t *testing.T) {
	for name, files := range rendered(t, program(t, nil)) {
		dir := filepath.Join("testdata", name)
		if *update {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := files.Write(dir); err != nil {
				t.Fatal(err)
			}
		}
		for _, file := range files.Names() {
			want, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				t.Error(err)
			} else if string(want) != files[file] {
				t.Errorf("%s/%s is not what is checked in (-update writes it):\n%s", dir, file, firstDifference(string(want), files[file]))
			}
		}
		checkStale(t, dir, files)
	}
}

func checkStale(t *testing.T, dir string, files Files) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			if rel, _ := filepath.Rel(dir, path); !slices.Contains(files.Names(), filepath.ToSlash(rel)) {
				t.Errorf("%s is checked in but no longer rendered", path)
			}
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

func firstDifference(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range g {
		if i >= len(w) || w[i] != g[i] {
			return "line " + number(float64(i+1)) + ":\n  was " + strings.Join(w[min(i, len(w)):min(i+1, len(w))], "") + "\n  is  " + g[i]
		}
	}
	return "it ends earlier"
}

// TestStable: the same project gives the same bytes.
func TestStable(t *testing.T) {
	p := program(t, nil)
	first, second := rendered(t, p), rendered(t, p)
	for name, files := range first {
		for _, file := range files.Names() {
			if files[file] != second[name][file] {
				t.Errorf("%s/%s is another every time", name, file)
			}
		}
	}
}

// TestMetricNames: every metric of ours that rules, tests and dashboards name is
// one that an instance gives, or that a rule records.
func TestMetricNames(t *testing.T) {
	known := web.MetricNames()
	used := 0
	all := rendered(t, program(t, nil))
	for _, m := range regexp.MustCompile(`record: (lockstep:[a-z0-9_:]+)`).FindAllStringSubmatch(all["prometheus"]["rules.yml"], -1) {
		known = append(known, m[1])
	}
	for name, files := range all {
		if strings.HasPrefix(name, "airflow") {
			continue
		}
		for _, file := range files.Names() {
			if strings.HasPrefix(file, "provisioning/") {
				continue
			}
			for _, m := range regexp.MustCompile(`\blockstep[_:][a-z0-9_:]+`).FindAllString(files[file], -1) {
				used++
				if !slices.Contains(known, m) && !slices.Contains([]string{"lockstep_alerts", "lockstep_bronze_to_silver", "lockstep_freshness", "lockstep_errors", "lockstep_availability"}, m) {
					t.Errorf("%s/%s names %s, which no instance gives", name, file, m)
				}
			}
		}
	}
	if used < 100 {
		t.Errorf("only %d names were found", used)
	}
}

func TestSchedule(t *testing.T) {
	for text, want := range map[string]struct {
		s       schedule
		longest time.Duration
	}{
		"":                                  {},
		"@every 5m":                         {schedule{every: 5 * time.Minute, timezone: "UTC"}, 5 * time.Minute},
		"@hourly":                           {schedule{cron: "0 * * * *", timezone: "UTC"}, time.Hour},
		"30 2 * * ?":                        {schedule{cron: "30 2 * * *", timezone: "UTC"}, 24 * time.Hour},
		"CRON_TZ=Europe/Berlin 0 6 * * 1-5": {schedule{cron: "0 6 * * 1-5", timezone: "Europe/Berlin"}, 72 * time.Hour},
	} {
		s, err := parseSchedule(text)
		if err != nil || s != want.s || s.longest() != want.longest {
			t.Errorf("%q: %+v, longest %s, %v; want %+v, %s", text, s, s.longest(), err, want.s, want.longest)
		}
	}
	if _, err := parseSchedule("every day"); err == nil || !strings.Contains(err.Error(), `"every day"`) {
		t.Errorf("no schedule: %v", err)
	}
}

// TestSchedules: every kind of schedule gives a DAG that is Python.
func TestSchedules(t *testing.T) {
	for text, want := range map[string]string{"": "schedule=None,", "@every 90s": "timedelta(seconds=90)", "@daily": `CronTriggerTimetable("0 0 * * *", timezone="UTC")`} {
		p := program(t, func(p *project.Project) { p.Batch.Schedule = text })
		files, err := Airflow(p, AirflowOptions{Environment: "embedded", Parallel: 1, Binary: `C:\"q"\é`})
		if err != nil {
			t.Fatal(err)
		}
		dag := files["lockstep_"+p.Project.Name+".py"]
		if !strings.Contains(dag, want) {
			t.Errorf("%q: no %s in\n%s", text, want, dag)
		}
		checkPython(t, dag)
	}
}

func checkPython(t *testing.T, text string) {
	t.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3")
	}
	c := exec.Command(python, "-c", "import ast, sys; ast.parse(sys.stdin.read())")
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestObjectives: alerts follow project.yaml.
func TestObjectives(t *testing.T) {
	p := program(t, func(p *project.Project) {
		p.Objectives.Freshness, p.Objectives.Lag, p.Objectives.Availability = 500*time.Millisecond, 90*time.Second, 0.8
	})
	files, err := Prometheus(p, PrometheusOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for file, wants := range map[string][]string{
		"rules.yml":  {`le=~"0[.]5|0[.]5[.]0"`},
		"alerts.yml": {"lockstep_lag_seconds > 90'", "lockstep:availability:ratio_1h > 0.9 ", "lockstep:availability:ratio_3d > 0.2", "longer than 90s"},
	} {
		for _, want := range wants {
			if !strings.Contains(files[file], want) {
				t.Errorf("no %s in %s", want, file)
			}
		}
	}
	p.Project.Objectives.Freshness = 7 * time.Second
	if _, err := Prometheus(p, PrometheusOptions{}); err == nil || !strings.Contains(err.Error(), "slos.freshness") {
		t.Errorf("a target between two buckets: %v", err)
	}
}
