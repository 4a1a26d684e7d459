//go:build stack

package stack_test

import (
	"archive/zip"
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/deploy/stack"
)

// supersetServer is a real Superset of a stack.
type supersetServer struct {
	url, user, password string
	python              string // of its virtual environment
}

// supersetOf is the Superset of a stack that has one.
func supersetOf(s *stack.Stack) *supersetServer {
	return &supersetServer{"http://" + local(s.Port("superset")), s.Config.Access.Admin, s.Config.Access.AdminPassword,
		filepath.Join(s.Cache, "venv", "superset", "bin", "python")}
}

// startSuperset starts a Superset with nothing beside it.
func startSuperset(t *testing.T) *supersetServer {
	t.Helper()
	software(t, stack.Superset)
	s, err := stack.Up(t.Context(), stack.Options{Dir: t.TempDir(), Groups: []string{stack.Superset}, FreePorts: true})
	if s != nil {
		t.Cleanup(func() {
			if err := s.Down(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return supersetOf(s)
}

// push is lockstep superset push, which must succeed.
func (s *supersetServer) push(x *site, uri string) string {
	x.t.Helper()
	x.env = append(x.env, "SUPERSET_PASSWORD="+s.password)
	return x.must("superset", "push", "--url", s.url, "--user", s.user, "--database-uri", uri, "--json")
}

// export gives Superset's own files of all that it has, by name.
func (s *supersetServer) export(t *testing.T) map[string]string {
	t.Helper()
	var login struct {
		Token string `json:"access_token"`
	}
	body := map[string]any{"username": s.user, "password": s.password, "provider": "db"}
	if status := ask(t, http.MethodPost, s.url+"/api/v1/security/login", "", body, &login); status != http.StatusOK {
		t.Fatalf("cannot log in: %d", status)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1/assets/export/", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+login.Token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	z, err := zip.NewReader(bytes.NewReader(text), int64(len(text)))
	if err != nil {
		t.Fatalf("%s: %v", answer.Status, err)
	}
	out := map[string]string{}
	for _, f := range z.File {
		_, name, _ := strings.Cut(f.Name, "/")
		if name == "metadata.yaml" { // holds the time
			continue
		}
		file, err := f.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(file)
		if err != nil {
			t.Fatal(err)
		}
		out[name] = string(content)
	}
	if len(out) < 10 {
		t.Fatalf("Superset exports %d files", len(out))
	}
	return out
}
