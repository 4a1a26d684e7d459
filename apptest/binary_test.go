package apptest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// commandTime limits a command that must end by itself.
const commandTime = 5 * time.Minute

// binary is the path of the binary under test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(withBinary(m.Run))
}

func withBinary(run func() int) int {
	binary = os.Getenv("LOCKSTEP_BIN")
	if binary != "" {
		return run()
	}
	dir, err := os.MkdirTemp("", "lockstep-apptest-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "lockstep")
	build := exec.Command("go", "build", "-buildvcs=false", "-tags", "duckdb_arrow", "-o", binary, "../cmd/lockstep")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "cannot build the binary: %v\n%s", err, out)
		return 1
	}
	return run()
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	code           int
}

// freePorts keeps instances of different tests apart.
var freePorts = []string{"--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}

// command runs the binary to its end.
func command(t *testing.T, args ...string) result {
	t.Helper()
	return commandIn(t, "", "", args...)
}

func commandIn(t *testing.T, dir, stdin string, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	c := exec.CommandContext(ctx, binary, args...)
	c.Dir, c.Stdin = dir, strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil {
		t.Fatalf("cannot run lockstep %s: %v %v\n%s", strings.Join(args, " "), err, ctx.Err(), stderr.String())
	}
	return result{stdout.String(), stderr.String(), c.ProcessState.ExitCode()}
}

// must runs the binary, which must exit 0, and gives its standard output.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := command(t, args...)
	if r.code != 0 {
		t.Fatalf("lockstep %s: exit %d\n%s\n%s", strings.Join(args, " "), r.code, tail(r.stdout), tail(r.stderr))
	}
	return r.stdout
}

// mustJSON is must with --json, read into v.
func mustJSON(t *testing.T, v any, args ...string) {
	t.Helper()
	out := must(t, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("lockstep %s: cannot read its JSON: %v\n%s", strings.Join(args, " "), err, tail(out))
	}
}

func tail(s string) string {
	const most = 4000
	if len(s) > most {
		return "... " + s[len(s)-most:]
	}
	return s
}

// queried is the JSON of a query.
type queried struct {
	Step     int64  `json:"step"`
	Manifest int64  `json:"manifest"`
	Frozen   string `json:"frozen"`
	Columns  []struct{ Name, Type string }
	Rows     [][]any `json:"rows"`
}

func query(t *testing.T, state, sql string, more ...string) queried {
	t.Helper()
	var q queried
	mustJSON(t, &q, append([]string{"query", sql, "--state", state}, more...)...)
	return q
}

// process is a running instance.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	web    string // address of the page
	stderr *lockedBuffer
	stdout *lockedBuffer
	exited chan error
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs `lockstep run` on a state and waits until it is ready.
func start(t *testing.T, state string, args ...string) *process {
	t.Helper()
	p := launch(t, state, args...)
	p.until("it is ready", 5*time.Minute, func() bool {
		resp, err := http.Get(p.address() + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return p
}

// launch starts `lockstep run` on a state and does not wait.
func launch(t *testing.T, state string, args ...string) *process {
	t.Helper()
	args = append([]string{"run", "--state", state}, args...)
	if !strings.Contains(strings.Join(args, " "), "--listen") {
		args = append(args, freePorts...)
	}
	p := &process{t: t, cmd: exec.Command(binary, args...), stderr: &lockedBuffer{}, stdout: &lockedBuffer{}, exited: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.exited <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		select {
		case <-p.exited:
		case <-time.After(10 * time.Second):
		}
		if t.Failed() {
			t.Logf("the instance said:\n%s", tail(p.stderr.String()))
		}
	})
	return p
}

// address reads from the instance's own words where its page is.
func (p *process) address() string {
	for _, line := range strings.Split(p.stderr.String(), "\n") {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "web" {
			return f[1]
		}
	}
	return "http://127.0.0.1:1"
}

// until polls for a state of things.
func (p *process) until(what string, patience time.Duration, reached func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		select {
		case err := <-p.exited:
			p.exited <- err
			p.t.Fatalf("the instance ended (%v) before %s", err, what)
		default:
		}
		if reached() {
			return
		}
	}
	p.t.Fatalf("not within %s: %s", patience, what)
}

// interrupt is Ctrl-C; it gives the exit code and how long the end took.
func (p *process) interrupt() (code int, took time.Duration) {
	p.t.Helper()
	begin := time.Now()
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		p.t.Fatal(err)
	}
	select {
	case err := <-p.exited:
		p.exited <- err
	case <-time.After(time.Minute):
		p.t.Fatal("the instance did not end within a minute of Ctrl-C")
	}
	return p.cmd.ProcessState.ExitCode(), time.Since(begin)
}

// kill is kill -9.
func (p *process) kill() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGKILL)
	err := <-p.exited
	p.exited <- err
}

// data is the folder of public test data, or the test is skipped.
func data(t *testing.T, name string) string {
	t.Helper()
	root := os.Getenv("LOCKSTEP_DATA")
	if root == "" {
		root = "../../shared/data"
	}
	path, err := filepath.Abs(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("there is no %s; LOCKSTEP_DATA names the folder of the test data", path)
	}
	return path
}

// taken gives an address that is in use while the test runs.
func taken(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
