package cluster

import (
	"fmt"
	"log/slog"

	"lockstep/ingest"
	"lockstep/project"
	"lockstep/web"
)

// NewLetters gives access to the dead letters of a project in the cluster's log.
func NewLetters(p *project.Project, c *Config, hook func(point string), log *slog.Logger) (web.LogLetters, error) {
	opts, err := c.KafkaOptions()
	if err != nil {
		return web.LogLetters{}, fmt.Errorf("cannot connect to the log: %w", err)
	}
	return web.LogLetters{Letters: ingest.NewLetters(ingest.Config{Project: p, ClientOptions: opts, Hook: hook, Log: log})}, nil
}
