package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"lockstep/web"
)

func (a *app) batchCommand() *cobra.Command {
	var r web.BatchRequest
	c := &cobra.Command{
		Use:   "batch",
		Short: "Recompute every model now, compare, and publish; whole or in parts",
		Long: "Batch pins a step that bronze holds whole, recomputes every model in full, compares with what was served\n" +
			"at that step, and publishes all tables by one manifest. For outside schedulers it comes in parts:\n" +
			"--begin prints a run id, --run ID --select MODEL evaluates models of that run, --publish ID ends it.",
		Example: "  lockstep batch\n  id=$(lockstep batch --begin)\n  lockstep batch --run $id --select silver.orders\n  lockstep batch --publish $id",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if len(r.Select) > 0 && r.Run == "" {
				return usagef("--select needs --run ID; `lockstep batch --begin` prints an id")
			}
			if r.Run != "" && len(r.Select) == 0 {
				return usagef("--run %s needs --select MODEL", r.Run)
			}
			return a.batch(c.Context(), r)
		},
	}
	c.Flags().BoolVar(&r.Begin, "begin", false, "only pin a step and print the id of the run")
	c.Flags().StringVar(&r.Run, "run", "", "id of the run whose models --select evaluates")
	c.Flags().StringSliceVar(&r.Select, "select", nil, "models to evaluate, each after those that it reads")
	c.Flags().StringVar(&r.Publish, "publish", "", "id of the run to compare and publish")
	c.MarkFlagsMutuallyExclusive("begin", "run", "publish")
	return c
}

func (a *app) batch(ctx context.Context, r web.BatchRequest) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		report, err := b.Batch(ctx, r)
		if err != nil {
			return err
		}
		if err := a.printBatch(r, report); err != nil {
			return err
		}
		if report.Error != "" {
			return fmt.Errorf("the batch failed: %s", report.Error)
		}
		if n := len(report.Drift); n > 0 {
			return fmt.Errorf("%d models of the stream differ from the full recompute; `lockstep verify` shows the rows", n)
		}
		return nil
	})
}

func (a *app) printBatch(r web.BatchRequest, report *web.BatchReport) error {
	if a.json {
		return a.printJSON(report)
	}
	if r.Begin {
		_, err := fmt.Fprintln(a.stdout, report.Run)
		return err
	}
	var rows [][]string
	for _, m := range slices.Sorted(maps.Keys(report.Models)) {
		rows = append(rows, []string{m, number(report.Rows[m]), seconds(report.Models[m]), number(report.Drift[m])})
	}
	if err := writeTable(a.stdout, []string{"model", "rows", "took", "drift"}, []bool{false, true, true, true}, rows); err != nil {
		return err
	}
	for _, t := range report.Tests {
		fmt.Fprintf(a.stdout, "data test fails  %s\n", t)
	}
	text := fmt.Sprintf("run %s at step %s took %s", report.Run, number(report.Step), seconds(report.Seconds))
	if report.Manifest > 0 {
		text += fmt.Sprintf(", of which the comparison %s; published as manifest %d", seconds(report.Compare), report.Manifest)
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}
