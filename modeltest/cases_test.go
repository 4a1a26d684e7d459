package modeltest_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/internal/projecttext"
	"lockstep/modeltest"
	"lockstep/project"
)

// compileText compiles a project text (package projecttext).
func compileText(file string) (*compile.Program, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	fsys, err := projecttext.FS(string(text))
	if err != nil {
		return nil, err
	}
	p, err := project.Load(fsys)
	if err != nil {
		return nil, err
	}
	return compile.Compile(p)
}

// TestHistoriesOfSmallProjects: projects that are hard on purpose.
func TestHistoriesOfSmallProjects(t *testing.T) {
	histories(t, "testdata/projects/*.txt", *smallHistories)
}

// TestHistoriesOfAccepted holds what the compiler accepts to its word: every
// project text that its own tests accept runs random histories.
func TestHistoriesOfAccepted(t *testing.T) {
	histories(t, "../compile/testdata/accepted/*.txt", *acceptedHistories)
}

func histories(t *testing.T, glob string, number int) {
	t.Helper()
	files, _ := filepath.Glob(glob)
	if len(files) == 0 {
		t.Fatalf("no files %s", glob)
	}
	first, eng := firstSeed(t), sharedEngine(t)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			prog, err := compileText(file)
			if err != nil {
				t.Fatal(err)
			}
			t.Parallel()
			r := &modeltest.Runner{Engine: eng, Program: prog}
			f, err := r.Fuzz(context.Background(), first, number, 8, nil)
			if err != nil {
				t.Fatal(err)
			}
			if f != nil {
				t.Fatal(f)
			}
		})
	}
}
