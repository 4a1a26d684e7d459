package registry

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// handler answers a request with a value for JSON, or an error.
type handler func(*http.Request) (any, error)

// maxBody bounds a request; a schema that large has no use.
const maxBody = 16 << 20

func (s *Server) newRoutes() http.Handler {
	mux := http.NewServeMux()
	for pattern, h := range map[string]handler{
		"GET /{$}":      func(*http.Request) (any, error) { return struct{}{}, nil },
		"GET /contexts": func(*http.Request) (any, error) { return []string{"."}, nil },

		"GET /subjects":                                           s.listSubjects,
		"POST /subjects/{subject}":                                s.lookup,
		"DELETE /subjects/{subject}":                              s.deleteSubject,
		"GET /subjects/{subject}/versions":                        s.listVersions,
		"POST /subjects/{subject}/versions":                       s.register,
		"GET /subjects/{subject}/versions/{version}":              s.getVersion,
		"GET /subjects/{subject}/versions/{version}/schema":       s.getVersionText,
		"GET /subjects/{subject}/versions/{version}/referencedby": s.referencedBy,
		"DELETE /subjects/{subject}/versions/{version}":           s.deleteVersion,

		"GET /schemas":                   s.listSchemas,
		"GET /schemas/types":             func(*http.Request) (any, error) { return []string{typeAvro}, nil },
		"GET /schemas/ids/{id}":          s.getSchema,
		"GET /schemas/ids/{id}/schema":   s.getSchemaText,
		"GET /schemas/ids/{id}/subjects": s.getSchemaSubjects,
		"GET /schemas/ids/{id}/versions": s.getSchemaVersions,

		"POST /compatibility/subjects/{subject}/versions":           s.testCompatibility,
		"POST /compatibility/subjects/{subject}/versions/{version}": s.testCompatibility,

		"GET /config":              s.getConfig,
		"PUT /config":              s.putConfig,
		"DELETE /config":           s.deleteConfig,
		"GET /config/{subject}":    s.getConfig,
		"PUT /config/{subject}":    s.putConfig,
		"DELETE /config/{subject}": s.deleteConfig,

		"GET /mode":              s.getMode,
		"PUT /mode":              s.putMode,
		"DELETE /mode":           s.deleteMode,
		"GET /mode/{subject}":    s.getMode,
		"PUT /mode/{subject}":    s.putMode,
		"DELETE /mode/{subject}": s.deleteMode,
	} {
		mux.Handle(pattern, h)
	}
	mux.Handle("/", handler(func(*http.Request) (any, error) {
		return nil, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}))
	return mux
}

// rawJSON is an answer that is JSON already.
type rawJSON string

func (t rawJSON) MarshalJSON() ([]byte, error) { return []byte(t), nil }

func (h handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	answer, err := h(r)
	if err != nil {
		writeError(w, err)
		return
	}
	writeAnswer(w, http.StatusOK, answer)
}

// decode reads a request's JSON into v.
func decode(r *http.Request, v any) error {
	raw, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		return fail(http.StatusRequestEntityTooLarge, "The request is larger than %d bytes", large.Limit)
	}
	if err != nil {
		return fail(http.StatusBadRequest, "Cannot read the request: %v", err)
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return fail(http.StatusBadRequest, "The request is not the JSON that is expected here: %v", err)
	}
	return nil
}

func flag(r *http.Request, name string) bool {
	return strings.EqualFold(r.URL.Query().Get(name), "true")
}

func number(r *http.Request, name string, otherwise int) int {
	n, err := strconv.Atoi(r.URL.Query().Get(name))
	if err != nil || n < 0 {
		return otherwise
	}
	return n
}

// subjectOf is the subject in the path. Names of other contexts (":.ctx:name")
// are refused: there is one context here.
func subjectOf(r *http.Request) (string, error) {
	subject := r.PathValue("subject")
	if strings.TrimSpace(subject) == "" || strings.HasPrefix(subject, ":.") || strings.ContainsFunc(subject, isControl) {
		return "", fail(codeInvalidSubject, "The specified subject '%s' is not a valid subject.", subject)
	}
	return subject, nil
}

func isControl(r rune) bool { return r < ' ' || r == 0x7f }

const latest = -1

// versionOf is the version in the path; latest for "latest" and -1.
func versionOf(r *http.Request) (int, error) {
	text := r.PathValue("version")
	if text == "latest" || text == "-1" {
		return latest, nil
	}
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil || n < 1 {
		return 0, fail(codeInvalidVersion, "The specified version '%s' is not a valid version id. Allowed values are between [1, 2^31-1] and the string \"latest\"", text)
	}
	return int(n), nil
}

func idOf(r *http.Request) (int, error) {
	n, err := strconv.ParseInt(r.PathValue("id"), 10, 32)
	if err != nil {
		return 0, fail(http.StatusNotFound, "HTTP 404 Not Found")
	}
	return int(n), nil
}
