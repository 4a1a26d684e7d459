package spark

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed app/*.py
var app embed.FS

// WriteApp writes the Python application into a folder, which is made where it
// is missing.
func WriteApp(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot write the Spark application: %w", err)
	}
	files, err := fs.Glob(app, "app/*.py")
	if err != nil {
		return err
	}
	for _, f := range files {
		text, err := app.ReadFile(f)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f)), text, 0o644); err != nil {
			return fmt.Errorf("cannot write the Spark application: %w", err)
		}
	}
	return nil
}
