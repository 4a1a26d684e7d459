// Package tidy holds the repository to its own rules: which folder may import
// which, and that no engine folder knows the bundled domain.
package tidy

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"lockstep/examples/olist"
	"lockstep/project"
)

const root = "../.."

// sources gives every Go file that is not a test, as a path from the root.
func sources(t *testing.T) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && path != root && (strings.HasPrefix(name, ".") || name == "node_modules" || name == "testdata") {
			return filepath.SkipDir
		}
		if !d.IsDir() && strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			rel, err := filepath.Rel(root, path)
			if err != nil {
				return err
			}
			out = append(out, filepath.ToSlash(rel))
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("cannot list the sources: %d files, %v", len(out), err)
	}
	return out
}

// folders reads the table of ARCHITECTURE.md: the folders from top to bottom.
func folders(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "ARCHITECTURE.md"))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z/]+)/` \\|").FindAllStringSubmatch(string(text), -1) {
		out = append(out, m[1])
	}
	if len(out) < 10 {
		t.Fatalf("the table of folders in ARCHITECTURE.md has %d rows", len(out))
	}
	return out
}

// TestImports: imports point up the table of ARCHITECTURE.md, or to engine. Only
// what wires the product together imports an example.
func TestImports(t *testing.T) {
	order := folders(t)
	for _, file := range sources(t) {
		folder := filepath.ToSlash(filepath.Dir(file))
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if target, ours := strings.CutPrefix(path, "lockstep/"); ours {
				checkImport(t, order, file, folder, target)
			}
		}
	}
}

func checkImport(t *testing.T, order []string, file, folder, target string) {
	t.Helper()
	inside := func(parent string) bool { return strings.HasPrefix(folder+"/", parent+"/") }
	switch {
	case strings.HasPrefix(target, "internal/") || target == "engine" || inside("internal") || inside("bench") || strings.HasPrefix(target+"/", folder+"/"):
	case strings.HasPrefix(target, "examples/"):
		if !inside("cmd/lockstep") {
			t.Errorf("%s imports %s: only cmd/lockstep knows the examples", file, target)
		}
	default:
		from, to := slices.Index(order, parentIn(order, folder)), slices.Index(order, parentIn(order, target))
		if from < 0 || to < 0 {
			t.Errorf("%s imports %s: add both folders to the table in ARCHITECTURE.md", file, target)
		} else if to > from {
			t.Errorf("%s imports %s, which stands below it in ARCHITECTURE.md", file, target)
		}
	}
}

// parentIn finds the nearest folder above, or the folder itself, in the table.
func parentIn(order []string, folder string) string {
	for folder != "." && !slices.Contains(order, folder) {
		folder = filepath.ToSlash(filepath.Dir(folder))
	}
	return folder
}

// common are names of the bundled project that are words of the trade too, or
// of Lockstep.
var common = []string{"review", "product", "payment", "ingest_time", "event_time", "unit_price"}

// bundled may name the project: they embed it, or fill the build cache with it.
var bundled = []string{"cmd/lockstep/", "internal/warm/", "bench/"}

// TestNoDomainWord: no folder but examples/ holds a name of the bundled
// project: its own, a topic, a table, or a column of more than one word.
func TestNoDomainWord(t *testing.T) {
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	words := map[string]bool{p.Name: true}
	columns := func(list []project.Column) {
		for _, c := range list {
			if strings.Contains(c.Name, "_") && !strings.HasPrefix(c.Name, "_") {
				words[c.Name] = true
			}
		}
	}
	for _, s := range p.Sources {
		words[s.Topic] = true
		columns(s.Fields)
	}
	for _, m := range p.Models {
		words[m.Name[strings.Index(m.Name, ".")+1:]] = true
		columns(m.Columns)
	}
	for _, w := range common {
		delete(words, w)
	}
	var list []string
	for w := range words {
		list = append(list, regexp.QuoteMeta(w))
	}
	slices.Sort(list)
	found := regexp.MustCompile(`(?i)\b(` + strings.Join(list, "|") + `)s?\b`)
	for _, file := range sources(t) {
		if strings.HasPrefix(file, "examples/") || slices.ContainsFunc(bundled, func(b string) bool { return strings.HasPrefix(file, b) }) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		for i, line := range strings.Split(string(text), "\n") {
			if w := found.FindString(line); w != "" {
				t.Errorf("%s:%d: %q belongs to the bundled project", file, i+1, w)
			}
		}
	}
}
