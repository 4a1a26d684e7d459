package apptest

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// damages are files of a state that are broken from outside, and what the next
// command says of it: they are not made anew without a word. Once they are
// back, or removed where that is the advice, everything is as before.
var damages = []struct {
	name, file string
	broken     func([]byte) []byte
	says       []string // what went wrong, where, what to do
	remove     bool     // follow the advice to remove the file
}{
	{"state.json is cut short", "state.json", cutShort, []string{"state.json", "damaged", "restore it"}, false},
	{"state.json is empty", "state.json", emptied, []string{"state.json", "damaged", "restore it"}, false},
	{"garbage in the newest manifest", "lake/manifests/*.json", garbled, []string{"manifests/", "damaged", "remove the file"}, true},
	{"the newest manifest is cut short", "lake/manifests/*.json", cutShort, []string{"manifests/", "damaged", "remove the file"}, false},
	{"garbage in the step records", "ingest/steps.log", garbled, []string{"steps.log, line", "restore it", "remove it"}, true},
	{"garbage in the catalog", "lake/catalog.db", garbled, []string{"catalog.db", "move it away"}, true},
	{"the catalog is cut short", "lake/catalog.db", cutShort, []string{"catalog.db", "move it away"}, true},
	{"garbage in a bronze table's metadata", "lake/warehouse/bronze/order_item/metadata/*.metadata.json", garbled, []string{"order_item", "metadata", "restore the file"}, false},
}

func cutShort(text []byte) []byte { return text[:len(text)/2] }
func emptied([]byte) []byte       { return nil }

// garbled overwrites the middle.
func garbled(text []byte) []byte {
	out := append([]byte(nil), text...)
	copy(out[len(out)/3:], strings.Repeat("#garbage", len(out)/3/8+1)[:len(out)/3])
	return out
}

// TestDamagedState breaks one file after another.
func TestDamagedState(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	var first summary
	mustJSON(t, &first, append([]string{"run", "--once", "--speed", "max", "--scale", "0.01", "--commit-every", "100ms", "--state", state}, freePorts...)...)
	want := digests(t, state)
	for _, d := range damages {
		t.Run(d.name, func(t *testing.T) {
			found, err := filepath.Glob(filepath.Join(state, d.file))
			if err != nil || len(found) == 0 {
				t.Fatalf("there is no %s: %v", d.file, err)
			}
			path := found[len(found)-1]
			undo := damage(t, path, d.broken)
			r := command(t, append([]string{"run", "--once", "--scale", "0.01", "--speed", "max", "--state", state}, freePorts...)...)
			if d.remove {
				undo = func() { removed(t, path, path+"-wal", path+"-shm") }
			}
			undo()
			if r.code != 1 || strings.Contains(r.stderr, "panic") {
				t.Errorf("exit %d\n%s", r.code, tail(r.stderr))
			}
			for _, word := range d.says {
				if !strings.Contains(r.stderr, word) {
					t.Errorf("%q is not in what it said:\n%s", word, tail(r.stderr))
				}
			}
			if !d.remove {
				return
			}
			again := runOnce(t, state, "--scale", "0.01")
			if got := digests(t, state); got != want || again.Accepted != 0 {
				t.Errorf("without the file %d records were taken in again, and the rows are\n%s\nbefore:\n%s", again.Accepted, got, want)
			}
		})
	}
	again := runOnce(t, state, "--scale", "0.01")
	if got := digests(t, state); got != want || again.Accepted != 0 {
		t.Errorf("afterwards %d records were taken in again, and the rows are\n%s\nbefore:\n%s", again.Accepted, got, want)
	}
	must(t, "verify", "--state", state)
}

// damage rewrites a file; the function that it gives puts it back.
func damage(t *testing.T, path string, broken func([]byte) []byte) (undo func()) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	write := func(text []byte) {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(broken(text))
	return func() { write(text) }
}

func removed(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadOnlyState wants a message that says what to do, and a state that can
// be used once it may be written.
func TestReadOnlyState(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("root may write everywhere")
	}
	dir := t.TempDir()
	state := filepath.Join(dir, "state")
	runOnce(t, state, "--scale", "0.01")
	for _, locked := range []string{state, dir} {
		if locked == dir {
			must(t, "reset", "--yes", "--state", state)
		}
		if err := os.Chmod(locked, 0o555); err != nil {
			t.Fatal(err)
		}
		r := command(t, append([]string{"run", "--once", "--scale", "0.01", "--speed", "max", "--state", state}, freePorts...)...)
		if err := os.Chmod(locked, 0o755); err != nil {
			t.Fatal(err)
		}
		if r.code != 1 || !strings.Contains(r.stderr, "--state") {
			t.Errorf("%s is read-only: exit %d, %s", locked, r.code, r.stderr)
		}
		runOnce(t, state, "--scale", "0.01")
	}
	must(t, "verify", "--state", state)
}

// TestFullDisk fills the disk under a run, and makes room again.
func TestFullDisk(t *testing.T) {
	state := t.TempDir()
	if err := syscall.Mount("tmpfs", state, "tmpfs", 0, "size=220m"); err != nil {
		t.Skipf("cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(state, syscall.MNT_DETACH) })
	p := start(t, state, "--scale", "0.02", "--speed", "1500000", "--schedule", "@every 1s", "--commit-every", "200ms")
	published(t, p, state)
	filler := filepath.Join(state, "filler")
	fill(t, filler)
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(p.stderr.String(), "no space left on device"); {
		if time.Now().After(deadline) {
			t.Fatal("the instance did not say that the disk is full")
		}
		fill(t, filler)
		time.Sleep(50 * time.Millisecond)
	}
	select {
	case err := <-p.exited: // the stream's state cannot be written: only a new start knows what is durable
		p.exited <- err
		if code := p.cmd.ProcessState.ExitCode(); code != 1 || strings.Contains(p.stderr.String(), "goroutine ") {
			t.Errorf("exit %d", code)
		}
	case <-time.After(3 * time.Second):
		p.kill()
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	runOnce(t, state, "--scale", "0.02")
	must(t, "verify", "--state", state)
	calm := filepath.Join(t.TempDir(), "calm")
	runOnce(t, calm, "--scale", "0.02")
	if got, want := digests(t, state), digests(t, calm); got != want {
		t.Errorf("rows:\n%s\nof an undisturbed run:\n%s", got, want)
	}
}

// fill takes what room is left.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err != nil {
		return
	}
	defer f.Close()
	for size := 1 << 20; size >= 512; {
		if _, err := f.Write(make([]byte, size)); errors.Is(err, syscall.ENOSPC) {
			size /= 2
		} else if err != nil {
			t.Fatal(err)
		}
	}
}
