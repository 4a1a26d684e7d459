package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"lockstep/compile"
	"lockstep/dashboard"
	"lockstep/render/superset"
)

func (a *app) supersetCommand() *cobra.Command {
	c := &cobra.Command{Use: "superset", Short: "Bring the project's dashboards to Apache Superset", Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error { return c.Help() }}
	c.AddCommand(a.supersetPushCommand())
	return c
}

// supersetPush is where to push to, and what the assets point to.
type supersetPush struct {
	url, user, password, databaseURI string
}

func (a *app) supersetPushCommand() *cobra.Command {
	var p supersetPush
	c := &cobra.Command{
		Use:   "push",
		Short: "Import the dashboards into a running Superset and ask each chart for its rows",
		Long: "Push makes Superset's assets of dashboards/*.yaml and imports them through its REST API. What is there\n" +
			"from an earlier push is replaced, so that a second push of the same changes nothing. Then it asks Superset\n" +
			"for the rows of each chart, and fails if one has an error. The password may stand in SUPERSET_PASSWORD.",
		Example: "  SUPERSET_PASSWORD=admin lockstep superset push --url http://127.0.0.1:8088\n" +
			"  lockstep superset push --database-uri hive://lockstep@thrift:10000/gold",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return a.supersetPush(c.Context(), p) },
	}
	f := c.Flags()
	f.StringVar(&p.url, "url", "http://127.0.0.1:8088", "address of Superset")
	f.StringVar(&p.user, "user", "admin", "who imports")
	f.StringVar(&p.password, "password", "", "their password (default: SUPERSET_PASSWORD)")
	f.StringVar(&p.databaseURI, "database-uri", superset.DefaultURI, "SQLAlchemy URI by which Superset reaches the tables")
	return c
}

func (a *app) supersetPush(ctx context.Context, p supersetPush) error {
	if p.password == "" {
		p.password = os.Getenv("SUPERSET_PASSWORD")
	}
	if p.password == "" {
		return usagef("give the password of %s by --password or SUPERSET_PASSWORD", p.user)
	}
	program, boards, err := a.dashboards(ctx)
	if err != nil {
		return err
	}
	bundle, err := superset.Make(program, boards, superset.Options{DatabaseURI: p.databaseURI})
	if err != nil {
		return err
	}
	client, err := superset.Connect(ctx, p.url, p.user, p.password)
	if err != nil {
		return err
	}
	if err := client.Import(ctx, bundle); err != nil {
		return err
	}
	for _, n := range bundle.Notes {
		a.say("note: %s\n", n)
	}
	return a.supersetReport(client.URL(), bundle, client.Check(ctx, bundle))
}

// dashboards are the project's, checked.
func (a *app) dashboards(ctx context.Context) (*compile.Program, []*dashboard.Dashboard, error) {
	program, err := a.program()
	if err != nil {
		return nil, nil, err
	}
	boards, err := dashboard.Check(ctx, program.Project.FS, program)
	if err != nil {
		return nil, nil, a.projectError(err)
	}
	return program, boards, nil
}

type chartJSON struct {
	Dashboard string `json:"dashboard"`
	Chart     string `json:"chart"`
	Type      string `json:"type"`
	ID        int    `json:"id"`
	Rows      int    `json:"rows"`
	Error     string `json:"error,omitempty"`
}

func (a *app) supersetReport(url string, bundle *superset.Bundle, checked []superset.Checked) error {
	var rows [][]string
	var charts []chartJSON
	var failed []error
	for _, x := range checked {
		c := chartJSON{x.Dashboard, x.Title, x.Type, x.ID, len(x.Rows), ""}
		shown := number(int64(c.Rows))
		if x.Error != nil {
			c.Error = x.Error.Error()
			shown = "error"
			failed = append(failed, fmt.Errorf("chart %s of dashboard %s: %w", x.Title, x.Dashboard, x.Error))
		}
		charts = append(charts, c)
		rows = append(rows, []string{c.Dashboard, c.Chart, c.Type, shown})
	}
	var err error
	if a.json {
		err = a.printJSON(charts)
	} else {
		err = writeTable(a.stdout, []string{"dashboard", "chart", "type", "rows"}, []bool{false, false, false, true}, rows)
		for _, d := range bundle.Dashboards {
			fmt.Fprintf(a.stdout, "%s: %s/superset/dashboard/%s/\n", d.Title, url, d.Slug)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("%d of %d charts have no data in Superset:\n%w", len(failed), len(charts), errors.Join(failed...))
	}
	return err
}
