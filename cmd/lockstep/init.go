package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/examples/starter"
)

func (a *app) initCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "init DIR",
		Short: "Make a small project of your own that validates, tests and runs",
		Args:  cobra.ExactArgs(1),
		RunE:  func(_ *cobra.Command, args []string) error { return a.init(args[0]) },
	}
}

func (a *app) init(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cannot make a project in %s: %w", dir, err)
	}
	if len(entries) > 0 {
		return fmt.Errorf("cannot make a project in %s: the folder is not empty; name a new one", dir)
	}
	var files []string
	err = fs.WalkDir(starter.FS, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		files = append(files, path)
		return writeStarter(dir, path)
	})
	if err != nil {
		return fmt.Errorf("cannot make a project in %s: %w", dir, err)
	}
	if a.json {
		return a.printJSON(map[string]any{"project": dir, "files": files})
	}
	fmt.Fprintf(a.stdout, "made %d files in %s; next:\n  lockstep test --project %s\n  lockstep run  --project %s --data %s\n",
		len(files), dir, dir, dir, filepath.Join(dir, "raw"))
	return nil
}

func writeStarter(dir, path string) error {
	text, err := fs.ReadFile(starter.FS, path)
	if err != nil {
		return err
	}
	if path == "project.yaml" {
		text = []byte(strings.Replace(string(text), "name: "+starter.Name, "name: "+projectNameOf(dir), 1))
	}
	target := filepath.Join(dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	return os.WriteFile(target, text, 0o644)
}

var notInName = regexp.MustCompile(`[^a-z0-9_]+`)

// projectNameOf makes a name of a folder's.
func projectNameOf(dir string) string {
	full, err := filepath.Abs(dir)
	if err != nil {
		return starter.Name
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(filepath.Base(full)), "_"), "_")
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		return starter.Name
	}
	return name
}
