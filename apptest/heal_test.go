package apptest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/web"
)

// healRun is a replay of some seconds, with batches behind it.
var healRun = []string{"--scale", "0.01", "--speed", "1500000", "--schedule", "@every 1s", "--commit-every", "200ms"}

// derived are the parts of a state that log and bronze can give back, what
// /readyz says meanwhile (empty: nothing needs to be rebuilt), and the parts
// removed.
var derived = []struct {
	name, reason string
	remove       []string
}{
	{"the stream's state", "no state for these models", []string{"speed"}},
	{"published tables", "missing", []string{"lake/warehouse/silver", "lake/warehouse/gold"}},
	{"one published table", "missing", []string{"lake/warehouse/gold/fact_order_detail"}},
	{"stream and published tables", "rebuilt from bronze", []string{"speed", "lake/warehouse/silver", "lake/warehouse/gold"}},
	{"step records", "records of its steps are lost", []string{"ingest"}},
	{"manifests", "neither published nor kept", []string{"lake/manifests"}},
	{"runs of the batch, the replay's work, spilled rows", "", []string{"batch", "replay", "tmp"}},
	{"all that is derived", "rebuilt from bronze", []string{"speed", "lake/warehouse/silver", "lake/warehouse/gold", "lake/manifests", "ingest", "batch", "replay", "tmp"}},
}

// TestDerivedPartsHeal kills a run again and again and deletes another part of
// its state each time. The next run rebuilds it, says so meanwhile, goes on,
// and in the end the rows are those of an undisturbed run.
func TestDerivedPartsHeal(t *testing.T) {
	dir := t.TempDir()
	state, calm := filepath.Join(dir, "state"), filepath.Join(dir, "calm")
	p := start(t, state, healRun...)
	for _, d := range derived {
		published(t, p, state)
		p.kill()
		p = healed(t, state, d.name, d.reason, d.remove)
	}
	p.interrupt()
	whole(t, state)
	s := runOnce(t, calm, "--scale", "0.01")
	if got, want := digests(t, state), digests(t, calm); got != want {
		t.Errorf("rows after all that:\n%s\nof an undisturbed run:\n%s", got, want)
	}
	if again := runOnce(t, state, "--scale", "0.01"); again.Accepted != 0 {
		t.Errorf("%d records were taken in again", again.Accepted)
	}
	if n := query(t, state, "SELECT count(*) FROM bronze.order_status").Rows[0][0]; n != query(t, calm, "SELECT count(*) FROM bronze.order_status").Rows[0][0] || s.Events == 0 {
		t.Errorf("bronze.order_status has %v rows", n)
	}
}

// healed removes parts of a state and runs on; the instance names the reason
// while it rebuilds, and is clean after.
func healed(t *testing.T, state, name, reason string, remove []string) *process {
	t.Helper()
	for _, part := range remove {
		if err := os.RemoveAll(filepath.Join(state, part)); err != nil {
			t.Fatal(err)
		}
	}
	p := launch(t, state, healRun...)
	why := p.whyNotReady(t)
	if reason != "" && !strings.Contains(why, reason) || reason == "" && why != "" {
		t.Errorf("without %s: /readyz said %q, want %q", name, why, reason)
	}
	if r := command(t, "verify", "--state", state); r.code != 0 {
		t.Errorf("without %s: verify: exit %d\n%s%s", name, r.code, r.stdout, r.stderr)
	}
	t.Logf("%s: healed (%s)", name, why)
	return p
}

// whyNotReady waits until the instance is ready and gives what it said before,
// once it was open.
func (p *process) whyNotReady(t *testing.T) (why string) {
	t.Helper()
	p.until("it is ready", 2*time.Minute, func() bool {
		ready, reasons := readiness(p.address())
		if text := strings.Join(reasons, "; "); text != "" && text != "starting" {
			why = text
		}
		return ready
	})
	return why
}

func readiness(address string) (ready bool, reasons []string) {
	resp, err := http.Get(address + "/readyz")
	if err != nil {
		return false, nil
	}
	defer resp.Body.Close()
	var answer struct {
		Ready   bool     `json:"ready"`
		Reasons []string `json:"reasons"`
	}
	if json.NewDecoder(resp.Body).Decode(&answer) != nil {
		return false, nil
	}
	return answer.Ready && resp.StatusCode == http.StatusOK, answer.Reasons
}

// published waits for a batch of this process, and for steps beyond it.
func published(t *testing.T, p *process, state string) {
	t.Helper()
	client, err := web.Dial(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	p.until("a batch is published and steps go on", 5*time.Minute, func() bool {
		s, err := client.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		over := s.Replay != nil && s.Replay.Total > 0 && s.Replay.Sent == s.Replay.Total
		return s.Manifest > 0 && (over || s.Published.After(s.Started) && s.Step > s.BatchStep)
	})
}

// digests tells the rows of all models and bronze tables of a state.
func digests(t *testing.T, state string, more ...string) string {
	t.Helper()
	var text strings.Builder
	for _, row := range query(t, state, "SELECT * FROM ("+sightSQL(bundledProgram(t), nil)+") ORDER BY ALL", more...).Rows {
		fmt.Fprintln(&text, row...)
	}
	return text.String()
}
