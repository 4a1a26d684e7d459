package apptest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestForeignClients drives log, registry and lake with clients that are not
// ours, beside a running instance.
func TestForeignClients(t *testing.T) {
	python := foreignPython(t)
	state := filepath.Join(t.TempDir(), "state")
	p := start(t, state, "--scale", "0.02", "--speed", "1000000", "--schedule", "off", "--commit-every", "200ms")
	// Every table has rows, and those that are partitioned have partitions.
	p.until("two months of sales and a review are served", 3*time.Minute, func() bool {
		sql := "SELECT least((SELECT count(*) FROM silver.review_metadata), (SELECT count(DISTINCT sales_period) - 1 FROM gold.fact_monthly_sales_by_product))"
		return query(t, state, sql).Rows[0][0].(float64) > 0
	})
	must(t, "batch", "--state", state)
	t.Run("PyIceberg and DuckDB read the lake", func(t *testing.T) {
		passes(t, python, "lake_client.py", state, absolute(t, binary))
	})
	t.Run("librdkafka produces into a topic of the project", func(t *testing.T) { outside(t, p, python, state) })
	t.Run("librdkafka uses log and registry", func(t *testing.T) {
		passes(t, python, "confluent_client.py", p.said("kafka"), p.said("registry"))
	})
	must(t, "verify", "--state", state)
	p.interrupt()
}

// outside: what another team sends is served, or a dead letter; after a fix the
// letter is replayed, and done.
func outside(t *testing.T, p *process, python, state string) {
	produce := func(what string) string {
		t.Helper()
		out, err := script(t, python, "outside_producer.py", p.said("kafka"), p.said("registry"), what)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		words := strings.Fields(out) // librdkafka talks before
		return words[len(words)-1]
	}
	list := func(more ...string) (letters []letter) {
		mustJSON(t, &letters, append([]string{"dlq", "list", "--state", state}, more...)...)
		return letters
	}
	next := produce("send")
	begin := time.Now()
	p.until("the record is served", 3*time.Minute, func() bool {
		return query(t, state, "SELECT count(*) FROM silver.olist_user WHERE user_id = 'outside-1'").Rows[0][0] == 1.0
	})
	t.Logf("served after %s", time.Since(begin))
	p.until("three records are dead letters", 3*time.Minute, func() bool { return len(list()) == 3 })
	var reasons []string
	for _, l := range list() {
		reasons = append(reasons, l.Topic+" "+l.Reason)
	}
	slices.Sort(reasons)
	if len(slices.Compact(slices.Clone(reasons))) != 3 || !strings.HasPrefix(reasons[0], "review ") {
		t.Errorf("dead letters: %v", reasons)
	}
	if id := produce("fix"); id != next {
		t.Fatalf("the schema got id %s, not %s", id, next)
	}
	must(t, "dlq", "replay", "--all", "--state", state)
	p.until("the mended record is served", 3*time.Minute, func() bool {
		return query(t, state, "SELECT count(*) FROM silver.olist_user WHERE user_id = 'outside-4'").Rows[0][0] == 1.0
	})
	p.until("its new field is a column of the table", 3*time.Minute, func() bool {
		return strings.TrimSpace(runPython(t, python, readRating, state)) == "[5]"
	})
	p.until("the others are judged dead again", 3*time.Minute, func() bool { return len(list("--done")) == 5 })
	if open := list(); len(open) != 2 {
		t.Errorf("open after the fix: %+v", open)
	}
}

// readRating reads a column that the project does not know.
const readRating = `
import sys
from pyiceberg.catalog.sql import SqlCatalog
catalog = SqlCatalog("lockstep", uri=f"sqlite:///{sys.argv[1]}/lake/catalog.db", warehouse=f"file://{sys.argv[1]}/lake/warehouse")
rows = catalog.load_table("bronze.seller").scan(row_filter="seller_id == 'outside-4'").to_arrow()
print(rows["rating"].to_pylist() if "rating" in rows.column_names else [])`

func runPython(t *testing.T, python, text string, args ...string) string {
	t.Helper()
	out, err := exec.Command(python, append([]string{"-c", text}, args...)...).Output()
	if err != nil {
		t.Fatalf("cannot run Python: %v", err)
	}
	return string(out)
}

// passes runs a script that counts its checks.
func passes(t *testing.T, python, name string, args ...string) {
	t.Helper()
	out, err := script(t, python, name, args...)
	if err != nil || !strings.Contains(out, ", 0 failed") {
		t.Errorf("%v\n%s", err, tail(out))
	}
	out = strings.TrimSpace(out)
	t.Log(out[strings.LastIndex(out, "\n")+1:])
}

func script(t *testing.T, python, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, python, append([]string{filepath.Join("foreign", name)}, args...)...)
	c.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	out, err := c.CombinedOutput()
	return string(out), err
}

func absolute(t *testing.T, path string) string {
	t.Helper()
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// foreignPython gives a Python that has the clients, of pinned versions, in an
// environment of its own that later runs use again. Where it cannot be made the
// test is skipped, but not in CI.
func foreignPython(t *testing.T) string {
	t.Helper()
	python, err := makeEnvironment()
	if err == nil {
		return python
	}
	if os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	t.Skip(err)
	return ""
}

func makeEnvironment() (python string, err error) {
	wanted, err := os.ReadFile("foreign/requirements.txt")
	if err != nil {
		return "", err
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "lockstep-test-venv")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", err
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("cannot lock %s: %w", dir, err)
	}
	python, marker := filepath.Join(dir, "env", "bin", "python"), filepath.Join(dir, "made-of")
	if have, err := os.ReadFile(marker); err == nil && string(have) == string(wanted) {
		return python, nil
	}
	if err := install(dir, python); err != nil {
		return "", err
	}
	return python, os.WriteFile(marker, wanted, 0o644)
}

// install tries again, as registries do not always answer.
func install(dir, python string) error {
	if err := os.RemoveAll(filepath.Join(dir, "env")); err != nil {
		return err
	}
	if out, err := exec.Command("python3", "-m", "venv", filepath.Join(dir, "env")).CombinedOutput(); err != nil {
		return fmt.Errorf("cannot make a Python environment in %s: %w: python3 and its venv module are needed\n%s", dir, err, out)
	}
	for attempt := 1; ; attempt++ {
		ctx, cancel := context.WithTimeout(context.Background(), commandTime)
		out, err := exec.CommandContext(ctx, python, "-m", "pip", "install", "--quiet", "--requirement", "foreign/requirements.txt").CombinedOutput()
		cancel()
		if err == nil {
			return nil
		}
		if attempt == 3 {
			return fmt.Errorf("cannot install the foreign clients: %w\n%s", err, tail(string(out)))
		}
		time.Sleep(time.Duration(attempt) * 5 * time.Second)
	}
}
