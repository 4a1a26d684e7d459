package web

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"lockstep/compile"
)

type request struct {
	method, path, body, host string
	header                   map[string]string
}

func (r request) to(h http.Handler) *httptest.ResponseRecorder {
	req := httptest.NewRequest(r.method, "http://127.0.0.1:8080"+r.path, strings.NewReader(r.body))
	if r.host != "" {
		req.Host = r.host
	}
	for k, v := range r.header {
		req.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

var asJSON = map[string]string{"Content-Type": "application/json"}

func TestHandler(t *testing.T) {
	h := Handler(&fake{status: Status{Project: "p", Ready: true}}, Options{Version: "v1", Lineage: &compile.Lineage{Project: "p"}})
	query := `{"sql":"SELECT 1"}`
	for _, c := range []struct {
		name string
		request
		status int
		body   string
	}{
		{"page", request{method: "GET", path: "/"}, 200, "<title>p · Lockstep"},
		{"script", request{method: "GET", path: "/page.js"}, 200, "refresh"},
		{"style", request{method: "GET", path: "/style.css"}, 200, "prefers-color-scheme"},
		{"nothing", request{method: "GET", path: "/nothing"}, 404, ""},
		{"alive", request{method: "GET", path: "/healthz"}, 200, "true"},
		{"ready", request{method: "GET", path: "/readyz"}, 200, `{"ready":true,"reasons":[]}`},
		{"status", request{method: "GET", path: "/api/status"}, 200, `"project":"p"`},
		{"history", request{method: "GET", path: "/api/history"}, 200, `"a.b":4`},
		{"graph", request{method: "GET", path: "/api/graph"}, 200, `"project":"p"`},
		{"query", request{method: "POST", path: "/api/query", body: query, header: asJSON}, 200, `"step":7`},
		{"query as a form", request{method: "POST", path: "/api/query", body: query, header: map[string]string{"Content-Type": "text/plain"}}, 400, "application/json"},
		{"query that is no JSON", request{method: "POST", path: "/api/query", body: "{", header: asJSON}, 400, "cannot read the request"},
		{"query with other keys", request{method: "POST", path: "/api/query", body: `{"q":1}`, header: asJSON}, 400, "unknown field"},
		{"query too long", request{method: "POST", path: "/api/query", body: `{"sql":"` + strings.Repeat("x", 2<<20) + `"}`, header: asJSON}, 400, "too large"},
		{"query of another site", request{method: "POST", path: "/api/query", body: query, header: map[string]string{"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}}, 403, "another site"},
		{"query by GET", request{method: "GET", path: "/api/query"}, 405, ""},
		{"what changes the state", request{method: "POST", path: "/api/batch", body: "{}", header: asJSON}, 404, ""},
		{"rollback", request{method: "POST", path: "/api/rollback", body: `{"manifest":1}`, header: asJSON}, 404, ""},
		{"verify", request{method: "POST", path: "/api/verify", body: "{}", header: asJSON}, 404, ""},
		{"letters", request{method: "POST", path: "/api/dlq", body: "{}", header: asJSON}, 404, ""},
		{"another host", request{method: "GET", path: "/api/status", host: "evil.example"}, 403, "evil.example"},
		{"localhost", request{method: "GET", path: "/api/status", host: "localhost:8080"}, 200, ""},
		{"IPv6", request{method: "GET", path: "/api/status", host: "[::1]:8080"}, 200, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := c.to(h)
			if w.Code != c.status || !strings.Contains(w.Body.String(), c.body) {
				t.Errorf("%d %s, want %d with %q", w.Code, w.Body, c.status, c.body)
			}
			if c.status == 200 && !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
				t.Error("no content security policy")
			}
		})
	}
}

func TestNotReady(t *testing.T) {
	h := Handler(&fake{status: Status{NotReady: []string{"rebuilding"}}}, Options{})
	if w := (request{method: "GET", path: "/readyz"}).to(h); w.Code != 503 || !strings.Contains(w.Body.String(), "rebuilding") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	h = Handler(&fake{err: errors.New("no disk")}, Options{})
	if w := (request{method: "GET", path: "/readyz"}).to(h); w.Code != 503 || !strings.Contains(w.Body.String(), "no disk") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
	if w := (request{method: "GET", path: "/metrics"}).to(h); w.Code != 200 || !strings.Contains(w.Body.String(), "lockstep_status_up 0") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestPassword(t *testing.T) {
	h := Handler(&fake{}, Options{Password: "secret"})
	for _, c := range []struct {
		user, password string
		status         int
	}{{"", "", 401}, {"lockstep", "wrong", 401}, {"other", "secret", 401}, {"lockstep", "secret", 200}} {
		req := httptest.NewRequest("GET", "http://data.example/api/status", nil)
		if c.user != "" {
			req.SetBasicAuth(c.user, c.password)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if w.Code != c.status {
			t.Errorf("%s:%s: %d, want %d", c.user, c.password, w.Code, c.status)
		}
	}
	if w := (request{method: "GET", path: "/healthz", host: "data.example"}).to(h); w.Code != 200 {
		t.Errorf("health asks for a password: %d", w.Code)
	}
}

func TestCheckListen(t *testing.T) {
	for addr, fine := range map[string]bool{"127.0.0.1:80": true, "localhost:0": true, "[::1]:8080": true, "0.0.0.0:80": false, ":80": false, "10.1.2.3:80": false, "nonsense": false} {
		if err := CheckListen(addr, ""); (err == nil) != fine {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if err := CheckListen("0.0.0.0:80", "secret"); err != nil {
		t.Error(err)
	}
}

func TestListenTCP(t *testing.T) {
	first, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	taken := first.Addr().String()
	l, moved, err := ListenTCP("listen", "", taken)
	if err != nil || !moved || l.Addr().String() == taken {
		t.Fatalf("%v %v", moved, err)
	}
	l.Close()
	if _, _, err := ListenTCP("listen", taken, ""); err == nil || !strings.Contains(err.Error(), "--listen "+taken) {
		t.Errorf("%v", err)
	}
}

// TestMetrics wants each metric in the answer and in the reference.
func TestMetrics(t *testing.T) {
	since := Histogram{Bounds: []float64{0.25, 0.5}, Counts: []uint64{0, 2}, Count: 3, Sum: 99.6}
	f := &fake{status: Status{Project: "p", Step: 5, Started: time.Unix(1700000000, 0), Topics: []TopicStatus{{Topic: "t", Records: 9}}, Models: []ModelStatus{{Model: "a.b", Rows: 3}},
		Bytes: map[string]int64{"log": 8}, Freshness: Freshness{Since: since}}}
	body := request{method: "GET", path: "/metrics"}.to(Handler(f, Options{Version: "v1"})).Body.String()
	for _, want := range []string{`lockstep_info{project="p",version="v1"} 1`, "lockstep_step 5", `lockstep_messages_total{topic="t"} 9`, `lockstep_table_rows{model="a.b"} 3`,
		`lockstep_state_bytes{part="log"} 8`, `lockstep_freshness_seconds_bucket{le="0.25"} 0`, `lockstep_freshness_seconds_bucket{le="0.5"} 2`,
		`lockstep_freshness_seconds_bucket{le="+Inf"} 3`, "lockstep_freshness_seconds_sum 99.6"} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("%s is not in the metrics", want)
		}
	}
	reference, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`(?m)^# HELP (lockstep_\w+) (.*)$`).FindAllStringSubmatch(body, -1) {
		if !strings.Contains(string(reference), "| `"+m[1]+"` |") {
			t.Errorf("docs/operate.md does not tell of %s", m[1])
		}
	}
}

func TestWriteJSON(t *testing.T) {
	const want = `{"step":7,"manifest":3,"frozen":"rolled back – until released","columns":[{"name":"s","type":"string"},{"name":"n","type":"bigint"},{"name":"d","type":"decimal(12,2)"},` +
		`{"name":"f","type":"double"},{"name":"b","type":"boolean"},{"name":"day","type":"date"},{"name":"ts","type":"timestamp"}],"rows":[` + "\n" +
		`["say \"hi\"",1152921504606846976,-0.05,0.1,true,"2026-03-01","2026-03-01 10:00:00.250"],` + "\n" +
		`[null,null,null,null,null,null,null]` + "\n" + `],"truncated":false}` + "\n"
	r, _ := (&fake{}).Query(t.Context(), Query{})
	var b strings.Builder
	if err := WriteJSON(&b, r, 0); err != nil || b.String() != want {
		t.Errorf("%v\n%s\nwant\n%s", err, b.String(), want)
	}
	r, _ = (&fake{}).Query(t.Context(), Query{})
	b.Reset()
	if err := WriteJSON(&b, r, 1); err != nil || !strings.Contains(b.String(), `"truncated":true`) || strings.Contains(b.String(), "[null") {
		t.Errorf("%v\n%s", err, b.String())
	}
	r, _ = (&fake{rowsErr: io.ErrUnexpectedEOF}).Query(t.Context(), Query{})
	if err := WriteJSON(io.Discard, r, 0); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v", err)
	}
}

func TestTimeText(t *testing.T) {
	for nanos, want := range map[int]string{0: "2026-03-01 10:00:00", 250e6: "2026-03-01 10:00:00.250", 250001e3: "2026-03-01 10:00:00.250001"} {
		if got := TimeText(time.Date(2026, 3, 1, 10, 0, 0, nanos, time.UTC)); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
