package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
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

// fresh measures the time from a message's production to its being served, at a
// steady rate, and what a start costs.
func (b *figures) fresh(ctx context.Context) error {
	state := filepath.Join(b.dir, "fresh")
	begin := time.Now()
	// 730 days of scale 2 (2.6 M messages) in about 520 s: 5,000 messages/s on average.
	args := append([]string{"run", "--state", state, "--scale", "2", "--speed", "121000"}, ports...)
	c := exec.CommandContext(ctx, b.binary, args...)
	if err := c.Start(); err != nil {
		return err
	}
	defer c.Process.Kill()
	first, err := b.until(ctx, state, time.Minute, func(s *status) bool { return s.Step > 0 })
	if err != nil {
		return err
	}
	_ = first
	figure("start to first rows served (2.6 M messages prepared), s", "%.1f", time.Since(begin).Seconds(), "first step 10")
	time.Sleep(time.Duration(*seconds) * time.Second)
	s, err := b.status(ctx, state)
	if err != nil {
		return err
	}
	rate := 0.0
	for _, t := range s.Topics {
		rate += t.Rate
	}
	figure("freshness p99, produced to served, s", "%.3f", s.Freshness.P99, "p50 %.3f, over %d messages; first step 1 s", s.Freshness.P50, s.Freshness.Count)
	figure("  messages/s at that", "%.0f", float64(s.Freshness.Count)/time.Since(begin).Seconds(), "")
	figure("  memory, MB", "%d", s.MemoryBytes>>20, "")
	if err := c.Process.Signal(os.Interrupt); err != nil {
		return err
	}
	begin = time.Now()
	if err := c.Wait(); err != nil {
		return fmt.Errorf("the run did not end well: %w", err)
	}
	figure("Ctrl-C to the end, s", "%.1f", time.Since(begin).Seconds(), "")
	return nil
}

type status struct {
	Step        int64 `json:"step"`
	MemoryBytes int64 `json:"memory_bytes"`
	Freshness   struct {
		P50   float64 `json:"p50"`
		P99   float64 `json:"p99"`
		Count int64   `json:"count"`
	} `json:"freshness"`
	Topics []struct {
		Rate float64 `json:"rate"`
	} `json:"topics"`
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
