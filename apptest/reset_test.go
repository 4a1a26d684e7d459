package apptest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReset(t *testing.T) {
	dir := t.TempDir()
	state, project := filepath.Join(dir, "state"), filepath.Join(dir, "meters")
	must(t, "init", project)
	p := start(t, state, "--project", project)
	if r := command(t, "reset", "--yes", "--state", state); r.code != 1 || !strings.Contains(r.stderr, "an instance runs on it") {
		t.Errorf("reset beside a running instance: exit %d, %s", r.code, r.stderr)
	}
	p.interrupt()
	if r := commandIn(t, "", "no\n", "reset", "--state", state); r.code != 1 || !strings.Contains(r.stderr, "nothing was removed") {
		t.Errorf("reset without a yes: exit %d, %s", r.code, r.stderr)
	}
	if r := commandIn(t, "", "yes\n", "reset", "--state", state); r.code != 0 {
		t.Errorf("reset: exit %d, %s", r.code, r.stderr)
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("the state is still there")
	}
	must(t, "reset", "--yes", "--state", state) // nothing is there: fine
	if r := command(t, "reset", "--yes", "--state", project); r.code != 1 || !strings.Contains(r.stderr, "does not look like a state") {
		t.Errorf("reset of another folder: exit %d, %s", r.code, r.stderr)
	}
}

// TestStateOfAnother refuses a state of another project or format.
func TestStateOfAnother(t *testing.T) {
	dir := t.TempDir()
	state, project := filepath.Join(dir, "state"), filepath.Join(dir, "meters")
	must(t, "init", project)
	must(t, append([]string{"run", "--once", "--speed", "max", "--state", state, "--project", project, "--data", project + "/raw"}, freePorts...)...)
	if r := command(t, "verify", "--state", state); r.code != 1 || !strings.Contains(r.stderr, "belongs to project meters") {
		t.Errorf("another project: exit %d, %s", r.code, r.stderr)
	}
	if err := os.WriteFile(filepath.Join(state, "state.json"), []byte(`{"format": 99, "project": "meters"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := command(t, "verify", "--state", state, "--project", project); r.code != 1 || !strings.Contains(r.stderr, "its format is 99") {
		t.Errorf("another format: exit %d, %s", r.code, r.stderr)
	}
}
