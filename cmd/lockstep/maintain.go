package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"lockstep/web"
)

func (a *app) maintainCommand() *cobra.Command {
	var r web.MaintainRequest
	c := &cobra.Command{
		Use:   "maintain",
		Short: "Merge small files of the lake and expire old snapshots now",
		Long: "Maintain merges small files, expires snapshots that no manifest and no reader names, and removes files\n" +
			"that nothing names. A running instance does this by itself from time to time.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.maintain(c.Context(), r) },
	}
	c.Flags().DurationVar(&r.KeepFor, "keep-for", time.Minute, "younger snapshots stay, so that others can end what they read")
	return c
}

func (a *app) maintain(ctx context.Context, request web.MaintainRequest) error {
	return a.withBackend(ctx, func(b web.Backend, _ bool) error {
		r, err := b.Maintain(ctx, request)
		if err != nil {
			return err
		}
		if a.json {
			return a.printJSON(r)
		}
		var rows [][]string
		for _, t := range r.Tables {
			rows = append(rows, []string{t.Table, fmt.Sprintf("%s -> %s", number(t.FilesBefore), number(t.FilesAfter)), number(t.Expired), number(t.Removed)})
		}
		return writeTable(a.stdout, []string{"table", "files", "snapshots expired", "files removed"}, []bool{false, true, true, true}, rows)
	})
}
