package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// part is one process of the stack.
type part struct {
	name  string
	port  string // the port that stands for it in a status
	wave  int    // parts of one wave start together, after those of lower ones
	start func() (process, error)
	ready func(context.Context) error // one try; nil: it answers
	// settle makes what others expect of it, each time after it has started.
	settle func(context.Context) error
	within time.Duration  // until it must answer
	grace  time.Duration  // to stop in order; 0: the usual one
	signal syscall.Signal // that asks it to; 0: SIGTERM
}

// process is how a part is executed.
type process struct {
	path string
	args []string
	env  []string // beside a minimal environment
	dir  string
	cred *syscall.Credential // nil: as we are
}

// grace is how long a part usually may take to stop in order.
const grace = 20 * time.Second

// startAll starts the parts that do not run, then waits for each.
func (s *Stack) startAll(ctx context.Context, parts []part) error {
	began := time.Now()
	for _, p := range parts {
		if s.PID(p.name) != 0 {
			continue
		}
		s.log.Info("starting", "part", p.name)
		if err := s.spawn(p); err != nil {
			return fmt.Errorf("cannot start %s: %w", p.name, err)
		}
	}
	for _, p := range parts {
		if err := s.await(ctx, p); err != nil {
			return err
		}
		s.log.Info("ready", "part", p.name, "at", s.addr(p.port), "seconds", int(time.Since(began).Seconds()))
	}
	return nil
}

// spawn starts the process of a part in a session of its own: it outlives us.
func (s *Stack) spawn(p part) error {
	proc, err := p.start()
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.logFile(p.name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(proc.path, proc.args...)
	cmd.Dir = proc.dir
	if cmd.Dir == "" {
		cmd.Dir = s.Dir
	}
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + s.Dir, "LANG=C.UTF-8", "TZ=UTC"}, proc.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: proc.cred}
	if err := cmd.Start(); err != nil {
		return err
	}
	go cmd.Wait() // a child of ours must not stay a zombie
	return writeFile(s.pidFile(p.name), fmt.Sprintf("%d %s\n", cmd.Process.Pid, startOf(cmd.Process.Pid)))
}

// await waits until a part answers, and settles it.
func (s *Stack) await(ctx context.Context, p part) error {
	deadline := time.Now().Add(p.within)
	for {
		ask, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := p.ready(ask)
		cancel()
		if err == nil {
			break
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("cannot wait for %s: %w", p.name, ctx.Err())
		case s.PID(p.name) == 0:
			return fmt.Errorf("%s has ended; the end of %s:\n%s", p.name, s.logFile(p.name), tail(s.logFile(p.name)))
		case time.Now().After(deadline):
			return fmt.Errorf("%s does not answer within %s: %w; the end of %s:\n%s", p.name, p.within, err, s.logFile(p.name), tail(s.logFile(p.name)))
		}
		select {
		case <-ctx.Done():
		case <-time.After(250 * time.Millisecond):
		}
	}
	if p.settle == nil {
		return nil
	}
	if err := p.settle(ctx); err != nil {
		return fmt.Errorf("cannot prepare %s: %w", p.name, err)
	}
	return nil
}

// stopAll asks the parts to end, and ends by force what has not after its grace.
func (s *Stack) stopAll(ctx context.Context, parts []part) error {
	for _, p := range parts {
		if pid := s.PID(p.name); pid != 0 {
			s.log.Info("stopping", "part", p.name)
			signal := p.signal
			if signal == 0 {
				signal = syscall.SIGTERM
			}
			if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
				return fmt.Errorf("cannot stop %s: %w", p.name, err)
			}
		}
	}
	began := time.Now()
	var errs []error
	for _, p := range parts {
		deadline := began.Add(max(p.grace, grace))
		for s.PID(p.name) != 0 && time.Now().Before(deadline) && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
		}
		errs = append(errs, s.kill(p.name))
	}
	return errors.Join(errs...)
}

// kill ends what is left of a part's session at once.
func (s *Stack) kill(name string) error {
	pid, _ := s.recorded(name)
	if pid == 0 {
		return nil
	}
	// The group keeps the number of its first process as long as one of it lives,
	// so that no other process can have it.
	if err := syscall.Kill(-pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("cannot kill %s: %w", name, err)
	}
	deadline := time.Now().Add(grace)
	for s.PID(name) != 0 {
		if time.Now().After(deadline) {
			return fmt.Errorf("cannot kill %s: process %d is still there", name, pid)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return os.Remove(s.pidFile(name))
}

// PID is the process of a part, 0 if it does not run.
func (s *Stack) PID(name string) int {
	pid, start := s.recorded(name)
	if pid == 0 || startOf(pid) != start {
		return 0
	}
	return pid
}

// recorded reads the pid file: the process and when it started, which together
// name it even after its number is used again.
func (s *Stack) recorded(name string) (pid int, start string) {
	text, err := os.ReadFile(s.pidFile(name))
	if err != nil {
		return 0, ""
	}
	number, start, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err = strconv.Atoi(number)
	if err != nil {
		return 0, ""
	}
	return pid, start
}

func (s *Stack) pidFile(name string) string { return s.path("pids", name) }
func (s *Stack) logFile(name string) string { return s.path("logs", name+".log") }

// startOf is when a living process started, in ticks since the boot; "" if there
// is none or it is a zombie.
func startOf(pid int) string {
	f := statOf(pid)
	if len(f) < 20 || f[0] == "Z" || f[0] == "X" {
		return ""
	}
	return f[19]
}

// statOf gives the fields of /proc/PID/stat from the third (state) on.
func statOf(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
}

// members are the living processes of the session that a part is the first of.
func members(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		n, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		const session = 3 // of the fields from the third on
		if f := statOf(n); len(f) > session && f[session] == strconv.Itoa(pid) {
			out = append(out, n)
		}
	}
	return out
}

// groupRSS is the resident memory of a part's session, in bytes; pages that are
// shared count for each process.
func groupRSS(pid int) int64 {
	var sum int64
	for _, n := range members(pid) {
		const resident = 21 // of the fields from the third on, in pages
		if f := statOf(n); len(f) > resident {
			pages, err := strconv.ParseInt(f[resident], 10, 64)
			if err == nil {
				sum += pages * int64(os.Getpagesize())
			}
		}
	}
	return sum
}

// tail gives the last lines of a log.
func tail(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const size = 3000
	if info, err := f.Stat(); err == nil && info.Size() > size {
		if _, err := f.Seek(-size, io.SeekEnd); err != nil {
			return err.Error()
		}
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(text))
}

// freePorts gives each name a port that nobody listens on.
func freePorts(names map[string]int) (map[string]int, error) {
	out := map[string]int{}
	for name := range names {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("cannot find a free port: %w", err)
		}
		defer l.Close() // all at once, so that no port is given twice
		out[name] = l.Addr().(*net.TCPAddr).Port
	}
	return out, nil
}

// get asks an address for status 200.
func get(ctx context.Context, url string) error { return getJSON(ctx, url, nil) }

// getJSON asks an address for status 200 and JSON; nil: whatever it says.
func getJSON(ctx context.Context, url string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	if v == nil {
		return nil
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// dial checks that somebody listens.
func dial(ctx context.Context, addr string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	return conn.Close()
}

// executable finds a program in folders, then in PATH.
func executable(name string, globs ...string) (string, error) {
	for _, glob := range globs {
		found, err := filepath.Glob(glob)
		if err == nil && len(found) > 0 {
			return found[len(found)-1], nil
		}
	}
	return exec.LookPath(name)
}
