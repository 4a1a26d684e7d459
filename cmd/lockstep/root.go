package main

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/spf13/cobra"

	"lockstep/embedded"
	"lockstep/web"
)

// app is one command line: where it reads and writes, and its global flags.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	open           func(context.Context, embedded.Config) (instance, error)

	state, project, env string
	logLevel, logFormat string
	json                bool

	log         *slog.Logger
	meter       atomic.Pointer[meter] // progress bars that share the standard error
	started     bool                  // the command line was understood
	interrupted atomic.Bool           // by a signal
}

// instance is an open state.
type instance interface {
	web.Backend
	Run(ctx context.Context, o embedded.RunOptions) (*embedded.Summary, error)
	Addresses() []web.Address
	Close() error
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "lockstep",
		Short: "One SQL file per model, run as a batch and as a stream, always with the same rows",
		Long: "Lockstep keeps every model of a project in step with its event streams, recomputes all of\n" +
			"them in full as a batch, compares the two, and serves one consistent step to every query.",
		Example: "  lockstep run                      # the bundled project with a little synthetic data\n" +
			"  lockstep query 'SELECT * FROM gold.sales_pareto LIMIT 5'\n" +
			"  lockstep verify                   # recompute everything and compare\n" +
			"  lockstep init meters              # a small project of your own",
		SilenceErrors:     true,
		SilenceUsage:      true,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return a.begin() },
		RunE:              func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	f := root.PersistentFlags()
	f.StringVar(&a.state, "state", ".lockstep", "folder of the state")
	f.StringVar(&a.project, "project", "", "folder of the project (default: the bundled one)")
	f.StringVar(&a.env, "env", "embedded", "environment of the project")
	f.BoolVar(&a.json, "json", false, "machine-readable output on the standard output")
	f.StringVar(&a.logLevel, "log-level", "warn", "which logs to write to the standard error: debug, info, warn or error")
	f.StringVar(&a.logFormat, "log-format", "text", "how logs are written: text or json")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usagef("%v", err) })
	root.AddGroup(&cobra.Group{ID: "run", Title: "Run and look:"}, &cobra.Group{ID: "project", Title: "Work on a project:"},
		&cobra.Group{ID: "operate", Title: "Operate a state:"})
	root.SetHelpCommandGroupID("project")
	root.SetCompletionCommandGroupID("project")
	add(root, "run", a.runCommand(), a.queryCommand(), a.verifyCommand(), a.statusCommand())
	add(root, "project", a.initCommand(), a.validateCommand(), a.testCommand(), a.graphCommand(), a.explainCommand())
	add(root, "operate", a.doctorCommand(), a.replayCommand(), a.speedCommand(), a.serveCommand(), a.batchCommand(), a.historyCommand(), a.rollbackCommand(), a.dlqCommand(), a.maintainCommand(),
		a.resetCommand(), a.renderCommand(), a.supersetCommand(), a.versionCommand())
	a.noteStart(root)
	return root
}

// noteStart lets every command tell that its command line was understood: what
// goes wrong before that is a fault of usage.
func (a *app) noteStart(c *cobra.Command) {
	if run := c.RunE; run != nil {
		c.RunE = func(c *cobra.Command, args []string) error {
			a.started = true
			return run(c, args)
		}
	}
	for _, sub := range c.Commands() {
		a.noteStart(sub)
	}
}

func add(root *cobra.Command, group string, commands ...*cobra.Command) {
	for _, c := range commands {
		c.GroupID = group
		root.AddCommand(c)
	}
}

// begin sets the logs up, before any command.
func (a *app) begin() error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(a.logLevel)); err != nil {
		return usagef("--log-level %q is none of debug, info, warn, error", a.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	w := writerFunc(func(p []byte) (int, error) { a.say("%s", p); return len(p), nil })
	switch a.logFormat {
	case "text":
		a.log = slog.New(slog.NewTextHandler(w, options))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(w, options))
	default:
		return usagef("--log-format %q is none of text, json", a.logFormat)
	}
	return nil
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
