package lake

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

// restServer is an Iceberg REST catalog over a local lake's. fault, when set,
// spoils one commit.
type restServer struct {
	t     testing.TB
	cat   *sqliteCatalog
	fault func(w http.ResponseWriter, commit func() error)
}

// openFake opens a lake on the local disk by way of a REST catalog.
func openFake(t testing.TB) (*Lake, *restServer) {
	t.Helper()
	dir, disk := t.TempDir(), newTableFS()
	l := newLake(dir, Options{})
	cat, err := openSQLite(context.Background(), filepath.Join(dir, "catalog.db"), filepath.Join(dir, "warehouse"), disk, l.hook)
	if err != nil {
		t.Fatal(err)
	}
	s := &restServer{t: t, cat: cat}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"defaults":{},"overrides":{}}`) })
	mux.HandleFunc("POST /v1/namespaces", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"namespace":["x"],"properties":{}}`) })
	mux.HandleFunc("GET /v1/namespaces", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"namespaces":[["bronze"],["gold"]]}`) })
	mux.HandleFunc("GET /v1/namespaces/{ns}/tables", s.list)
	mux.HandleFunc("POST /v1/namespaces/{ns}/tables", s.create)
	mux.HandleFunc("GET /v1/namespaces/{ns}/tables/{table}", s.load)
	mux.HandleFunc("POST /v1/namespaces/{ns}/tables/{table}", s.commit)
	mux.HandleFunc("DELETE /v1/namespaces/{ns}/tables/{table}", s.drop)
	server := httptest.NewServer(mux)
	t.Cleanup(func() { server.Close(); cat.close() })
	rest, err := openREST(context.Background(), RESTConfig{Catalog: server.URL}, disk, l.hook)
	if err != nil {
		t.Fatal(err)
	}
	l.cat, l.files, l.objects = rest, disk, folder{dir, l.hook}
	t.Cleanup(func() { l.Close() })
	return l, s
}

func identOf(r *http.Request) table.Identifier {
	return table.Identifier{r.PathValue("ns"), r.PathValue("table")}
}

func refuse(w http.ResponseWriter, status int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"message": err.Error(), "type": "x", "code": status}})
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNoTable):
		return http.StatusNotFound
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func (s *restServer) answer(w http.ResponseWriter, t *table.Table, err error) {
	if err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	json.NewEncoder(w).Encode(map[string]any{"metadata-location": t.MetadataLocation(), "metadata": t.Metadata(), "config": map[string]string{}})
}

func (s *restServer) list(w http.ResponseWriter, r *http.Request) {
	names, err := s.cat.tables(r.Context())
	if err != nil {
		refuse(w, 500, err)
		return
	}
	var list []map[string]any
	for _, n := range names {
		if ns, tbl, _ := strings.Cut(n, "."); ns == r.PathValue("ns") {
			list = append(list, map[string]any{"namespace": []string{ns}, "name": tbl})
		}
	}
	json.NewEncoder(w).Encode(map[string]any{"identifiers": list})
}

func (s *restServer) create(w http.ResponseWriter, r *http.Request) {
	var c struct {
		Name   string                 `json:"name"`
		Schema *iceberg.Schema        `json:"schema"`
		Spec   *iceberg.PartitionSpec `json:"partition-spec"`
		Props  iceberg.Properties     `json:"properties"`
	}
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		refuse(w, 400, err)
		return
	}
	t, err := s.cat.create(r.Context(), table.Identifier{r.PathValue("ns"), c.Name}, c.Schema, c.Spec, c.Props)
	s.answer(w, t, err)
}

func (s *restServer) load(w http.ResponseWriter, r *http.Request) {
	t, err := s.cat.LoadTable(r.Context(), identOf(r))
	s.answer(w, t, err)
}

func (s *restServer) commit(w http.ResponseWriter, r *http.Request) {
	var c struct {
		Requirements table.Requirements `json:"requirements"`
		Updates      table.Updates      `json:"updates"`
	}
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		refuse(w, 400, err)
		return
	}
	commit := func() error {
		_, _, err := s.cat.CommitTable(context.Background(), identOf(r), c.Requirements, c.Updates)
		return err
	}
	if fault := s.fault; fault != nil {
		s.fault = nil
		fault(w, commit)
		return
	}
	if err := commit(); err != nil {
		refuse(w, statusOf(err), err)
		return
	}
	s.load(w, r)
}

func (s *restServer) drop(w http.ResponseWriter, r *http.Request) {
	if _, err := s.cat.drop(r.Context(), identOf(r)); err != nil {
		refuse(w, 500, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// hangUp ends the connection without an answer.
func hangUp(w http.ResponseWriter) {
	if c, _, err := w.(http.Hijacker).Hijack(); err == nil {
		c.Close()
	}
}

func status(code int) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { refuse(w, code, errors.New("no")) }
}

// TestRESTOutcomes: what each failure of a commit means to the caller, and
// that the table holds every row once afterwards, files and all.
func TestRESTOutcomes(t *testing.T) {
	for _, c := range []struct {
		name    string
		happens bool // the commit is done all the same
		answer  func(http.ResponseWriter)
		want    error // nil: Append succeeds
	}{
		{"lost answer", true, hangUp, ErrUnknownOutcome},
		{"lost request", false, hangUp, ErrUnknownOutcome},
		{"server error after", true, status(500), ErrUnknownOutcome},
		{"server error before", false, status(500), ErrUnknownOutcome},
		{"bad gateway", true, status(502), ErrUnknownOutcome},
		{"gateway timeout", true, status(504), ErrUnknownOutcome},
		{"unavailable", false, status(503), ErrUnknownOutcome},
		{"not JSON", true, func(w http.ResponseWriter) { fmt.Fprint(w, "<html>") }, ErrUnknownOutcome},
		{"too many requests", false, status(429), ErrUnknownOutcome},
		{"conflict", false, status(409), ErrConflict},
		{"conflict with itself", true, status(409), nil},
		{"forbidden", false, status(403), errAny},
		{"bad request", false, status(400), errAny},
	} {
		t.Run(c.name, func(t *testing.T) {
			l, s := openFake(t)
			ctx, cs := context.Background(), columns(t, "k", "string", "n", "int")
			b := mustBronze(t, l, "bronze.t", cs)
			mustAppend(t, b, position(1, 1), batch(t, cs, []any{"a", 1}))
			s.fault = func(w http.ResponseWriter, commit func() error) {
				if c.happens {
					if err := commit(); err != nil {
						t.Error(err)
					}
				}
				c.answer(w)
			}
			second := batch(t, cs, []any{"b", 2})
			_, err := b.Append(ctx, []arrow.RecordBatch{second}, position(2, 2))
			if c.want == nil && err != nil || c.want == errAny && (err == nil || errors.Is(err, ErrConflict) || errors.Is(err, ErrUnknownOutcome)) ||
				c.want != nil && c.want != errAny && !errors.Is(err, c.want) {
				t.Fatalf("the append gives %v", err)
			}
			p, err := b.Reload(ctx)
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "it happened", p.Offsets[0] == 2, c.happens)
			if !c.happens {
				mustAppend(t, b, position(2, 2), second)
			}
			mustAppend(t, b, position(3, 3), batch(t, cs, []any{"c", 3}))
			equal(t, "rows", query(t, duck(t), "SELECT k, n FROM "+mustSQL(t, l, "bronze.t", 0)+" ORDER BY n"), [][]string{{"a", "1"}, {"b", "2"}, {"c", "3"}})
		})
	}
}

// errAny stands for an error that says that nothing happened.
var errAny = errors.New("any other")

// TestRESTWriters: writers that do not know of each other, over a catalog that
// fails now and then, write every row of one log once.
func TestRESTWriters(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	l, s := openFake(t)
	ctx, cs := context.Background(), columns(t, "n", "int")
	other := newLake(l.dir, Options{})
	other.cat, other.files, other.objects = l.cat, l.files, l.objects
	writers := []*Bronze{mustBronze(t, l, "bronze.t", cs), mustBronze(t, other, "bronze.t", cs)}
	const rows = 60
	for done := int64(0); done < rows; {
		b := writers[rnd.IntN(2)]
		if happens := rnd.IntN(2) == 0; rnd.IntN(3) == 0 {
			answers := []func(http.ResponseWriter){hangUp, status(500), status(409)}
			answer := answers[rnd.IntN(len(answers))]
			s.fault = func(w http.ResponseWriter, commit func() error) {
				if happens {
					_ = commit() // may be the other's conflict
				}
				answer(w)
			}
		}
		next := b.Position().Offsets[0]
		to := min(next+1+rnd.Int64N(3), rows)
		var batches []arrow.RecordBatch
		for n := next; n < to; n++ {
			batches = append(batches, batch(t, cs, []any{int(n)}))
		}
		if next < rows {
			_, err := b.Append(ctx, batches, position(to, to))
			if errors.Is(err, ErrConflict) || errors.Is(err, ErrUnknownOutcome) {
				_, err = b.Reload(ctx)
			}
			if err != nil {
				t.Fatal(err)
			}
		} else if _, err := b.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		s.fault = nil
		p, _, err := l.Position(ctx, "bronze.t")
		if err != nil {
			t.Fatal(err)
		}
		done = p.Offsets[0]
	}
	equal(t, "rows, distinct", query(t, duck(t), "SELECT count(*), count(DISTINCT n) FROM "+mustSQL(t, l, "bronze.t", 0)), [][]string{{fmt.Sprint(rows), fmt.Sprint(rows)}})
}

// TestRESTLake: the other operations through a REST catalog.
func TestRESTLake(t *testing.T) {
	l, _ := openFake(t)
	ctx, cs := context.Background(), columns(t, "k", "string", "n", "int")
	if _, err := l.Head(ctx, "gold.t"); !errors.Is(err, ErrNoTable) {
		t.Errorf("head of no table: %v", err)
	}
	var ids []int64
	for i := range 3 {
		r := reader(t, cs, batch(t, cs, []any{"a", i}))
		id, err := l.Replace(ctx, "gold.t", cs, nil, r, map[string]string{"run": fmt.Sprint(i)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	h, err := l.Head(ctx, "gold.t")
	if err != nil {
		t.Fatal(err)
	}
	value, at := h.Property("lockstep.run")
	equal(t, "property", value, "2")
	equal(t, "its snapshot", at, ids[2])
	equal(t, "current", h.Snapshot, ids[2])
	value, at = h.Property("none")
	equal(t, "no property", value, "")
	equal(t, "no snapshot", at, int64(0))
	if err := l.Shape(ctx, "gold.t", columns(t, "k", "string", "m", "bigint"), nil, map[string]string{"x": "y"}); err != nil {
		t.Fatal(err)
	}
	h, err = l.Head(ctx, "gold.t")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "columns", h.Columns, columns(t, "k", "string", "m", "bigint"))
	equal(t, "property of the table", h.Properties["x"], "y")
	rep, err := l.Maintain(ctx, map[string][]int64{"gold.t": {ids[0]}}, Upkeep{KeepSnapshots: 1})
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "expired", rep.SnapshotsExpired, 1)
	names, err := l.Tables(ctx)
	equal(t, "tables", names, []string{"gold.t"})
	equal(t, "error", err, nil)
	for range 2 {
		if err := l.Drop(ctx, "gold.t"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(l.dir, "warehouse", "gold", "t")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("files of a table that was dropped: %v", err)
	}
}
