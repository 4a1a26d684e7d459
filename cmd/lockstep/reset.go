package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cluster"
)

func (a *app) resetCommand() *cobra.Command {
	var yes, force bool
	c := &cobra.Command{
		Use:   "reset",
		Short: "Remove a state: log, bronze, tables and all; asks first",
		Long: "Reset removes the state folder. With --env it removes what the project has on that cluster: its topics and\n" +
			"dead letters, schemas, tables, manifests and checkpoints. End `lockstep speed`, `serve` and `replay` first.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if a.onCluster() {
				return a.resetCluster(c.Context(), yes)
			}
			return a.reset(yes, force)
		},
	}
	c.Flags().BoolVar(&yes, "yes", false, "do not ask")
	c.Flags().BoolVar(&force, "force", false, "also where the folder does not look like a state")
	return c
}

func (a *app) reset(yes, force bool) error {
	info, err := os.Lstat(a.state)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a.resetDone("there is no state in " + a.state)
	case err != nil:
		return fmt.Errorf("cannot remove state %s: %w", a.state, err)
	case !info.IsDir():
		return fmt.Errorf("cannot remove state %s: it is not a folder", a.state)
	case a.owned():
		return fmt.Errorf("cannot remove state %s: an instance runs on it; end that first", a.state)
	}
	if _, err := os.Stat(filepath.Join(a.state, lockFile)); err != nil && !force {
		return fmt.Errorf("cannot remove state %s: the folder does not look like a state; --force removes it anyway", a.state)
	}
	if !yes && !a.confirm(a.stateDir()+" with its log and all tables") {
		return fmt.Errorf("nothing was removed")
	}
	if err := os.RemoveAll(a.state); err != nil {
		return fmt.Errorf("cannot remove state %s: %w", a.state, err)
	}
	return a.resetDone("removed " + a.state)
}

// resetCluster removes what the project has on a cluster, and the folder of
// the commands that worked on it.
func (a *app) resetCluster(ctx context.Context, yes bool) error {
	p, err := a.loadProject()
	if err != nil {
		return err
	}
	c, err := a.clusterConfig(p)
	if err != nil {
		return err
	}
	if a.owned() {
		return fmt.Errorf("cannot reset environment %s: an instance runs on %s; end that first", a.env, a.state)
	}
	what := fmt.Sprintf("project %s from environment %s", p.Name, a.env)
	if !yes && !a.confirm(what+" with its topics, schemas and tables") {
		return fmt.Errorf("nothing was removed")
	}
	if err := cluster.Reset(ctx, p, c, a.log); err != nil {
		return fmt.Errorf("cannot reset environment %s: %w", a.env, err)
	}
	return a.resetDone("removed " + what)
}

// confirm asks on the standard error; only "yes" is a yes.
func (a *app) confirm(what string) bool {
	a.say("Remove %s? Type yes: ", what)
	answer, _ := bufio.NewReader(a.stdin).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

func (a *app) resetDone(text string) error {
	if a.json {
		return a.printJSON(map[string]string{"state": a.stateDir(), "result": text})
	}
	_, err := fmt.Fprintln(a.stdout, text)
	return err
}
