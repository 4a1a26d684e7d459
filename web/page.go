package web

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed static
var static embed.FS

var page = template.Must(template.ParseFS(static, "static/index.html"))

// pageRoutes serves the status page. All it shows it fetches from /api.
func pageRoutes(mux *http.ServeMux, b Backend, o Options) {
	files, err := fs.Sub(static, "static")
	if err != nil {
		panic(err) // the folder is embedded
	}
	serve := http.FileServerFS(files)
	mux.Handle("GET /style.css", serve)
	mux.Handle("GET /page.js", serve)
	mux.Handle("GET /icon.svg", serve)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		project := ""
		if s, err := b.Status(r.Context()); err == nil {
			project = s.Project
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		// Fails only when the caller is gone.
		page.Execute(w, struct{ Project, Version string }{project, o.Version})
	})
}
