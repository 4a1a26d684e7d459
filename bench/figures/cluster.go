package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"lockstep/deploy/stack"
)

// coldSteps are not counted: the Java compiler is at work in them.
const coldSteps = 30

// halfRate is messages per second of the first half, which nothing measures.
const halfRate = 10000

// cluster sets the real engines beside the embedded environment: the same
// events at the same rate, then all that is left at once, then a batch.
// LOCKSTEP_STACK names the folder of a stack that is up; else one is started.
func (b *figures) cluster(ctx context.Context) error {
	s, down, err := b.stack(ctx)
	if err != nil {
		return err
	}
	defer down()
	env := append(os.Environ(), s.Env()...)
	for _, side := range []struct {
		name string
		run  func(context.Context, []string) (*side, error)
	}{{"embedded", b.embeddedSide}, {"Spark", b.sparkSide}} {
		got, err := side.run(ctx, env)
		if err != nil {
			return fmt.Errorf("%s: %w", side.name, err)
		}
		got.print(side.name)
	}
	return nil
}

// side is what one environment needs for the same work.
type side struct {
	fresh50, fresh99 float64 // seconds, from the log to what is served
	rate             float64 // messages/s at that
	backlog          int64   // records not in a step at its end
	steps            []float64
	stages           map[string][]float64
	catchUp          float64 // rows/s of a backlog
	batch            float64
	memory           int64 // bytes
}

func (s *side) print(name string) {
	figure(name+": freshness p50, p99, s", "%s", fmt.Sprintf("%.2f, %.2f", s.fresh50, s.fresh99), "at %.0f messages/s; %d records behind at the end", s.rate, s.backlog)
	if len(s.steps) > 0 {
		var parts []string
		for _, stage := range byMedian(s.stages) {
			parts = append(parts, fmt.Sprintf("%s %.2f", stage, median(s.stages[stage])))
		}
		figure(name+": micro-batch, median, s", "%.2f", median(s.steps), "%d steps after %d; %s", len(s.steps), coldSteps, strings.Join(parts, ", "))
	}
	figure(name+": a backlog, rows/s", "%.0f", s.catchUp, "")
	figure(name+": batch, s", "%.1f", s.batch, "full recompute, compared and published")
	beside := ""
	if len(s.steps) > 0 {
		beside = "of the stream; Spark's master, workers and Thrift Server apart"
	}
	figure(name+": memory, MB", "%d", s.memory>>20, "%s", beside)
}

func byMedian(stages map[string][]float64) []string {
	var names []string
	for n := range stages {
		if n != "total" {
			names = append(names, n)
		}
	}
	slices.SortFunc(names, func(x, y string) int {
		if median(stages[x]) > median(stages[y]) {
			return -1
		}
		return 1
	})
	return names
}

func (b *figures) stack(ctx context.Context) (s *stack.Stack, down func(), err error) {
	if dir := os.Getenv("LOCKSTEP_STACK"); dir != "" {
		s, err = stack.Load(dir)
		return s, func() {}, err
	}
	begin := time.Now()
	s, err = stack.Up(ctx, stack.Options{Dir: filepath.Join(b.dir, "stack"), Groups: []string{stack.Core, stack.Spark}, FreePorts: true})
	if err != nil {
		return nil, nil, err
	}
	figure("start of the whole stack, s", "%.0f", time.Since(begin).Seconds(), "downloads apart")
	return s, func() {
		if err := s.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}, nil
}

// The source: two years of 130,000 messages. The second half of them is even,
// some 250 days long; the first is what there is when the steady rate begins.
const (
	halfScale = 0.1
	half      = 65000
	perSecond = half / (250 * 86400.0)
)

func source(rate float64) []string {
	return []string{"--scale", fmt.Sprint(halfScale), "--speed", strconv.Itoa(int(rate / perSecond))}
}

// firstHalf is of 65,000 records at once, by a command that ends when it is asked to.
func firstHalf(ctx context.Context, ask asker, c *exec.Cmd) error {
	if err := c.Start(); err != nil {
		return err
	}
	defer end(c)
	if _, err := ask.until(ctx, 20*time.Minute, func(s *status) bool { return s.records() >= half }); err != nil {
		return err
	}
	return end(c)
}

func (b *figures) embeddedSide(ctx context.Context, env []string) (*side, error) {
	ask := asker{b: b, env: env, args: []string{"--state", filepath.Join(b.dir, "beside")}}
	run := func(rate float64) *exec.Cmd {
		return ask.command(ctx, append(append([]string{"run", "--schedule", "off"}, source(rate)...), ports...)...)
	}
	if err := firstHalf(ctx, ask, run(halfRate)); err != nil {
		return nil, err
	}
	c := run(*rate)
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer end(c)
	out, err := b.measure(ctx, ask, nil)
	if err != nil {
		return nil, err
	}
	if err := end(c); err != nil {
		return nil, err
	}
	ask.args[1] = filepath.Join(b.dir, "backlog")
	var all struct {
		Rate float64 `json:"events_per_second"`
	}
	err = ask.json(ctx, &all, append([]string{"run", "--once", "--speed", "max", "--scale", fmt.Sprint(halfScale)}, ports...)...)
	out.catchUp = all.Rate
	return out, err
}

func (b *figures) sparkSide(ctx context.Context, env []string) (*side, error) {
	ask := asker{b: b, env: env, args: []string{"--state", filepath.Join(b.dir, "cluster"), "--env", "cluster"}}
	if _, err := ask.output(ctx, "reset", "--yes"); err != nil {
		return nil, err
	}
	steps := &stepLog{stages: map[string][]float64{}}
	speed, err := ask.speed(ctx, steps)
	if err != nil {
		return nil, err
	}
	defer end(speed)
	if err := firstHalf(ctx, ask, ask.command(ctx, append([]string{"replay"}, source(halfRate)...)...)); err != nil {
		return nil, err
	}
	send := ask.command(ctx, append([]string{"replay"}, source(*rate)...)...)
	if err := send.Start(); err != nil {
		return nil, err
	}
	defer end(send)
	out, err := b.measure(ctx, ask, steps)
	if err != nil {
		return nil, err
	}
	out.memory = treeMemory(speed.Process.Pid)
	// What is left, at once; the stream is warm.
	if err := end(send); err != nil {
		return nil, err
	}
	steps.clear()
	if _, err := ask.output(ctx, "replay", "--speed", "max", "--scale", fmt.Sprint(halfScale)); err != nil {
		return nil, err
	}
	_, err = ask.until(ctx, 20*time.Minute, func(s *status) bool { return s.lag() == 0 && steps.records() > 0 })
	seconds, _ := steps.take()
	for _, s := range seconds {
		out.catchUp += s
	}
	out.catchUp = float64(steps.records()) / out.catchUp
	return out, err
}

// speed starts the stream and reads the seconds of its steps.
func (a asker) speed(ctx context.Context, steps *stepLog) (*exec.Cmd, error) {
	c := a.command(ctx, "speed")
	log, err := c.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	go steps.read(log)
	return c, nil
}

// end asks a process to end, once, and waits.
func end(c *exec.Cmd) error {
	if c.ProcessState != nil {
		return nil
	}
	if err := c.Process.Signal(os.Interrupt); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	err := c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // asked to end, it says in its exit code that there was more to do
	}
	return err
}

// measure waits until an environment is warm, reads its figures at the steady
// rate, and lets it do a batch.
func (b *figures) measure(ctx context.Context, ask asker, steps *stepLog) (*side, error) {
	before, err := ask.until(ctx, 20*time.Minute, func(s *status) bool {
		return s.Freshness.Since.Count > 0 && (steps == nil || steps.count() >= coldSteps)
	})
	if err != nil {
		return nil, err
	}
	if steps != nil {
		steps.clear()
	}
	at := time.Now()
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(time.Duration(*seconds) * time.Second):
	}
	after, err := ask.status(ctx)
	if err != nil {
		return nil, err
	}
	n := after.Freshness.Since.Count - before.Freshness.Since.Count
	out := &side{fresh50: quantile(before, after, 0.5), fresh99: quantile(before, after, 0.99), rate: float64(n) / time.Since(at).Seconds(), backlog: after.lag(), memory: after.MemoryBytes}
	if steps != nil {
		out.steps, out.stages = steps.take()
	}
	var batch struct {
		Seconds float64 `json:"seconds"`
	}
	err = ask.json(ctx, &batch, "batch")
	out.batch = batch.Seconds
	return out, err
}

// treeMemory is the resident memory of a process and all that it started, bytes.
func treeMemory(root int) (sum int64) {
	parents, memory := map[int]int{}, map[int]int64{}
	files, _ := filepath.Glob("/proc/[0-9]*/statm")
	for _, f := range files {
		dir := filepath.Dir(f)
		pid, _ := strconv.Atoi(filepath.Base(dir))
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		statm, _ := os.ReadFile(f)
		_, behind, _ := strings.Cut(string(stat), ") ") // behind the program's name
		var state string
		var parent int
		var size, resident int64
		fmt.Sscan(behind, &state, &parent)
		fmt.Sscan(string(statm), &size, &resident)
		parents[pid], memory[pid] = parent, resident*int64(os.Getpagesize())
	}
	for pid := range memory {
		for at := pid; at > 1; at = parents[at] {
			if at == root {
				sum += memory[pid]
				break
			}
		}
	}
	return sum
}

// asker runs commands on one environment.
type asker struct {
	b    *figures
	env  []string // nil: this process's
	args []string
}

func (a asker) command(ctx context.Context, args ...string) *exec.Cmd {
	c := exec.CommandContext(ctx, a.b.binary, append(append([]string{args[0]}, a.args...), args[1:]...)...)
	c.Env = a.env
	return c
}

func (a asker) output(ctx context.Context, args ...string) ([]byte, error) {
	c := a.command(ctx, args...)
	c.Stderr = os.Stderr
	return c.Output()
}

func (a asker) json(ctx context.Context, v any, args ...string) error {
	out, err := a.output(ctx, append(args, "--json")...)
	if err != nil {
		return fmt.Errorf("lockstep %s: %w", strings.Join(args, " "), err)
	}
	return json.Unmarshal(out, v)
}

func (a asker) status(ctx context.Context) (*status, error) {
	out, err := a.command(ctx, "status", "--json").Output()
	if err != nil {
		return nil, err
	}
	s := &status{}
	return s, json.Unmarshal(out, s)
}

func (a asker) until(ctx context.Context, patience time.Duration, reached func(*status) bool) (*status, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline) && ctx.Err() == nil; time.Sleep(2 * time.Second) {
		if s, err := a.status(ctx); err == nil && reached(s) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("not within %s", patience)
}

// stepLog takes the seconds of steps from what `lockstep speed` says.
type stepLog struct {
	mu     sync.Mutex
	n      int
	rows   int64
	total  []float64
	stages map[string][]float64
}

var stage = regexp.MustCompile(`([a-z_.]+) (\d+\.\d+)(?:,|$)`)

func (l *stepLog) read(r io.Reader) {
	for lines := bufio.NewScanner(r); lines.Scan(); {
		if !strings.HasPrefix(lines.Text(), "step ") {
			continue
		}
		l.mu.Lock()
		var step, rows int64
		if _, err := fmt.Sscanf(lines.Text(), "step %d  %d records", &step, &rows); err == nil {
			l.n, l.rows = l.n+1, l.rows+rows
		}
		for _, m := range stage.FindAllStringSubmatch(lines.Text(), -1) {
			name, seconds := m[1], 0.0
			if seconds, _ = strconv.ParseFloat(m[2], 64); name == "total" {
				l.total = append(l.total, seconds)
			}
			l.stages[name] = append(l.stages[name], seconds)
		}
		l.mu.Unlock()
	}
}

func (l *stepLog) count() int { l.mu.Lock(); defer l.mu.Unlock(); return l.n }

func (l *stepLog) records() int64 { l.mu.Lock(); defer l.mu.Unlock(); return l.rows }

func (l *stepLog) clear() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows, l.total, l.stages = 0, nil, map[string][]float64{}
}

func (l *stepLog) take() ([]float64, map[string][]float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.total), l.stages
}
