//go:build stack

// Package stack_test is tier 3: the cluster environment with its real processes,
// which `go run ./deploy` runs. LOCKSTEP_STACK names the folder of a stack that
// is up; without it the tests bring one up on free ports and take it down again.
package stack_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"lockstep/deploy/stack"

	"lockstep/cluster"
	"lockstep/project"
)

var shared struct {
	sync.Mutex
	stack *stack.Stack
	own   bool
}

func TestMain(m *testing.M) {
	code := m.Run()
	if s := shared.stack; s != nil && shared.own {
		if err := s.Down(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		if code == 0 {
			if err := s.Remove(); err != nil {
				fmt.Fprintln(os.Stderr, err)
			}
		} else {
			fmt.Fprintln(os.Stderr, "logs of the stack are in", keepLogs(filepath.Join(s.Dir, "logs")))
		}
	}
	os.Exit(code)
}

// keepLogs copies the logs of all parts to LOCKSTEP_LOGS, where CI looks.
func keepLogs(from string) string {
	to := os.Getenv("LOCKSTEP_LOGS")
	if to == "" {
		return from
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		fmt.Fprintln(os.Stderr, "cannot keep the logs:", err)
		return from
	}
	return to
}

// up gives the stack of this run with the groups of parts running.
func up(t testing.TB, groups ...string) *stack.Stack {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.stack == nil {
		shared.stack, shared.own = open(t)
	}
	if shared.own {
		s, err := stack.Up(t.Context(), stack.Options{Dir: shared.stack.Dir, Groups: groups})
		if err != nil {
			t.Fatal(err)
		}
		shared.stack = s
	}
	return shared.stack
}

func open(t testing.TB) (s *stack.Stack, own bool) {
	t.Helper()
	if dir := os.Getenv("LOCKSTEP_STACK"); dir != "" {
		s, err := stack.Load(dir)
		if err != nil {
			t.Fatal(err)
		}
		return s, false
	}
	dir, err := os.MkdirTemp("", "lockstep-stack-")
	if err != nil {
		t.Fatal(err)
	}
	s, err = stack.Up(t.Context(), stack.Options{Dir: dir, Groups: []string{stack.Core}, FreePorts: true})
	if err != nil {
		t.Fatal(err)
	}
	return s, true
}

// settings are the stack's addresses as environment cluster of the bundled
// project has them.
func settings(t testing.TB, s *stack.Stack) *cluster.Config {
	t.Helper()
	p, err := project.Load(os.DirFS("../../examples/olist"))
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	for _, e := range s.Env() {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	c, err := cluster.Read(p, "cluster", func(name string) string { return env[name] })
	if err != nil {
		t.Fatal(err)
	}
	return c
}
