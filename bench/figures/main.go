// Command figures prints what the product costs, each figure beside its floor
// or peer in the same run:
//
//	go run -tags duckdb_arrow ./bench/figures [-only chain,fresh,recompute,steps,day,cluster] [-scale 1] [-history 1,10,100]
//
// The machine's load shows in every figure: read ratios, and run it twice.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"time"

	"lockstep/compile"
	"lockstep/examples/olist"
	"lockstep/project"
)

var (
	only    = flag.String("only", "chain,fresh,recompute,steps,day", "which figures; cluster: the real engines beside the embedded environment")
	scale   = flag.Float64("scale", 1, "size of the chain and recompute figures; 1: 1.3 M messages")
	history = flag.String("history", "1,10,100", "sizes of history for the step figures, in units of 10,000 orders")
	binary  = flag.String("binary", "", "the binary to measure; empty: built from this checkout")
	seconds = flag.Int("seconds", 30, "length of the freshness figures")
	rate    = flag.Float64("rate", 100, "messages per second of the cluster figures")
)

func main() {
	flag.Parse()
	if err := run(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "figures:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	dir, err := os.MkdirTemp("", "lockstep-figures-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &figures{dir: dir, binary: *binary}
	if b.program, err = program(); err != nil {
		return err
	}
	if err := b.build(); err != nil {
		return err
	}
	fmt.Printf("%-58s %14s   %s\n", "figure", "value", "beside")
	for _, part := range strings.Split(*only, ",") {
		f, ok := map[string]func(context.Context) error{"chain": b.chain, "fresh": b.fresh, "recompute": b.recompute, "steps": b.steps, "day": b.day, "cluster": b.cluster}[part]
		if !ok {
			return fmt.Errorf("-only %s: use chain, fresh, recompute, steps, day, cluster", part)
		}
		if err := f(ctx); err != nil {
			return fmt.Errorf("%s: %w", part, err)
		}
	}
	return nil
}

type figures struct {
	dir, binary string
	program     *compile.Program
	state       string // of the chain, for the recompute
}

func program() (*compile.Program, error) {
	p, err := project.Load(olist.FS)
	if err != nil {
		return nil, err
	}
	return compile.Compile(p)
}

func (b *figures) build() error {
	if b.binary != "" {
		return nil
	}
	b.binary = filepath.Join(b.dir, "lockstep")
	begin := time.Now()
	out, err := exec.Command("go", "build", "-buildvcs=false", "-tags", "duckdb_arrow", "-o", b.binary, "lockstep/cmd/lockstep").CombinedOutput()
	if err != nil {
		return fmt.Errorf("cannot build the binary: %w\n%s", err, out)
	}
	figure("build of the binary (cached where it was built before)", "%.1f s", time.Since(begin).Seconds(), "")
	return nil
}

// figure prints one line.
func figure(name, format string, value any, beside string, args ...any) {
	fmt.Printf("%-58s %14s   %s\n", name, fmt.Sprintf(format, value), fmt.Sprintf(beside, args...))
}

// cpuSeconds is what this process has used, all threads.
func cpuSeconds() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return float64(r.Utime.Sec+r.Stime.Sec) + float64(r.Utime.Usec+r.Stime.Usec)/1e6
}

func median(list []float64) float64 {
	s := append([]float64(nil), list...)
	sort.Float64s(s)
	if len(s) == 0 {
		return 0
	}
	return s[len(s)/2]
}
