package apptest

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// small is a synthetic source that takes seconds.
var small = []string{"--scale", "0.02"}

func runOnce(t *testing.T, state string, more ...string) summary {
	t.Helper()
	var s summary
	args := append([]string{"run", "--once", "--speed", "max", "--state", state}, freePorts...)
	mustJSON(t, &s, append(args, more...)...)
	return s
}

// TestBesideARunningInstance asks everything of an instance that replays.
func TestBesideARunningInstance(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	p := start(t, state, append(small, "--speed", "2592000", "--schedule", "off")...)
	p.until("rows are served", 5*time.Minute, func() bool {
		return query(t, state, "SELECT count(*) FROM gold.fact_order_detail").Rows[0][0].(float64) > 0
	})
	t.Run("queries see one step across tables", func(t *testing.T) { oneStep(t, p, state) })
	t.Run("verify", func(t *testing.T) { must(t, "verify", "--state", state) })
	t.Run("batch", func(t *testing.T) { batches(t, state) })
	t.Run("rollback", func(t *testing.T) { rollback(t, state) })
	t.Run("status", func(t *testing.T) {
		var s struct {
			Running bool
			Ready   bool
			Step    int64
			Topics  []struct{ Topic string }
			Models  []struct{ Model string }
		}
		mustJSON(t, &s, "status", "--state", state)
		if !s.Running || !s.Ready || s.Step == 0 || len(s.Topics) != 9 || len(s.Models) != 23 {
			t.Errorf("%+v", s)
		}
		if text := must(t, "status", "--state", state); !strings.Contains(text, "running since") {
			t.Errorf("%s", text)
		}
	})
	t.Run("page", func(t *testing.T) { pages(t, p.address()) })
	t.Run("second instance", func(t *testing.T) {
		r := command(t, append([]string{"run", "--state", state}, freePorts...)...)
		if r.code != 1 || !strings.Contains(r.stderr, "another process owns the state") {
			t.Errorf("exit %d, %s", r.code, r.stderr)
		}
	})
	must(t, "maintain", "--state", state)
	must(t, "dlq", "list", "--state", state)
	if code, took := p.interrupt(); code != 0 || took > 10*time.Second {
		t.Errorf("Ctrl-C: exit %d after %s", code, took)
	}
	if !strings.Contains(p.stderr.String(), "stopping") || !strings.Contains(p.stderr.String(), "continues where it was") {
		t.Errorf("Ctrl-C said: %s", tail(p.stderr.String()))
	}
}

// torn is what two tables differ by, one of which is made of the other: at any
// step they fit.
const torn = `SELECT (SELECT count(*) FROM silver.order_item i WHERE i.order_id IS NOT NULL AND i.product_id IS NOT NULL AND i.seller_id IS NOT NULL)
	- (SELECT coalesce(sum(quantity), 0) FROM silver.customer_order)`

// oneStep asks for both tables in one statement, by the command and many times
// over TCP, while steps and a batch go on.
func oneStep(t *testing.T, p *process, state string) {
	last := int64(0)
	check := func(q queried) {
		t.Helper()
		if q.Rows[0][0].(float64) != 0 {
			t.Fatalf("at step %d the tables differ by %v items", q.Step, q.Rows[0][0])
		}
		if q.Step < last {
			t.Fatalf("step %d after step %d", q.Step, last)
		}
		last = q.Step
	}
	for range 5 {
		check(query(t, state, torn))
	}
	first := last
	for range 500 {
		check(post(t, p.address(), torn))
	}
	t.Logf("steps %d to %d", first, last)
}

// post asks the page's API.
func post(t *testing.T, address, sql string) (q queried) {
	t.Helper()
	body, err := json.Marshal(map[string]string{"sql": sql})
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.Post(address+"/api/query", "application/json", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&q); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v", resp.Status, err)
	}
	return q
}

func batches(t *testing.T, state string) {
	var whole struct {
		Manifest, Step int64
		Drift          map[string]int64
	}
	mustJSON(t, &whole, "batch", "--state", state)
	if whole.Manifest == 0 || whole.Step == 0 || len(whole.Drift) > 0 {
		t.Errorf("%+v", whole)
	}
	if q := query(t, state, "SELECT count(*) FROM gold.fact_order_detail", "--layer", "batch"); q.Step != whole.Step || q.Manifest != whole.Manifest {
		t.Errorf("the batch layer is at step %d, manifest %d; want %+v", q.Step, q.Manifest, whole)
	}
	id := strings.TrimSpace(must(t, "batch", "--begin", "--state", state))
	if r := command(t, "batch", "--run", "nothing", "--select", "silver.geo_coord", "--state", state); r.code != 1 {
		t.Errorf("a run that does not exist: exit %d, %s", r.code, r.stderr)
	}
	must(t, "batch", "--run", id, "--select", "silver.geo_coord,silver.olist_user", "--state", state)
	if r := command(t, "batch", "--publish", id, "--state", state); r.code != 1 || !strings.Contains(r.stderr, "is not done") {
		t.Errorf("publishing half a run: exit %d, %s", r.code, r.stderr)
	}
	must(t, "batch", "--run", id, "--select", strings.Join(keptModels(t), ","), "--state", state)
	must(t, "batch", "--publish", id, "--state", state)
	var manifests []struct {
		ID, Parent, Step int64
		Tables           map[string]int64
	}
	mustJSON(t, &manifests, "history", "--state", state)
	if len(manifests) < 2 || manifests[0].ID != manifests[1].ID+1 || len(manifests[0].Tables) == 0 {
		t.Errorf("history: %+v", manifests)
	}
}

// keptModels are those that a batch makes tables of, in graph order.
func keptModels(t *testing.T) (names []string) {
	t.Helper()
	var graph struct {
		Nodes []struct{ Name, Kind, Materialized string }
	}
	mustJSON(t, &graph, "graph")
	for _, n := range graph.Nodes {
		if n.Kind == "model" && n.Materialized != "view" {
			names = append(names, n.Name)
		}
	}
	return names
}

func rollback(t *testing.T, state string) {
	must(t, "rollback", "--to", "1", "--state", state)
	frozen := query(t, state, "SELECT count(*) FROM gold.fact_order_detail")
	if frozen.Manifest != 1 || frozen.Frozen == "" {
		t.Errorf("rolled back: %+v", frozen)
	}
	must(t, "rollback", "--release", "--state", state)
	if q := query(t, state, "SELECT count(*) FROM gold.fact_order_detail"); q.Frozen != "" || q.Step < frozen.Step {
		t.Errorf("released: %+v", q)
	}
	if q := query(t, state, "SELECT count(*) FROM gold.fact_order_detail", "--as-of", "1"); q.Step != frozen.Step || q.Rows[0][0] != frozen.Rows[0][0] {
		t.Errorf("as of manifest 1: %+v, want what the rollback served: %+v", q, frozen)
	}
	if r := command(t, "rollback", "--to", "999", "--state", state); r.code != 1 {
		t.Errorf("rollback to a manifest that does not exist: exit %d, %s", r.code, r.stderr)
	}
}

func pages(t *testing.T, address string) {
	for path, want := range map[string]string{"/": "<title>olist", "/page.js": "refresh", "/style.css": "--page", "/healthz": "alive",
		"/readyz": `"ready":true`, "/metrics": "lockstep_freshness_seconds_bucket", "/api/status": `"project":"olist"`, "/api/graph": "bronze.order_item", "/api/history": `"manifest`} {
		resp, err := http.Get(address + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || path != "/api/history" && !strings.Contains(string(body), want) {
			t.Errorf("%s: %s, %q is not in %s", path, resp.Status, want, tail(string(body)))
		}
	}
	resp, err := http.Post(address+"/api/query", "application/json", strings.NewReader(`{"sql":"SELECT 42 AS answer"}`))
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if !strings.Contains(string(body), "[42]") {
		t.Errorf("query over TCP: %s %s", resp.Status, body)
	}
	if resp, err := http.Post(address+"/api/batch", "application/json", strings.NewReader(`{}`)); err != nil || resp.StatusCode < 400 {
		t.Errorf("a batch over TCP was not refused: %v %v", resp, err)
	}
}

// TestInterruptedOnce stops a run with --once early: it says so and fails, and
// the next one goes on and ends with the rows of an undisturbed run.
func TestInterruptedOnce(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	p := launch(t, state, append(small, "--once", "--speed", "1209600")...)
	p.until("it replays", 5*time.Minute, func() bool {
		return strings.Contains(p.stderr.String(), " step ") && !strings.Contains(p.stderr.String(), "step 0, 0 records\n")
	})
	if code, took := p.interrupt(); code != 1 || took > 10*time.Second {
		t.Errorf("Ctrl-C: exit %d after %s\n%s", code, took, tail(p.stderr.String()))
	}
	sameRows(t, runOnce(t, state, small...), runOnce(t, filepath.Join(dir, "other"), small...))
	must(t, "verify", "--state", state)
}

func sameRows(t *testing.T, got, want summary) {
	t.Helper()
	for table, rows := range want.Rows {
		if got.Rows[table] != rows {
			t.Errorf("%s has %d rows, an undisturbed run %d", table, got.Rows[table], rows)
		}
	}
}

// TestKilled kills a run at random moments until it has had enough, and wants
// the rows of an undisturbed run, in every table and in bronze.
func TestKilled(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 4 {
		p := launch(t, state, append(small, "--speed", "max", "--schedule", "@every 1s")...)
		time.Sleep(time.Duration(500+random.IntN(3000)) * time.Millisecond) // the random moment itself
		p.kill()
	}
	sameRows(t, runOnce(t, state, small...), runOnce(t, filepath.Join(dir, "other"), small...))
	must(t, "verify", "--state", state)
	const bronze = `SELECT count(*), count(DISTINCT (_partition, _offset)) FROM bronze.order_status`
	q, want := query(t, state, bronze), query(t, filepath.Join(dir, "other"), bronze)
	if fmt.Sprint(q.Rows) != fmt.Sprint(want.Rows) {
		t.Errorf("bronze.order_status: %v, want %v", q.Rows, want.Rows)
	}
}

// TestLongStatePath runs on a state whose path is too long for a socket.
func TestLongStatePath(t *testing.T) {
	dir := t.TempDir()
	state := filepath.Join(dir, strings.Repeat("long", 30), "state")
	project := filepath.Join(dir, "meters")
	must(t, "init", project)
	p := start(t, state, "--project", project)
	if q := query(t, state, "SELECT 1", "--project", project); len(q.Rows) != 1 {
		t.Errorf("%+v", q)
	}
	p.kill() // leaves a stale socket
	if q := query(t, state, "SELECT 1", "--project", project); len(q.Rows) != 1 {
		t.Errorf("%+v", q)
	}
}

// TestPorts wants an error that names the flag where an address was asked for.
func TestPorts(t *testing.T) {
	for _, flag := range []string{"listen", "kafka", "registry"} {
		args := append([]string{"run", "--state", filepath.Join(t.TempDir(), "state")}, freePorts...)
		for i := range args {
			if args[i] == "--"+flag {
				args[i+1] = taken(t)
			}
		}
		if r := command(t, args...); r.code != 1 || !strings.Contains(r.stderr, "--"+flag) {
			t.Errorf("--%s: exit %d, %s", flag, r.code, r.stderr)
		}
	}
}

// TestFormats reads the same rows as CSV, table and through standard input.
func TestFormats(t *testing.T) {
	dir := t.TempDir()
	state, project := filepath.Join(dir, "state"), filepath.Join(dir, "meters")
	must(t, "init", project)
	runOnce(t, state, "--project", project, "--data", filepath.Join(project, "raw"))
	const sql = `SELECT 'a,"b"' AS text, '' AS empty, NULL AS nothing, timestamp '2026-03-01 10:00:00.250' AS ts, cast(1.50 AS decimal(9,2)) AS d, date '2026-03-01' AS day, true AS yes`
	const want = "text,empty,nothing,ts,d,day,yes\r\n\"a,\"\"b\"\"\",\"\",,2026-03-01 10:00:00.250,1.50,2026-03-01,true\r\n"
	flags := []string{"--state", state, "--project", project}
	if got := must(t, append([]string{"query", sql, "--format", "csv"}, flags...)...); got != want {
		t.Errorf("CSV %q, want %q", got, want)
	}
	if r := commandIn(t, "", sql, append([]string{"query", "-", "--format", "csv"}, flags...)...); r.stdout != want {
		t.Errorf("from the standard input: %q, %s", r.stdout, r.stderr)
	}
	if got := must(t, append([]string{"query", "SELECT * FROM gold.daily_cost", "--format", "csv"}, flags...)...); strings.Count(got, "\r\n") != 31 {
		t.Errorf("%s", got)
	} else if _, err := csv.NewReader(strings.NewReader(got)).ReadAll(); err != nil {
		t.Error(err)
	}
	if got := must(t, append([]string{"query", "SELECT * FROM gold.daily_cost ORDER BY 1, 2"}, flags...)...); !strings.Contains(got, "m01       2026-03-01  Mill") {
		t.Errorf("%s", got)
	}
	for _, bad := range []string{"DELETE FROM gold.daily_cost", "SELECT nothing FROM gold.daily_cost", "SELECT 1; SELECT 2", "COPY gold.daily_cost TO '" + dir + "/out.csv'", "SELECT * FROM read_csv('/etc/passwd')"} {
		if r := command(t, append([]string{"query", bad}, flags...)...); r.code != 1 || r.stderr == "" {
			t.Errorf("%s: exit %d, %s %s", bad, r.code, r.stdout, r.stderr)
		}
	}
	if _, err := os.Stat(dir + "/out.csv"); err == nil {
		t.Error("a query wrote a file")
	}
}
