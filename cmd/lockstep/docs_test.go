package main

import (
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// TestReference wants each flag of run in docs/operate.md, and each command in
// one of the documents that users read.
func TestReference(t *testing.T) {
	operate, all := "", ""
	for _, path := range []string{"../../docs/operate.md", "../../README.md", "../../docs/tutorial.md", "../../docs/project.md", "../../docs/cluster.md", "../../docs/dashboards.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if all += string(text); operate == "" {
			operate = string(text)
		}
	}
	a := &app{}
	for _, c := range a.root().Commands() {
		if c.Name() != "help" && c.Name() != "completion" && !strings.Contains(all, "lockstep "+c.Name()) {
			t.Errorf("no document tells of lockstep %s", c.Name())
		}
	}
	a.runCommand().Flags().VisitAll(func(f *pflag.Flag) {
		if !strings.Contains(operate, "--"+f.Name) {
			t.Errorf("docs/operate.md does not tell of run --%s", f.Name)
		}
	})
}

// TestHelp wants every command to say what it does in one line, and not to
// repeat a flag of all commands.
func TestHelp(t *testing.T) {
	root := (&app{}).root()
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.CommandPath(), c.Short)
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" || root.PersistentFlags().Lookup(f.Name) != nil {
				t.Errorf("%s --%s: help %q", c.CommandPath(), f.Name, f.Usage)
			}
		})
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root)
}
