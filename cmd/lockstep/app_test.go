package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/embedded"
	"lockstep/lake"
	"lockstep/web"
)

// state is an instance that answers what a test wants.
type state struct {
	web.Backend
	config  embedded.Config
	options embedded.RunOptions
	asked   any
	verify  web.VerifyReport
	batch   web.BatchReport
	letters []web.Letter
	summary *embedded.Summary
	err     error
	closed  bool
}

func (s *state) Run(_ context.Context, o embedded.RunOptions) (*embedded.Summary, error) {
	s.options = o
	o.Progress(embedded.Progress{Step: 3, Accepted: 1234})
	return s.summary, s.err
}

func (s *state) Addresses() []web.Address { return []web.Address{{Name: "web", Addr: "http://here"}} }
func (s *state) Close() error             { s.closed = true; return nil }

func (s *state) Query(_ context.Context, q web.Query) (*web.Result, error) {
	s.asked = q
	schema := arrow.NewSchema([]arrow.Field{{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true}}, nil)
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	b.Field(0).(*array.StringBuilder).AppendValues([]string{"two\nlines", "", ""}, []bool{true, true, false})
	b.Field(1).(*array.Int64Builder).AppendValues([]int64{1, 20, 0}, []bool{true, true, false})
	rows, err := array.NewRecordReader(schema, []arrow.RecordBatch{b.NewRecordBatch()})
	return &web.Result{Step: 1234, Manifest: 2, Rows: rows}, errors.Join(err, s.err)
}

func (s *state) Verify(_ context.Context, step int64) (*web.VerifyReport, error) {
	s.asked = step
	return &s.verify, s.err
}

func (s *state) Batch(_ context.Context, r web.BatchRequest) (*web.BatchReport, error) {
	s.asked = r
	return &s.batch, s.err
}

func (s *state) History(context.Context) ([]lake.Manifest, error) {
	return []lake.Manifest{{ID: 2, Step: 9, Published: time.Unix(0, 0), Tables: map[string]int64{"a.b": 1}}}, s.err
}

func (s *state) Rollback(_ context.Context, id int64) error { s.asked = id; return s.err }
func (s *state) Release(context.Context) error              { s.asked = "release"; return s.err }

func (s *state) DeadLetters(_ context.Context, f web.LetterFilter) ([]web.Letter, error) {
	s.asked = f
	return s.letters, s.err
}

func (s *state) ReplayLetters(_ context.Context, f web.LetterFilter) (int, error) {
	s.asked = f
	return 4, s.err
}

// call runs a command line against a state that nobody owns.
func (s *state) call(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	a := &app{stdin: strings.NewReader("SELECT 2"), stdout: &out, stderr: &err, open: func(_ context.Context, c embedded.Config) (instance, error) {
		s.config = c
		return s, nil
	}}
	if !slices.Contains(args, "--state") {
		args = append(args, "--state", t.TempDir())
	}
	code = a.main(append(args, "--project", "../../examples/starter"))
	return out.String(), err.String(), code
}

func TestQueryFormats(t *testing.T) {
	for format, want := range map[string]string{
		"table": "name           n\n----------  ----\ntwo\\nlines     1\n              20\nnull        null\n(3 rows, step 1,234, manifest 2)\n",
		"csv":   "name,n\r\n\"two\nlines\",1\r\n\"\",20\r\n,\r\n",
		"json":  `"rows":[` + "\n" + `["two\nlines",1],` + "\n" + `["",20],` + "\n" + `[null,null]`,
	} {
		s := &state{}
		out, stderr, code := s.call(t, "query", "-", "--format", format, "--as-of", "2")
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d\n%q\nwant\n%q\n%s", format, code, out, want, stderr)
		}
		if s.asked != (web.Query{SQL: "SELECT 2", Layer: "serving", AsOf: "2"}) || !s.config.Quiet || !s.closed {
			t.Errorf("asked %+v, config %+v, closed %v", s.asked, s.config, s.closed)
		}
	}
}

func TestVerdicts(t *testing.T) {
	different := web.VerifyReport{Step: 5, Models: []web.ModelReport{{Model: "a.b", Served: &web.Comparison{Rows: 2, Extra: 1, Sample: []string{"+ 1"}}}}}
	for _, c := range []struct {
		name string
		state
		args   []string
		code   int
		stdout string
		stderr string
	}{
		{"clean", state{verify: web.VerifyReport{Step: 5}}, []string{"verify"}, 0, "every row is the same", ""},
		{"clean as JSON", state{verify: web.VerifyReport{Step: 5}}, []string{"verify", "--json"}, 0, `"clean": true`, ""},
		{"different", state{verify: different}, []string{"verify", "--step", "5"}, 1, "a.b, served: + 1", "differences at step 5"},
		{"batch", state{batch: web.BatchReport{Run: "r", Manifest: 3}}, []string{"batch"}, 0, "published as manifest 3", ""},
		{"drift", state{batch: web.BatchReport{Drift: map[string]int64{"a.b": 2}}}, []string{"batch"}, 1, "", "1 models"},
		{"begin", state{batch: web.BatchReport{Run: "r7"}}, []string{"batch", "--begin"}, 0, "r7\n", ""},
		{"fails", state{err: &web.Error{What: "cannot do it", Do: "try later"}}, []string{"batch"}, 1, "", "lockstep: cannot do it; try later\n"},
		{"history", state{}, []string{"history"}, 0, "1970-01-01 00:00:00 UTC", ""},
		{"rollback", state{}, []string{"rollback", "--to", "2"}, 0, "manifest 2 is served, frozen", ""},
		{"release", state{}, []string{"rollback", "--release", "--json"}, 0, `"frozen": false`, ""},
		{"letters", state{letters: []web.Letter{{Topic: "t", Partition: 1, Offset: 5, Reason: "schema"}}}, []string{"dlq", "list"}, 0, "t/1/5", ""},
		{"no letters", state{}, []string{"dlq", "list"}, 0, "no dead letters", ""},
		{"no letters as JSON", state{}, []string{"dlq", "list", "--json"}, 0, "[]", ""},
		{"no such letter", state{}, []string{"dlq", "show", "t/1/5"}, 1, "", "cannot show dead letter t/1/5"},
		{"replay letters", state{}, []string{"dlq", "replay", "t/1/5"}, 0, "4 dead letters were sent again", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, stderr, code := c.state.call(t, c.args...)
			if code != c.code || !strings.Contains(out, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, want %d\n%s\n%s", code, c.code, out, stderr)
			}
		})
	}
}

func TestRunOptions(t *testing.T) {
	raw, err := filepath.Abs("../../examples/starter/raw")
	if err != nil {
		t.Fatal(err)
	}
	done := &embedded.Summary{Events: 5, Rows: map[string]int64{"gold.x": 1200}}
	s := &state{summary: done}
	out, stderr, code := s.call(t, "run", "--once", "--data", raw, "--speed", "max", "--memory-limit", "2GiB", "--disk-limit", "1.5GB", "--schedule", "off")
	if code != 0 || !strings.Contains(out, "gold.x  1,200") || !strings.Contains(stderr, "web        http://here") {
		t.Errorf("exit %d\n%s\n%s", code, out, stderr)
	}
	if o := s.options; o.Data != raw || o.Speed != 0 || !o.Once || o.Schedule != "off" || s.config.MemoryLimit != 2<<30 || s.config.DiskLimit != 1.5e9 || s.config.Quiet {
		t.Errorf("%+v %+v", o, s.config)
	}
	s = &state{}
	if _, stderr, code := s.call(t, "run"); code != 0 || s.options.Speed != defaultSpeed || s.options.Scale != 0 || !strings.Contains(stderr, "outside producers: send Avro records to the topics meter, reading") {
		t.Errorf("exit %d, %+v\n%s", code, s.options, stderr)
	}
	if _, stderr, code := (&state{}).call(t, "run", "--scale", "1"); code != 1 || !strings.Contains(stderr, "no generate/*.sql") {
		t.Errorf("exit %d %s", code, stderr)
	}
	if _, stderr, code := (&state{}).call(t, "run", "--once"); code != 2 || !strings.Contains(stderr, "--data") {
		t.Errorf("exit %d %s", code, stderr)
	}
	drift := &state{summary: &embedded.Summary{DriftRows: 3}}
	if _, stderr, code := drift.call(t, "run", "--once", "--data", raw); code != 1 || !strings.Contains(stderr, "3 rows of the stream differ") {
		t.Errorf("exit %d %s", code, stderr)
	}
	if out, _, code := (&state{summary: done}).call(t, "run", "--once", "--data", raw, "--json"); code != 0 || !strings.HasPrefix(out, "{\n") {
		t.Errorf("exit %d %s", code, out)
	}
}

// TestRemembersTheSource continues an earlier source where none is named.
func TestRemembersTheSource(t *testing.T) {
	dir := t.TempDir()
	raw, err := filepath.Abs("../../examples/starter/raw")
	if err != nil {
		t.Fatal(err)
	}
	s := &state{summary: &embedded.Summary{}}
	for _, args := range [][]string{{"run", "--data", "../../examples/starter/raw"}, {"run", "--once"}} {
		if _, stderr, code := s.call(t, append(args, "--state", dir)...); code != 0 || !strings.HasSuffix(raw, strings.TrimPrefix(s.options.Data, "../..")) {
			t.Errorf("%v: exit %d, %+v, %s", args, code, s.options, stderr)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, sourceFile), []byte(`{"data":"/gone"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, stderr, code := s.call(t, "run", "--state", dir); code != 0 || s.options.Data != "" || !strings.Contains(stderr, "are gone") {
		t.Errorf("exit %d, %+v, %s", code, s.options, stderr)
	}
}

// TestWaitsForTheOwner opens a state that another command holds for a moment.
func TestWaitsForTheOwner(t *testing.T) {
	s, tries := &state{}, 0
	a := &app{stdout: &bytes.Buffer{}, stderr: &bytes.Buffer{}, open: func(context.Context, embedded.Config) (instance, error) {
		if tries++; tries < 3 {
			return nil, embedded.ErrInUse
		}
		return s, nil
	}}
	if code := a.main([]string{"history", "--state", t.TempDir()}); code != 0 || tries != 3 {
		t.Errorf("exit %d after %d tries: %s", code, tries, a.stderr)
	}
}

func TestInit(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "My Power-Meters")
	if out, stderr, code := (&state{}).call(t, "init", dir); code != 0 || !strings.Contains(out, "lockstep run") {
		t.Fatalf("exit %d %s %s", code, out, stderr)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "project.yaml")); err != nil || !strings.Contains(string(text), "\nname: my_power_meters\n") {
		t.Errorf("%v %s", err, text)
	}
}
