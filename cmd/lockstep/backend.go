package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"lockstep/cluster"
	"lockstep/embedded"
	"lockstep/web"
)

// backend is whoever can be asked of the state.
type backend interface {
	web.Backend
	Close() error
}

// ownerWait is how long a command waits for another one that holds the state
// but does not answer: it starts, ends, or is short-lived itself.
const ownerWait = 20 * time.Second

// withBackend asks the instance that owns the state; where none does, it opens
// the state itself for the time of f. f is told whether an instance runs.
func (a *app) withBackend(ctx context.Context, f func(b web.Backend, running bool) error) error {
	b, running, err := a.attach(ctx)
	if err != nil {
		return err
	}
	return errors.Join(f(b, running), b.Close())
}

func (a *app) attach(ctx context.Context) (b backend, running bool, err error) {
	if a.onCluster() {
		b, err := a.openCluster(ctx)
		return b, false, err
	}
	if _, err := os.Stat(a.state); errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("cannot open state %s: there is none; start with `lockstep run`, or name the folder with --state", a.state)
	}
	deadline := time.Now().Add(ownerWait)
	for {
		client, err := web.Dial(ctx, a.state)
		if err == nil {
			return client, true, nil
		}
		if !errors.Is(err, web.ErrNotRunning) {
			return nil, false, err
		}
		own, err := a.openState(ctx)
		if err == nil {
			return own, false, nil
		}
		if !errors.Is(err, embedded.ErrInUse) || time.Now().After(deadline) {
			return nil, false, err
		}
		select {
		case <-ctx.Done():
			return nil, false, ctx.Err()
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// openCluster asks the parts of a cluster themselves.
func (a *app) openCluster(ctx context.Context) (*cluster.Backend, error) {
	program, err := a.program()
	if err != nil {
		return nil, err
	}
	config, err := a.clusterConfig(program.Project)
	if err != nil {
		return nil, err
	}
	hook, err := embedded.KillHook(os.Getenv(embedded.KillVariable))
	if err != nil {
		return nil, err
	}
	return cluster.Open(ctx, cluster.Options{Program: program, Config: config, State: a.stateDir(), Hook: hook, Log: a.log})
}

// openState opens the state for a command that only asks.
func (a *app) openState(ctx context.Context) (instance, error) {
	program, err := a.program()
	if err != nil {
		return nil, err
	}
	hook, err := embedded.KillHook(os.Getenv(embedded.KillVariable))
	if err != nil {
		return nil, err
	}
	return a.open(ctx, embedded.Config{Program: program, Dir: a.stateDir(), Log: a.log, Version: version, Quiet: true, Hook: hook})
}

// stateDir is the state's folder as an absolute path: table metadata holds it.
func (a *app) stateDir() string {
	if dir, err := filepath.Abs(a.state); err == nil {
		return dir
	}
	return a.state
}
