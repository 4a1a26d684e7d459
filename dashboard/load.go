package dashboard

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"reflect"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"lockstep/project"

	"go.yaml.in/yaml/v3"
)

// Load reads dashboards/*.yaml of a project folder: those without a fault, in
// order of the menu, and the faults of the others with file, line and remedy
// (of type project.Problems). What the SQL means, Check tells.
func Load(fsys fs.FS) ([]*Dashboard, error) {
	files, err := fs.Glob(fsys, "dashboards/*.yaml")
	if err != nil {
		return nil, fmt.Errorf("cannot list dashboards: %w", err)
	}
	var all project.Problems
	var out []*Dashboard
	for _, file := range files {
		var problems project.Problems
		d := read(fsys, file, &problems)
		if len(problems) == 0 {
			out = append(out, d)
		}
		all = append(all, problems...)
	}
	sort.SliceStable(out, func(i, j int) bool { return out[i].Position < out[j].Position })
	return out, all.Err()
}

func read(fsys fs.FS, file string, problems *project.Problems) *Dashboard {
	text, err := fs.ReadFile(fsys, file)
	if err != nil {
		problems.Add(file, 0, "", "cannot read the file: %v", err)
		return nil
	}
	d := &Dashboard{Name: strings.TrimSuffix(path.Base(file), ".yaml"), File: file, Line: 1}
	var node yaml.Node
	if err := yaml.Unmarshal(text, &node); err != nil {
		addYAML(problems, file, err)
		return nil
	}
	checkKeys(problems, file, &node, reflect.TypeFor[Dashboard]())
	if err := node.Decode(d); err != nil {
		addYAML(problems, file, err)
		return nil
	}
	c := &checker{d: d, problems: problems, fs: fsys}
	c.dashboard()
	return d
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

func addYAML(problems *project.Problems, file string, err error) {
	messages := []string{err.Error()}
	var typed *yaml.TypeError
	if errors.As(err, &typed) {
		messages = typed.Errors
	}
	for _, m := range messages {
		line := 0
		if at := yamlLine.FindStringSubmatch(m); at != nil {
			line, _ = strconv.Atoi(at[1])
		}
		problems.Add(file, line, "", "%s", strings.TrimPrefix(yamlLine.ReplaceAllString(m, ""), "yaml: "))
	}
}

// checker checks what a file says on its own.
type checker struct {
	d        *Dashboard
	problems *project.Problems
	fs       fs.FS
}

var plainName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

func (c *checker) add(line int, do, format string, args ...any) {
	c.problems.Add(c.d.File, line, do, format, args...)
}

func (c *checker) dashboard() {
	if !plainName.MatchString(c.d.Name) {
		c.add(0, "use lower-case letters, digits and _ only", "the file name %q is not a plain name", c.d.Name)
	}
	if c.d.Title == "" {
		c.add(1, "write `title:`", "the dashboard has no title")
	}
	if len(c.d.Rows) == 0 {
		c.add(1, "write `rows:` with panels", "the dashboard has no panels")
	}
	for _, f := range c.d.Fields {
		c.format(f.Line, f.Format)
	}
	seen := map[string]bool{}
	for _, f := range c.d.Filters {
		c.name(f.Line, "filter", f.Name, seen)
		c.filter(f)
	}
	seen = map[string]bool{}
	for _, r := range c.d.Rows {
		width := 0
		for _, p := range r.Panels {
			c.name(p.Line, "panel", p.Name, seen)
			c.panel(p)
			width += p.Width
		}
		if len(r.Panels) == 0 || width > 12 {
			c.add(r.Line, "the panels of a row share a width of 12", "a row has %d panels of width %d together", len(r.Panels), width)
		}
	}
}

func (c *checker) name(line int, what, name string, seen map[string]bool) {
	if !plainName.MatchString(name) {
		c.add(line, "use lower-case letters, digits and _ only", "the %s name %q is not a plain name", what, name)
	}
	if seen[name] {
		c.add(line, "rename one", "there are two %ss named %s", what, name)
	}
	seen[name] = true
}

func (c *checker) format(line int, format string) {
	if !slices.Contains(Formats, format) {
		c.add(line, "use one of "+strings.Join(Formats[1:], ", "), "unknown format %q", format)
	}
}

var filterKinds = []string{"", "values", "range", "buttons", "hidden"}

func (c *checker) filter(f *Filter) {
	if !slices.Contains(filterKinds, f.Kind) {
		c.add(f.Line, "use values, range, buttons or hidden", "filter %s: unknown kind %q", f.Name, f.Kind)
	}
	sources := 0
	for _, given := range []bool{f.Table != "", f.Query != "", len(f.Values) > 0} {
		if given {
			sources++
		}
	}
	if sources > 1 || sources == 0 && f.Kind != "hidden" {
		c.add(f.Line, "give one of `table:` or `query:` that has the column, and `values:`", "filter %s: it is not said where its choices come from", f.Name)
	}
	if f.Kind == "buttons" && len(f.Values) == 0 {
		c.add(f.Line, "list `values:`", "filter %s: buttons need their values", f.Name)
	}
	for _, via := range f.Builtin.Via {
		c.source(f.Line, "the via of filter "+f.Name, via.Table, via.Query)
	}
	for _, v := range f.Default {
		if len(f.Values) > 0 && !slices.Contains(f.Values, v) {
			c.add(f.Line, "use "+strings.Join(f.Values, ", "), "filter %s: its default %q is not one of its values", f.Name, v)
		}
	}
}

func (c *checker) panel(p *Panel) {
	if p.Title == "" {
		c.add(p.Line, "write `title:`", "panel %s has no title", p.Name)
	}
	if p.Width < 1 || p.Width > 12 {
		c.add(p.Line, "write `width:` from 1 to 12", "panel %s: width %d", p.Name, p.Width)
	}
	c.source(p.Line, "panel "+p.Name, p.Table, p.Query)
	names := c.columns(p)
	c.roles(p, names)
	for _, s := range append(slices.Clone(p.Click), p.Search...) {
		if !names[s] {
			c.add(p.Line, "use one of "+strings.Join(sorted(names), ", "), "panel %s: %q is not one of its dimensions", p.Name, s)
		}
	}
	if len(p.Measures) > 0 {
		c.sort(p, names)
	}
	c.builtin(p, names)
}

func (c *checker) source(line int, what, table, query string) {
	if (table == "") == (query == "") {
		c.add(line, "give one of `table:` and `query:`", "%s: it is not said what it shows", what)
	}
}

// columns checks dimensions and measures, and gives their names.
func (c *checker) columns(p *Panel) map[string]bool {
	names := map[string]bool{}
	for _, d := range p.Dimensions {
		c.name(d.Line, "column", d.Name, names)
		c.format(d.Line, d.Format)
	}
	for _, m := range p.Measures {
		c.name(m.Line, "column", m.Name, names)
		c.format(m.Line, m.Format)
		if m.SQL == "" {
			c.add(m.Line, "write `sql:`, such as sum(amount)", "measure %s has no SQL", m.Name)
		}
	}
	if len(names) == 0 {
		c.add(p.Line, "list `dimensions:` or `measures:`", "panel %s shows no columns", p.Name)
	}
	return names
}

func (c *checker) roles(p *Panel, names map[string]bool) {
	roles, known := Charts[p.Chart]
	if !known {
		c.add(p.Line, "use one of "+strings.Join(sorted(Charts), ", "), "panel %s: unknown chart type %q", p.Name, p.Chart)
		return
	}
	allowed := map[string]bool{}
	for _, role := range roles {
		plain := strings.TrimSuffix(role, "?")
		allowed[plain] = true
		if plain == role && p.Encode[role] == "" {
			c.add(p.Line, "write `encode: {"+role+": COLUMN}`", "panel %s: a %s chart needs its %s", p.Name, p.Chart, role)
		}
	}
	for role, column := range p.Encode {
		if !allowed[role] {
			c.add(p.Line, "use "+strings.Join(sorted(allowed), ", "), "panel %s: a %s chart has no %s", p.Name, p.Chart, role)
		} else if !names[column] {
			c.add(p.Line, "use one of "+strings.Join(sorted(names), ", "), "panel %s: %s is %q, which is no dimension or measure of it", p.Name, role, column)
		}
	}
	for _, role := range p.Log {
		if !allowed[role] {
			c.add(p.Line, "use "+strings.Join(sorted(allowed), ", "), "panel %s: there is no axis %q", p.Name, role)
		}
	}
	if p.Stack != "" && p.Stack != "percent" {
		c.add(p.Line, "write percent, or leave it out", "panel %s: unknown stack %q", p.Name, p.Stack)
	}
}

func (c *checker) sort(p *Panel, names map[string]bool) {
	for _, s := range p.Sort {
		if column, _ := splitSort(s); !names[column] {
			c.add(p.Line, `write "NAME" or "NAME desc" with one of `+strings.Join(sorted(names), ", "), "panel %s: it cannot be sorted by %q", p.Name, s)
		}
	}
}

func (c *checker) builtin(p *Panel, names map[string]bool) {
	b := p.Builtin
	for what, path := range map[string][]string{"switch": b.Switch, "drill": b.Drill} {
		if len(path) > 0 && !names[path[0]] {
			c.add(p.Line, "begin with one of its dimensions", "panel %s: the %s begins with %q, which it does not show", p.Name, what, path[0])
		}
	}
	for _, f := range b.Hide {
		if c.d.Filter(f) == nil {
			c.add(p.Line, "name a filter of the dashboard", "panel %s: it hides the filter %q, which does not exist", p.Name, f)
		}
	}
	if b.Outline != "" {
		if _, err := fs.Stat(c.fs, b.Outline); err != nil {
			c.add(p.Line, "give the path of a GeoJSON file in the project", "panel %s: there is no outline %s", p.Name, b.Outline)
		}
	}
	if b.Color != "" && b.Color != "heat" && b.Color != "score" {
		c.add(p.Line, "write heat or score", "panel %s: unknown color scale %q", p.Name, b.Color)
	}
	if d := b.Detail; d != nil {
		c.source(d.Line, "the detail of panel "+p.Name, d.Table, d.Query)
		if len(d.Dimensions) == 0 {
			c.add(d.Line, "list `dimensions:`", "the detail of panel %s shows no columns", p.Name)
		}
	}
}

func splitSort(s string) (column string, descending bool) {
	column, direction, _ := strings.Cut(strings.TrimSpace(s), " ")
	switch strings.ToLower(strings.TrimSpace(direction)) {
	case "", "asc":
		return column, false
	case "desc":
		return column, true
	}
	return "", false
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
