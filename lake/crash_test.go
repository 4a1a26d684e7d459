package lake

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

const crashSteps = 60

// TestMain is also the program that TestKill starts and that kills itself.
func TestMain(m *testing.M) {
	if dir := os.Getenv("LAKE_CRASH_DIR"); dir != "" {
		at, _ := strconv.Atoi(os.Getenv("LAKE_CRASH_AT"))
		if err := crashProgram(dir, at); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// crashProgram continues a log of crashSteps steps, of three rows each, from
// the position it finds, with upkeep, a derived table and a manifest now and
// then. It kills itself at the at-th event.
func crashProgram(dir string, at int) error {
	events := 0
	l, err := OpenWith(context.Background(), dir, Options{Hook: func(Event) error {
		if events++; events == at {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // the signal is on its way
		}
		return nil
	}})
	if err != nil {
		return err
	}
	t := &testing.T{} // only for its helpers, which fail on broken code alone
	cs := columns(t, "step", "int", "n", "int")
	b, err := l.Bronze(context.Background(), "bronze.t", cs)
	if err != nil {
		return err
	}
	for step := int(b.Position().Step) + 1; step <= crashSteps; step++ {
		rec := batch(t, cs, []any{step, 0}, []any{step, 1}, []any{step, 2})
		if _, err := b.Append(context.Background(), []arrow.RecordBatch{rec}, position(int64(step), int64(3*step))); err != nil {
			return err
		}
		if step%5 == 0 {
			if err := crashUpkeep(l, step); err != nil {
				return err
			}
		}
	}
	return nil
}

// crashUpkeep publishes a manifest of a one-row table that names the step, and
// then tidies up.
func crashUpkeep(l *Lake, step int) error {
	ctx, t := context.Background(), &testing.T{}
	cs := columns(t, "step", "int")
	r := reader(t, cs, batch(t, cs, []any{step}))
	id, err := l.Replace(ctx, "gold.t", cs, nil, r, nil)
	if err != nil {
		return err
	}
	newest, _, err := l.NewestManifest(ctx)
	if err != nil {
		return err
	}
	if _, err = l.Publish(ctx, Manifest{Parent: newest.ID, Step: int64(step), Tables: map[string]int64{"gold.t": id}}); err != nil {
		return err
	}
	if err = l.DropManifests(ctx, 3); err != nil {
		return err
	}
	up := often
	up.KeepSnapshots, up.OrphansOlderThan = 2, time.Nanosecond
	_, err = l.Maintain(ctx, nil, up)
	return err
}

// TestKill kills a program with SIGKILL at random points of its commits, again
// and again, and expects every row of its log once.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("starts many processes")
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd, dir, kills := rand.New(rand.NewPCG(seed, 0)), t.TempDir(), 0
	for done := false; !done; {
		at := 1 + rnd.IntN(40)
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), "LAKE_CRASH_DIR="+dir, "LAKE_CRASH_AT="+strconv.Itoa(at))
		out, err := cmd.CombinedOutput()
		done = err == nil
		if exit, ok := err.(*exec.ExitError); !done && (!ok || exit.ExitCode() != -1) {
			t.Fatalf("after %d kills: %v\n%s", kills, err, out)
		}
		if !done {
			kills++
			checkCrashed(t, dir)
		}
	}
	t.Logf("%d kills", kills)
	l, db := open(t, dir, Options{}), duck(t)
	equal(t, "rows, distinct, steps", query(t, db, "SELECT count(*), count(DISTINCT (step, n)), max(step) FROM "+mustSQL(t, l, "bronze.t", 0)),
		[][]string{{fmt.Sprint(3 * crashSteps), fmt.Sprint(3 * crashSteps), fmt.Sprint(crashSteps)}})
	if files, _ := size(t, l, "bronze/t/data"); files > 60 {
		t.Errorf("%d data files left", files)
	}
}

// checkCrashed compares what a killed program left: rows with the position,
// and every manifest with its table.
func checkCrashed(t *testing.T, dir string) {
	t.Helper()
	l, err := Open(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	db := duck(t)
	if s, err := l.Scan(context.Background(), "bronze.t", 0); err == nil && s.SnapshotID != 0 {
		p, err := s.Position()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "rows at the position", query(t, db, "SELECT count(*), max(step) FROM "+mustSQL(t, l, "bronze.t", 0)), [][]string{{fmt.Sprint(3 * p.Step), fmt.Sprint(p.Step)}})
	}
	list, err := l.Manifests(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range list {
		equal(t, fmt.Sprintf("manifest %d", m.ID), rowsOf(t, db, l, "gold.t", m.Tables["gold.t"]), [][]string{{fmt.Sprint(m.Step)}})
	}
}
