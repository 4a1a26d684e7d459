//go:build stack

package spark_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/enginetest"
	"lockstep/engine/spark"
	"lockstep/examples/olist"
	"lockstep/internal/projecttext"
	"lockstep/modeltest"
	"lockstep/project"
)

// local starts one Spark for a test and its subtests.
func local(t *testing.T) engine.Engine {
	t.Helper()
	e, err := spark.StartLocal(context.Background(), spark.LocalConfig{Python: python(t), Env: []string{"LOCKSTEP_TRACE=" + os.Getenv("LOCKSTEP_TRACE")}, Stderr: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	})
	return e
}

// python is the interpreter that `go run ./deploy install` made.
func python(t *testing.T) string {
	t.Helper()
	cache := os.Getenv("LOCKSTEP_CACHE")
	if cache == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		cache = filepath.Join(dir, "lockstep")
	}
	path := filepath.Join(cache, "venv", "spark", "bin", "python")
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run `go run ./deploy install` first", err)
	}
	return path
}

// TestEngine is the suite that every engine passes; one Spark runs it all.
func TestEngine(t *testing.T) {
	e := local(t)
	enginetest.Run(t, func(*testing.T) engine.Engine { return e })
	t.Run("unit tests of the bundled project", func(t *testing.T) { unitTests(t, e) })
	t.Run("histories of the bundled project", func(t *testing.T) { histories(t, e, bundled(t), 1, 5) })
	t.Run("histories of small projects", func(t *testing.T) { smallProjects(t, e) })
}

func bundled(t *testing.T) *compile.Program {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	prog, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return prog
}

func unitTests(t *testing.T, e engine.Engine) {
	prog := bundled(t)
	results, err := modeltest.RunUnit(context.Background(), e, prog, prog.Project.Tests)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		if !r.Passed() {
			t.Errorf("%s: %s: %v\n%s", r.Test.Name, r.Form, r.Err, strings.Join(r.Lines, "\n"))
		}
	}
	t.Logf("%d runs of unit tests", len(results))
}

func histories(t *testing.T, e engine.Engine, prog *compile.Program, number, steps int) {
	r := &modeltest.Runner{Engine: e, Program: prog}
	f, err := r.Fuzz(context.Background(), 1, number, steps, nil)
	if err != nil {
		t.Fatal(err)
	}
	if f != nil {
		t.Fatal(f)
	}
}

// smallProjects are those that are hard on purpose.
func smallProjects(t *testing.T, e engine.Engine) {
	files, err := filepath.Glob("../../modeltest/testdata/projects/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no projects: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			fsys, err := projecttext.FS(string(text))
			if err != nil {
				t.Fatal(err)
			}
			p, err := project.Load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			prog, err := compile.Compile(p)
			if err != nil {
				t.Fatal(err)
			}
			histories(t, e, prog, 1, 5)
		})
	}
}
