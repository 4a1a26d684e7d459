package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/project"
)

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate",
		Short: "Check the project's files; every fault with file, line and what to do",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.validate(c.Context()) },
	}
}

func (a *app) validate(ctx context.Context) error {
	program, err := a.program()
	var boards []*dashboard.Dashboard
	if err == nil {
		if boards, err = dashboard.Check(ctx, program.Project.FS, program); err != nil {
			err = a.projectError(err)
		}
	}
	var faults project.Problems
	if err != nil && !errors.As(err, &faults) {
		return err
	}
	if a.json {
		if err := a.printJSON(validation(faults)); err != nil {
			return err
		}
	}
	if len(faults) > 0 {
		if !a.json {
			fmt.Fprintln(a.stdout, faults.Error())
		}
		return fmt.Errorf("%d faults in the project %s", len(faults), a.projectName())
	}
	if !a.json {
		fmt.Fprintf(a.stdout, "%s: %s: no faults\n", program.Project.Name, contents(program, len(boards)))
	}
	return nil
}

type faultJSON struct {
	File string `json:"file"`
	Line int    `json:"line"` // 0: the whole file
	What string `json:"what"`
	Do   string `json:"do"`
}

type validationJSON struct {
	Valid  bool        `json:"valid"`
	Faults []faultJSON `json:"faults"`
}

func validation(faults project.Problems) validationJSON {
	out := validationJSON{Valid: len(faults) == 0, Faults: []faultJSON{}}
	for _, f := range faults {
		out.Faults = append(out.Faults, faultJSON(f))
	}
	return out
}

func contents(p *compile.Program, dashboards int) string {
	kinds := map[project.Materialized]int{}
	for _, m := range p.Models {
		kinds[m.Materialized]++
	}
	return fmt.Sprintf("%d topics, %d models (%d incremental, %d views, %d batch), %d dashboards, %d unit tests", len(p.Project.Sources), len(p.Models),
		kinds[project.Incremental], kinds[project.View], kinds[project.BatchOnly], dashboards, len(p.Project.Tests))
}
