package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/engine/spark"
	"lockstep/web"
)

type speedFlags struct {
	untilIdle bool
	listen    string
}

func (a *app) speedCommand() *cobra.Command {
	var f speedFlags
	c := &cobra.Command{
		Use:   "speed",
		Short: "Run the speed layer of a cluster: Kafka to bronze and to every model, on Spark",
		Long: "Speed starts the streaming application on Spark, watches it and starts it again when it dies. It judges the\n" +
			"records of all topics, appends them to bronze and brings every incremental model up to date, step by step.\n" +
			"Ctrl-C ends it between two batches. There must be one only: a second one is noticed and refused.",
		Example: "  lockstep speed --env cluster\n  lockstep speed --env cluster --until-idle",
		Args:    cobra.NoArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.speed(c.Context(), f) },
	}
	fl := c.Flags()
	fl.BoolVar(&f.untilIdle, "until-idle", false, "end when the log is read to its end")
	fl.BoolVar(&f.untilIdle, "once", false, "the same")
	fl.StringVar(&f.listen, "listen", "", "address of /metrics, /healthz and /readyz (default 127.0.0.1:8082, or the next free port)")
	return c
}

// speedAddress is the default of --listen.
const speedAddress = "127.0.0.1:8082"

func (a *app) speed(ctx context.Context, f speedFlags) error {
	if !a.onCluster() {
		return usagef("speed needs --env with real engines: in the environment embedded `lockstep run` does it")
	}
	backend, err := a.openCluster(ctx)
	if err != nil {
		return err
	}
	defer backend.Close()
	program, err := a.program()
	if err != nil {
		return err
	}
	config, err := a.clusterConfig(program.Project)
	if err != nil {
		return err
	}
	dir := filepath.Join(a.stateDir(), "speed")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("cannot make the folder of the speed layer: %w", err)
	}
	logFile, err := os.OpenFile(filepath.Join(dir, "spark.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write Spark's log: %w", err)
	}
	defer logFile.Close()
	layer := cluster.NewSpeed(cluster.SpeedOptions{Program: program, Config: config, Dir: dir, UntilIdle: f.untilIdle, Progress: a.speedProgress, Output: logFile, Log: a.log})
	stop, err := a.answer(speedBackend{backend, layer}, dir, listener{asked: f.listen, standard: speedAddress, what: "metrics"}, web.Options{})
	if err != nil {
		return err
	}
	defer stop()
	if err := layer.Run(ctx); err != nil {
		return fmt.Errorf("%w (Spark's log: %s)", err, logFile.Name())
	}
	return nil
}

// speedBackend answers for a running speed layer: its own figures, all else
// from the cluster.
type speedBackend struct {
	web.Backend
	layer *cluster.Speed
}

// Status implements web.Backend.
func (b speedBackend) Status(ctx context.Context) (*web.Status, error) { return b.layer.Status(ctx) }

// speedProgress tells people what the application does.
func (a *app) speedProgress(e spark.Event) {
	switch e.Kind {
	case "step":
		a.say("step %d  %d records, %d dead letters  %s\n", e.Step, e.Rows, sum(e.Dead), stages(e.Seconds))
	case "status":
		a.log.Debug("speed", "step", e.Step, "lag", sum(e.Lag))
	case "stopped":
		a.say("topic %s stopped: %s\n", e.Topic, e.Message)
	case "failed":
		a.say("the speed layer failed: %s\n", e.Message)
	case "manifest":
		a.say("goes on from manifest %d\n", e.Manifest)
	default:
		a.say("speed layer: %s\n", e.Kind)
	}
}

func sum(m map[string]int64) (n int64) {
	for _, v := range m {
		n += v
	}
	return n
}

// stages writes where a step's seconds went, the most first.
func stages(seconds map[string]float64) string {
	names := slices.Collect(maps.Keys(seconds))
	slices.SortFunc(names, func(x, y string) int {
		if seconds[x] != seconds[y] {
			if seconds[x] > seconds[y] {
				return -1
			}
			return 1
		}
		return strings.Compare(x, y)
	})
	var parts []string
	for _, n := range names {
		if seconds[n] >= 0.005 || n == "total" {
			parts = append(parts, fmt.Sprintf("%s %.2f", n, seconds[n]))
		}
	}
	return strings.Join(parts, ", ")
}
