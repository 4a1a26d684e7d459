package registry

import (
	"net/http"
	"strings"
)

// schemaAnswer is a schema by its id.
type schemaAnswer struct {
	Schema     string      `json:"schema"`
	References []reference `json:"references,omitempty"`
	MaxID      int         `json:"maxId,omitempty"`
}

func (s *Server) listSchemas(r *http.Request) (any, error) {
	prefix, latestOnly := subjectPrefix(r), flag(r, "latestOnly")
	answers := []versionAnswer{}
	err := s.log.read(func(st *state) error {
		for _, name := range st.subjectNames() {
			if !strings.HasPrefix(name, prefix) {
				continue
			}
			vs := shown(r, st, name)
			if latestOnly && len(vs) > 0 {
				vs = vs[len(vs)-1:]
			}
			for _, v := range vs {
				answers = append(answers, answerOf(v))
			}
		}
		return nil
	})
	return page(r, answers), err
}

// withID finds the schema that the path names and hands it to fn. Soft-deleted
// ones count: records written with them remain.
func (s *Server) withID(r *http.Request, fn func(*state, *schema)) error {
	id, err := idOf(r)
	if err != nil {
		return err
	}
	return s.log.read(func(st *state) error {
		sc := st.schemas[id]
		if sc == nil {
			return fail(codeSchemaNotFound, "Schema %d not found", id)
		}
		fn(st, sc)
		return nil
	})
}

func (s *Server) getSchema(r *http.Request) (any, error) {
	var answer schemaAnswer
	err := s.withID(r, func(st *state, sc *schema) {
		answer = schemaAnswer{Schema: sc.text, References: sc.references}
		if flag(r, "fetchMaxId") {
			answer.MaxID = st.maxID
		}
	})
	return answer, err
}

func (s *Server) getSchemaText(r *http.Request) (any, error) {
	var text rawJSON
	err := s.withID(r, func(_ *state, sc *schema) { text = rawJSON(sc.text) })
	return text, err
}

func (s *Server) getSchemaSubjects(r *http.Request) (any, error) {
	names := []string{}
	err := s.withID(r, func(st *state, sc *schema) {
		for _, v := range st.withSchema(sc.id, flag(r, "deleted")) {
			if len(names) == 0 || names[len(names)-1] != v.subject {
				names = append(names, v.subject)
			}
		}
	})
	return page(r, names), err
}

type subjectVersion struct {
	Subject string `json:"subject"`
	Version int    `json:"version"`
}

func (s *Server) getSchemaVersions(r *http.Request) (any, error) {
	uses := []subjectVersion{}
	err := s.withID(r, func(st *state, sc *schema) {
		for _, v := range st.withSchema(sc.id, flag(r, "deleted")) {
			uses = append(uses, subjectVersion{v.subject, v.number})
		}
	})
	return page(r, uses), err
}
