package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) resetCommand() *cobra.Command {
	var yes, force bool
	c := &cobra.Command{
		Use:   "reset",
		Short: "Remove a state: log, bronze, tables and all; asks first",
		Args:  cobra.NoArgs,
		RunE:  func(*cobra.Command, []string) error { return a.reset(yes, force) },
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
	if !yes && !a.confirm() {
		return fmt.Errorf("nothing was removed")
	}
	if err := os.RemoveAll(a.state); err != nil {
		return fmt.Errorf("cannot remove state %s: %w", a.state, err)
	}
	return a.resetDone("removed " + a.state)
}

// confirm asks on the standard error; only "yes" is a yes.
func (a *app) confirm() bool {
	a.say("Remove %s with its log and all tables? Type yes: ", a.stateDir())
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
