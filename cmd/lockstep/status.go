package main

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"lockstep/cluster"
	"lockstep/web"
)

func (a *app) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Per part rate, lag, freshness, step, drift and dead letters",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return a.status(c.Context()) },
	}
}

func (a *app) status(ctx context.Context) error {
	return a.withBackend(ctx, func(b web.Backend, running bool) error {
		s, err := b.Status(ctx)
		if err != nil {
			return err
		}
		if a.onCluster() {
			if layer := a.layerStatus(ctx); layer != nil {
				cluster.WithLayer(s, layer)
				s.Started, running = layer.Started, true
			}
		}
		if a.json {
			return a.printJSON(struct {
				Running bool `json:"running"`
				*web.Status
			}{running, s})
		}
		return a.printStatus(s, running)
	})
}

func (a *app) printStatus(s *web.Status, running bool) error {
	w := a.stdout
	state := "no instance runs; this is what the state holds"
	switch {
	case running && s.Ready:
		state = "running since " + when(s.Started)
	case running:
		state = "running since " + when(s.Started) + ", not ready"
	}
	fmt.Fprintf(w, "%s on %s: %s\n", s.Project, s.State, state)
	for _, reason := range s.NotReady {
		fmt.Fprintf(w, "  not ready: %s\n", reason)
	}
	fmt.Fprintf(w, "step       %s served, %s published (manifest %d, %s)\n", number(s.Step), number(s.BatchStep), s.Manifest, when(s.Published))
	if s.Frozen != "" {
		fmt.Fprintf(w, "frozen     %s\n", s.Frozen)
	}
	fmt.Fprintf(w, "freshness  p50 %s, p99 %s over %s records\n", seconds(s.Freshness.P50), seconds(s.Freshness.P99), number(s.Freshness.Count))
	fmt.Fprintf(w, "drift      %s rows at the last full recompute\n", number(s.DriftRows))
	fmt.Fprintf(w, "batch      %s\n", batchText(s))
	if r := s.Replay; r != nil {
		fmt.Fprintf(w, "replay     %s, %s of %s events, %s/s\n", r.Phase, number(r.Sent), number(r.Total), number(int64(r.Rate)))
	}
	fmt.Fprintf(w, "memory     %s\n", size(s.MemoryBytes))
	for _, part := range slices.Sorted(maps.Keys(s.Bytes)) {
		fmt.Fprintf(w, "disk       %s %s\n", size(s.Bytes[part]), part)
	}
	for _, at := range listening(s, running) {
		fmt.Fprintf(w, "listens    %s %s\n", at.Name, at.Addr)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(w, "PROBLEM    %s\n", p)
	}
	fmt.Fprintln(w)
	if err := a.printTopics(s.Topics); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return a.printModels(s.Models)
}

// listening leaves out what listens only while this command asks.
func listening(s *web.Status, running bool) []web.Address {
	if !running {
		return nil
	}
	return s.Addresses
}

func batchText(s *web.Status) string {
	text := "idle"
	if s.BatchNow != "" {
		text = s.BatchNow
	}
	b := s.LastBatch
	switch {
	case b == nil:
		return text + "; none ran yet"
	case b.Error != "":
		return fmt.Sprintf("%s; the last one failed: %s", text, b.Error)
	}
	return fmt.Sprintf("%s; the last one took %s at step %s", text, seconds(b.Seconds), number(b.Step))
}

func (a *app) printTopics(topics []web.TopicStatus) error {
	var rows [][]string
	for _, t := range topics {
		rows = append(rows, []string{t.Topic, number(t.Records), number(int64(t.Rate)), number(t.Lag), number(t.Dead), number(t.BronzeRows), number(t.BronzeFiles)})
	}
	header := []string{"topic", "records", "per second", "lag", "dead letters", "bronze rows", "files"}
	if err := writeTable(a.stdout, header, []bool{false, true, true, true, true, true, true}, rows); err != nil {
		return err
	}
	for _, t := range topics {
		if t.Stopped != "" {
			fmt.Fprintf(a.stdout, "STOPPED %s: %s\n", t.Topic, t.Stopped)
		}
	}
	return nil
}

func (a *app) printModels(models []web.ModelStatus) error {
	var rows [][]string
	for _, m := range models {
		rows = append(rows, []string{m.Model, m.Materialized, number(m.Rows), number(m.OverlayRows), seconds(m.StepSeconds), seconds(m.BatchSeconds), number(m.DriftRows)})
	}
	header := []string{"model", "kept", "rows", "since batch", "last step", "last batch", "drift"}
	return writeTable(a.stdout, header, []bool{false, false, true, true, true, true, true}, rows)
}
