//go:build stack

package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"lockstep/deploy/stack"
)

// commandTime limits a command that must end by itself; machines may be five
// times as slow as usual.
const commandTime = 15 * time.Minute

// product builds the product once, unless LOCKSTEP_BIN names one.
var product = sync.OnceValues(func() (string, error) {
	if path := os.Getenv("LOCKSTEP_BIN"); path != "" {
		return path, nil
	}
	dir, err := os.MkdirTemp("", "lockstep-stack-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "lockstep")
	out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "duckdb_arrow", "-o", path, "../../cmd/lockstep").CombinedOutput()
	if err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// site is one state folder and what commands on it are told of the stack.
type site struct {
	t     testing.TB
	env   []string // of the stack; nil: the embedded environment
	state string
	args  []string // of every command
}

// onStack is a project on the stack's engines, with nothing of it there yet.
func onStack(t testing.TB, s *stack.Stack, args ...string) *site {
	t.Helper()
	x := &site{t: t, env: s.Env(), state: filepath.Join(t.TempDir(), "state"), args: append([]string{"--env", "cluster"}, args...)}
	x.must("reset", "--yes")
	return x
}

// embedded is the same project in one process.
func embedded(t testing.TB, args ...string) *site {
	return &site{t: t, state: filepath.Join(t.TempDir(), "embedded"), args: args}
}

func (x *site) command(ctx context.Context, args ...string) *exec.Cmd {
	x.t.Helper()
	path, err := product()
	if err != nil {
		x.t.Fatalf("cannot build the binary: %v", err)
	}
	args = append(append([]string{args[0], "--state", x.state}, x.args...), args[1:]...)
	c := exec.CommandContext(ctx, path, args...)
	c.Env = append(os.Environ(), x.env...)
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = time.Minute
	return c
}

// run runs a command to its end.
func (x *site) run(args ...string) (stdout, stderr string, code int) {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := x.command(ctx, args...)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	begin := time.Now()
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		x.t.Fatalf("cannot run lockstep %s: %v %v\n%s", strings.Join(args, " "), err, ctx.Err(), tail(errs.String()))
	}
	x.t.Logf("lockstep %s: exit %d after %.1f s", strings.Join(args, " "), c.ProcessState.ExitCode(), time.Since(begin).Seconds())
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func (x *site) must(args ...string) string {
	x.t.Helper()
	out, errs, code := x.run(args...)
	if code != 0 {
		x.t.Fatalf("lockstep %s: exit %d\n%s\n%s", strings.Join(args, " "), code, tail(out), tail(errs))
	}
	return out
}

func (x *site) mustJSON(v any, args ...string) {
	x.t.Helper()
	out := x.must(append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		x.t.Fatalf("lockstep %s: cannot read its JSON: %v\n%s", strings.Join(args, " "), err, tail(out))
	}
}

func tail(s string) string {
	const most = 6000
	if len(s) > most {
		return "... " + s[len(s)-most:]
	}
	return s
}

// process is a command that goes on.
type process struct {
	*exec.Cmd
	x    *site
	log  *syncBuffer
	done chan struct{}
}

// start runs a command beside the test, and ends it with the test.
func (x *site) start(args ...string) *process {
	x.t.Helper()
	p := &process{Cmd: x.command(context.Background(), args...), x: x, log: &syncBuffer{}, done: make(chan struct{})}
	p.Stdout, p.Stderr = p.log, p.log
	p.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // so that a kill takes its children too
	if err := p.Start(); err != nil {
		x.t.Fatal(err)
	}
	go func() { p.Wait(); close(p.done) }()
	x.t.Cleanup(func() {
		p.stop()
		if x.t.Failed() {
			x.t.Logf("the end of lockstep %s:\n%s", strings.Join(args, " "), tail(p.log.String()))
		}
	})
	return p
}

// stop asks the process to end, as Ctrl-C does, and waits.
func (p *process) stop() {
	p.Process.Signal(os.Interrupt)
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		p.x.t.Errorf("%v does not end", p.Args)
		p.kill()
	}
}

// kill ends the process and its children without a word.
func (p *process) kill() {
	syscall.Kill(-p.Process.Pid, syscall.SIGKILL)
	<-p.done
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// syncBuffer takes writes of several goroutines.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// eventually polls until a condition holds.
func eventually(t testing.TB, patience time.Duration, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Second) {
		if holds() {
			return
		}
	}
	t.Fatalf("not within %s: %s", patience, what)
}

// dataFolder is the public data, which is not part of the project.
func dataFolder(t testing.TB, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../../shared/data", name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("the public data is not there: %v", err)
	}
	return path
}

// decode reads JSON, and says whether it was some.
func decode(text string, v any) bool { return json.Unmarshal([]byte(text), v) == nil }

// long leaves a test out of -short, which CI runs: all of tier 3 takes two cores
// longer than CI has.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("left out of -short: `make test-stack` runs it")
	}
}
