// Package superset makes Apache Superset assets (a database, datasets, charts
// and dashboards) of a project's dashboards/*.yaml, and brings them to a
// running Superset.
//
// It reads checked dashboards and the project's models, and gives the files of
// an assets bundle, the same for the same project: every uuid is derived from
// the project's name and the name of the thing. What Superset has no word for
// is left out and told as a Note; nothing is left out in silence.
package superset
