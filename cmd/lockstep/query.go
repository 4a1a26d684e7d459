package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/web"
)

func (a *app) queryCommand() *cobra.Command {
	var q web.Query
	var format string
	c := &cobra.Command{
		Use:   "query SQL",
		Short: "Run one read-only statement; it sees one step across all tables",
		Long: "Query runs one read-only statement against a running instance or the state itself. It sees one step\n" +
			"across all tables. With - it reads the statement from the standard input. CSV has a header and follows\n" +
			"RFC 4180; times are YYYY-MM-DD HH:MM:SS[.fff] in UTC, null is empty. JSON names the step it saw.",
		Example: "  lockstep query 'SELECT count(*) FROM silver.order_event'\n  lockstep query --format csv - < report.sql > report.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if a.json && c.Flags().Changed("format") && format != "json" {
				return usagef("--json and --format %s exclude each other", format)
			}
			if a.json {
				format = "json"
			}
			q.SQL = args[0]
			return a.query(c.Context(), q, format)
		},
	}
	c.Flags().StringVar(&q.Layer, "layer", "serving", "which rows: serving (stream and batch merged) or batch (as published)")
	c.Flags().StringVar(&q.AsOf, "as-of", "", "id of a manifest, or a time (RFC 3339 or YYYY-MM-DD HH:MM:SS, UTC)")
	c.Flags().StringVar(&format, "format", "table", "table, csv or json")
	return c
}

var formats = map[string]func(io.Writer, *web.Result) error{
	"table": formatTable,
	"csv":   formatCSV,
	"json":  func(w io.Writer, r *web.Result) error { return web.WriteJSON(w, r, 0) },
}

func (a *app) query(ctx context.Context, q web.Query, format string) error {
	write, ok := formats[format]
	if !ok {
		return usagef("--format %q is none of table, csv, json", format)
	}
	if !slices.Contains([]string{"serving", "batch"}, q.Layer) {
		return usagef("--layer %q is none of serving, batch", q.Layer)
	}
	if q.SQL == "-" {
		text, err := io.ReadAll(a.stdin)
		if err != nil {
			return fmt.Errorf("cannot read the statement from the standard input: %w", err)
		}
		q.SQL = string(text)
	}
	if strings.TrimSpace(q.SQL) == "" {
		return usagef("the statement is empty")
	}
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		r, err := b.Query(ctx, q)
		if err != nil {
			return err
		}
		defer r.Rows.Release()
		if err := write(a.stdout, r); err != nil {
			return err
		}
		if r.Frozen != "" {
			a.say("frozen at step %d: %s\n", r.Step, r.Frozen)
		}
		return nil
	})
}
