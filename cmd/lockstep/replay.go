package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/embedded"
	"lockstep/replay"
)

func (a *app) replayCommand() *cobra.Command {
	var f runFlags
	c := &cobra.Command{
		Use:   "replay",
		Short: "Replay raw files or synthetic data into the log of a cluster",
		Long: "Replay makes the topics and registers the schemas, then sends the project's events in order of their time,\n" +
			"and ends when the log has taken the last one. Interrupted, the same command goes on behind the last record\n" +
			"that the log holds: none is sent twice, none is left out.",
		Example: "  lockstep replay --env cluster --data ./download --speed max\n  lockstep replay --env cluster --scale 0.1",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			f.scaleGiven, f.once = c.Flags().Changed("scale"), true
			return a.replay(c.Context(), f)
		},
	}
	fl := c.Flags()
	fl.StringVar(&f.data, "data", "", "folder of the raw files to replay")
	fl.Float64Var(&f.scale, "scale", defaultScale, "replay synthetic data of this size, where the project can make it")
	fl.StringVar(&f.speed, "speed", strconv.Itoa(defaultSpeed), "event time per wall time, or max: as fast as it goes")
	fl.BoolVar(&f.once, "once", true, "end when the source is at its end, as replay always does")
	c.MarkFlagsMutuallyExclusive("data", "scale")
	c.MarkFlagDirname("data")
	return c
}

func (a *app) replay(ctx context.Context, f runFlags) error {
	if !a.onCluster() {
		return usagef("replay needs --env with a log of its own: in the environment embedded `lockstep run` does it")
	}
	program, err := a.program()
	if err != nil {
		return err
	}
	config, err := a.clusterConfig(program.Project)
	if err != nil {
		return err
	}
	options, err := f.options(program)
	if err != nil {
		return err
	}
	if !f.scaleGiven && f.data == "" {
		if err := a.recallSource(&options); err != nil {
			return err
		}
	}
	if options.Data == "" && options.Scale == 0 {
		return usagef("replay needs a source: give raw files with --data, or --scale where the project makes its own")
	}
	if err := os.MkdirAll(a.stateDir(), 0o755); err != nil {
		return fmt.Errorf("cannot make the state folder: %w", err)
	}
	if err := a.rememberSource(options, false); err != nil {
		return err
	}
	a.say("replays %s into the log at %s\n", program.Project.Name, strings.Join(config.Kafka, ", "))
	send := cluster.ReplayOptions{Data: options.Data, Scale: options.Scale, Speed: options.Speed, WorkDir: filepath.Join(a.stateDir(), "replay"), Log: a.log}
	if send.Hook, err = embedded.KillHook(os.Getenv(embedded.KillVariable)); err != nil {
		return err
	}
	m := newMeter(a.stderr)
	m.paced, m.alone = options.Speed > 0, true
	a.meter.Store(m)
	send.Progress = func(p replay.Progress) { m.Progress(embedded.Progress{Replay: p}) }
	result, err := cluster.Replay(ctx, program.Project, config, send)
	m.Close()
	a.meter.Store(nil)
	if err = notCanceled(ctx, err); err != nil {
		return err
	}
	if a.interrupted.Load() {
		return fmt.Errorf("stopped before the source was at its end; the same command continues there")
	}
	if err := a.rememberSource(options, true); err != nil {
		return err
	}
	return a.printReplayed(result)
}

func (a *app) printReplayed(r replay.Result) error {
	if a.json {
		return a.printJSON(map[string]any{"events": r.Events, "sent": r.Events - r.Before, "topics": r.Topics})
	}
	fmt.Fprintf(a.stdout, "%d events are in the log, %d of them sent now\n", r.Events, r.Events-r.Before)
	return nil
}
