//go:build stack

package stack_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/deploy/stack"
	"lockstep/examples/olist"
	"lockstep/project"
	"lockstep/render/superset"
)

// TestSuperset pushes the dashboards to a real Superset over a DuckDB file of the
// embedded environment's tables: each chart has the rows that lockstep query
// gives, a second push changes nothing, and a person sees them in a browser.
func TestSuperset(t *testing.T) {
	x := embedded(t)
	source := []string{"--scale", "0.03"}
	if _, err := os.Stat("../../../shared/data/olist10k"); err == nil {
		source = []string{"--data", dataFolder(t, "olist10k")}
	}
	x.must(append([]string{"run", "--once", "--speed", "max", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}, source...)...)
	s := startSuperset(t)
	s.check(t, x, "duckdb:///"+s.duckdb(t, x)+"?access_mode=read_only")
}

// TestSupersetOnSpark does the same over the Thrift Server of the stack.
func TestSupersetOnSpark(t *testing.T) {
	long(t)
	s := up(t, stack.Core, stack.Spark, stack.Superset)
	x := onStack(t, s)
	stream := x.start("speed")
	x.must("replay", "--speed", "max", "--scale", "0.02")
	x.caughtUp(stream)
	x.must("batch")
	stream.stop()
	x.start("serve")
	supersetOf(s).check(t, x, fmt.Sprintf("hive://lockstep@%s/gold", settings(t, s).Thrift))
}

// check pushes twice, and compares what Superset answers and shows.
func (s *supersetServer) check(t *testing.T, x *site, uri string) {
	bundle, boards := supersetBundle(t, uri)
	push := func() (charts []struct {
		Chart, Error string
		ID, Rows     int
	}) {
		begin := time.Now()
		out := s.push(x, uri)
		if !decode(out, &charts) || len(charts) != len(bundle.Charts) {
			t.Fatalf("the push says %s", tail(out))
		}
		t.Logf("pushed %d charts in %.1f s", len(charts), time.Since(begin).Seconds())
		return charts
	}
	first := push()
	assets := s.export(t)
	second := push()
	if !slices.Equal(first, second) {
		t.Errorf("the first push made\n%v\nthe second\n%v", first, second)
	}
	for name, text := range s.export(t) {
		if assets[name] != text {
			t.Errorf("the second push changed %s", name)
		}
		delete(assets, name)
	}
	for name := range assets {
		t.Errorf("the second push removed %s", name)
	}
	for _, c := range first {
		if c.Rows == 0 {
			t.Errorf("chart %s has no rows", c.Chart)
		}
	}
	s.figures(t, x, bundle, boards)
	if !testing.Short() { // the browser is for `make test-stack`
		s.look(t, x, bundle)
	}
}

func supersetBundle(t *testing.T, uri string) (*superset.Bundle, map[string]*dashboard.Dashboard) {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	list, err := dashboard.Check(t.Context(), olist.FS, program)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := superset.Make(program, list, superset.Options{DatabaseURI: uri})
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]*dashboard.Dashboard{}
	for _, d := range list {
		byName[d.Name] = d
	}
	return bundle, byName
}

// figures compares each chart's rows with what lockstep query gives for the
// panel.
func (s *supersetServer) figures(t *testing.T, x *site, bundle *superset.Bundle, boards map[string]*dashboard.Dashboard) {
	client, err := superset.Connect(t.Context(), s.url, s.user, s.password)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range client.Check(t.Context(), bundle) {
		t.Run(c.Dashboard+" "+c.Title, func(t *testing.T) {
			if c.Error != nil || len(c.Rows) == 0 {
				t.Fatalf("%d rows, %v", len(c.Rows), c.Error)
			}
			d := boards[c.Dashboard]
			p := *d.Panel(c.Panel) // asked as a chart, whole
			p.Chart, p.Limit, p.Builtin.Top = "bar", 200_000, 0
			labels := supersetColumns(d, &p, c)
			if c.By != "" {
				compareSums(t, x, d, &p, c, labels)
				return
			}
			p.Dimensions = slices.DeleteFunc(slices.Clone(p.Dimensions), func(x dashboard.Dimension) bool { return labels[x.Name] == "" })
			sql, err := d.Query(&p, dashboard.Request{})
			if err != nil {
				t.Fatal(err)
			}
			names, want := x.ask(sql)
			count := map[string]int{}
			for _, row := range want {
				count[rowKey(names, row, labels)]++
			}
			for _, row := range c.Rows {
				var values []any
				for _, n := range names {
					values = append(values, row[labels[n]])
				}
				key := rowKey(names, values, labels)
				if count[key]--; count[key] < 0 {
					t.Fatalf("Superset has a row that lockstep query has not: %s", key)
				}
			}
			limit := cmp.Or(d.Panel(c.Panel).Limit, 5000)
			if len(c.Rows) != len(want) && len(c.Rows) != min(limit, 1000) && len(c.Rows) != limit {
				t.Errorf("%d rows, want %d", len(c.Rows), len(want))
			}
		})
	}
}

// supersetColumns says which column of Superset's rows holds a dimension or
// measure.
func supersetColumns(d *dashboard.Dashboard, p *dashboard.Panel, c superset.Checked) map[string]string {
	labels := map[string]string{}
	for _, r := range d.Page().Rows {
		for _, shown := range r.Panels {
			if shown.Name != p.Name {
				continue
			}
			for _, column := range slices.Concat(shown.Columns, shown.Switch) {
				name := column.Name
				if column.Measure {
					name = column.Label
				}
				if _, is := c.Rows[0][name]; is {
					labels[column.Name] = name
				}
			}
		}
	}
	return labels
}

// compareSums compares a chart by another dimension, whose small values Superset
// puts together: the sum of each place on the axis.
func compareSums(t *testing.T, x *site, d *dashboard.Dashboard, p *dashboard.Panel, c superset.Checked, labels map[string]string) {
	axis, measure := p.Encode["x"], p.Encode["y"]
	p.Dimensions = slices.DeleteFunc(slices.Clone(p.Dimensions), func(x dashboard.Dimension) bool { return x.Name != axis })
	p.Builtin.Switch, p.Sort = nil, nil
	sql, err := d.Query(p, dashboard.Request{})
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]float64{}
	for _, row := range c.Rows {
		v, _ := strconv.ParseFloat(fmt.Sprint(row[labels[measure]]), 64)
		sums[fmt.Sprint(row[axis])] += v
	}
	names, want := x.ask(sql)
	for _, row := range want {
		place := fmt.Sprint(row[slices.Index(names, axis)])
		v, _ := strconv.ParseFloat(fmt.Sprint(row[slices.Index(names, measure)]), 64)
		if math.Abs(v-sums[place]) > 1e-6*math.Abs(v) {
			t.Errorf("%s: %v, want %v", place, sums[place], v)
		}
	}
}

// ask gives columns and rows of a query; numbers as they are written.
func (x *site) ask(sql string) (names []string, rows [][]any) {
	x.t.Helper()
	var answer struct {
		Columns []struct{ Name string }
		Rows    [][]any
	}
	dec := json.NewDecoder(strings.NewReader(x.must("query", sql, "--json")))
	dec.UseNumber()
	if err := dec.Decode(&answer); err != nil {
		x.t.Fatalf("%s: %v", sql, err)
	}
	for _, c := range answer.Columns {
		names = append(names, c.Name)
	}
	return names, answer.Rows
}

// rowKey writes the values of a row that Superset has too, so that equal ones are
// equal text: numbers to nine digits, times as Superset's milliseconds.
func rowKey(names []string, values []any, labels map[string]string) string {
	var out []string
	for i, n := range names {
		if labels[n] == "" {
			continue
		}
		text := fmt.Sprint(values[i])
		if number, err := strconv.ParseFloat(text, 64); err == nil && len(text) < 25 {
			text = strconv.FormatFloat(number, 'g', 9, 64)
		} else if at, err := time.Parse(time.DateTime, strings.Split(text, ".")[0]); err == nil {
			text = strconv.FormatFloat(float64(at.UnixMilli()), 'g', 9, 64)
		}
		out = append(out, n+"="+text)
	}
	return strings.Join(out, " ")
}

// duckdb writes every silver and gold table into a DuckDB file.
func (s *supersetServer) duckdb(t *testing.T, x *site) string {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var script strings.Builder
	for _, namespace := range []string{"silver", "gold"} {
		fmt.Fprintf(&script, "CREATE SCHEMA %s;\n", namespace)
	}
	for _, m := range p.Models {
		var names, types []string
		for _, c := range m.Columns {
			names = append(names, c.Name)
			types = append(types, fmt.Sprintf("'%s': '%s'", c.Name, strings.Replace(c.Type.String(), "string", "varchar", 1)))
		}
		file := filepath.Join(dir, m.Name+".csv")
		if err := os.WriteFile(file, []byte(x.must("query", "SELECT "+strings.Join(names, ", ")+" FROM "+m.Name, "--format", "csv")), 0o644); err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&script, "CREATE TABLE %s AS SELECT * FROM read_csv('%s', header = true, allow_quoted_nulls = false, max_line_size = 10000000, columns = {%s});\n",
			m.Name, file, strings.Join(types, ", "))
	}
	database, statements := filepath.Join(dir, "tables.duckdb"), filepath.Join(dir, "tables.sql")
	if err := os.WriteFile(statements, []byte(script.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	succeed(t, nil, s.python, "-c", "import duckdb, sys; duckdb.connect(sys.argv[1]).execute(open(sys.argv[2]).read())", database, statements)
	return database
}
