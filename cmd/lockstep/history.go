package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"lockstep/lake"
	"lockstep/web"
)

func (a *app) historyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "history",
		Short: "List the published manifests and their table snapshots, newest first",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.history(c.Context()) },
	}
}

func (a *app) history(ctx context.Context) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		manifests, err := b.History(ctx)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(append([]lake.Manifest{}, manifests...))
		}
		if len(manifests) == 0 {
			fmt.Fprintln(a.stdout, "nothing was published yet; `lockstep batch` does")
			return nil
		}
		var rows [][]string
		for _, m := range manifests {
			rows = append(rows, []string{fmt.Sprint(m.ID), number(m.Step), when(m.Published), fmt.Sprint(len(m.Tables))})
		}
		return writeTable(a.stdout, []string{"manifest", "step", "published", "tables"}, []bool{true, true, false, true}, rows)
	})
}

func (a *app) rollbackCommand() *cobra.Command {
	var to int64
	var release bool
	c := &cobra.Command{
		Use:   "rollback --to MANIFEST | --release",
		Short: "Serve an earlier manifest, frozen and labelled, until it is released",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if !release && to < 1 {
				return usagef("--to %d is not a manifest; `lockstep history` lists them", to)
			}
			return a.rollback(c.Context(), to, release)
		},
	}
	c.Flags().Int64Var(&to, "to", 0, "id of the manifest to serve")
	c.Flags().BoolVar(&release, "release", false, "serve the newest rows again")
	c.MarkFlagsMutuallyExclusive("to", "release")
	c.MarkFlagsOneRequired("to", "release")
	return c
}

func (a *app) rollback(ctx context.Context, to int64, release bool) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		answer, text := map[string]any{"frozen": !release}, "the newest rows are served again"
		var err error
		if release {
			err = b.Release(ctx)
		} else {
			err = b.Rollback(ctx, to)
			answer["manifest"], text = to, fmt.Sprintf("manifest %d is served, frozen; `lockstep rollback --release` ends that", to)
		}
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(answer)
		}
		_, err = fmt.Fprintln(a.stdout, text)
		return err
	})
}
