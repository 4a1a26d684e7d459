package cluster

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/project"
	"lockstep/replay"
)

// ReplayOptions say what is replayed into a cluster's log.
type ReplayOptions struct {
	Data     string  // folder of the raw files; empty: the project's generator makes them
	Scale    float64 // of what the generator makes
	Speed    float64 // event time per wall time; 0: as fast as it goes
	WorkDir  string  // keeps the sorted events between runs
	Progress func(replay.Progress)
	Hook     func(point string)
	Log      *slog.Logger
}

// Replay sends the events of a project's inputs to the cluster's log. It is
// the embedded environment's replay at other addresses: interrupted, it goes
// on behind what the log holds.
func Replay(ctx context.Context, p *project.Project, c *Config, o ReplayOptions) (replay.Result, error) {
	kafka, err := c.KafkaOptions()
	if err != nil {
		return replay.Result{}, fmt.Errorf("cannot connect to the log: %w", err)
	}
	registry, err := c.RegistryClient()
	if err != nil {
		return replay.Result{}, err
	}
	result, err := replay.Run(ctx, replay.Config{Project: p, Data: o.Data, Scale: o.Scale, Speed: o.Speed, WorkDir: o.WorkDir,
		ClientOptions: kafka, Registry: registry, Progress: o.Progress, Hook: o.Hook, Log: o.Log})
	return result, c.explainKafka(err)
}

// RegistryClient is a client of the cluster's schema registry.
func (c *Config) RegistryClient() (*sr.Client, error) {
	opts, err := c.RegistryOptions()
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the registry: %w", err)
	}
	client, err := sr.NewClient(append([]sr.ClientOpt{sr.URLs(c.Registry)}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to the registry at %s: %w", c.Registry, err)
	}
	return client, nil
}
