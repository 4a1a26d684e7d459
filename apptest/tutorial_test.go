package apptest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestTutorial runs every command of the tutorial, block by block, as a
// newcomer types them. Only the ports are chosen for it.
func TestTutorial(t *testing.T) {
	text, err := os.ReadFile("../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	bin := filepath.Join(dir, "bin")
	wrapper := fmt.Sprintf("#!/bin/sh\nif [ \"$1\" = run ]; then exec '%s' \"$@\" %s; fi\nexec '%s' \"$@\"\n", binary, strings.Join(freePorts, " "), binary)
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "lockstep"), []byte(wrapper), 0o755); err != nil {
		t.Fatal(err)
	}
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o755); err != nil {
		t.Fatal(err)
	}
	blocks := shellBlock.FindAllSubmatch(text, -1)
	if len(blocks) < 7 {
		t.Fatalf("the tutorial has %d blocks of commands", len(blocks))
	}
	var out strings.Builder
	for _, b := range blocks {
		out.WriteString(shell(t, work, bin, string(b[1])))
	}
	for _, want := range []string{"2 unit tests: no faults", "silver.meter, line", "random histories", "gold.daily_cost    30", "Depot", "every row is the same",
		"ok   5 random histories", "peak_kwh", "refused, as it must be", "removed .lockstep"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in what the commands said:\n%s", want, out.String())
		}
	}
	if csv, err := os.ReadFile(filepath.Join(work, "m03.csv")); err != nil || !bytes.HasPrefix(csv, []byte("meter_id,usage_date,building")) {
		t.Errorf("m03.csv: %v %s", err, csv)
	}
}

func shell(t *testing.T, dir, bin, script string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, "sh", "-eu", "-c", script)
	c.Dir = dir
	c.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s\n%s", err, script, out)
	}
	return string(out)
}
