package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/broker"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// fixture is a registry over a log of its own.
type fixture struct {
	t      *testing.T
	dir    string
	broker *broker.Broker
	server *Server
	http   *httptest.Server
	sr     *sr.Client
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{t: t, dir: t.TempDir()}
	f.open()
	t.Cleanup(f.close)
	return f
}

func (f *fixture) open() {
	f.t.Helper()
	var err error
	if f.broker, err = broker.Open(broker.Options{Dir: f.dir, Addr: "127.0.0.1:0", Log: quiet()}); err != nil {
		f.t.Fatal(err)
	}
	if f.server, err = New(testContext(f.t), Config{ClientOpts: f.broker.ClientOpts(), Log: quiet()}); err != nil {
		f.t.Fatal(err)
	}
	f.http = httptest.NewServer(f.server)
	if f.sr, err = sr.NewClient(sr.URLs(f.http.URL)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) close() {
	f.http.Close()
	f.server.Close()
	f.broker.Close()
}

func (f *fixture) reopen() {
	f.t.Helper()
	f.close()
	f.open()
}

// do sends a request and gives status and body.
func (f *fixture) do(method, path, body string) (int, string) {
	f.t.Helper()
	req, err := http.NewRequestWithContext(testContext(f.t), method, f.http.URL+path, strings.NewReader(body))
	if err != nil {
		f.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		f.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	if got := res.Header.Get("Content-Type"); got != contentType && res.StatusCode != http.StatusMethodNotAllowed {
		f.t.Errorf("%s %s: content type %q", method, path, got)
	}
	return res.StatusCode, string(raw)
}

func (f *fixture) register(subject, schema string, refs ...sr.SchemaReference) sr.SubjectSchema {
	f.t.Helper()
	s, err := f.sr.CreateSchema(testContext(f.t), subject, sr.Schema{Schema: schema, References: refs})
	if err != nil {
		f.t.Fatalf("register %s: %v", subject, err)
	}
	return s
}

func record(fields string) string {
	return `{"type":"record","name":"R","fields":[` + fields + `]}`
}

func field(name, typ string, extra ...string) string {
	return fmt.Sprintf(`{"name":%q,"type":%s%s}`, name, typ, strings.Join(extra, ""))
}

const (
	one = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"}]}`
	two = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"b","type":["null","string"],"default":null}]}`
	bad = `{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"c","type":"string"}]}`
)

func TestRegisterAndRead(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	first := f.register("a-value", one)
	second := f.register("a-value", two)
	other := f.register("b/c value", one) // same schema, same id; a name that must be escaped
	if first.ID != 1 || first.Version != 1 || second.ID != 2 || second.Version != 2 || other.ID != 1 || other.Version != 1 {
		t.Fatalf("registered %+v, %+v, %+v", first, second, other)
	}
	if again := f.register("a-value", strings.ReplaceAll(one, ",", " , ")); again.ID != 1 || again.Version != 1 {
		t.Errorf("the same schema with white space became %+v", again)
	}
	for _, c := range []struct {
		what string
		got  func() (any, error)
		want any
	}{
		{"subjects", func() (any, error) { return f.sr.Subjects(ctx) }, []string{"a-value", "b/c value"}},
		{"subjects by prefix", func() (any, error) { return f.sr.Subjects(sr.WithParams(ctx, sr.SubjectPrefix("b"))) }, []string{"b/c value"}},
		{"versions", func() (any, error) { return f.sr.SubjectVersions(ctx, "a-value") }, []int{1, 2}},
		{"version 1", func() (any, error) { s, err := f.sr.SchemaByVersion(ctx, "a-value", 1); return s.Schema.Schema, err }, one},
		{"latest", func() (any, error) { s, err := f.sr.SchemaByVersion(ctx, "a-value", -1); return s.ID, err }, 2},
		{"text by version", func() (any, error) { return f.sr.SchemaTextByVersion(ctx, "a-value", 2) }, two},
		{"by id", func() (any, error) { s, err := f.sr.SchemaByID(ctx, 2); return s.Schema, err }, two},
		{"text by id", func() (any, error) { return f.sr.SchemaTextByID(ctx, 1) }, one},
		{"subjects by id", func() (any, error) { return f.sr.SubjectsByID(ctx, 1) }, []string{"a-value", "b/c value"}},
		{"versions by id", func() (any, error) { return f.sr.SchemaVersionsByID(ctx, 2) }, []sr.SubjectVersion{{Subject: "a-value", Version: 2}}},
		{"types", func() (any, error) { return f.sr.SupportedTypes(ctx) }, []sr.SchemaType{sr.TypeAvro}},
		{"contexts", func() (any, error) { return f.sr.Contexts(ctx) }, []string{"."}},
		{"all", func() (any, error) { all, err := f.sr.AllSchemas(ctx); return len(all), err }, 3},
		{"lookup", func() (any, error) {
			s, err := f.sr.LookupSchema(ctx, "a-value", sr.Schema{Schema: two})
			return []int{s.ID, s.Version}, err
		}, []int{2, 2}},
	} {
		got, err := c.got()
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %v, %v, want %v", c.what, got, err, c.want)
		}
	}
	if subjects, schemas := f.server.Counts(); subjects != 2 || schemas != 2 {
		t.Errorf("counts %d, %d", subjects, schemas)
	}
}

func TestRestartKeepsEverything(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	f.register("a", one)
	f.register("a", two)
	f.register("gone", `"string"`) // id 3
	for _, how := range []sr.DeleteHow{sr.SoftDelete, sr.HardDelete} {
		if _, err := f.sr.DeleteSubject(ctx, "gone", how); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.sr.DeleteSchema(ctx, "a", 1, sr.SoftDelete); err != nil {
		t.Fatal(err)
	}
	f.do("PUT", "/config", `{"compatibility":"FULL"}`)
	f.do("PUT", "/config/a", `{"compatibility":"NONE"}`)
	f.do("PUT", "/mode/b", `{"mode":"READONLY"}`)
	answers := func() string {
		var all []string
		for _, path := range []string{
			"/subjects?deleted=true", "/schemas?deleted=true", "/subjects/a/versions", "/subjects/a/versions?deletedOnly=true",
			"/schemas/ids/1", "/schemas/ids/2", "/schemas/ids/3", "/config", "/config/a", "/mode/b", "/mode",
		} {
			_, body := f.do("GET", path, "")
			all = append(all, path+" "+body)
		}
		return strings.Join(all, "\n")
	}
	before := answers()
	f.reopen()
	if after := answers(); after != before {
		t.Errorf("after a restart:\n%s\nbefore:\n%s", after, before)
	}
	// Ids of what was deleted for good are not given again.
	if s := f.register("new", `"long"`); s.ID != 4 {
		t.Errorf("a new schema got id %d, want 4", s.ID)
	}
}

func TestConcurrentRegistrationsGiveOneID(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	const n = 20
	ids := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			id, err := f.sr.RegisterSchema(ctx, fmt.Sprint("s", i%4), sr.Schema{Schema: one}, -1, -1)
			if err != nil {
				t.Error(err)
			}
			ids[i] = id
		})
	}
	wg.Wait()
	for i, id := range ids {
		if id != 1 {
			t.Errorf("registration %d got id %d", i, id)
		}
	}
	all, err := f.sr.AllSchemas(ctx)
	if err != nil || len(all) != 4 {
		t.Errorf("%d versions, %v; want one for each of 4 subjects", len(all), err)
	}
}

func TestErrorCodes(t *testing.T) {
	f := newFixture(t)
	f.register("s", one)
	f.register("s", two)
	f.register("soft", one)
	f.do("DELETE", "/subjects/soft", "")
	f.do("DELETE", "/subjects/s/versions/1", "")
	f.do("PUT", "/mode/frozen", `{"mode":"READONLY"}`)
	schemaBody := func(schema string, more string) string {
		raw, _ := json.Marshal(schema)
		return `{"schema":` + string(raw) + more + `}`
	}
	for _, c := range []struct {
		method, path, body string
		status, code       int
		message            string
	}{
		{"GET", "/subjects/none/versions", "", 404, 40401, "Subject 'none' not found."},
		{"GET", "/subjects/soft/versions", "", 404, 40401, ""},
		{"GET", "/subjects/none/versions/1", "", 404, 40401, ""},
		{"GET", "/subjects/s/versions/9", "", 404, 40402, "Version 9 not found."},
		{"GET", "/subjects/s/versions/1", "", 404, 40402, ""},
		{"GET", "/subjects/s/versions/0", "", 422, 42202, ""},
		{"GET", "/subjects/s/versions/x", "", 422, 42202, "not a valid version id"},
		{"GET", "/schemas/ids/99", "", 404, 40403, "Schema 99 not found"},
		{"GET", "/schemas/ids/99/schema", "", 404, 40403, ""},
		{"GET", "/schemas/ids/99/versions", "", 404, 40403, ""},
		{"GET", "/nothing", "", 404, 404, ""},
		{"POST", "/subjects/none", schemaBody(one, ""), 404, 40401, ""},
		{"POST", "/subjects/s", schemaBody(`"string"`, ""), 404, 40403, "Schema not found"},
		{"POST", "/subjects/s/versions", schemaBody(bad, ""), 409, 409, "incompatible with an earlier schema"},
		{"POST", "/subjects/s/versions", schemaBody(`{"type":"nothing"}`, ""), 422, 42201, ""},
		{"POST", "/subjects/s/versions", schemaBody(``, ""), 422, 42201, ""},
		{"POST", "/subjects/s/versions", schemaBody(record(field("a", `"int"`, `,"default":"x"`)), ""), 422, 42201, "invalid default"},
		{"POST", "/subjects/s/versions", schemaBody(`{}`, `,"schemaType":"JSON"`), 422, 42201, "only AVRO"},
		{"POST", "/subjects/s/versions", schemaBody(`x`, `,"schemaType":"PROTOBUF"`), 422, 42201, "only AVRO"},
		{"POST", "/subjects/s/versions", schemaBody(one, `,"ruleSet":{"domainRules":[]}`), 422, 42201, "ruleSet"},
		{"POST", "/subjects/s/versions", schemaBody(one, `,"references":[{"name":"X","subject":"none","version":1}]`), 422, 42201, "not found"},
		{"POST", "/subjects/s/versions", schemaBody(`"long"`, `,"id":50`), 422, 42205, "not in import mode"},
		{"POST", "/subjects/s/versions", `{`, 400, 400, ""},
		{"POST", "/subjects/frozen/versions", schemaBody(one, ""), 422, 42205, "read-only"},
		{"POST", "/subjects/:.other:s/versions", schemaBody(one, ""), 422, 42208, ""},
		{"DELETE", "/subjects/none", "", 404, 40401, ""},
		{"DELETE", "/subjects/soft", "", 404, 40404, "permanent=true"},
		{"DELETE", "/subjects/s?permanent=true", "", 404, 40405, "not deleted first"},
		{"DELETE", "/subjects/s/versions/1", "", 404, 40406, "permanent=true"},
		{"DELETE", "/subjects/s/versions/2?permanent=true", "", 404, 40407, "not deleted first"},
		{"DELETE", "/subjects/s/versions/9", "", 404, 40402, ""},
		{"DELETE", "/subjects/frozen", "", 422, 42205, ""},
		{"GET", "/config/s", "", 404, 40408, "subject-level compatibility"},
		{"DELETE", "/config/s", "", 404, 40401, ""},
		{"PUT", "/config", `{"compatibility":"SOME"}`, 422, 42203, "FULL_TRANSITIVE"},
		{"PUT", "/config/s", `{"compatibility":"NONE","compatibilityGroup":"g"}`, 422, 422, "compatibilityGroup"},
		{"PUT", "/config/frozen", `{"compatibility":"NONE"}`, 422, 42205, ""},
		{"GET", "/mode/s", "", 404, 40409, "subject-level mode"},
		{"PUT", "/mode", `{"mode":"SLOW"}`, 422, 42204, ""},
		{"PUT", "/mode/s", `{"mode":"IMPORT"}`, 422, 42205, "force=true"},
		{"DELETE", "/mode/s", "", 404, 40401, ""},
		{"POST", "/compatibility/subjects/none/versions/1", schemaBody(one, ""), 404, 40401, ""},
		{"POST", "/compatibility/subjects/s/versions/9", schemaBody(one, ""), 404, 40402, ""},
	} {
		status, body := f.do(c.method, c.path, c.body)
		var e apiError
		if err := json.Unmarshal([]byte(body), &e); err != nil {
			t.Errorf("%s %s: %q is no JSON: %v", c.method, c.path, body, err)
		}
		if status != c.status || e.Code != c.code || !strings.Contains(e.Message, c.message) || e.Message == "" {
			t.Errorf("%s %s %s: got %d %s, want %d %d %q", c.method, c.path, c.body, status, body, c.status, c.code, c.message)
		}
	}
}

func TestDeletes(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	f.register("s", one)
	f.register("s", two)
	steps := []struct {
		method, path, body string
		want               string
	}{
		{"DELETE", "/subjects/s/versions/latest", "", `2`},
		{"GET", "/subjects/s/versions", "", `[1]`},
		{"GET", "/subjects/s/versions?deleted=true", "", `[1,2]`},
		{"GET", "/subjects/s/versions?deletedOnly=true", "", `[2]`},
		{"GET", "/subjects/s/versions/latest/schema", "", one},
		{"GET", "/subjects/s/versions/2/schema?deleted=true", "", two},
		{"GET", "/schemas/ids/2/schema", "", two}, // records written with it remain
		{"GET", "/schemas/ids/2/versions", "", `[]`},
		{"GET", "/schemas/ids/2/versions?deleted=true", "", `[{"subject":"s","version":2}]`},
		{"DELETE", "/subjects/s/versions/2?permanent=true", "", `2`},
		{"GET", "/subjects/s/versions?deleted=true", "", `[1]`},
		{"PUT", "/config/s", `{"compatibility":"FULL"}`, `{"compatibility":"FULL"}`},
		{"DELETE", "/subjects/s", "", `[1]`},
		{"GET", "/subjects", "", `[]`},
		{"GET", "/subjects?deleted=true", "", `["s"]`},
		{"GET", "/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"BACKWARD"}`}, // went with the subject
		{"DELETE", "/subjects/s?permanent=true", "", `[1]`},
		{"GET", "/subjects?deleted=true", "", `[]`},
	}
	for _, c := range steps {
		if _, body := f.do(c.method, c.path, c.body); body != c.want {
			t.Errorf("%s %s: got %s, want %s", c.method, c.path, body, c.want)
		}
	}
	if _, err := f.sr.SchemaByID(ctx, 1); err == nil {
		t.Error("a schema that was deleted for good is still there")
	}
	// Softly deleted: the same schema keeps its id and gets a new version.
	f.register("back", two)
	if _, err := f.sr.DeleteSubject(ctx, "back", sr.SoftDelete); err != nil {
		t.Fatal(err)
	}
	if again := f.register("back", two); again.ID != 3 || again.Version != 2 {
		t.Errorf("registered again as %+v, want id 3 version 2", again)
	}
}

func TestReferences(t *testing.T) {
	f := newFixture(t)
	ctx := testContext(t)
	f.register("money", `{"type":"record","namespace":"x","name":"Money","fields":[{"name":"cents","type":"long"}]}`)
	line := f.register("line", `{"type":"record","namespace":"x","name":"Line","fields":[{"name":"price","type":"x.Money"}]}`,
		sr.SchemaReference{Name: "x.Money", Subject: "money", Version: 1})
	bill := `{"type":"record","namespace":"x","name":"Bill","fields":[{"name":"lines","type":{"type":"array","items":"x.Line"}}]}`
	top := f.register("bill", bill, sr.SchemaReference{Name: "x.Line", Subject: "line", Version: -1})
	if len(top.References) != 1 || top.References[0].Version != 1 {
		t.Errorf("references of the newest version became %+v", top.References)
	}

	_, body := f.do("GET", "/subjects/money/versions/1/referencedby", "")
	if want := fmt.Sprint("[", line.ID, "]"); body != want {
		t.Errorf("referencedby %s, want %s", body, want)
	}
	for _, path := range []string{"/subjects/money", "/subjects/money/versions/1", "/subjects/line"} {
		status, body := f.do("DELETE", path, "")
		if status != 422 || !strings.Contains(body, "42206") {
			t.Errorf("DELETE %s of a referenced schema: %d %s", path, status, body)
		}
	}

	c, err := NewClient(f.http.URL)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := c.SchemaByID(ctx, top.ID)
	if err != nil {
		t.Fatal(err)
	}
	value := map[string]any{"lines": []any{map[string]any{"price": map[string]any{"cents": int64(5)}}}}
	raw, err := parsed.Encode(value)
	if err != nil || !bytes.Equal(raw, []byte{2, 10, 0}) {
		t.Errorf("encoded as %v, %v", raw, err)
	}

	// Compatibility looks into the referenced type.
	f.register("money", `{"type":"record","namespace":"x","name":"Money","fields":[{"name":"cents","type":"long"},{"name":"code","type":"string","default":"EUR"}]}`)
	f.register("line", `{"type":"record","namespace":"x","name":"Line","fields":[{"name":"price","type":"x.Money"}]}`,
		sr.SchemaReference{Name: "x.Money", Subject: "money", Version: 2})
	f.do("PUT", "/config/money", `{"compatibility":"NONE"}`)
	f.register("money", `{"type":"record","namespace":"x","name":"Money","fields":[{"name":"cents","type":"string"}]}`)
	_, err = f.sr.RegisterSchema(ctx, "line", sr.Schema{
		Schema:     `{"type":"record","namespace":"x","name":"Line","fields":[{"name":"price","type":"x.Money"}]}`,
		References: []sr.SchemaReference{{Name: "x.Money", Subject: "money", Version: 3}},
	}, -1, -1)
	if err == nil || !strings.Contains(err.Error(), "price.cents") {
		t.Errorf("an incompatible referenced type gave %v", err)
	}

	// From the top down they can go.
	for _, path := range []string{"/subjects/bill", "/subjects/line", "/subjects/money"} {
		if status, body := f.do("DELETE", path, ""); status != 200 {
			t.Errorf("DELETE %s: %d %s", path, status, body)
		}
	}
	f.reopen()
	if _, err := f.sr.SchemaByID(ctx, top.ID); err != nil {
		t.Errorf("after deletes and a restart: %v", err)
	}
}

func TestNormalize(t *testing.T) {
	f := newFixture(t)
	f.register("s", record(field("a", `"int"`)))
	spelled := `{"name":"R","type":"record","fields":[{"type":{"type":"int"},"name":"a"}]}`
	raw, _ := json.Marshal(spelled)
	body := `{"schema":` + string(raw) + `}`
	if status, _ := f.do("POST", "/subjects/s", body); status != 404 {
		t.Errorf("another spelling was found without normalize: %d", status)
	}
	f.do("POST", "/subjects/n/versions?normalize=true", body)
	if _, got := f.do("POST", "/subjects/n/versions?normalize=true", strings.ReplaceAll(body, `{\"type\":\"int\"}`, `\"int\"`)); !strings.Contains(got, `"version":1`) {
		t.Errorf("two spellings with normalize gave %s", got)
	}
	f.do("PUT", "/config/m", `{"normalize":true}`)
	f.do("POST", "/subjects/m/versions", body)
	if status, got := f.do("POST", "/subjects/m", strings.ReplaceAll(body, `{\"type\":\"int\"}`, `\"int\"`)); status != 200 {
		t.Errorf("normalize by config: %d %s", status, got)
	}
}

func TestConfigAndMode(t *testing.T) {
	f := newFixture(t)
	f.register("s", one)
	for _, c := range []struct{ method, path, body, want string }{
		{"GET", "/config", "", `{"compatibilityLevel":"BACKWARD"}`},
		{"PUT", "/config", `{"compatibility":"full_transitive"}`, `{"compatibility":"FULL_TRANSITIVE"}`},
		{"GET", "/config/s?defaultToGlobal=true", "", `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"PUT", "/config/s", `{"compatibility":"NONE"}`, `{"compatibility":"NONE"}`},
		{"GET", "/config/s", "", `{"compatibilityLevel":"NONE"}`},
		{"DELETE", "/config/s", "", `{"compatibilityLevel":"NONE"}`},
		{"DELETE", "/config", "", `{"compatibilityLevel":"FULL_TRANSITIVE"}`},
		{"GET", "/config", "", `{"compatibilityLevel":"BACKWARD"}`},
		{"GET", "/mode", "", `{"mode":"READWRITE"}`},
		{"PUT", "/mode/s", `{"mode":"READONLY"}`, `{"mode":"READONLY"}`},
		{"GET", "/mode/s", "", `{"mode":"READONLY"}`},
		{"DELETE", "/mode/s", "", `{"mode":"READONLY"}`},
		{"GET", "/mode/s?defaultToGlobal=true", "", `{"mode":"READWRITE"}`},
		{"PUT", "/mode/in", `{"mode":"IMPORT"}`, `{"mode":"IMPORT"}`},
		{"POST", "/subjects/in/versions", `{"schema":"\"long\"","id":70,"version":7}`, `{"id":70,"version":7,"schema":"\"long\""}`},
		{"GET", "/subjects/in/versions", "", `[7]`},
		{"PUT", "/mode", `{"mode":"READONLY_OVERRIDE"}`, `{"mode":"READONLY_OVERRIDE"}`},
	} {
		if _, body := f.do(c.method, c.path, c.body); body != c.want {
			t.Errorf("%s %s %s: got %s, want %s", c.method, c.path, c.body, body, c.want)
		}
	}
	for _, body := range []string{`{"schema":"\"long\"","id":1}`, `{"schema":"\"int\""}`, `{"schema":"\"int\"","id":70}`} {
		if status, got := f.do("POST", "/subjects/in/versions", body); status != 200 && status != 422 {
			t.Errorf("%s under READONLY_OVERRIDE: %d %s", body, status, got)
		}
	}
	f.do("DELETE", "/mode", "")
	// The next id is above the imported one.
	if s := f.register("t", `"double"`); s.ID != 71 {
		t.Errorf("after importing id 70 the next id is %d", s.ID)
	}
	if status, got := f.do("POST", "/subjects/in/versions", `{"schema":"\"int\"","id":70}`); status != 422 || !strings.Contains(got, "id 70 is not permitted") {
		t.Errorf("overwriting an id: %d %s", status, got)
	}
}

func TestCredential(t *testing.T) {
	f := newFixture(t)
	f.server.credential = &Credential{User: "ann", Password: "secret"}
	if status, body := f.do("GET", "/subjects", ""); status != 401 || !strings.Contains(body, "Unauthorized") {
		t.Errorf("without a credential: %d %s", status, body)
	}
	for password, ok := range map[string]bool{"secret": true, "wrong": false} {
		c, err := sr.NewClient(sr.URLs(f.http.URL), sr.BasicAuth("ann", password))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subjects(testContext(t)); (err == nil) != ok {
			t.Errorf("password %q: %v", password, err)
		}
	}
}

// TestTopicFormat: what Confluent's registry writes is read, and what it would
// read is written, byte for byte.
func TestTopicFormat(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	b, err := broker.Open(broker.Options{Dir: dir, Addr: "127.0.0.1:0", Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.EnsureTopic(ctx, Topic, 1, nil); err != nil {
		t.Fatal(err)
	}
	client, err := kgo.NewClient(append(b.ClientOpts(), kgo.ConsumeTopics(Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	confluent := []string{
		`{"keytype":"NOOP","magic":0}`, "",
		`{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}`, `{"subject":"s","version":1,"id":41,"schema":"\"int\"","deleted":false}`,
		`{"keytype":"SCHEMA","subject":"s","version":2,"magic":1}`, `{"subject":"s","version":2,"id":42,"md5":"x","schema":"\"long\"","deleted":false,"ts":1}`,
		`{"keytype":"CONFIG","subject":null,"magic":0}`, `{"compatibilityLevel":"NONE"}`,
		`{"keytype":"MODE","subject":"r","magic":0}`, `{"subject":"r","mode":"READONLY"}`,
		`{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}`, `{"subject":"s","version":1}`,
		`{"keytype":"CONTEXT","tenant":"d","context":".","magic":0}`, `{"tenant":"d","context":"."}`,
		`not JSON`, `{}`,
	}
	for i := 0; i < len(confluent); i += 2 {
		r := &kgo.Record{Topic: Topic, Key: []byte(confluent[i])}
		if confluent[i+1] != "" {
			r.Value = []byte(confluent[i+1])
		}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(ctx, Config{ClientOpts: b.ClientOpts(), Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := &fixture{t: t, server: s, http: httptest.NewServer(s)}
	defer f.http.Close()
	for path, want := range map[string]string{
		"/subjects/s/versions":              `[2]`,
		"/subjects/s/versions?deleted=true": `[1,2]`,
		"/schemas/ids/42":                   `{"schema":"\"long\""}`,
		"/config":                           `{"compatibilityLevel":"NONE"}`,
		"/mode/r":                           `{"mode":"READONLY"}`,
	} {
		if _, got := f.do("GET", path, ""); got != want {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}

	f.do("POST", "/subjects/s/versions", `{"schema":"\"string\""}`)
	f.do("PUT", "/config", `{"compatibility":"FULL"}`)
	f.do("PUT", "/config/s", `{"compatibility":"FULL"}`)
	f.do("DELETE", "/subjects/s/versions/3", "")
	f.do("DELETE", "/subjects/s/versions/3?permanent=true", "")
	f.do("DELETE", "/subjects/s", "")
	want := []string{
		`{"keytype":"SCHEMA","subject":"s","version":3,"magic":1} {"subject":"s","version":3,"id":43,"schema":"\"string\"","deleted":false}`,
		`{"keytype":"CONFIG","subject":null,"magic":0} {"compatibilityLevel":"FULL"}`,
		`{"keytype":"CONFIG","subject":"s","magic":0} {"subject":"s","compatibilityLevel":"FULL"}`,
		`{"keytype":"SCHEMA","subject":"s","version":3,"magic":1} {"subject":"s","version":3,"id":43,"schema":"\"string\"","deleted":true}`,
		`{"keytype":"SCHEMA","subject":"s","version":3,"magic":1} `,
		`{"keytype":"DELETE_SUBJECT","subject":"s","magic":0} {"subject":"s","version":2}`,
		`{"keytype":"CONFIG","subject":"s","magic":0} `,
	}
	var got []string
	skip := len(confluent) / 2
	for len(got) < skip+len(want) {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Key)+" "+string(r.Value)) })
	}
	for i, w := range want {
		if got[skip+i] != w {
			t.Errorf("record %d is\n%s, want\n%s", i, got[skip+i], w)
		}
	}
}

func TestWriteIsNotAnsweredWithoutTheLog(t *testing.T) {
	f := newFixture(t)
	f.register("s", one)
	f.server.log.timeout = 300 * time.Millisecond
	if err := f.broker.Close(); err != nil {
		t.Fatal(err)
	}
	status, body := f.do("POST", "/subjects/new/versions", `{"schema":"\"long\""}`)
	if status != 500 || !strings.Contains(body, "5000") {
		t.Errorf("a write without the log gave %d %s", status, body)
	}
	if _, got := f.do("GET", "/subjects", ""); got != `["s"]` {
		t.Errorf("subjects after a failed write: %s", got)
	}

	// With the log back, the outcome of that write is settled before the next.
	var err error
	f.broker, err = broker.Open(broker.Options{Dir: f.dir, Addr: f.broker.Addrs()[0], Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	f.server.log.timeout = 20 * time.Second
	first := f.register("new", `"long"`)
	second := f.register("other", `"double"`)
	if first.ID == second.ID {
		t.Errorf("two schemas got id %d", first.ID)
	}
	f.reopen()
	for _, s := range []sr.SubjectSchema{first, second} {
		if got, err := f.sr.SchemaTextByID(testContext(t), s.ID); err != nil || got != s.Schema.Schema {
			t.Errorf("schema %d is %s, %v after a restart; want %s", s.ID, got, err, s.Schema.Schema)
		}
	}
}
