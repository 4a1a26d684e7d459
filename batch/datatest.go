package batch

import (
	"context"
	"fmt"
	"strings"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/project"
)

// Failure is a data test that rows of a model do not pass.
type Failure struct {
	Model string `json:"model"`
	Test  string `json:"test"` // "meter not_null"
	Rows  int64  `json:"rows"` // that do not pass
}

func (f Failure) String() string { return fmt.Sprintf("%s: %s: %d rows", f.Model, f.Test, f.Rows) }

// DataTest is a query that counts the rows of a model that do not pass; it runs
// on both engines.
type DataTest struct{ Model, Name, Query string }

// DataTests checks the tables of a run against the data tests that the models
// declare, and every unique key. What fails is reported, not held back: the
// stream serves the same rows already.
func (e local) DataTests(ctx context.Context, run *Run) ([]Failure, error) {
	d, err := duckdb.OpenMemory(ctx, e.r.Options)
	if err != nil {
		return nil, err
	}
	defer d.Close()
	if err := d.CreateSeeds(ctx, e.r.Program.Project); err != nil {
		return nil, err
	}
	if err := BronzeViews(ctx, e.r.Lake, d, e.r.Program.Project, run.Pin); err != nil {
		return nil, err
	}
	for _, m := range e.r.Program.Models { // a test may name any table
		if m.Materialized == project.View {
			err = duckdb.Evaluate(ctx, d, m)
		} else {
			err = view(ctx, e.r.Lake, d, m.Name, run.Tables[m.Name], m.Columns, "TRUE")
		}
		if err != nil {
			return nil, err
		}
	}
	var out []Failure
	for _, m := range e.r.models() {
		for _, t := range Tests(m) {
			n, err := d.Int(ctx, t.Query)
			if err != nil {
				return nil, fmt.Errorf("cannot run data test %s of %s (%s): %w", t.Name, t.Model, m.File, err)
			}
			if n > 0 {
				out = append(out, Failure{t.Model, t.Name, n})
			}
		}
	}
	return out, nil
}

// Tests lists a model's data tests; that its unique key is unique is one.
func Tests(m *compile.Model) []DataTest {
	key := strings.Join(m.UniqueKey, ", ")
	out := []DataTest{{m.Name, "unique_key (" + key + ")", duplicates(m.Name, key, "TRUE")}}
	for _, c := range m.Columns {
		for _, t := range c.Tests {
			if q := testQuery(m.Name, c.Name, t); q != "" {
				out = append(out, DataTest{m.Name, c.Name + " " + t.Kind, q})
			}
		}
	}
	return out
}

func duplicates(table, columns, where string) string {
	return fmt.Sprintf("SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n FROM %s WHERE %s GROUP BY %s) AS g", table, where, columns)
}

func testQuery(table, column string, t project.DataTest) string {
	switch t.Kind {
	case "not_null":
		return fmt.Sprintf("SELECT count(*) FROM %s WHERE %s IS NULL", table, column)
	case "unique":
		return duplicates(table, column, column+" IS NOT NULL")
	case "accepted_values":
		values := make([]string, len(t.Values))
		for i, v := range t.Values {
			values[i] = "'" + strings.ReplaceAll(v, "'", "''") + "'"
		}
		return fmt.Sprintf("SELECT count(*) FROM %s WHERE CAST(%s AS string) NOT IN (%s)", table, column, strings.Join(values, ", "))
	case "relationships":
		return fmt.Sprintf("SELECT count(*) FROM %s AS a ANTI JOIN %s AS b ON a.%s = b.%s WHERE a.%s IS NOT NULL", table, t.To, column, t.Field, column)
	}
	return ""
}
