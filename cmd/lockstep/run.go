package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"

	"lockstep/compile"
	"lockstep/embedded"
	"lockstep/web"
)

// What run does unless it is told otherwise: a project that can make synthetic
// data makes as little as gives a first look in seconds, and two weeks of
// events pass in a second, which is fast enough to watch.
const (
	defaultScale = 0.05
	defaultSpeed = 14 * 24 * 3600
)

type runFlags struct {
	data, speed             string
	scale                   float64
	scaleGiven              bool
	once                    bool
	listen, kafka, registry string
	schedule                string
	memoryLimit, diskLimit  string
	commitEvery             time.Duration
}

func (a *app) runCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "run",
		Short: "Run everything in one process: log, registry, ingest, stream, batch, queries and web page",
		Long: "Run starts log, schema registry, ingest, stream, batch, serving and web page in one process and\n" +
			"replays the project's source. Without --once it serves until Ctrl-C. Run again on the same state\n" +
			"it continues where it was and replays nothing twice.",
		Example: "  lockstep run\n  lockstep run --data ./download --speed max --once\n  lockstep run --scale 1 --speed 2592000",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.scaleGiven = c.Flags().Changed("scale")
			return a.run(c.Context(), f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.data, "data", "", "folder of the raw files to replay")
	fl.Float64Var(&f.scale, "scale", defaultScale, "replay synthetic data of this size, where the project can make it")
	fl.StringVar(&f.speed, "speed", strconv.Itoa(defaultSpeed), "event time per wall time, or max: as fast as it goes")
	fl.BoolVar(&f.once, "once", false, "end when the source is at its end and every layer has caught up")
	fl.StringVar(&f.listen, "listen", "", "address of the web page (default 127.0.0.1:8080, or the next free port)")
	fl.StringVar(&f.kafka, "kafka", "", "address of the log (default 127.0.0.1:9092, or the next free port)")
	fl.StringVar(&f.registry, "registry", "", "address of the schema registry (default 127.0.0.1:8081, or the next free port)")
	fl.StringVar(&f.schedule, "schedule", "", `when batches run: a cron expression, "@every 5m" or off (default: the project's)`)
	fl.StringVar(&f.memoryLimit, "memory-limit", "", "memory for queries and batches together, such as 2GB (default 1GiB)")
	fl.StringVar(&f.diskLimit, "disk-limit", "", "size at which the state takes in no more, such as 50GB (default: none)")
	fl.DurationVar(&f.commitEvery, "commit-every", 0, "how long accepted rows may wait before they are committed to bronze (default 5s)")
	c.MarkFlagsMutuallyExclusive("data", "scale")
	c.MarkFlagDirname("data")
	return c
}

func (a *app) run(ctx context.Context, f runFlags) error {
	config, err := f.config()
	if err != nil {
		return err
	}
	program, err := a.program()
	if err != nil {
		return err
	}
	if a.env != "embedded" {
		return fmt.Errorf("cannot run --env %s in one process: `lockstep run` is the environment embedded; there, start `lockstep replay`, `lockstep speed`, `lockstep batch` and `lockstep serve`, each with --env %[1]s", a.env)
	}
	options, err := f.options(program)
	if err != nil {
		return err
	}
	if f.data == "" && !f.scaleGiven {
		if err := a.recallSource(&options); err != nil {
			return err
		}
	}
	if f.once && options.Data == "" && options.Scale == 0 {
		return usagef("--once needs a source that ends: give raw files with --data")
	}
	config.Program, config.Dir, config.Log, config.Version = program, a.stateDir(), a.log, version
	m := newMeter(a.stderr)
	m.paced = options.Speed > 0
	a.meter.Store(m)
	defer func() {
		m.Close()
		a.meter.Store(nil)
	}()
	options.Progress = m.Progress
	in, err := a.open(ctx, config)
	if err != nil {
		return err
	}
	if err := a.rememberSource(options, false); err != nil {
		return errors.Join(err, in.Close())
	}
	a.announce(program, in.Addresses(), options)
	summary, err := in.Run(ctx, options)
	if err = notCanceled(ctx, err); err == nil {
		err = a.rememberSource(options, true)
	}
	err = errors.Join(err, in.Close())
	m.Close()
	return a.ended(summary, f.once, err)
}

// ended reports how a run ended.
func (a *app) ended(s *embedded.Summary, once bool, err error) error {
	if err != nil {
		return err
	}
	stopped := a.interrupted.Load()
	if s != nil && (once || stopped) {
		if err := a.printSummary(s); err != nil {
			return err
		}
	}
	if stopped && once {
		return fmt.Errorf("stopped before the source was at its end; the same command continues there")
	}
	if stopped {
		a.say("stopped; the same command continues where it was\n")
	}
	if s != nil && s.DriftRows > 0 {
		return fmt.Errorf("%d rows of the stream differ from the full recompute; `lockstep verify` shows them", s.DriftRows)
	}
	return nil
}

// notCanceled drops the error that only says that we were asked to stop.
func notCanceled(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (f runFlags) config() (embedded.Config, error) {
	c := embedded.Config{Listen: f.listen, Kafka: f.kafka, Registry: f.registry}
	if f.listen != "" {
		if err := web.CheckListen(f.listen, os.Getenv(web.PasswordVariable)); err != nil {
			return c, usagef("%v", err)
		}
	}
	var err error
	if c.MemoryLimit, err = parseBytes("memory-limit", f.memoryLimit); err != nil {
		return c, err
	}
	if c.DiskLimit, err = parseBytes("disk-limit", f.diskLimit); err != nil {
		return c, err
	}
	c.CommitEvery = f.commitEvery
	c.Hook, err = embedded.KillHook(os.Getenv(embedded.KillVariable))
	return c, err
}

func (f runFlags) options(p *compile.Program) (embedded.RunOptions, error) {
	o := embedded.RunOptions{Data: f.data, Once: f.once, Schedule: f.schedule}
	var err error
	if o.Speed, err = parseSpeed(f.speed); err != nil {
		return o, err
	}
	if f.schedule != "" && f.schedule != "off" {
		if _, err := cron.ParseStandard(f.schedule); err != nil {
			return o, usagef("--schedule %q: %v; write five cron fields or \"@every 5m\"", f.schedule, err)
		}
	}
	if f.scaleGiven && (f.scale <= 0 || math.IsInf(f.scale, 0) || math.IsNaN(f.scale)) {
		return o, usagef("--scale %g is not a number above 0", f.scale)
	}
	generates := canGenerate(p)
	switch {
	case f.data != "":
		if info, err := os.Stat(f.data); err != nil || !info.IsDir() {
			return o, fmt.Errorf("cannot read --data %s: there is no such folder; give the folder that holds the project's raw files", f.data)
		}
		if !replays(p) {
			return o, fmt.Errorf("cannot replay --data %s: no topic in sources.yaml has a query; leave --data out and produce to the log", f.data)
		}
	case f.scaleGiven && !generates:
		return o, fmt.Errorf("cannot make synthetic data at --scale %g: the project has no generate/*.sql; give raw files with --data, or produce to the log", f.scale)
	case generates:
		o.Scale = f.scale
	}
	return o, nil
}

// canGenerate says whether the project makes its own raw files.
func canGenerate(p *compile.Program) bool {
	files, err := fs.Glob(p.Project.FS, "generate/*.sql")
	return err == nil && len(files) > 0
}

// replays says whether the project makes events of raw files.
func replays(p *compile.Program) bool {
	for _, s := range p.Project.Sources {
		if s.Query != "" {
			return true
		}
	}
	return false
}

// announce tells where things are.
func (a *app) announce(p *compile.Program, addresses []web.Address, o embedded.RunOptions) {
	a.say("Lockstep %s runs %s on state %s\n", version, p.Project.Name, a.state)
	for _, at := range addresses {
		a.say("  %-10s %s\n", at.Name, at.Addr)
	}
	switch {
	case o.Data != "":
		a.say("  %-10s raw files in %s\n", "source", o.Data)
	case o.Scale > 0:
		a.say("  %-10s synthetic data at scale %g; --data DIR replays real files\n", "source", o.Scale)
	default:
		a.say("  %-10s outside producers: send Avro records to the topics %s\n", "source", strings.Join(topicNames(p), ", "))
		if replays(p) {
			a.say("  %-10s --data DIR replays the raw files of sources.yaml\n", "")
		}
	}
}

func topicNames(p *compile.Program) []string {
	var names []string
	for _, s := range p.Project.Sources {
		names = append(names, s.Topic)
	}
	return names
}

func parseSpeed(s string) (float64, error) {
	if s == "max" {
		return 0, nil
	}
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0, usagef("--speed %q is neither a number above 0 nor max", s)
	}
	return v, nil
}

var byteUnits = []struct {
	suffix string
	bytes  float64
}{
	{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40},
	{"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"TB", 1e12}, {"B", 1}, {"", 1},
}

// parseBytes reads a size; empty: 0.
func parseBytes(flag, s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	for _, u := range byteUnits {
		number, ok := strings.CutSuffix(s, u.suffix)
		if !ok {
			continue
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(number), 64)
		if err != nil || !(v > 0) || v*u.bytes > math.MaxInt64/2 {
			break
		}
		return int64(v * u.bytes), nil
	}
	return 0, usagef("--%s %q is not a size; write a number above 0 and a unit, such as 500MB or 2GiB", flag, s)
}
