package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/project"
)

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check each part that the environment needs: whether it answers, its version, what it allows",
		Long: "Doctor asks every part of the environment for what Lockstep will ask of it, and says what is wrong and\n" +
			"how to mend it. What it makes to find out has \"doctor\" in its name and is removed again. It ends with 1 if\n" +
			"a check failed; warnings are no failures.",
		Example: "  lockstep doctor\n  lockstep doctor --env cluster --json",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.doctor(c.Context()) },
	}
}

func (a *app) doctor(ctx context.Context) error {
	p, err := a.loadProject()
	if err != nil {
		return err
	}
	d := &cluster.Doctor{}
	if !a.json {
		d.Report = a.printCheck
	}
	if a.env == "embedded" {
		a.examineMachine(ctx, d)
	} else if err := a.examineCluster(ctx, d, p); err != nil {
		return err
	}
	if a.json {
		if err := a.printJSON(d.Checks()); err != nil {
			return err
		}
	}
	var failed []string
	for _, c := range d.Checks() {
		if c.State == cluster.CheckFailed {
			failed = append(failed, c.Part+": "+c.Asked)
		}
	}
	if len(failed) > 0 {
		return fmt.Errorf("not all is well with environment %s: %s", a.env, strings.Join(failed, "; "))
	}
	return ctx.Err()
}

func (a *app) examineCluster(ctx context.Context, d *cluster.Doctor, p *project.Project) error {
	var config *cluster.Config
	ok := d.Ask(ctx, "project", "environment "+a.env, time.Second, func(context.Context) (_ string, err error) {
		config, err = cluster.Read(p, a.env, os.Getenv)
		return "", err
	})
	if ok {
		cluster.Examine(ctx, d, p, config, a.log)
	}
	return nil
}

// printCheck writes a check as soon as it is known: some take seconds.
func (a *app) printCheck(c cluster.Check) {
	fmt.Fprintf(a.stdout, "%-8s %-8s %-40s %5.1fs  %s\n", c.State, c.Part, c.Asked, c.Seconds, strings.ReplaceAll(c.Found, "\n", "\n         "))
	if c.Remedy != "" {
		fmt.Fprintf(a.stdout, "         %-8s %s\n", "", "mend: "+c.Remedy)
	}
}

// Sizes below which the embedded environment is in danger.
const (
	leastDisk    = 1 << 30
	enoughDisk   = 5 << 30
	enoughMemory = 2 << 30
)

// examineMachine checks what the embedded environment needs of this machine.
func (a *app) examineMachine(ctx context.Context, d *cluster.Doctor) {
	d.Ask(ctx, "state", "folder "+a.state, 10*time.Second, func(context.Context) (string, error) { return a.stateWritable() })
	d.Ask(ctx, "state", "room on the disk", 10*time.Second, func(context.Context) (string, error) { return a.diskRoom() })
	d.Ask(ctx, "machine", "memory", 10*time.Second, func(context.Context) (string, error) { return memoryRoom() })
	for _, port := range []struct{ part, addr, flag string }{
		{"web", "127.0.0.1:8080", "--listen"}, {"kafka", "127.0.0.1:9092", "--kafka"}, {"registry", "127.0.0.1:8081", "--registry"},
	} {
		d.Ask(ctx, "port", port.part+" "+port.addr, 10*time.Second, func(context.Context) (string, error) {
			l, err := net.Listen("tcp", port.addr)
			if err != nil {
				return "", &cluster.Fault{Warning: true, Problem: err.Error(), Remedy: "another program, or another lockstep, has it: `lockstep run` takes the next free port, or the one in " + port.flag}
			}
			return "free", l.Close()
		})
	}
}

// existing is the state's folder, or the nearest folder above that exists.
func (a *app) existing() string {
	dir := a.stateDir()
	for {
		if info, err := os.Stat(dir); err == nil && info.IsDir() || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func (a *app) stateWritable() (string, error) {
	dir := a.existing()
	f, err := os.CreateTemp(dir, ".lockstep-doctor-")
	if err != nil {
		return "", &cluster.Fault{Problem: err.Error(), Remedy: "make " + dir + " writable, or name another folder in --state"}
	}
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return "", err
	}
	if dir != a.stateDir() {
		return "can be made in " + dir, nil
	}
	return "writable", nil
}

func (a *app) diskRoom() (string, error) {
	var st syscall.Statfs_t
	dir := a.existing()
	if err := syscall.Statfs(dir, &st); err != nil {
		return "", fmt.Errorf("cannot ask the file system of %s: %w", dir, err)
	}
	free := int64(st.Bavail) * int64(st.Bsize)
	text := size(free) + " free"
	switch {
	case free < leastDisk:
		return "", &cluster.Fault{Problem: text, Remedy: "make room, or name a folder on another disk in --state"}
	case free < enoughDisk:
		return text, &cluster.Fault{Warning: true, Problem: text, Remedy: "set --disk-limit, so that `lockstep run` stops taking in before the disk is full"}
	}
	return text, nil
}

func memoryRoom() (string, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return "not known on this system", nil
	}
	var kib int64
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			if _, err := fmt.Sscan(rest, &kib); err != nil {
				return "", fmt.Errorf("cannot read /proc/meminfo: %w", err)
			}
		}
	}
	found := size(kib<<10) + " available"
	if kib<<10 < enoughMemory {
		return found, &cluster.Fault{Warning: true, Problem: found, Remedy: "end other programs, or set --memory-limit of `lockstep run`"}
	}
	return found, nil
}
