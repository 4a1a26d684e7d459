package registry

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/twmb/avro"
)

// schemaRequest is the body by which a schema is registered, looked up or
// compared.
type schemaRequest struct {
	Schema     string          `json:"schema"`
	SchemaType string          `json:"schemaType"`
	References []reference     `json:"references"`
	ID         *int            `json:"id"`      // in mode IMPORT
	Version    *int            `json:"version"` // in mode IMPORT
	Metadata   json.RawMessage `json:"metadata"`
	RuleSet    json.RawMessage `json:"ruleSet"`
}

func readSchemaRequest(r *http.Request) (string, schemaRequest, error) {
	subject, err := subjectOf(r)
	if err != nil {
		return "", schemaRequest{}, err
	}
	var req schemaRequest
	if err := decode(r, &req); err != nil {
		return "", req, err
	}
	if t := req.SchemaType; t != "" && t != typeAvro {
		return "", req, fail(codeInvalidSchema, "Invalid schema type %s: this registry keeps only AVRO schemas", t)
	}
	for name, raw := range map[string]json.RawMessage{"metadata": req.Metadata, "ruleSet": req.RuleSet} {
		if len(raw) > 0 && string(raw) != "null" {
			return "", req, fail(codeInvalidSchema, "Invalid schema: this registry does not keep a schema's %s", name)
		}
	}
	return subject, req, nil
}

// candidate is a request's schema, parsed and in the form to keep.
type candidate struct {
	text       string
	references []reference
	identity   string
	parsed     *avro.Schema
}

func (s *state) candidate(req schemaRequest, normalize bool) (candidate, error) {
	c, err := s.newCandidate(req, normalize)
	if err != nil {
		return c, fail(codeInvalidSchema, "Invalid schema %s: %v", shorten(req.Schema), err)
	}
	return c, nil
}

func (s *state) newCandidate(req schemaRequest, normalize bool) (candidate, error) {
	references, err := s.resolveReferences(req.References)
	if err != nil {
		return candidate{}, err
	}
	parsed, err := s.parse(req.Schema, references)
	if err != nil {
		return candidate{}, err
	}
	text, err := compact(req.Schema)
	if err == nil && normalize {
		text, err = normalized(req.Schema, parsed, references)
	}
	if err != nil {
		return candidate{}, err
	}
	return candidate{text, references, identify(text, references), parsed}, nil
}

func shorten(text string) string {
	const most = 500
	if len(text) <= most {
		return text
	}
	return text[:most] + "..."
}

// same finds the newest of the versions that has the candidate's schema.
func (c candidate) same(versions []*version) *version {
	for _, v := range slices.Backward(versions) {
		if v.schema.identity == c.identity {
			return v
		}
	}
	return nil
}

type registerAnswer struct {
	ID         int         `json:"id"`
	Version    int         `json:"version"`
	References []reference `json:"references,omitempty"`
	Schema     string      `json:"schema"`
}

func (s *Server) register(r *http.Request) (any, error) {
	subject, req, err := readSchemaRequest(r)
	if err != nil {
		return nil, err
	}
	var answer registerAnswer
	err = s.log.write(r.Context(), func(st *state) ([]entry, error) {
		c, err := st.candidate(req, flag(r, "normalize") || st.normalize(subject))
		if err != nil {
			return nil, err
		}
		v, isNew, err := st.place(subject, req, c)
		if err != nil {
			return nil, err
		}
		answer = registerAnswer{ID: v.ID, Version: v.Version, References: v.References, Schema: v.Schema}
		if !isNew {
			return nil, nil
		}
		return []entry{schemaEntry(v)}, nil
	})
	return answer, err
}

// place gives the version that a schema is or becomes. It writes nothing.
func (s *state) place(subject string, req schemaRequest, c candidate) (v schemaValue, isNew bool, err error) {
	v = schemaValue{Subject: subject, References: c.references, Schema: c.text}
	if old := c.same(s.live(subject)); old != nil && (req.ID == nil || *req.ID == old.schema.id) {
		v.ID, v.Version, v.Schema = old.schema.id, old.number, old.schema.text
		return v, false, nil
	}
	mode := s.mode(subject)
	if err := writable(subject, mode); err != nil {
		return v, false, err
	}
	if mode == modeImport || req.ID != nil {
		v, err = s.imported(subject, mode, req, v, c)
		return v, true, err
	}
	live := s.live(subject)
	levelName := s.compatibility(subject)
	if reasons := s.check(levelName, c.parsed, levels[levelName].against(live)); reasons != nil {
		return v, false, fail(codeIncompatible, "Schema being registered is incompatible with an earlier schema for subject \"%s\", details: [%s]", subject, strings.Join(reasons, "; "))
	}
	v.ID, v.Version = s.maxID+1, s.nextVersion(subject)
	if known := s.identities[c.identity]; known != nil {
		v.ID = known.id
	}
	return v, true, nil
}

// imported places a schema at the id that the request names.
func (s *state) imported(subject, mode string, req schemaRequest, v schemaValue, c candidate) (schemaValue, error) {
	switch {
	case mode != modeImport:
		return v, fail(codeOperationNotPermitted, "Subject %s is not in import mode", subject)
	case req.ID == nil || *req.ID < 1:
		return v, fail(codeOperationNotPermitted, "Subject %s is in import mode: a schema needs its id", subject)
	}
	if old := s.schemas[*req.ID]; old != nil && old.identity != c.identity {
		return v, fail(codeOperationNotPermitted, "Overwrite new schema with id %d is not permitted.", *req.ID)
	}
	v.ID, v.Version = *req.ID, s.nextVersion(subject)
	if req.Version != nil && *req.Version > 0 {
		v.Version = *req.Version
	}
	if old := s.find(subject, v.Version); old != nil && old.schema.identity != c.identity {
		return v, fail(codeOperationNotPermitted, "Subject %s has another schema as its version %d", subject, v.Version)
	}
	return v, nil
}

// nextVersion is above every version that the subject has or had.
func (s *state) nextVersion(subject string) int {
	vs := s.subjects[subject]
	if len(vs) == 0 {
		return 1
	}
	return vs[len(vs)-1].number + 1
}

func (s *Server) lookup(r *http.Request) (any, error) {
	subject, req, err := readSchemaRequest(r)
	if err != nil {
		return nil, err
	}
	var answer versionAnswer
	err = s.log.read(func(st *state) error {
		vs := st.versions(subject, flag(r, "deleted"))
		if len(vs) == 0 {
			return errSubject(subject)
		}
		c, err := st.candidate(req, flag(r, "normalize") || st.normalize(subject))
		if err != nil {
			return err
		}
		v := c.same(vs)
		if v == nil {
			return fail(codeSchemaNotFound, "Schema not found")
		}
		answer = answerOf(v)
		return nil
	})
	return answer, err
}

type compatibilityAnswer struct {
	IsCompatible bool     `json:"is_compatible"`
	Messages     []string `json:"messages,omitempty"`
}

func (s *Server) testCompatibility(r *http.Request) (any, error) {
	subject, req, err := readSchemaRequest(r)
	if err != nil {
		return nil, err
	}
	var answer compatibilityAnswer
	err = s.log.read(func(st *state) error {
		against, err := st.comparedWith(r, subject)
		if err != nil {
			return err
		}
		c, err := st.candidate(req, flag(r, "normalize"))
		if err != nil {
			return err
		}
		reasons := st.check(st.compatibility(subject), c.parsed, against)
		answer.IsCompatible = len(reasons) == 0
		if flag(r, "verbose") {
			answer.Messages = reasons
		}
		return nil
	})
	return answer, err
}

// comparedWith are the versions that the request's path asks to compare with:
// one, or those that the subject's level asks for. A subject without versions
// takes any schema as its first.
func (s *state) comparedWith(r *http.Request, subject string) ([]*version, error) {
	live := s.live(subject)
	if r.PathValue("version") == "" {
		return levels[s.compatibility(subject)].against(live), nil
	}
	n, err := versionOf(r)
	if err != nil {
		return nil, err
	}
	if n == latest && len(live) == 0 {
		return nil, nil
	}
	v, err := pick(s, subject, n, false)
	if err != nil {
		return nil, err
	}
	return []*version{v}, nil
}
