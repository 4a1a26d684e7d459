package main

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"lockstep/compile"
	"lockstep/render"
	"lockstep/render/superset"
)

func (a *app) renderCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "render",
		Short: "Make the files of Airflow, Superset, Prometheus and Grafana from the project",
		Long: "Render writes what the outside tools read, so that nothing is defined twice: the same project and flags give\n" +
			"the same files. Files in DIR that it does not write stay.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.renderAirflowCommand(), a.renderSupersetCommand(), a.renderPrometheusCommand(), a.renderGrafanaCommand())
	return c
}

func (a *app) renderAirflowCommand() *cobra.Command {
	var o render.AirflowOptions
	c := &cobra.Command{
		Use:   "airflow DIR",
		Short: "A DAG for Airflow 3: begin, a task per model, publish",
		Long: "The DAG recomputes every model in the order of the graph and publishes all tables by one manifest. It calls this\n" +
			"binary; the workers' variables LOCKSTEP_BIN, LOCKSTEP_STATE and LOCKSTEP_PROJECT win over what is rendered.\n" +
			"Its schedule is batch.schedule of project.yaml, so run the instance with --schedule off.",
		Example: "  lockstep render airflow ~/airflow/dags --state /var/lib/lockstep\n  lockstep render airflow dags --env cluster --binary /opt/lockstep/bin/lockstep",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.render(args[0], func(p *compile.Program) (render.Files, error) {
				o.Environment, o.State = a.env, a.stateDir()
				if a.project != "" {
					dir, err := filepath.Abs(a.project)
					if err != nil {
						return nil, fmt.Errorf("cannot find project %s: %w", a.project, err)
					}
					o.Project = dir
				}
				return render.Airflow(p, o)
			})
		},
	}
	f := c.Flags()
	f.StringVar(&o.Binary, "binary", "lockstep", "the program, as the workers find it")
	f.IntVar(&o.Retries, "retries", 2, "tries of a task after the first")
	f.DurationVar(&o.RetryDelay, "retry-delay", 30*time.Second, "time between two tries")
	f.DurationVar(&o.Timeout, "timeout", time.Hour, "longest time of a try")
	f.IntVar(&o.Parallel, "parallel", 4, "tasks at a time")
	return c
}

func (a *app) renderPrometheusCommand() *cobra.Command {
	var o render.PrometheusOptions
	c := &cobra.Command{
		Use:   "prometheus DIR",
		Short: "Scrape configuration, rules, service level alerts with their tests, Alertmanager's configuration",
		Long: "The alerts follow slos of project.yaml. `promtool test rules alerts.test.yml` runs the rendered tests: each\n" +
			"alert firing, and not. Parts without an address are left out.",
		Example: "  lockstep render prometheus monitoring --webhook http://127.0.0.1:9999/alerts",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.render(args[0], func(p *compile.Program) (render.Files, error) { return render.Prometheus(p, o) })
		},
	}
	f := c.Flags()
	f.StringSliceVar(&o.Lockstep, "lockstep", []string{"127.0.0.1:8080"}, "instances, host:port")
	f.StringVar(&o.PasswordFile, "password-file", "", "file that holds LOCKSTEP_PASSWORD, for instances beyond loopback")
	f.StringSliceVar(&o.Kafka, "kafka", nil, "JMX exporters of the brokers, host:port")
	f.StringSliceVar(&o.Spark, "spark", nil, "web addresses of Spark's drivers, host:port")
	f.StringSliceVar(&o.MinIO, "minio", nil, "object stores, host:port")
	f.StringSliceVar(&o.Alertmanager, "alertmanager", []string{"127.0.0.1:9093"}, "host:port")
	f.StringVar(&o.Webhook, "webhook", "", "URL that Alertmanager posts alerts to")
	f.DurationVar(&o.Interval, "interval", 15*time.Second, "time between two scrapes")
	return c
}

func (a *app) renderGrafanaCommand() *cobra.Command {
	var o render.GrafanaOptions
	c := &cobra.Command{
		Use:     "grafana DIR",
		Short:   "Provisioning and two dashboards: Monitoring Speed Layer, Pipeline Health",
		Example: "  lockstep render grafana grafana --prometheus-url http://prometheus:9090",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return a.render(args[0], func(p *compile.Program) (render.Files, error) { return render.Grafana(p, o) })
		},
	}
	c.Flags().StringVar(&o.Prometheus, "prometheus-url", "http://127.0.0.1:9090", "Prometheus, as Grafana's server reaches it")
	c.Flags().StringVar(&o.Dashboards, "dashboards-path", "/var/lib/grafana/dashboards", "where DIR/dashboards lies on Grafana's server")
	return c
}

func (a *app) renderSupersetCommand() *cobra.Command {
	var o superset.Options
	c := &cobra.Command{
		Use:   "superset DIR",
		Short: "An asset bundle for Apache Superset from dashboards/*.yaml; `lockstep superset push` imports it",
		Args:  cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return a.renderSuperset(c.Context(), args[0], o)
		},
	}
	c.Flags().StringVar(&o.DatabaseURI, "database-uri", superset.DefaultURI, "SQLAlchemy URI by which Superset reaches the tables")
	return c
}

func (a *app) renderSuperset(ctx context.Context, dir string, o superset.Options) error {
	program, boards, err := a.dashboards(ctx)
	if err != nil {
		return err
	}
	notes, err := superset.Render(program, boards, dir, o)
	if err != nil {
		return err
	}
	for _, n := range notes {
		a.say("note: %s\n", n)
	}
	if a.json {
		return a.printJSON(map[string]any{"folder": dir})
	}
	_, err = fmt.Fprintf(a.stdout, "made Superset's assets in %s\n", dir)
	return err
}

// render writes what files makes of the project.
func (a *app) render(dir string, files func(*compile.Program) (render.Files, error)) error {
	p, err := a.program()
	if err != nil {
		return err
	}
	made, err := files(p)
	if err != nil {
		return err
	}
	if err := made.Write(dir); err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"folder": dir, "files": made.Names()})
	}
	for _, name := range made.Names() {
		fmt.Fprintln(a.stdout, filepath.Join(dir, name))
	}
	return nil
}
