package web

import (
	"context"
	"net/http"

	"lockstep/compile"
	"lockstep/project"
)

// pipelineRoutes serves what the Pipeline page shows beside the status: each
// table in full, and dead letters. What changes a state is answered only where
// a password is asked for; elsewhere anybody who reaches the port could do it.
func pipelineRoutes(mux *http.ServeMux, b Backend, o Options) {
	if o.Program == nil {
		return
	}
	mux.HandleFunc("GET /api/tables/{table}", func(w http.ResponseWriter, r *http.Request) {
		t := describeTable(o.Program, r.PathValue("table"))
		if t == nil {
			writeError(w, http.StatusNotFound, &Error{What: "there is no table " + r.PathValue("table"), Do: "`lockstep graph` lists them"})
			return
		}
		writeJSON(w, http.StatusOK, t)
	})
	mux.HandleFunc("POST /api/letters", call(func(ctx context.Context, f LetterFilter) (any, error) { return b.DeadLetters(ctx, f) }))
	mux.HandleFunc("GET /api/rights", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]bool{"write": o.Password != ""})
	})
	if o.Password == "" {
		return
	}
	mux.HandleFunc("POST /api/rollback", call(func(ctx context.Context, q rollbackRequest) (any, error) {
		return struct{}{}, b.Rollback(ctx, q.Manifest)
	}))
	mux.HandleFunc("POST /api/release", call(func(ctx context.Context, _ struct{}) (any, error) { return struct{}{}, b.Release(ctx) }))
	mux.HandleFunc("POST /api/letters/replay", call(func(ctx context.Context, f LetterFilter) (any, error) {
		n, err := b.ReplayLetters(ctx, f)
		return replayedLetters{n}, err
	}))
}

// tableInfo is a table as its files tell it.
type tableInfo struct {
	Name        string       `json:"name"`
	File        string       `json:"file"`
	Description string       `json:"description"`
	Columns     []columnInfo `json:"columns"`
	SQL         string       `json:"sql,omitempty"`    // of a model
	Schema      string       `json:"schema,omitempty"` // Avro, of a topic
	Explain     string       `json:"explain,omitempty"`
}

type columnInfo struct {
	Name        string   `json:"name"`
	Type        string   `json:"type"`
	Description string   `json:"description"`
	Tests       []string `json:"tests"`
}

// describeTable finds a topic's bronze table, a seed or a model; nil: none.
func describeTable(p *compile.Program, name string) *tableInfo {
	for _, s := range p.Project.Sources {
		if s.Table() == name || s.Topic == name {
			return &tableInfo{Name: s.Table(), File: s.SchemaFile, Description: "Accepted records of the topic " + s.Topic + ", key " + s.Key + ".",
				Columns: columnInfos(s.Columns()), Schema: string(s.Schema)}
		}
	}
	for _, s := range p.Project.Seeds {
		if s.Name == name {
			return &tableInfo{Name: s.Name, File: s.File, Description: "Rows that belong to the project.", Columns: columnInfos(s.Columns)}
		}
	}
	m := p.Model(name)
	if m == nil {
		return nil
	}
	return &tableInfo{Name: m.Name, File: m.File, Description: m.Description, Columns: columnInfos(m.Columns), SQL: m.SQL, Explain: compile.Explain(p, name).Text()}
}

func columnInfos(columns []project.Column) []columnInfo {
	out := []columnInfo{}
	for _, c := range columns {
		info := columnInfo{c.Name, c.Type.String(), c.Description, []string{}}
		for _, t := range c.Tests {
			info.Tests = append(info.Tests, t.Kind)
		}
		out = append(out, info)
	}
	return out
}
