package stack

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"lockstep/cluster"
	"lockstep/project"
)

// newStack is a stack whose parts are never started.
func newStack(t *testing.T, o Options) *Stack {
	t.Helper()
	if o.Dir == "" {
		o.Dir = t.TempDir()
	}
	o.Cache, o.Log = t.TempDir(), slog.New(slog.NewTextHandler(io.Discard, nil))
	s, err := open(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func shell(name, script string) part {
	return part{name: name, port: "minio", within: 10 * time.Second,
		start: func() (process, error) { return process{path: "/bin/sh", args: []string{"-c", script}}, nil },
		ready: func(context.Context) error { return nil },
	}
}

func (s *Stack) waitFor(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
	}
}

func TestPartLives(t *testing.T) {
	s := newStack(t, Options{})
	p := shell("part", "sleep 1000 & echo started; trap 'echo ended; exit' TERM; wait")
	if err := s.startAll(t.Context(), []part{p}); err != nil {
		t.Fatal(err)
	}
	pid := s.PID("part")
	if pid == 0 {
		t.Fatal("it does not run")
	}
	t.Cleanup(func() { syscall.Kill(-pid, syscall.SIGKILL) })
	log := func() string {
		text, err := os.ReadFile(s.logFile("part"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	s.waitFor(t, "the part's child", func() bool { return strings.Contains(log(), "started") && len(members(pid)) == 2 })
	if rss := groupRSS(pid); rss < 100<<10 {
		t.Errorf("its memory is %d bytes", rss)
	}
	// Another process finds it, and does not start it again.
	again := newStack(t, Options{Dir: s.Dir})
	if err := again.startAll(t.Context(), []part{p}); err != nil || again.PID("part") != pid {
		t.Errorf("found as %d, not %d: %v", again.PID("part"), pid, err)
	}
	if err := again.stopAll(t.Context(), []part{p}); err != nil {
		t.Fatal(err)
	}
	s.waitFor(t, "no process is left", func() bool { return s.PID("part") == 0 && len(members(pid)) == 0 })
	if !strings.Contains(log(), "ended") {
		t.Errorf("it was not asked to end: %s", log())
	}
}

func TestPartIsKilled(t *testing.T) {
	s := newStack(t, Options{})
	for name, end := range map[string]func(part) error{
		"deaf":   func(p part) error { return s.stopAll(stopped(), []part{p}) }, // its grace is over at once
		"killed": func(p part) error { return s.kill(p.name) },
	} {
		p := shell(name, "trap '' TERM; sleep 1000 & sleep 1000")
		if err := s.startAll(t.Context(), []part{p}); err != nil {
			t.Fatal(err)
		}
		pid := s.PID(name)
		if err := end(p); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		s.waitFor(t, name+" is gone", func() bool { return s.PID(name) == 0 && len(members(pid)) == 0 })
		if err := end(p); err != nil {
			t.Errorf("%s, when it is gone: %v", name, err)
		}
	}
}

func stopped() context.Context {
	ctx, stop := context.WithCancel(context.Background())
	stop()
	return ctx
}

// TestPartEnds: a part that ends before it answers fails the start, with the end
// of its log.
func TestPartEnds(t *testing.T) {
	s := newStack(t, Options{})
	p := shell("part", "echo 'no such configuration' >&2; exit 3")
	p.ready = func(context.Context) error { return context.DeadlineExceeded }
	err := s.startAll(t.Context(), []part{p})
	if err == nil || !strings.Contains(err.Error(), "no such configuration") {
		t.Errorf("the error is %v", err)
	}
	slow := shell("slow", "exec sleep 1000")
	slow.within, slow.ready = 0, p.ready
	err = s.startAll(t.Context(), []part{slow})
	if err == nil || !strings.Contains(err.Error(), "does not answer within") {
		t.Errorf("the error is %v", err)
	}
	if err := s.kill("slow"); err != nil {
		t.Fatal(err)
	}
}

// TestPIDOfAnother: a number that another process has got since is not the part.
func TestPIDOfAnother(t *testing.T) {
	s := newStack(t, Options{})
	for _, text := range []string{strconv.Itoa(os.Getpid()) + " 1", "1", "none", ""} {
		if err := writeFile(s.pidFile("part"), text); err != nil {
			t.Fatal(err)
		}
		if pid := s.PID("part"); pid != 0 {
			t.Errorf("%q is process %d", text, pid)
		}
	}
}

// TestEnv: the variables are those of the bundled environment, and all that it
// requires.
func TestEnv(t *testing.T) {
	s := newStack(t, Options{FirstPort: 20000})
	p, err := project.Load(os.DirFS("../../examples/olist"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, e := range s.Env() {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	used := map[string]bool{}
	c, err := cluster.Read(p, "cluster", func(name string) string { used[name] = true; return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	for name := range env {
		if !used[name] {
			t.Errorf("nobody reads %s", name)
		}
	}
	if strings.Join(c.Kafka, ",") != "127.0.0.1:20291,127.0.0.1:20292,127.0.0.1:20293" || c.Thrift != "127.0.0.1:20110" {
		t.Errorf("read %+v", c)
	}
	for _, line := range strings.Split(strings.TrimSpace(s.Exports()), "\n") {
		if !strings.HasPrefix(line, "export LOCKSTEP_") {
			t.Errorf("a shell reads %s", line)
		}
	}
}

func TestStateIsKept(t *testing.T) {
	s := newStack(t, Options{FreePorts: true})
	if len(s.state.Ports) != len(s.Config.Ports) || len(s.state.Disks) != kafkaNodes {
		t.Fatalf("state is %+v", s.state)
	}
	seen := map[int]string{}
	for name, port := range s.state.Ports {
		if seen[port] != "" {
			t.Errorf("%s and %s have port %d", name, seen[port], port)
		}
		seen[port] = name
	}
	again := newStack(t, Options{Dir: s.Dir, Groups: []string{Superset}})
	for name, port := range s.state.Ports {
		if again.Port(name) != port {
			t.Errorf("port %s was %d and is %d", name, port, again.Port(name))
		}
	}
	if got := strings.Join(again.state.Groups, ","); got != "core,spark,superset" {
		t.Errorf("groups are %s", got)
	}
	if _, err := open(Options{Dir: t.TempDir(), Groups: []string{"kafkas"}}); err == nil {
		t.Error("an unknown group is taken")
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a stack is found where none is")
	}
}

// TestPartsOfAllGroups: each part has a port, and what is waited for starts first.
func TestPartsOfAllGroups(t *testing.T) {
	s := newStack(t, Options{Groups: Groups})
	wave, names := 0, map[string]bool{}
	for _, p := range s.parts() {
		if names[p.name] || p.start == nil || p.ready == nil || p.within == 0 || s.Port(p.port) == 0 {
			t.Errorf("part %s is not whole", p.name)
		}
		if p.wave < wave {
			t.Errorf("part %s of wave %d comes after wave %d", p.name, p.wave, wave)
		}
		names[p.name], wave = true, p.wave
	}
	if len(names) != 18 {
		t.Errorf("%d parts: %v", len(names), s.Parts())
	}
}

func TestConfigIsWhole(t *testing.T) {
	c := config(t)
	in := &Installer{Config: c, Cache: t.TempDir()}
	for _, it := range in.items() {
		if it.recipe == nil || it.name == "" {
			t.Errorf("item %+v has no recipe", it)
		}
	}
	for name, set := range c.Jars {
		if len(set.Artifacts) == 0 {
			t.Errorf("jars %s are none", name)
		}
		if set.Instead != "" && len(c.Jars[set.Instead].Artifacts) == 0 {
			t.Errorf("jars %s have nothing instead", name)
		}
	}
	for name, packages := range c.Python {
		for _, p := range packages {
			if !strings.Contains(p, "==") {
				t.Errorf("python package %s of %s is not pinned", p, name)
			}
		}
	}
	if len(c.Python["airflow"]) < 100 || len(c.Python["superset"]) < 100 {
		t.Error("lock files are not read")
	}
}

func TestPom(t *testing.T) {
	text, err := pomOf(JarSet{Artifacts: []string{"g:a:1", "g:b:2:tests", "g:c:3:all:tar.gz"}, Alone: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<artifactId>a</artifactId><version>1</version><exclusions>", "<classifier>tests</classifier>", "<type>tar.gz</type>"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s in %s", want, text)
		}
	}
	if _, err := pomOf(JarSet{Artifacts: []string{"g:a"}}); err == nil {
		t.Error("an artifact without a version is taken")
	}
}

// TestInstallOnce: an item is made until it is whole, once, and again when its
// recipe changes.
func TestInstallOnce(t *testing.T) {
	in := &Installer{Config: config(t), Cache: t.TempDir(), Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	made := 0
	it := item{name: "thing", recipe: "1", make: func(_ context.Context, path string) error {
		if _, err := os.Stat(filepath.Join(path, "rest")); err == nil {
			t.Error("what a failed try left is still there")
		}
		made++
		if err := writeFile(filepath.Join(path, "rest"), ""); err != nil {
			return err
		}
		if made == 1 {
			return context.DeadlineExceeded
		}
		return nil
	}}
	for range 2 {
		if err := in.once(t.Context(), it); err != nil {
			t.Fatal(err)
		}
	}
	if made != 2 {
		t.Errorf("made %d times", made)
	}
	it.recipe = "2"
	if err := in.once(t.Context(), it); err != nil || made != 3 {
		t.Errorf("made %d times, %v", made, err)
	}
	it.recipe, it.make = "3", func(context.Context, string) error { made++; return context.Canceled }
	if err := in.once(t.Context(), it); err == nil || made != 3+attempts {
		t.Errorf("made %d times, %v", made, err)
	}
}

// TestMissingTools: what is missing is named with the package that brings it.
func TestMissingTools(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	missing, why := missingTools([]string{Core, Spark})
	if !strings.Contains(strings.Join(missing, " "), "maven") || why == nil {
		t.Errorf("missing are %v, %v", missing, why)
	}
	if missing, _ := missingTools([]string{Lockstep}); len(missing) != 0 {
		t.Errorf("lockstep needs %v", missing)
	}
}
