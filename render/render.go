// Package render makes the files of the outside systems from a compiled
// project: a DAG for Airflow, scrape configuration, rules and alerts for
// Prometheus and Alertmanager, provisioning and dashboards for Grafana.
//
// It reads a Program and options and gives files as text. The same project and
// options give the same bytes.
package render

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"lockstep/compile"
)

// Files are texts by slash-separated path below the folder that they go to.
type Files map[string]string

// Write writes the files below dir, which is made if absent. Files there that
// are not among them stay.
func (f Files) Write(dir string) error {
	for _, name := range f.Names() {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
		if err := os.WriteFile(path, []byte(f[name]), 0o644); err != nil {
			return fmt.Errorf("cannot write %s: %w", path, err)
		}
	}
	return nil
}

// Names lists the paths, sorted.
func (f Files) Names() []string { return slices.Sorted(maps.Keys(f)) }

// stepped lists the models that the stream keeps, in graph order.
func stepped(p *compile.Program) (names []string) {
	for _, m := range p.Models {
		if m.Relation != nil {
			names = append(names, m.Name)
		}
	}
	return names
}

// namespaces lists those of the models that the stream keeps, in graph order.
func namespaces(p *compile.Program) (names []string) {
	for _, m := range stepped(p) {
		if ns, _, _ := strings.Cut(m, "."); !slices.Contains(names, ns) {
			names = append(names, ns)
		}
	}
	return names
}
