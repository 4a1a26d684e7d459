package modeltest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strings"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/project"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// UnitResult is one unit test in one form.
type UnitResult struct {
	Test *project.UnitTest
	// Form is "batch", or "stream: " and how the given rows were split.
	Form string
	// Lines are the differences, "file:line: ..." each; empty: it passed.
	Lines []string
	// Err is set where the form could not be run: a value that is no value of
	// its column's type, or SQL that fails on the rows.
	Err error
}

// Passed says whether the model gave what the test expects.
func (r *UnitResult) Passed() bool { return r.Err == nil && len(r.Lines) == 0 }

// RunUnit runs unit tests, each as a batch (a full recompute over the given
// rows) and as a stream (the same rows in several splits and orders). A given
// model is replaced by its given rows: what it reads is not evaluated. A view
// is evaluated over what the stream made of the given rows; where nothing
// stands between, the batch form says it all.
//
// Columns that no expected row names are not compared. Columns left out of a
// given row are null, but in a bronze table _partition is 0, _offset the row's
// place among the table's rows and _deleted false.
//
// The error is for what is no test's fault.
func RunUnit(ctx context.Context, eng engine.Engine, prog *compile.Program, tests []*project.UnitTest) ([]UnitResult, error) {
	u := &unitRunner{eng: eng, prog: prog, parts: map[string]*compile.Program{}}
	var out []UnitResult
	for _, t := range tests {
		results, err := u.test(ctx, t)
		if err != nil {
			return out, fmt.Errorf("cannot run test %q (%s:%d): %w", t.Name, t.File, t.Line, err)
		}
		out = append(out, results...)
	}
	return out, nil
}

type unitRunner struct {
	eng   engine.Engine
	prog  *compile.Program
	parts map[string]*compile.Program
}

// unitCase is a test with its rows read.
type unitCase struct {
	test    *project.UnitTest
	model   *compile.Model
	given   map[string][]Row
	columns map[string][]project.Column
	compare []project.Column // those that expected rows name
}

func (u *unitRunner) test(ctx context.Context, t *project.UnitTest) ([]UnitResult, error) {
	c, err := u.read(t)
	if err != nil {
		return []UnitResult{{Test: t, Form: "batch", Err: err}}, nil
	}
	out := []UnitResult{u.batch(ctx, c)}
	if out[0].Err != nil {
		return out, nil
	}
	part, err := u.part(c)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(part.Models, func(m *compile.Model) bool { return m.Relation != nil }) {
		return out, nil
	}
	for _, split := range splits(c) {
		lines, err := u.stream(ctx, part, c, split.steps)
		out = append(out, UnitResult{Test: t, Form: "stream: " + split.name, Lines: lines, Err: err})
	}
	return out, nil
}

// read checks the names that a test uses and reads its given rows.
func (u *unitRunner) read(t *project.UnitTest) (*unitCase, error) {
	c := &unitCase{test: t, model: u.prog.Model(t.Model), given: map[string][]Row{}, columns: map[string][]project.Column{}}
	if c.model == nil {
		return nil, fmt.Errorf("%s:%d: there is no model %s", t.File, t.Line, t.Model)
	}
	for table, rows := range t.Given {
		columns := u.columnsOf(table)
		if columns == nil {
			return nil, fmt.Errorf("%s:%d: there is no table %s to give rows to; name bronze.<topic> or a model", t.File, t.Line, table)
		}
		c.columns[table], c.given[table] = columns, []Row{}
		for i, row := range rows {
			values, err := rowOf(columns, row)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", t.File, row.Line, table, err)
			}
			if strings.HasPrefix(table, "bronze.") {
				logDefaults(columns, row, values, i)
			}
			if rec, err := Record(columns, []Row{values}); err != nil {
				return nil, fmt.Errorf("%s:%d: %s: %w", t.File, row.Line, table, err)
			} else {
				rec.Release()
			}
			c.given[table] = append(c.given[table], values)
		}
	}
	for _, col := range c.model.Columns {
		if len(t.Expect) == 0 || slices.ContainsFunc(t.Expect, func(r project.Row) bool { _, named := r.Values[col.Name]; return named }) {
			c.compare = append(c.compare, col)
		}
	}
	return c, nil
}

func (u *unitRunner) columnsOf(table string) []project.Column {
	if s := sourceOf(u.prog, table); s != nil {
		return s.Columns()
	}
	for _, m := range u.prog.Project.Models {
		if m.Name == table {
			return m.Columns
		}
	}
	return nil
}

// rowOf puts a test's row into the order of columns.
func rowOf(columns []project.Column, row project.Row) (Row, error) {
	out := make(Row, len(columns))
	for name, value := range row.Values {
		i := slices.IndexFunc(columns, func(c project.Column) bool { return c.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("there is no column %s", name)
		}
		out[i] = value
	}
	return out, nil
}

func logDefaults(columns []project.Column, row project.Row, values Row, place int) {
	for i, c := range columns {
		if _, given := row.Values[c.Name]; given {
			continue
		}
		switch c.Name {
		case "_partition":
			values[i] = textOf("0")
		case "_offset":
			values[i] = textOf(fmt.Sprint(place))
		case "_deleted":
			values[i] = textOf("false")
		}
	}
}

func (u *unitRunner) batch(ctx context.Context, c *unitCase) UnitResult {
	r := UnitResult{Test: c.test, Form: "batch"}
	given, err := c.tables(c.given)
	if err != nil {
		r.Err = err
		return r
	}
	defer release(given)
	got, err := u.eng.Recompute(ctx, u.prog, given, []string{c.model.Name})
	if err != nil {
		r.Err = err
		return r
	}
	defer release(got)
	r.Lines, r.Err = c.differences(got[c.model.Name])
	return r
}

func (c *unitCase) tables(rows map[string][]Row) (engine.Tables, error) {
	out := engine.Tables{}
	for table, list := range rows {
		rec, err := Record(c.columns[table], list)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		out[table] = []arrow.RecordBatch{rec}
	}
	return out, nil
}

// part compiles what stands between the given tables and the model.
func (u *unitRunner) part(c *unitCase) (*compile.Program, error) {
	var given []string
	for table := range c.given {
		if !strings.HasPrefix(table, "bronze.") {
			given = append(given, table)
		}
	}
	sort.Strings(given)
	key := c.model.Name + " " + strings.Join(given, " ")
	if p := u.parts[key]; p != nil {
		return p, nil
	}
	need := map[string]bool{c.model.Name: true}
	for i := len(u.prog.Models) - 1; i >= 0; i-- {
		m := u.prog.Models[i]
		for _, t := range m.Reads {
			if need[m.Name] && !slices.Contains(given, m.Name) {
				need[t] = true
			}
		}
	}
	some := *u.prog.Project
	some.Models = slices.DeleteFunc(slices.Clone(some.Models), func(m *project.Model) bool { return !need[m.Name] && !slices.Contains(given, m.Name) })
	p, err := compile.Given(&some, given)
	if err == nil {
		u.parts[key] = p
	}
	return p, err
}

// split is a way to cut the given rows into steps.
type split struct {
	name  string
	steps []map[string][]Row
}

// givenRow is a row with its table.
type givenRow struct {
	table string
	row   Row
}

// splits: all at once, one by one, backwards, and shuffled into steps of
// random size, the same in every run of a test.
func splits(c *unitCase) []split {
	var rows []givenRow
	var names []string
	for t := range c.given {
		names = append(names, t)
	}
	sort.Strings(names)
	for _, t := range names {
		for _, row := range c.given[t] {
			rows = append(rows, givenRow{t, row})
		}
	}
	one := func(int) int { return 1 }
	backwards := slices.Clone(rows)
	slices.Reverse(backwards)
	out := []split{
		{"all rows in one step", cut(rows, func(n int) int { return n })},
		{"row by row", cut(rows, one)},
		{"row by row from the last", cut(backwards, one)},
	}
	r := rand.New(rand.NewPCG(1, 7))
	shuffled := slices.Clone(rows)
	r.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	return append(out, split{"shuffled into small steps", cut(shuffled, func(n int) int { return 1 + r.IntN(min(n, 3)) })})
}

// cut makes steps of rows; size answers how many of the n left go into the next.
func cut(rows []givenRow, size func(n int) int) []map[string][]Row {
	var out []map[string][]Row
	for len(rows) > 0 {
		step := map[string][]Row{}
		n := size(len(rows))
		for _, r := range rows[:n] {
			step[r.table] = append(step[r.table], r.row)
		}
		out, rows = append(out, step), rows[n:]
	}
	return out
}

func (u *unitRunner) stream(ctx context.Context, p *compile.Program, c *unitCase, steps []map[string][]Row) ([]string, error) {
	dir, err := os.MkdirTemp("", "lockstep-unit-")
	if err != nil {
		return nil, fmt.Errorf("cannot make a folder for the stream's state: %w", err)
	}
	defer os.RemoveAll(dir)
	stream, err := u.eng.Stream(ctx, p, dir)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	for i, step := range steps {
		rows, err := c.tables(step)
		if err != nil {
			return nil, err
		}
		err = stream.Step(ctx, int64(i+1), rows)
		release(rows)
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
	}
	model := p.Model(c.model.Name)
	if model.Relation != nil {
		got, err := stream.Rows(ctx, model.Name)
		if err != nil {
			return nil, err
		}
		defer release(engine.Tables{"": got})
		return c.differences(got)
	}
	return u.viewOver(ctx, p, c, stream)
}

// viewOver evaluates a view over the rows that the stream keeps.
func (u *unitRunner) viewOver(ctx context.Context, p *compile.Program, c *unitCase, stream engine.Stream) ([]string, error) {
	given, err := c.tables(c.given)
	if err != nil {
		return nil, err
	}
	defer release(given)
	for _, m := range p.Models {
		if m.Relation == nil {
			continue
		}
		if given[m.Name], err = stream.Rows(ctx, m.Name); err != nil {
			return nil, err
		}
	}
	got, err := u.eng.Recompute(ctx, u.prog, given, []string{c.model.Name})
	if err != nil {
		return nil, err
	}
	defer release(got)
	return c.differences(got[c.model.Name])
}

// differences compares the columns that the test names, as multisets of rows.
func (c *unitCase) differences(got []arrow.RecordBatch) ([]string, error) {
	codec := store.NewCodec(c.compare)
	var want []string // encoded, by expected row
	for _, row := range c.test.Expect {
		values, err := rowOf(c.compare, row)
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", c.test.File, row.Line, c.model.Name, err)
		}
		rec, err := Record(c.compare, []Row{values})
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %s: %w", c.test.File, row.Line, c.model.Name, err)
		}
		rows, err := codec.Encode(rec)
		rec.Release()
		if err != nil {
			return nil, err
		}
		want = append(want, string(rows.At(0)))
	}
	extra, err := c.match(codec, got, want)
	if err != nil {
		return nil, err
	}
	var out []string
	for i, row := range want {
		if row == "" {
			continue
		}
		text, err := describe(codec, rowsOf(row))
		if err != nil {
			return nil, err
		}
		out = append(out, fmt.Sprintf("%s:%d: expected, but not there: %s", c.test.File, c.test.Expect[i].Line, text[0]))
	}
	text, err := describe(codec, rowsOf(extra...))
	if err != nil {
		return nil, err
	}
	for _, line := range text {
		out = append(out, fmt.Sprintf("%s:%d: there, but not expected: %s", c.test.File, c.test.Line, line))
	}
	return out, nil
}

// match empties the expected rows that are there, and gives the rows that are
// there beyond them.
func (c *unitCase) match(codec *store.Codec, got []arrow.RecordBatch, want []string) (extra []string, err error) {
	for _, rec := range got {
		some := c.project(rec)
		rows, err := codec.Encode(some)
		some.Release()
		if err != nil {
			return nil, err
		}
		for i := range rows.Len() {
			row := string(rows.At(i))
			if at := slices.Index(want, row); at >= 0 {
				want[at] = ""
				continue
			}
			extra = append(extra, row)
		}
	}
	return extra, nil
}

// project keeps the compared columns of a record batch.
func (c *unitCase) project(rec arrow.RecordBatch) arrow.RecordBatch {
	var columns []arrow.Array
	for _, col := range c.compare {
		i := slices.IndexFunc(c.model.Columns, func(m project.Column) bool { return m.Name == col.Name })
		columns = append(columns, rec.Column(i))
	}
	return array.NewRecordBatch(project.ArrowSchema(c.compare), columns, rec.NumRows())
}

func rowsOf(list ...string) store.Rows {
	var out store.Rows
	for _, row := range list {
		out.Append([]byte(row))
	}
	return out
}
