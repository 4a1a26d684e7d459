package superset

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/project"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the golden files anew")

// shops is a small project: sales of things in shops, with a panel of each chart
// type.
func shops() fstest.MapFS {
	files := fstest.MapFS{}
	err := fs.WalkDir(os.DirFS("testdata/shops"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join("testdata/shops", path))
		files[path] = &fstest.MapFile{Data: text}
		return err
	})
	if err != nil {
		panic(err)
	}
	return files
}

func checked(t *testing.T, files fs.FS) (*compile.Program, []*dashboard.Dashboard) {
	t.Helper()
	p, err := project.Load(files)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	list, err := dashboard.Check(t.Context(), files, program)
	if err != nil {
		t.Fatal(err)
	}
	return program, list
}

func made(t *testing.T, files fs.FS, o Options) *Bundle {
	t.Helper()
	program, list := checked(t, files)
	b, err := Make(program, list, o)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds every file of a small project's bundle.
func TestGolden(t *testing.T) {
	b := made(t, shops(), Options{})
	var got bytes.Buffer
	for _, name := range slices.Sorted(maps.Keys(b.Files)) {
		fmt.Fprintf(&got, "-- %s --\n%s", name, b.Files[name])
	}
	got.WriteString("-- notes --\n")
	for _, n := range b.Notes {
		fmt.Fprintln(&got, n)
	}
	const golden = "testdata/shops.golden"
	if *update {
		if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the bundle differs from %s in line %d; if that is meant, run go test ./render/superset -update", golden, firstDifference(got.String(), string(want)))
	}
}

func firstDifference(a, b string) int {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] {
			return i + 1
		}
	}
	return min(len(x), len(y)) + 1
}

// TestStable: two bundles of one project are the same bytes, and so are the
// files that Render writes, twice.
func TestStable(t *testing.T) {
	program, list := checked(t, shops())
	var zips [2]bytes.Buffer
	for i := range zips {
		b, err := Make(program, list, Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Zip(&zips[i]); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(zips[0].Bytes(), zips[1].Bytes()) {
		t.Error("two bundles of one project differ")
	}
	dir := t.TempDir()
	stale := filepath.Join(dir, "charts", "stale.yaml")
	for range 2 {
		if _, err := Render(program, list, dir, Options{}); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(stale); err == nil {
			t.Error("a chart of an earlier rendering is left")
		}
		if err := os.WriteFile(stale, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := Make(program, list, Options{})
	for name, text := range b.Files {
		written, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil || !bytes.Equal(written, text) {
			t.Errorf("%s is not what the bundle holds: %v", name, err)
		}
	}
}

// TestSound: all that files say of each other is there: uuids, columns.
func TestSound(t *testing.T) {
	CheckSound(t, made(t, shops(), Options{}))
}

// TestRename: a column or model that is renamed is a fault that names the panel.
func TestRename(t *testing.T) {
	for _, c := range []struct{ old, new, want string }{
		{"- {name: shop, type: string", "- {name: store, type: string", "shop"},
		{"s.shop", "s.store", "store"},
	} {
		files := shops()
		model := files["models/gold/sold.sql"]
		if !strings.Contains(string(model.Data), c.old) {
			t.Fatalf("the model has no %q", c.old)
		}
		model.Data = []byte(strings.ReplaceAll(string(model.Data), c.old, c.new))
		p, err := project.Load(files)
		var program *compile.Program
		if err == nil {
			program, err = compile.Compile(p)
		}
		if err == nil {
			_, err = dashboard.Check(t.Context(), files, program)
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s -> %s: %v", c.old, c.new, err)
		}
	}
}

func TestPassword(t *testing.T) {
	b := made(t, shops(), Options{DatabaseURI: "trino://ann:s3cret@host:8080/lake"})
	var text bytes.Buffer
	if err := b.Zip(&text); err != nil {
		t.Fatal(err)
	}
	for name, file := range b.Files {
		if bytes.Contains(file, []byte("s3cret")) {
			t.Errorf("%s holds the password", name)
		}
	}
	if !bytes.Contains(b.Files["databases/shops.yaml"], []byte("trino://ann:XXXXXXXXXX@host:8080/lake")) || b.password != "s3cret" {
		t.Errorf("the database is\n%s", b.Files["databases/shops.yaml"])
	}
	program, list := checked(t, shops())
	if _, err := Make(program, list, Options{DatabaseURI: "nonsense"}); err == nil || !strings.Contains(err.Error(), DefaultURI) {
		t.Errorf("the fault of a bad URI is %v", err)
	}
	if _, err := Make(program, nil, Options{}); err == nil {
		t.Error("no fault without dashboards")
	}
}

func TestUnqualify(t *testing.T) {
	for in, want := range map[string]string{
		"sum(t.pieces)": "sum(pieces)",
		"sum(pieces)":   "sum(pieces)",
		"count(CASE WHEN t.x = 't.x' THEN 1 END)":      "count(CASE WHEN x = 't.x' THEN 1 END)",
		"sum(CASE WHEN t.x = 'it''s t.' THEN t.y END)": "sum(CASE WHEN x = 'it''s t.' THEN y END)",
		"sum(start.x)": "sum(start.x)",
	} {
		if got := unqualify(in); got != want {
			t.Errorf("%s is %s, want %s", in, got, want)
		}
	}
}

// TestUUID holds the example of RFC 9562's version 5 in the namespace of URLs.
func TestUUID(t *testing.T) {
	if got, want := nameUUID("http://example.com/"), "0a300ee9-f9e4-5697-a51a-efc7fafaba67"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// fake answers as a Superset does.
func fake(t *testing.T, data func(id string) (int, string)) (*httptest.Server, *[]string) {
	var seen []string
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, status int, text string) {
		w.WriteHeader(status)
		fmt.Fprint(w, text)
	}
	mux.HandleFunc("POST /api/v1/security/login", func(w http.ResponseWriter, r *http.Request) {
		var login struct{ Username, Password string }
		if err := json.NewDecoder(r.Body).Decode(&login); err != nil || login.Password != "right" {
			answer(w, http.StatusUnauthorized, `{"message": "Not authorized"}`)
			return
		}
		answer(w, http.StatusOK, `{"access_token": "token"}`)
	})
	mux.HandleFunc("GET /api/v1/security/csrf_token/", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, `{"result": "guard"}`) })
	mux.HandleFunc("POST /api/v1/assets/import/", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer token" || r.Header.Get("X-CSRFToken") != "guard" {
			answer(w, http.StatusUnauthorized, `{"msg": "no"}`)
			return
		}
		file, _, err := r.FormFile("bundle")
		if err != nil {
			t.Error(err)
			return
		}
		text := new(bytes.Buffer)
		text.ReadFrom(file)
		if _, err := zip.NewReader(bytes.NewReader(text.Bytes()), int64(text.Len())); err != nil {
			t.Error(err)
		}
		seen = append(seen, "passwords "+r.FormValue("passwords"))
		answer(w, http.StatusOK, `{"message": "OK"}`)
	})
	mux.HandleFunc("GET /api/v1/chart/{id}", func(w http.ResponseWriter, r *http.Request) { answer(w, http.StatusOK, `{"result": {"id": 7}}`) })
	mux.HandleFunc("GET /api/v1/chart/{id}/data/", func(w http.ResponseWriter, r *http.Request) {
		status, text := data(r.PathValue("id"))
		answer(w, status, text)
	})
	mux.HandleFunc("POST /login/", func(w http.ResponseWriter, r *http.Request) { seen = append(seen, "login "+r.FormValue("username")) })
	mux.HandleFunc("POST /superset/explore_json/", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, `{"data": [{"a": 1}, {"a": 2}]}`)
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server, &seen
}

func TestPush(t *testing.T) {
	server, seen := fake(t, func(string) (int, string) { return http.StatusOK, `{"result": [{"data": [{"n": 1}]}]}` })
	b := made(t, shops(), Options{DatabaseURI: "trino://ann:s3cret@host:8080/lake"})
	c, err := Connect(t.Context(), server.URL+"/", "ann", "right")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Import(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	checked := c.Check(t.Context(), b)
	if len(checked) != len(b.Charts) {
		t.Errorf("%d charts are checked, want %d", len(checked), len(b.Charts))
	}
	for _, x := range checked {
		want := 1
		if x.Type == "para" {
			want = 2
		}
		if x.Error != nil || len(x.Rows) != want || x.ID != 7 {
			t.Errorf("%s: %d rows, chart %d, %v", x.Title, len(x.Rows), x.ID, x.Error)
		}
	}
	if want := []string{`passwords {"databases/shops.yaml":"s3cret"}`, "login ann"}; !slices.Equal(*seen, want) {
		t.Errorf("Superset saw %q, want %q", *seen, want)
	}
}

func TestPushRefused(t *testing.T) {
	status, text := http.StatusOK, ""
	server, _ := fake(t, func(string) (int, string) { return status, text })
	if _, err := Connect(t.Context(), server.URL, "ann", "wrong"); err == nil || !strings.Contains(err.Error(), "401 Unauthorized: Not authorized") {
		t.Errorf("the fault of a wrong password is %v", err)
	}
	if _, err := Connect(t.Context(), "127.0.0.1", "ann", "right"); err == nil || !strings.Contains(err.Error(), "http://127.0.0.1:8088") {
		t.Errorf("the fault of a bad address is %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, server.URL, "ann", "right"); err == nil {
		t.Error("no fault when canceled")
	}
	c, err := Connect(t.Context(), server.URL, "ann", "right")
	if err != nil {
		t.Fatal(err)
	}
	b := made(t, shops(), Options{})
	for _, r := range []struct {
		status     int
		text, want string
	}{
		{http.StatusBadRequest, `{"message": "no such column"}`, "400 Bad Request: no such column"},
		{http.StatusInternalServerError, `{"errors": [{"message": "the engine is away"}]}`, "500 Internal Server Error: the engine is away"},
		{http.StatusBadGateway, `<html>`, "502 Bad Gateway"},
		{http.StatusOK, `{"result": [{"error": "cast failed"}]}`, "cast failed"},
		{http.StatusOK, `{"result": []}`, "no result"},
		{http.StatusOK, `<html>`, "no JSON"},
	} {
		status, text = r.status, r.text
		if x := c.Check(t.Context(), b)[0]; x.Error == nil || !strings.Contains(x.Error.Error(), r.want) {
			t.Errorf("%d %s: %v, want %s", r.status, r.text, x.Error, r.want)
		}
	}
}

// CheckSound finds what a bundle names and does not hold.
func CheckSound(t *testing.T, b *Bundle) {
	t.Helper()
	datasets := map[string]map[string]bool{} // uuid -> columns
	charts := map[string]bool{}
	for name, text := range b.Files {
		var file struct {
			UUID    string
			Dataset string `yaml:"dataset_uuid"`
			Columns []struct {
				Name string `yaml:"column_name"`
			}
		}
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		switch {
		case strings.HasPrefix(name, "datasets/"):
			datasets[file.UUID] = map[string]bool{}
			for _, c := range file.Columns {
				datasets[file.UUID][c.Name] = true
			}
		case strings.HasPrefix(name, "charts/"):
			charts[file.UUID] = true
		}
	}
	for name, text := range b.Files {
		if strings.HasPrefix(name, "charts/") {
			soundChart(t, name, text, datasets)
		}
		if strings.HasPrefix(name, "dashboards/") {
			soundDashboard(t, name, text, datasets, charts)
		}
	}
}

func soundChart(t *testing.T, name string, text []byte, datasets map[string]map[string]bool) {
	var c struct {
		Dataset string `yaml:"dataset_uuid"`
		Query   string `yaml:"query_context"`
	}
	if err := yaml.Unmarshal(text, &c); err != nil {
		t.Fatal(err)
	}
	columns := datasets[c.Dataset]
	if columns == nil {
		t.Errorf("%s: there is no dataset %s", name, c.Dataset)
	}
	var q struct{ Queries []struct{ Columns []string } }
	if err := json.Unmarshal([]byte(c.Query), &q); err != nil || len(q.Queries) == 0 {
		t.Errorf("%s: query %s: %v", name, c.Query, err)
	}
	for _, query := range q.Queries {
		for _, column := range query.Columns {
			if !columns[column] {
				t.Errorf("%s: its dataset has no column %s", name, column)
			}
		}
	}
}

func soundDashboard(t *testing.T, name string, text []byte, datasets map[string]map[string]bool, charts map[string]bool) {
	var d struct {
		Position map[string]any
		Metadata struct {
			Filters []struct {
				Name    string
				Targets []struct {
					Dataset string `yaml:"datasetUuid"`
					Column  struct{ Name string }
				}
			} `yaml:"native_filter_configuration"`
		}
	}
	if err := yaml.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	reached := map[string]bool{"DASHBOARD_VERSION_KEY": true, "HEADER_ID": true}
	var walk func(id string)
	walk = func(id string) {
		c, ok := d.Position[id].(map[string]any)
		if !ok {
			t.Errorf("%s: there is no %s", name, id)
			return
		}
		reached[id] = true
		if c["type"] == "CHART" && !charts[c["meta"].(map[string]any)["uuid"].(string)] {
			t.Errorf("%s: there is no chart for %s", name, id)
		}
		children, _ := c["children"].([]any)
		for _, child := range children {
			walk(child.(string))
		}
	}
	walk("ROOT_ID")
	for id := range d.Position {
		if !reached[id] {
			t.Errorf("%s: %s stands nowhere", name, id)
		}
	}
	for _, f := range d.Metadata.Filters {
		for _, target := range f.Targets {
			if !datasets[target.Dataset][target.Column.Name] {
				t.Errorf("%s: filter %s has no column %s in %s", name, f.Name, target.Column.Name, target.Dataset)
			}
		}
	}
}
