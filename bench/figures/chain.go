package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

var ports = []string{"--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}

// chain replays a synthetic year as fast as it goes, to served gold and a
// published batch.
func (b *figures) chain(ctx context.Context) error {
	b.state = filepath.Join(b.dir, "chain")
	args := append([]string{"run", "--state", b.state, "--once", "--speed", "max", "--scale", fmt.Sprint(*scale), "--json"}, ports...)
	c := exec.CommandContext(ctx, b.binary, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, os.Stderr
	if err := c.Run(); err != nil {
		return fmt.Errorf("lockstep %v: %w", args, err)
	}
	var s struct {
		Accepted  int64   `json:"accepted"`
		Seconds   float64 `json:"seconds"`
		Rate      float64 `json:"events_per_second"`
		DriftRows int64   `json:"drift_rows"`
	}
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return fmt.Errorf("cannot read the summary: %w", err)
	}
	usage := c.ProcessState.SysUsage().(*syscall.Rusage)
	cpu := c.ProcessState.UserTime().Seconds() + c.ProcessState.SystemTime().Seconds()
	figure("whole chain at max, to served gold, messages/s", "%.0f", s.Rate, "first step 30,000; the reference pipeline 1-17")
	figure("  the same in messages per CPU second, all threads", "%.0f", float64(s.Accepted)/cpu, "%.0f CPU s in %.0f s", cpu, s.Seconds)
	figure("  most memory while replaying, MB", "%d", usage.Maxrss>>10, "first step 1,500")
	figure("  rows that differ from the full recompute", "%d", s.DriftRows, "must be 0")
	return nil
}

// fresh measures what a start costs, and the time from a message's production
// to its being served at a steady rate: two years of 2.6 M messages at 121,000
// times their speed are 5,000 a second on average. The thin first months are
// replayed faster.
func (b *figures) fresh(ctx context.Context) error {
	state := filepath.Join(b.dir, "fresh")
	begin := time.Now()
	c, err := b.start(ctx, state, "1500000")
	if err != nil {
		return err
	}
	defer c.Process.Kill()
	if _, err := b.until(ctx, state, time.Minute, func(s *status) bool { return s.Step > 0 }); err != nil {
		return err
	}
	figure("start to first rows served (2.6 M messages prepared), s", "%.1f", time.Since(begin).Seconds(), "first step 10")
	time.Sleep(12 * time.Second)
	if err := stop(c, "Ctrl-C to the end, s"); err != nil {
		return err
	}
	if c, err = b.start(ctx, state, "121000"); err != nil {
		return err
	}
	defer c.Process.Kill()
	before, err := b.until(ctx, state, 2*time.Minute, func(s *status) bool { return s.Step > 0 && s.lag() < 3000 && s.Freshness.Since.Count > 0 })
	if err != nil {
		return err
	}
	at := time.Now()
	time.Sleep(time.Duration(*seconds) * time.Second)
	after, err := b.status(ctx, state)
	if err != nil {
		return err
	}
	n := after.Freshness.Since.Count - before.Freshness.Since.Count
	figure("freshness p99, produced to served, at most, s", "%.3f", quantile(before, after, 0.99), "p50 at most %.3f, over %d messages; first step 1 s", quantile(before, after, 0.5), n)
	figure("  messages/s at that", "%.0f", float64(n)/time.Since(at).Seconds(), "memory %d MB", after.MemoryBytes>>20)
	return stop(c, "Ctrl-C to the end, under that rate, s")
}

func (b *figures) start(ctx context.Context, state, speed string) (*exec.Cmd, error) {
	c := exec.CommandContext(ctx, b.binary, append([]string{"run", "--state", state, "--scale", "2", "--speed", speed}, ports...)...)
	return c, c.Start()
}

func stop(c *exec.Cmd, name string) error {
	begin := time.Now()
	if err := c.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	if err := c.Wait(); err != nil {
		return fmt.Errorf("the run did not end well: %w", err)
	}
	figure(name, "%.1f", time.Since(begin).Seconds(), "")
	return nil
}

// quantile is the upper bound of the bucket in which a quantile of what came
// between two readings lies.
func quantile(before, after *status, q float64) float64 {
	a, b := after.Freshness.Since, before.Freshness.Since
	n := float64(a.Count - b.Count)
	for i, bound := range a.Bounds {
		if float64(a.Counts[i]-b.Counts[i]) >= q*n {
			return bound
		}
	}
	return math.Inf(1)
}

type status struct {
	Step        int64 `json:"step"`
	MemoryBytes int64 `json:"memory_bytes"`
	Freshness   struct {
		Since struct {
			Bounds []float64 `json:"bounds"`
			Counts []uint64  `json:"counts"`
			Count  uint64    `json:"count"`
		} `json:"since"`
	} `json:"freshness"`
	Topics []struct {
		Records int64 `json:"records"`
		Lag     int64 `json:"lag"`
	} `json:"topics"`
}

// records is how many there are in the log.
func (s *status) records() (n int64) {
	for _, t := range s.Topics {
		n += t.Records + t.Lag
	}
	return n
}

func (s *status) lag() (n int64) {
	for _, t := range s.Topics {
		n += t.Lag
	}
	return n
}

func (b *figures) status(ctx context.Context, state string) (*status, error) {
	out, err := exec.CommandContext(ctx, b.binary, "status", "--json", "--state", state).Output()
	if err != nil {
		return nil, err
	}
	s := &status{}
	return s, json.Unmarshal(out, s)
}

func (b *figures) until(ctx context.Context, state string, patience time.Duration, reached func(*status) bool) (*status, error) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(state, "lockstep.sock")); err != nil {
			continue // asking now would open the state itself
		}
		if s, err := b.status(ctx, state); err == nil && reached(s) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("not within %s", patience)
}
