package web

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
	"time"

	"lockstep/dashboard"
	"lockstep/project"
)

// dashRoutes serves the dashboards of a project: their page, what they are
// made of, the rows of their panels, and news of every step.
func dashRoutes(mux *http.ServeMux, b Backend, set *dashboard.Set) {
	if set == nil {
		return
	}
	d := &dashboards{backend: b, set: set, live: newLive(b)}
	d.page(mux)
	mux.HandleFunc("GET /api/dashboards", zipped(d.list))
	mux.HandleFunc("POST /api/dashboards/rows", zipped(d.rows))
	mux.HandleFunc("POST /api/dashboards/choices", zipped(d.choices))
	mux.HandleFunc("GET /api/dashboards/{dashboard}/{panel}/outline", zipped(d.outline))
	mux.HandleFunc("GET /api/live", d.live.serve)
}

type dashboards struct {
	backend Backend
	set     *dashboard.Set
	live    *live
	cache   rowsCache
}

// page serves the page of the dashboards and its files, which web/dash/build.sh
// made. Their address holds their version, so that browsers keep them.
func (d *dashboards) page(mux *http.ServeMux) {
	files, err := fs.Sub(static, "static/dash")
	if err != nil {
		panic(err) // the folder is embedded
	}
	assets := readAssets(files)
	index := template.Must(template.ParseFS(files, "index.html"))
	mux.HandleFunc("GET /dash/assets/{version}/{name}", assets.serve)
	page := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		index.Execute(w, struct{ Assets string }{"/dash/assets/" + assets.version}) // fails only when the caller is gone
	}
	mux.HandleFunc("GET /dash/{name}", page)
	mux.HandleFunc("GET /pipeline", page)
	mux.HandleFunc("GET /dash/{$}", func(w http.ResponseWriter, r *http.Request) {
		list, problems, err := d.set.List(r.Context())
		switch {
		case err != nil:
			writeError(w, http.StatusInternalServerError, err)
		case len(list) > 0:
			http.Redirect(w, r, "/dash/"+list[0].Name, http.StatusFound)
		case len(problems) > 0:
			writeError(w, http.StatusInternalServerError, problems)
		default:
			writeError(w, http.StatusNotFound, &Error{What: "the project has no dashboards", Do: "write dashboards/NAME.yaml"})
		}
	})
}

// assets are the files of the page, also as gzip.
type assets struct {
	version     string
	plain, gzip map[string][]byte
}

func readAssets(files fs.FS) *assets {
	a := &assets{plain: map[string][]byte{}, gzip: map[string][]byte{}}
	names, err := fs.Glob(files, "*")
	if err != nil {
		panic(err) // the folder is embedded
	}
	sum := sha256.New()
	for _, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		sum.Write(text)
		var z bytes.Buffer
		out, _ := gzip.NewWriterLevel(&z, gzip.BestCompression)
		out.Write(text)
		out.Close()
		a.plain[name], a.gzip[name] = text, z.Bytes()
	}
	a.version = hex.EncodeToString(sum.Sum(nil)[:6])
	return a
}

func (a *assets) serve(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	text, ok := a.plain[name]
	if !ok || r.PathValue("version") != a.version {
		http.NotFound(w, r)
		return
	}
	h := w.Header()
	h.Set("Cache-Control", "private, max-age=31536000, immutable")
	h.Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	h.Set("Vary", "Accept-Encoding")
	if takesGzip(r) {
		h.Set("Content-Encoding", "gzip")
		text = a.gzip[name]
	}
	w.Write(text)
}

func takesGzip(r *http.Request) bool {
	return strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
}

// zipped compresses what a handler writes.
func zipped(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if !takesGzip(r) {
			next(w, r)
			return
		}
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		defer z.Close()
		next(&zipWriter{ResponseWriter: w, z: z}, r)
	}
}

type zipWriter struct {
	http.ResponseWriter
	z *gzip.Writer
}

func (w *zipWriter) Write(p []byte) (int, error) { return w.z.Write(p) }

type listing struct {
	Project    string            `json:"project"`
	Dashboards []dashboard.Page  `json:"dashboards"`
	Problems   []project.Problem `json:"problems"`
}

func (d *dashboards) list(w http.ResponseWriter, r *http.Request) {
	list, problems, err := d.set.List(r.Context())
	if err != nil {
		writeError(w, http.StatusInternalServerError, err)
		return
	}
	out := listing{Project: d.set.Project(), Dashboards: []dashboard.Page{}, Problems: append([]project.Problem{}, problems...)}
	for _, one := range list {
		out.Dashboards = append(out.Dashboards, one.Page())
	}
	writeJSON(w, http.StatusOK, out)
}

// find gives the dashboard as its file is now.
func (d *dashboards) find(ctx context.Context, name string) (*dashboard.Dashboard, error) {
	list, problems, err := d.set.List(ctx)
	if err != nil {
		return nil, err
	}
	for _, one := range list {
		if one.Name == name {
			return one, nil
		}
	}
	for _, p := range problems {
		if p.File == "dashboards/"+name+".yaml" {
			return nil, p
		}
	}
	return nil, &Error{What: fmt.Sprintf("there is no dashboard %q", name), Do: "choose another one"}
}

func (d *dashboards) panel(ctx context.Context, name, panel string) (*dashboard.Dashboard, *dashboard.Panel, error) {
	one, err := d.find(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	p := one.Panel(panel)
	if p == nil {
		return nil, nil, &Error{What: fmt.Sprintf("dashboard %s has no panel %q", name, panel), Do: "load the page again"}
	}
	return one, p, nil
}

func (d *dashboards) outline(w http.ResponseWriter, r *http.Request) {
	_, p, err := d.panel(r.Context(), r.PathValue("dashboard"), r.PathValue("panel"))
	var text []byte
	if err == nil {
		text, err = d.set.Outline(p)
	}
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	w.Header().Set("Content-Type", "application/geo+json")
	w.Header().Set("Cache-Control", "private, max-age=300")
	w.Write(text)
}

func (d *dashboards) rows(w http.ResponseWriter, r *http.Request) {
	var q dashboard.Request
	if err := readJSON(w, r, &q); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	one, p, err := d.panel(r.Context(), q.Dashboard, q.Panel)
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	sql, err := one.Query(p, q)
	if err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	d.answer(w, r, sql, one.Limit(p, q))
}

type choicesRequest struct {
	Dashboard string `json:"dashboard"`
	Filter    string `json:"filter"`
	Search    string `json:"search"`
}

func (d *dashboards) choices(w http.ResponseWriter, r *http.Request) {
	var q choicesRequest
	if err := readJSON(w, r, &q); err != nil {
		writeError(w, http.StatusBadRequest, err)
		return
	}
	one, err := d.find(r.Context(), q.Dashboard)
	if err != nil {
		writeError(w, http.StatusNotFound, err)
		return
	}
	f := one.Filter(q.Filter)
	if f == nil || f.Table == "" && f.Query == "" {
		writeError(w, http.StatusNotFound, fmt.Errorf("dashboard %s has no choices for the filter %q", q.Dashboard, q.Filter))
		return
	}
	d.answer(w, r, one.Choices(f, q.Search), 0)
}

// panelRows is the answer to a panel.
type panelRows struct {
	Step      int64        `json:"step"`
	Manifest  int64        `json:"manifest"`
	Frozen    string       `json:"frozen,omitempty"`
	Columns   []columnJSON `json:"columns"`
	Rows      [][]any      `json:"rows"`
	Truncated bool         `json:"truncated"` // there are more rows than are drawn
	Millis    int64        `json:"ms"`
	SQL       string       `json:"sql"`
}

func (d *dashboards) answer(w http.ResponseWriter, r *http.Request, sql string, limit int) {
	ctx, cancel := context.WithTimeout(r.Context(), tcpQueryTime)
	defer cancel()
	now, known := d.live.now()
	out, err := d.cache.get(ctx, sql, now, known, func(ctx context.Context) (*panelRows, error) { return readRows(ctx, d.backend, sql, limit) })
	if err != nil {
		writeError(w, http.StatusUnprocessableEntity, failedPanel(err))
		return
	}
	writeJSON(w, http.StatusOK, out)
}

// failedPanel says why a query failed to somebody who did not write it: the
// cause, without the statement around it.
func failedPanel(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return &Error{What: fmt.Sprintf("the query takes longer than %v", tcpQueryTime), Do: "narrow it by filters"}
	}
	cause := err
	for next := err; next != nil; next = errors.Unwrap(next) {
		cause = next
	}
	text, _, _ := strings.Cut(cause.Error(), "\n")
	return &Error{What: "the query fails: " + text, Do: "see the panel in the dashboard's file"}
}

func readRows(ctx context.Context, b Backend, sql string, limit int) (*panelRows, error) {
	begin := time.Now()
	result, err := b.Query(ctx, Query{SQL: sql})
	if err != nil {
		return nil, err
	}
	defer result.Rows.Release()
	out := &panelRows{SQL: sql, Step: result.Step, Manifest: result.Manifest, Frozen: result.Frozen, Columns: []columnJSON{}, Rows: [][]any{}}
	for _, f := range result.Rows.Schema().Fields() {
		out.Columns = append(out.Columns, columnJSON{f.Name, typeName(f.Type)})
	}
	for result.Rows.Next() {
		batch := result.Rows.RecordBatch()
		for i := range int(batch.NumRows()) {
			if limit > 0 && len(out.Rows) == limit {
				out.Truncated, out.Millis = true, time.Since(begin).Milliseconds()
				return out, nil
			}
			row := make([]any, batch.NumCols())
			for c := range row {
				row[c] = kept(cellJSON(batch.Column(c), i))
			}
			out.Rows = append(out.Rows, row)
		}
	}
	out.Millis = time.Since(begin).Milliseconds()
	return out, result.Rows.Err()
}

// kept is a value that stays when its batch is reused.
func kept(v any) any {
	if s, ok := v.(string); ok {
		return strings.Clone(s)
	}
	return v
}
