// Package dashboard reads dashboards/*.yaml of a project, checks them against
// its models, and makes the SQL of their panels.
//
// A panel is a table or a query, dimensions, measures and a chart type: what
// both the built-in page and Superset can draw. What only the built-in page
// does stands under `builtin:`. Values that a user chose reach the SQL only
// through Literal.
package dashboard
