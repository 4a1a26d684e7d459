package store

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// The steps of the crash tests: step n replaces, under each of many tuples, the
// row "n-1" by the row "n", says so in meta, and logs n.
const crashTuples = 200

func crashStep(s *Store, step int64) *Batch {
	b := s.NewBatch()
	// Every seventh step is larger than half a memtable: pebble takes another way.
	pad := strings.Repeat("x", 10+int(step%7/6)*3000)
	b.PutLog(step, "step", []byte(pad))
	b.DropLog(step - 10)
	for i := range crashTuples {
		b.Set(1, tuple(i), []byte(fmt.Sprint(step-1)), 0)
		b.Set(1, tuple(i), []byte(fmt.Sprint(step)), 1)
		b.Set(2, tuple(i+int(step)*crashTuples), []byte(pad), 1)
	}
	b.SetMeta("step", []byte(fmt.Sprint(step)))
	return b
}

// checkSteps finds out at which step a store is, and that it is there whole.
func checkSteps(t *testing.T, s *Store) (step int64) {
	t.Helper()
	text, err := s.Meta("step")
	if err != nil {
		t.Fatal(err)
	}
	if text == nil {
		return 0
	}
	step, _ = strconv.ParseInt(string(text), 10, 64)
	rows := 0
	err = s.ScanIndex(1, func(row []byte, count int) error {
		rows += count
		if string(row) != string(text) {
			return fmt.Errorf("row %s at step %s", row, text)
		}
		return nil
	})
	if err != nil || rows != crashTuples {
		t.Fatalf("%d rows, %v; want %d of step %d", rows, err, crashTuples, step)
	}
	rows = 0
	if err := s.ScanIndex(2, func([]byte, int) error { rows++; return nil }); err != nil || rows != int(step)*crashTuples {
		t.Fatalf("%d rows, %v; want those of %d steps", rows, err, step)
	}
	next := max(1, step-9)
	if err := s.Log(0, func(n int64, _ string, _ []byte) error { next += int64(n-next) + 1; return nil }); err != nil || next != step+1 {
		t.Fatalf("log ends before %d, %v; want %d", next, err, step+1)
	}
	return step
}

const crashDirVariable = "STORE_TEST_CRASH_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(crashDirVariable); dir != "" {
		err := commitForEver(dir)
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// commitForEver is the process to be killed. It prints each step when its
// commit came back.
func commitForEver(dir string) error {
	s, err := Open(dir, Options{MemTableBytes: 1 << 20})
	if err != nil {
		return err
	}
	text, err := s.Meta("step")
	if err != nil {
		return err
	}
	step, _ := strconv.ParseInt(string(text), 10, 64)
	for {
		step++
		if err := crashStep(s, step).Commit(); err != nil {
			return err
		}
		fmt.Println(step)
	}
}

func TestKillLeavesWholeSteps(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	var acked int64
	for range 8 {
		acked = runAndKill(t, dir, 1+r.IntN(20), acked, func() {})
		s := open(t, dir)
		step := checkSteps(t, s)
		if step < acked {
			t.Fatalf("the store is at step %d, and %d was committed", step, acked)
		}
		s.Close()
	}
}

func TestAnotherProcessHoldsTheLock(t *testing.T) {
	dir := t.TempDir()
	tried := false
	runAndKill(t, dir, 1, 0, func() {
		tried = true
		if s, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
			t.Errorf("store %v, error %v; want %v", s, err, ErrLocked)
		}
	})
	if !tried {
		t.Error("the process was not there")
	}
	open(t, dir).Close() // and it is free when that process is gone
}

// runAndKill kills a committing process some steps after it began, in the
// middle of whatever it does then, and gives the last step that it reported.
// before is called right before the kill.
func runAndKill(t *testing.T, dir string, steps int, acked int64, before func()) int64 {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashDirVariable+"="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for lines := bufio.NewScanner(out); lines.Scan(); steps-- {
		acked, _ = strconv.ParseInt(lines.Text(), 10, 64)
		if steps == 1 {
			before()
			cmd.Process.Kill()
		}
	}
	cmd.Wait()
	if steps > 0 {
		t.Fatalf("it ended by itself: %s", stderr.String())
	}
	return acked
}

func TestPowerCutLeavesWholeSteps(t *testing.T) {
	r := seeded(t)
	mem := vfs.NewCrashableMem()
	for range 15 {
		s, err := Open("state", Options{MemTableBytes: 1 << 20, fs: mem})
		if err != nil {
			t.Fatal(err)
		}
		step := checkSteps(t, s)
		for range r.IntN(12) {
			step++
			commit(t, crashStep(s, step))
		}
		// What was not synced is lost in part, in any order.
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.IntN(101), RNG: r})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		mem = crashed
		s, err = Open("state", Options{fs: mem})
		if err != nil {
			t.Fatal(err)
		}
		if got := checkSteps(t, s); got != step {
			t.Fatalf("the store is at step %d, and %d was committed", got, step)
		}
		s.Close()
	}
}

func TestPowerCutAfterBulkLoadLosesNothing(t *testing.T) {
	r := seeded(t)
	for _, before := range []int{0, 1000} {
		mem := vfs.NewCrashableMem()
		s, err := Open("state", Options{fs: mem, bulkBytes: 10000})
		if err != nil {
			t.Fatal(err)
		}
		b := s.NewBatch()
		for i := range before {
			b.Set(1, tuple(i), []byte("old"), 1)
		}
		commit(t, b)
		err = s.BulkLoad([]uint32{1, 2}, func(add func(uint32, Hash, []byte, int) error) error {
			return add(1, tuple(5), []byte("new"), 3)
		})
		if err != nil {
			t.Fatal(err)
		}
		crashed := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: r})
		s.Close()
		if s, err = Open("state", Options{fs: crashed}); err != nil {
			t.Fatal(err)
		}
		checkScan(t, s, model{{1, 5, "new"}: 3})
		s.Close()
	}
}

// fullDisk refuses writes while it is full.
type fullDisk struct{ full atomic.Bool }

func (d *fullDisk) inject(op errorfs.Op) error {
	if d.full.Load() && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
		return syscall.ENOSPC
	}
	return nil
}

func TestFullDiskIsFatalAndLosesNothing(t *testing.T) {
	r := seeded(t)
	for range 5 {
		mem := vfs.NewCrashableMem()
		disk := &fullDisk{}
		fatal := make(chan error, 10)
		s, err := Open("state", Options{
			MemTableBytes: 1 << 20,
			fs:            errorfs.Wrap(mem, errorfs.InjectorFunc(disk.inject)),
			Fatal:         func(err error) { fatal <- err; select {} }, // nothing goes on, as after an exit
		})
		if err != nil {
			t.Fatal(err)
		}
		last := int64(r.IntN(9))
		for step := int64(1); step <= last; step++ {
			commit(t, crashStep(s, step))
		}
		disk.full.Store(true)
		go func() { // until the disk is found to be full
			for step := last + 1; ; step++ {
				if err := crashStep(s, step).Commit(); err != nil {
					fatal <- err
					return
				}
			}
		}()
		err = <-fatal
		if text := err.Error(); !strings.Contains(text, "no space left on device") || !strings.Contains(text, "cannot write keyed state in state") {
			t.Fatalf("the error does not say why: %v", err)
		}
		// The cause is gone, and the program starts again.
		s, err = Open("state", Options{fs: mem.CrashClone(vfs.CrashCloneCfg{})})
		if err != nil {
			t.Fatal(err)
		}
		if got := checkSteps(t, s); got != last {
			t.Fatalf("the store is at step %d, and %d was committed", got, last)
		}
		s.Close()
	}
}
