package compile_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/internal/projecttext"
	"lockstep/project"
)

var update = flag.Bool("update", false, "write what the compiler says into the cases")

// A case is a project text, a line of dashes and what the compiler makes of
// it: the plan of every relation, or every fault.
const expected = "\n==== "

func readCase(t *testing.T, file string) (text, want string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, want, _ = strings.Cut(string(data), expected)
	_, want, _ = strings.Cut(want, "\n")
	return strings.TrimRight(text, "\n") + "\n", want
}

func checkCase(t *testing.T, file, kind, text, want, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(text+expected+kind+" ====\n"+got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s (write it with -update):\n%s\nwant:\n%s", file, got, want)
	}
}

func compileText(text string) (*compile.Program, error) {
	fsys, err := projecttext.FS(text)
	if err != nil {
		return nil, err
	}
	p, err := project.Load(fsys)
	if err != nil {
		return nil, err
	}
	return compile.Compile(p)
}

// TestAccepted: modeltest runs random histories over the same files.
func TestAccepted(t *testing.T) {
	forEach(t, "testdata/accepted/*.txt", func(t *testing.T, file string) {
		text, want := readCase(t, file)
		p, err := compileText(text)
		if err != nil {
			t.Fatal(err)
		}
		checkCase(t, file, "plan", text, want, plans(p))
	})
}

func TestRefused(t *testing.T) {
	forEach(t, "testdata/refused/*.txt", func(t *testing.T, file string) {
		text, want := readCase(t, file)
		_, err := compileText(text)
		if err == nil {
			t.Fatal("it was accepted")
		}
		if !strings.Contains(err.Error(), ";") {
			t.Errorf("no remedy: %v", err)
		}
		checkCase(t, file, "refused", text, want, err.Error()+"\n")
	})
}

func forEach(t *testing.T, glob string, f func(*testing.T, string)) {
	t.Helper()
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no files %s (%v)", glob, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { f(t, file) })
	}
}

// plans writes what a stream keeps and does.
func plans(p *compile.Program) string {
	var b strings.Builder
	for _, r := range p.Relations {
		fmt.Fprintf(&b, "%s (%s)", r.Name, r.Kind)
		if r.Fold != nil {
			fmt.Fprintf(&b, " %s", r.Fold)
		}
		b.WriteByte('\n')
		for _, x := range r.Indexes {
			fmt.Fprintf(&b, "  index (%s)\n", strings.Join(x.Exprs, ", "))
		}
		for _, op := range r.Step {
			fmt.Fprintf(&b, "  %s\n", op)
		}
	}
	return b.String()
}
