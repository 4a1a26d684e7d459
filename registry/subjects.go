package registry

import (
	"net/http"
	"slices"
	"strings"
)

// versionAnswer describes a version, as Confluent does: an Avro schema's type is
// left out.
type versionAnswer struct {
	Subject    string      `json:"subject"`
	Version    int         `json:"version"`
	ID         int         `json:"id"`
	References []reference `json:"references,omitempty"`
	Schema     string      `json:"schema"`
	Deleted    bool        `json:"deleted,omitempty"`
}

func answerOf(v *version) versionAnswer {
	return versionAnswer{v.subject, v.number, v.schema.id, v.schema.references, v.schema.text, v.deleted}
}

// shown picks versions by the request's deleted and deletedOnly.
func shown(r *http.Request, st *state, subject string) []*version {
	only := flag(r, "deletedOnly")
	vs := st.versions(subject, only || flag(r, "deleted"))
	if only {
		vs = slices.DeleteFunc(vs, func(v *version) bool { return !v.deleted })
	}
	return vs
}

func (s *Server) listSubjects(r *http.Request) (any, error) {
	prefix := subjectPrefix(r)
	names := []string{}
	err := s.log.read(func(st *state) error {
		for _, name := range st.subjectNames() {
			if strings.HasPrefix(name, prefix) && len(shown(r, st, name)) > 0 {
				names = append(names, name)
			}
		}
		return nil
	})
	return page(r, names), err
}

// subjectPrefix is the prefix to list by, without the name of the default
// context, which clients may put before it.
func subjectPrefix(r *http.Request) string {
	p := r.URL.Query().Get("subjectPrefix")
	if p == ":*:" {
		return ""
	}
	return strings.TrimPrefix(p, ":.:")
}

// page cuts a list by the request's offset and limit.
func page[T any](r *http.Request, list []T) []T {
	list = list[min(number(r, "offset", 0), len(list)):]
	if limit := number(r, "limit", 0); limit > 0 {
		list = list[:min(limit, len(list))]
	}
	return list
}

func (s *Server) listVersions(r *http.Request) (any, error) {
	subject, err := subjectOf(r)
	if err != nil {
		return nil, err
	}
	var numbers []int
	err = s.log.read(func(st *state) error {
		for _, v := range shown(r, st, subject) {
			numbers = append(numbers, v.number)
		}
		if len(numbers) == 0 {
			return errSubject(subject)
		}
		return nil
	})
	return page(r, numbers), err
}

// withVersion finds the version that the path names and hands it to fn.
func (s *Server) withVersion(r *http.Request, fn func(*state, *version) error) error {
	subject, err := subjectOf(r)
	if err != nil {
		return err
	}
	n, err := versionOf(r)
	if err != nil {
		return err
	}
	return s.log.read(func(st *state) error {
		v, err := pick(st, subject, n, flag(r, "deleted"))
		if err != nil {
			return err
		}
		return fn(st, v)
	})
}

// pick finds a version of a subject, or says which of the two is missing.
func pick(st *state, subject string, n int, deleted bool) (*version, error) {
	vs := st.versions(subject, deleted)
	if len(vs) == 0 {
		return nil, errSubject(subject)
	}
	if n == latest {
		return vs[len(vs)-1], nil
	}
	v := st.find(subject, n)
	if v == nil || v.deleted && !deleted {
		return nil, errVersion(n)
	}
	return v, nil
}

func (s *Server) getVersion(r *http.Request) (any, error) {
	var answer versionAnswer
	err := s.withVersion(r, func(_ *state, v *version) error {
		answer = answerOf(v)
		return nil
	})
	return answer, err
}

func (s *Server) getVersionText(r *http.Request) (any, error) {
	var text rawJSON
	err := s.withVersion(r, func(_ *state, v *version) error {
		text = rawJSON(v.schema.text)
		return nil
	})
	return text, err
}

func (s *Server) referencedBy(r *http.Request) (any, error) {
	ids := []int{}
	err := s.withVersion(r, func(st *state, v *version) error {
		for _, by := range st.referencing(v.subject, v.number) {
			ids = append(ids, by.schema.id)
		}
		slices.Sort(ids)
		ids = slices.Compact(ids)
		return nil
	})
	return ids, err
}
