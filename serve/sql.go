package serve

import (
	"fmt"
	"strings"

	"lockstep/compile"
	"lockstep/project"
)

// What is served of a model after step n, over a batch of step p:
//
//	the batch's rows whose scope no step in (p, n] changed
//	∪ of each scope that one changed, the rows of the last such step.
//
// Changes are only ever added, with their step, so that the same text with
// another n says what was served then.

// flat is a table's name as one identifier.
func flat(table string) string { return strings.Replace(table, ".", "__", 1) }

// overlay names the tables of changes of a model: rows and scopes.
func rowsTable(table string, generation int) string {
	return fmt.Sprintf("memory.overlay.%s_g%d", flat(table), generation)
}

// tailTable names the table of bronze rows that are not committed yet.
func tailTable(table string) string { return "memory.overlay." + flat(table) + "_tail" }

func scopesTable(table string, generation int) string {
	return fmt.Sprintf("memory.overlay.%s_scopes_g%d", flat(table), generation)
}

// newest stands for the newest step.
const newest = -1

// servedSQL gives the rows of a model. base is the batch's table as SQL, empty
// before the first batch; until says up to which step, newest for all.
func servedSQL(r *compile.Relation, base string, generation int, after, until int64) string {
	columns, scope := names(r.Columns, ""), names(r.Scope, "")
	steps := fmt.Sprintf("_step > %d", after)
	if until != newest {
		steps += fmt.Sprintf(" AND _step <= %d", until)
	}
	changed := fmt.Sprintf("(SELECT %s, max(_step) AS _step FROM %s WHERE %s GROUP BY %s)", scope, scopesTable(r.Name, generation), steps, scope)
	same := nullSafe(r.Scope, "b", "t")
	overlay := fmt.Sprintf("SELECT %s FROM %s AS b SEMI JOIN %s AS t ON b._step = t._step AND %s", columns, rowsTable(r.Name, generation), changed, same)
	if base == "" {
		return "(" + overlay + ")"
	}
	return fmt.Sprintf("(SELECT %s FROM %s AS b ANTI JOIN %s AS t ON %s UNION ALL %s)", columns, base, changed, same, overlay)
}

func names(columns []project.Column, prefix string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = prefix + c.Name
	}
	return strings.Join(out, ", ")
}

func nullSafe(columns []project.Column, a, b string) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = fmt.Sprintf("%s.%s IS NOT DISTINCT FROM %s.%s", a, c.Name, b, c.Name)
	}
	return strings.Join(out, " AND ")
}

// empty is a table without rows.
func empty(columns []project.Column) string {
	parts := make([]string, len(columns))
	for i, c := range columns {
		parts[i] = fmt.Sprintf("CAST(NULL AS %s) AS %s", c.Type.DuckDB(), c.Name)
	}
	return "(SELECT " + strings.Join(parts, ", ") + " WHERE FALSE)"
}
