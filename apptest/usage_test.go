package apptest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestExitCodes holds what scripts depend on: 0 fine, 1 failed, 2 usage; what
// is wrong stands on the standard error and says what to do.
func TestExitCodes(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	for _, c := range []struct {
		name   string
		args   []string
		code   int
		stderr string
	}{
		{"help", []string{"--help"}, 0, ""},
		{"no command", nil, 0, ""},
		{"unknown command", []string{"rum"}, 2, `unknown command "rum"`},
		{"a part that is not there", []string{"render", "tableau", "x"}, 2, `unknown command "tableau"`},
		{"unknown flag", []string{"run", "--fast"}, 2, "unknown flag: --fast"},
		{"missing argument", []string{"query"}, 2, "accepts 1 arg(s)"},
		{"argument too many", []string{"verify", "now"}, 2, `unknown command "now"`},
		{"bad speed", []string{"run", "--speed", "fast"}, 2, "neither a number above 0 nor max"},
		{"bad scale", []string{"run", "--scale", "-1"}, 2, "not a number above 0"},
		{"two sources", []string{"run", "--scale", "1", "--data", "."}, 2, "none of the others can be"},
		{"bad schedule", []string{"run", "--schedule", "often"}, 2, `--schedule "often"`},
		{"bad size", []string{"run", "--memory-limit", "much"}, 2, "--memory-limit"},
		{"open to the world", []string{"run", "--listen", "0.0.0.0:0"}, 2, "LOCKSTEP_PASSWORD"},
		{"bad layer", []string{"query", "SELECT 1", "--layer", "speed"}, 2, "serving, batch"},
		{"bad format", []string{"query", "SELECT 1", "--format", "xml"}, 2, "table, csv, json"},
		{"empty statement", []string{"query", "-"}, 2, "empty"},
		{"rollback to nothing", []string{"rollback"}, 2, "to release"},
		{"rollback to 0", []string{"rollback", "--to", "0"}, 2, "lockstep history"},
		{"bad letter", []string{"dlq", "show", "x"}, 2, "TOPIC/PARTITION/OFFSET"},
		{"replay of nothing", []string{"dlq", "replay"}, 2, "--all"},
		{"batch of nothing", []string{"batch", "--select", "a.b"}, 2, "--run"},
		{"bad log level", []string{"version", "--log-level", "loud"}, 2, "debug, info, warn, error"},
		{"no state", []string{"query", "SELECT 1"}, 1, "start with `lockstep run`"},
		{"no project", []string{"validate", "--project", "/nowhere"}, 1, "lockstep init"},
		{"no data", []string{"run", "--data", "/nowhere"}, 1, "no such folder"},
		{"other environment", []string{"run", "--env", "moon"}, 1, "it has cluster, embedded"},
		{"environment of several processes", []string{"run", "--env", "cluster"}, 1, "lockstep speed"},
		{"no model", []string{"explain", "gold.nothing"}, 1, "it has "},
		{"version", []string{"version"}, 0, ""},
		{"validate", []string{"validate"}, 0, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := command(t, append(c.args, "--state", state)...)
			if r.code != c.code || !strings.Contains(r.stderr, c.stderr) {
				t.Errorf("exit %d, want %d; standard error %q, want %q in it", r.code, c.code, r.stderr, c.stderr)
			}
		})
	}
	if _, err := os.Stat(state); err == nil {
		t.Error("a command that failed left a state behind")
	}
}

// TestJSON asks every command that needs no state for JSON.
func TestJSON(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"validate"}, {"graph"}, {"explain", "gold.fact_order_detail"}} {
		var v map[string]any
		mustJSON(t, &v, args...)
		if len(v) == 0 {
			t.Errorf("lockstep %s --json is empty", strings.Join(args, " "))
		}
	}
}

// TestFaultsOfAProject wants every fault, with file and line.
func TestFaultsOfAProject(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "meters")
	must(t, "init", dir)
	path := filepath.Join(dir, "models/gold/daily_cost.sql")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.Replace(string(text), "silver.usage", "silver.usages", 1)
	if err := os.WriteFile(path, []byte(broken), 0o644); err != nil {
		t.Fatal(err)
	}
	r := command(t, "validate", "--project", dir, "--json")
	var v struct {
		Valid  bool
		Faults []struct {
			File string
			Line int
			What string
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &v); err != nil {
		t.Fatalf("%v\n%s", err, r.stdout)
	}
	if r.code != 1 || v.Valid || len(v.Faults) == 0 || v.Faults[0].File != "models/gold/daily_cost.sql" || v.Faults[0].Line != 13 || !strings.Contains(v.Faults[0].What, "silver.usages") {
		t.Errorf("exit %d, %+v", r.code, v)
	}
	if r := command(t, "init", dir); r.code != 1 || !strings.Contains(r.stderr, "not empty") {
		t.Errorf("init over a project: exit %d, %s", r.code, r.stderr)
	}
}
