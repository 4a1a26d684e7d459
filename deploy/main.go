// Command deploy runs the real stack without docker.
//
//	go run ./deploy up        # install into the cache, start, wait until all answer
//	eval "$(go run ./deploy env)"
//	go run ./deploy status
//	go run ./deploy down
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"lockstep/deploy/stack"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := root().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "deploy:", err)
		os.Exit(1)
	}
}

func root() *cobra.Command {
	c := &cobra.Command{Use: "deploy", Short: "Run Kafka, registry, object store, catalog, Spark and what stands around them on this machine, without docker",
		SilenceUsage: true, SilenceErrors: true}
	var dir string
	c.PersistentFlags().StringVar(&dir, "dir", ".lockstep-stack", "folder of the stack: state, data and logs")
	c.AddCommand(installCommand(), upCommand(&dir), downCommand(&dir), statusCommand(&dir), envCommand(&dir),
		onPart(&dir, "start", "Start one part and wait until it answers", (*stack.Stack).Start),
		onPart(&dir, "stop", "Stop one part in order", (*stack.Stack).Stop),
		onPart(&dir, "kill", "Kill one part (SIGKILL)", func(s *stack.Stack, _ context.Context, part string) error { return s.Kill(part) }))
	return c
}

func installCommand() *cobra.Command {
	return &cobra.Command{
		Use: "install [GROUP...]", Short: "Bring the software of groups (default: core spark) into the cache",
		Args: cobra.OnlyValidArgs, ValidArgs: stack.Groups,
		RunE: func(c *cobra.Command, groups []string) error {
			config, err := stack.LoadConfig()
			if err != nil {
				return err
			}
			cache, err := stack.CacheDir()
			if err != nil {
				return err
			}
			if len(groups) == 0 {
				groups = []string{stack.Core, stack.Spark}
			}
			in := &stack.Installer{Config: config, Cache: cache, Log: slog.Default()}
			return in.Install(c.Context(), groups)
		},
	}
}

func upCommand(dir *string) *cobra.Command {
	o := stack.Options{Log: slog.Default()}
	var groups, replay string
	c := &cobra.Command{
		Use: "up", Short: "Install, start and wait until every part answers", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			o.Dir, o.Groups = *dir, strings.Split(groups, ",")
			if groups == "all" {
				o.Groups = stack.Groups
			}
			s, err := stack.Up(c.Context(), o)
			if s == nil || err != nil {
				return err
			}
			if replay != "" {
				if err := s.Fill(c.Context(), strings.Fields(replay)); err != nil {
					return err
				}
			}
			fmt.Printf("up; for a shell: eval \"$(cat %s/env)\"\n", s.Dir)
			return nil
		},
	}
	f := c.Flags()
	f.StringVar(&groups, "parts", stack.Core+","+stack.Spark, "groups of parts, or all: "+strings.Join(stack.Groups, ","))
	f.IntVar(&o.FirstPort, "ports-from", 0, "the first port; the others follow (default: that of stack.yaml)")
	f.BoolVar(&o.FreePorts, "free-ports", false, "ports that are free now")
	f.StringVar(&o.Rendered, "rendered", "", "folder of what `lockstep render` made, for monitoring, airflow and superset")
	f.StringVar(&o.Lockstep, "lockstep", "", "the lockstep program, for all groups but core and spark")
	f.StringVar(&replay, "replay", "", "flags of lockstep replay, such as \"--scale 0.05\": fill the stack with data, a batch and Superset's dashboards")
	return c
}

func downCommand(dir *string) *cobra.Command {
	var remove bool
	c := &cobra.Command{
		Use: "down", Short: "Stop all parts in reverse order", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := stack.Load(*dir)
			if err != nil {
				return err
			}
			if err := s.Down(c.Context()); err != nil || !remove {
				return err
			}
			return s.Remove()
		},
	}
	c.Flags().BoolVar(&remove, "remove", false, "delete data and logs too")
	return c
}

func envCommand(dir *string) *cobra.Command {
	return &cobra.Command{
		Use: "env", Short: "Print the variables that an environment of project.yaml reads, for a shell", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := stack.Load(*dir)
			if err != nil {
				return err
			}
			fmt.Print(s.Exports())
			return nil
		},
	}
}

func statusCommand(dir *string) *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use: "status", Short: "Ask every part", Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := stack.Load(*dir)
			if err != nil {
				return err
			}
			return printStatus(s.Status(c.Context()), asJSON)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "machine-readable")
	return c
}

func printStatus(list []stack.PartStatus, asJSON bool) error {
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return e.Encode(list)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "part\tprocess\tmemory\tsince\taddress\tstate")
	ill := 0
	for _, p := range list {
		state := "healthy"
		if !p.Healthy {
			state = p.Why
			ill++
		}
		fmt.Fprintf(w, "%s\t%d\t%d MB\t%s\t%s\t%s\n", p.Part, p.PID, p.RSS>>20, p.Duration, p.Address, state)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if ill > 0 {
		return errors.New("not all parts answer")
	}
	return nil
}

func onPart(dir *string, use, short string, do func(*stack.Stack, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use: use + " PART", Short: short, Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := stack.Load(*dir)
			if err != nil {
				return err
			}
			return do(s, c.Context(), args[0])
		},
	}
}
