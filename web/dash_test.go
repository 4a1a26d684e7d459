package web

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/engine/duckdb"
	"lockstep/lake"
	"lockstep/project"
)

// dashBackend answers queries from a DuckDB of its own, at a step that a test
// moves.
type dashBackend struct {
	Backend
	session *duckdb.Session
	step    atomic.Int64
	rolled  atomic.Int64
}

func (b *dashBackend) Rollback(_ context.Context, manifest int64) error {
	b.rolled.Store(manifest)
	return nil
}

func (b *dashBackend) Query(ctx context.Context, q Query) (*Result, error) {
	rows, err := b.session.Query(ctx, q.SQL)
	if err != nil {
		return nil, err
	}
	return &Result{Step: b.step.Load(), Rows: rows}, nil
}

func (b *dashBackend) Status(context.Context) (*Status, error) { return &Status{Project: "shops"}, nil }

func (b *dashBackend) History(context.Context) ([]lake.Manifest, error) { return nil, nil }

func dashServer(t *testing.T) (*httptest.Server, *dashBackend) { return dashServerWith(t, "") }

func dashServerWith(t *testing.T, password string) (*httptest.Server, *dashBackend) {
	t.Helper()
	p, err := project.Load(fstest.MapFS{
		"project.yaml":      {Data: []byte("name: shops\n")},
		"sources.yaml":      {Data: []byte("topics:\n  sale: {key: id, event_time: sold_at}\n")},
		"schemas/sale.avsc": {Data: []byte(`{"type": "record", "name": "sale", "fields": [{"name": "id", "type": "string"}, {"name": "shop", "type": ["null", "string"]}, {"name": "sold_at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]}]}`)},
		"models/gold/sold.sql": {Data: []byte("/*\ndescription: Sales.\nmaterialized: view\nunique_key: [id]\ncolumns:\n  - {name: id, type: string, description: Sale.}\n  - {name: shop, type: string, description: Where.}\n*/\n" +
			"SELECT s.id, s.shop FROM bronze.sale s\n")},
		"dashboards/a.yaml": {Data: []byte("title: A\nfilters:\n  - {name: shop, table: gold.sold}\nrows:\n  - panels:\n      - {name: p, title: P, chart: table, width: 6, table: gold.sold, dimensions: [shop], measures: [{name: n, sql: count(*)}]}\n" +
			"      - {name: bad, title: Bad, chart: table, width: 6, table: gold.sold, dimensions: [shop], measures: [{name: n, sql: sum(cast(shop AS int))}]}\n")},
		"dashboards/b.yaml": {Data: []byte("titel: B\n")},
	})
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	s, err := duckdb.OpenMemory(t.Context(), duckdb.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	for _, q := range []string{"CREATE SCHEMA gold", "CREATE TABLE gold.sold AS SELECT 's' || i AS id, CASE WHEN i % 3 = 0 THEN 'it''s north' ELSE 'south' END AS shop FROM range(9) r(i)"} {
		if err := s.Exec(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	b := &dashBackend{session: s}
	b.step.Store(1)
	srv := httptest.NewServer(Handler(b, Options{Password: password, Program: program, Dashboards: dashboard.NewSet(program)}))
	t.Cleanup(srv.Close)
	return srv, b
}

func postJSON(t *testing.T, url, body string) (int, string) {
	t.Helper()
	answer, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

func TestDashboardRows(t *testing.T) {
	srv, _ := dashServer(t)
	for name, c := range map[string]struct {
		body string
		code int
		want string
	}{
		"rows":         {`{"dashboard": "a", "panel": "p"}`, 200, `"rows":[["it's north",3,2],["south",6,2]]`},
		"filtered":     {`{"dashboard": "a", "panel": "p", "filters": {"shop": {"values": ["it's north"]}}}`, 200, `"rows":[["it's north",3,1]]`},
		"injected":     {`{"dashboard": "a", "panel": "p", "filters": {"shop": {"values": ["x') OR ('1' = '1"]}}}`, 200, `"rows":[]`},
		"no dashboard": {`{"dashboard": "c", "panel": "p"}`, 404, `there is no dashboard`},
		"with faults":  {`{"dashboard": "b", "panel": "p"}`, 404, `unknown key titel`},
		"no panel":     {`{"dashboard": "a", "panel": "q"}`, 404, `has no panel`},
		"no filter":    {`{"dashboard": "a", "panel": "p", "filters": {"x": {"from": "1"}}}`, 400, `has no filter`},
		"failing":      {`{"dashboard": "a", "panel": "bad"}`, 422, `the query fails: Conversion Error`},
		"unknown key":  {`{"dashboard": "a", "panel": "p", "sql": "DROP"}`, 400, `unknown field`},
	} {
		t.Run(name, func(t *testing.T) {
			code, text := postJSON(t, srv.URL+"/api/dashboards/rows", c.body)
			if code != c.code || !strings.Contains(text, c.want) {
				t.Errorf("%d %s\nwant %d with %s", code, text, c.code, c.want)
			}
		})
	}
	if code, text := postJSON(t, srv.URL+"/api/dashboards/choices", `{"dashboard": "a", "filter": "shop", "search": "NORTH"}`); code != 200 || !strings.Contains(text, `"rows":[["it's north"]]`) {
		t.Errorf("choices: %d %s", code, text)
	}
}

func TestDashboardListTellsFaults(t *testing.T) {
	srv, _ := dashServer(t)
	answer, err := http.Get(srv.URL + "/api/dashboards")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var list listing
	if err := json.NewDecoder(answer.Body).Decode(&list); err != nil {
		t.Fatal(err)
	}
	if len(list.Dashboards) != 1 || list.Dashboards[0].Name != "a" {
		t.Errorf("dashboards %+v", list.Dashboards)
	}
	if len(list.Problems) == 0 || list.Problems[0].File != "dashboards/b.yaml" || list.Problems[0].Line != 1 {
		t.Errorf("faults %+v", list.Problems)
	}
}

// TestDashboardPage serves page and files with a version in their address, and
// nothing else from there.
func TestDashboardPage(t *testing.T) {
	srv, _ := dashServer(t)
	answer, err := http.Get(srv.URL + "/dash/")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	page, _ := io.ReadAll(answer.Body)
	if answer.Request.URL.Path != "/dash/a" {
		t.Errorf("the first dashboard is at %s", answer.Request.URL)
	}
	at := strings.Index(string(page), "/dash/assets/")
	base := string(page)[at : at+len("/dash/assets/")+12]
	for path, code := range map[string]int{base + "/dash.js": 200, base + "/dash.css": 200, base + "/nosuch.js": 404, "/dash/assets/0/dash.js": 404} {
		answer, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != code {
			t.Errorf("%s: %d, want %d", path, answer.StatusCode, code)
		}
	}
}

// TestLive hears of each step, and hears again when it moves.
func TestLive(t *testing.T) {
	srv, b := dashServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	request, _ := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/api/live", nil)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	lines := bufio.NewScanner(answer.Body)
	hear := func(want string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == want {
				return
			}
		}
		t.Fatalf("%q was not heard: %v", want, lines.Err())
	}
	hear(`data: {"step":1,"manifest":0}`)
	b.step.Store(7)
	hear(`data: {"step":7,"manifest":0}`)
}

// TestPipelineRights answers what changes a state only where a password is
// asked for.
func TestPipelineRights(t *testing.T) {
	srv, _ := dashServer(t)
	for _, path := range []string{"/api/rollback", "/api/release", "/api/letters/replay"} {
		if code, _ := postJSON(t, srv.URL+path, `{}`); code != http.StatusNotFound && code != http.StatusMethodNotAllowed {
			t.Errorf("%s answers %d without a password", path, code)
		}
	}
	answer, err := http.Get(srv.URL + "/api/tables/gold.sold")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	var info tableInfo
	if err := json.NewDecoder(answer.Body).Decode(&info); err != nil {
		t.Fatal(err)
	}
	if info.Description != "Sales." || len(info.Columns) != 2 || info.Columns[1].Description != "Where." || !strings.Contains(info.SQL, "bronze.sale") || info.Explain == "" {
		t.Errorf("table %+v", info)
	}
}

// TestPipelineWrites rolls back where a password is set, for whom knows it.
func TestPipelineWrites(t *testing.T) {
	srv, b := dashServerWith(t, "secret")
	for password, code := range map[string]int{"": 401, "wrong": 401, "secret": 200} {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+"/api/rollback", strings.NewReader(`{"manifest": 3}`))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		if password != "" {
			request.SetBasicAuth("lockstep", password)
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != code {
			t.Errorf("password %q: %d, want %d", password, answer.StatusCode, code)
		}
	}
	if b.rolled.Load() != 3 {
		t.Errorf("manifest %d was rolled back to, want 3", b.rolled.Load())
	}
}
