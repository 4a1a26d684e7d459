package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lockstep/web"
)

func (a *app) verifyCommand() *cobra.Command {
	var step int64
	c := &cobra.Command{
		Use:   "verify",
		Short: "Recompute every model in full and compare with what is served and published",
		Long: "Verify recomputes every model in full from bronze, with neither mappings nor the stream's state, and\n" +
			"compares row by row with what is served and with the published tables. It exits 1 on any difference.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if step < 0 {
				return usagef("--step %d is not a step", step)
			}
			return a.verify(c.Context(), step)
		},
	}
	c.Flags().Int64Var(&step, "step", 0, "compare what was served at this step (default: the last one)")
	return c
}

func (a *app) verify(ctx context.Context, step int64) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		r, err := b.Verify(ctx, step)
		if err != nil {
			return err
		}
		if err := a.printVerify(r); err != nil {
			return err
		}
		if r.Clean() {
			return nil
		}
		return fmt.Errorf("verify found differences at step %d: the rows of those models are wrong on one side; "+
			"keep the state and report it; a model of your own that `lockstep test` faults must be changed", r.Step)
	})
}

func (a *app) printVerify(r *web.VerifyReport) error {
	if a.json {
		return a.printJSON(struct {
			Clean bool `json:"clean"`
			*web.VerifyReport
		}{r.Clean(), r})
	}
	var rows [][]string
	var samples []string
	for _, m := range r.Models {
		for _, c := range []struct {
			name string
			*web.Comparison
		}{{"served", m.Served}, {"published", m.Published}} {
			if c.Comparison == nil {
				continue
			}
			rows = append(rows, []string{m.Model, c.name, number(c.Rows), number(c.Missing), number(c.Extra), number(c.Changed)})
			for _, s := range c.Sample {
				samples = append(samples, fmt.Sprintf("%s, %s: %s", m.Model, c.name, s))
			}
		}
	}
	header := []string{"model", "compared with", "rows", "missing", "extra", "different"}
	if err := writeTable(a.stdout, header, []bool{false, false, true, true, true, true}, rows); err != nil {
		return err
	}
	for _, s := range samples {
		fmt.Fprintln(a.stdout, s)
	}
	verdict := "every row is the same"
	if !r.Clean() {
		verdict = "rows differ"
	}
	_, err := fmt.Fprintf(a.stdout, "step %s served, step %s published: %s (%s)\n", number(r.Step), number(r.PublishedStep), verdict, seconds(r.Seconds))
	return err
}
