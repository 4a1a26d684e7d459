//go:build stack

package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/deploy/stack"
)

// software installs groups of the stack's software and gives the cache.
func software(t testing.TB, groups ...string) string {
	t.Helper()
	conf, err := stack.LoadConfig()
	if err != nil {
		t.Fatal(err)
	}
	cache, err := stack.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	in := &stack.Installer{Config: conf, Cache: cache, Log: slog.Default()}
	if err := in.Install(t.Context(), groups); err != nil {
		unavailable(t, "%v", err)
	}
	return cache
}

// unavailable skips a test for want of something that is not part of the
// project; where LOCKSTEP_REQUIRE is set, as in CI, it fails.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("LOCKSTEP_REQUIRE") != "" {
		t.Fatalf(format, args...)
	}
	t.Skipf("SKIPPED: "+format, args...)
}

// daemon is a process of another product, for the time of a test.
type daemon struct {
	name string
	cmd  *exec.Cmd
	log  *syncBuffer
	done chan struct{}
}

// launch starts a process in a group of its own, so that its children end with it.
func launch(t testing.TB, name string, env []string, path string, args ...string) *daemon {
	t.Helper()
	d := &daemon{name: name, cmd: exec.Command(path, args...), log: &syncBuffer{}, done: make(chan struct{})}
	d.cmd.Env = append(os.Environ(), env...)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := d.cmd.Start(); err != nil {
		t.Fatalf("cannot start %s: %v", name, err)
	}
	go func() { d.cmd.Wait(); close(d.done) }()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("the end of the log of %s:\n%s", name, tail(d.log.String()))
		}
	})
	return d
}

// stop ends the process and its children.
func (d *daemon) stop() {
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-d.done:
	case <-time.After(20 * time.Second):
	}
	syscall.Kill(-d.cmd.Process.Pid, syscall.SIGKILL)
	<-d.done
}

func (d *daemon) ended() bool {
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

// await polls an address of the daemon until it answers 200.
func (d *daemon) await(t testing.TB, url string, patience time.Duration) {
	t.Helper()
	eventually(t, patience, d.name+" answers "+url, func() bool {
		if d.ended() {
			t.Fatalf("%s has ended:\n%s", d.name, tail(d.log.String()))
		}
		r, err := http.Get(url)
		if err != nil {
			return false
		}
		r.Body.Close()
		return r.StatusCode == http.StatusOK
	})
}

// freePort is one that nobody listens on now.
func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// ask sends a request with a JSON body, if there is one, and reads the JSON of
// the answer into v. It gives the status; 0: nobody answers.
func ask(t testing.TB, method, url, token string, body, v any) int {
	t.Helper()
	var send io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		send = bytes.NewReader(text)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, url, send)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0
	}
	if v != nil && json.Unmarshal(text, v) != nil && answer.StatusCode < 300 {
		t.Fatalf("%s %s: no JSON: %s", method, url, tail(string(text)))
	}
	if answer.StatusCode >= 400 {
		t.Logf("%s %s: %d %s", method, url, answer.StatusCode, tail(string(text)))
	}
	return answer.StatusCode
}

// succeed runs a program to its end, which must be a good one.
func succeed(t testing.TB, env []string, path string, args ...string) string {
	t.Helper()
	c := exec.CommandContext(t.Context(), path, args...)
	c.Env = append(os.Environ(), env...)
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", path, strings.Join(args, " "), err, tail(string(out)))
	}
	return string(out)
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }
