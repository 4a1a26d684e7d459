package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSupersetPush pushes to what answers as a Superset does.
func TestSupersetPush(t *testing.T) {
	data := `{"result": [{"data": [{"n": 1}, {"n": 2}]}]}`
	imports := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/login"):
			fmt.Fprint(w, `{"access_token": "token"}`)
		case strings.HasSuffix(r.URL.Path, "/data/"):
			fmt.Fprint(w, data)
		case strings.HasPrefix(r.URL.Path, "/api/v1/chart/"):
			fmt.Fprint(w, `{"result": {"id": 7}}`)
		default:
			if strings.HasSuffix(r.URL.Path, "/assets/import/") {
				imports++
			}
			fmt.Fprint(w, `{"result": "guard"}`)
		}
	}))
	defer server.Close()
	push := func(args ...string) (string, string, int) {
		return (&state{}).call(t, append([]string{"superset", "push", "--url", server.URL}, args...)...)
	}
	t.Setenv("SUPERSET_PASSWORD", "")
	if _, stderr, code := push(); code != 2 || !strings.Contains(stderr, "SUPERSET_PASSWORD") || imports != 0 {
		t.Errorf("without a password: exit %d, %d imports\n%s", code, imports, stderr)
	}
	t.Setenv("SUPERSET_PASSWORD", "secret")
	if out, stderr, code := push(); code != 0 || imports != 1 || !strings.Contains(out, "  2\n") || !strings.Contains(out, server.URL+"/superset/dashboard/") {
		t.Errorf("exit %d, %d imports\n%s\n%s", code, imports, out, stderr)
	}
	if out, _, code := push("--json"); code != 0 || !strings.Contains(out, `"rows": 2`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	data = `{"result": [{"error": "no such table"}]}`
	if out, stderr, code := push(); code != 1 || !strings.Contains(stderr, "no such table") || !strings.Contains(out, "error") {
		t.Errorf("a chart with an error: exit %d\n%s\n%s", code, out, stderr)
	}
	if _, stderr, code := push("--database-uri", "nonsense"); code != 1 || !strings.Contains(stderr, "hive://") {
		t.Errorf("a bad URI: exit %d\n%s", code, stderr)
	}
}
