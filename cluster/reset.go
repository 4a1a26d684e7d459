package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/ingest"
	"lockstep/project"
)

// Reset removes all that a project has on a cluster: its topics and dead
// letters, their schemas, its tables with their files, manifests, runs and
// checkpoints. What is gone already is no error, so that it can be run again.
func Reset(ctx context.Context, p *project.Project, c *Config, log *slog.Logger) error {
	if err := resetLake(ctx, p, c, log); err != nil {
		return fmt.Errorf("cannot remove the tables: %w", err)
	}
	if err := resetTopics(ctx, p, c); err != nil {
		return fmt.Errorf("cannot remove the topics: %w", err)
	}
	if err := resetSchemas(ctx, p, c); err != nil {
		return fmt.Errorf("cannot remove the schemas: %w", err)
	}
	return nil
}

func resetLake(ctx context.Context, p *project.Project, c *Config, log *slog.Logger) error {
	l, err := OpenLake(ctx, c, log)
	if err != nil {
		return err
	}
	defer l.Close()
	tables := []string{speedTable}
	for _, s := range p.Sources {
		tables = append(tables, s.Table())
	}
	for _, m := range p.Models {
		tables = append(tables, m.Name)
	}
	for _, name := range tables {
		if err := l.Drop(ctx, name); err != nil {
			return err
		}
	}
	objects, err := l.Objects().List(ctx, "")
	if err != nil {
		return err
	}
	for _, name := range objects {
		if err := l.Objects().Delete(ctx, name); err != nil {
			return err
		}
	}
	return nil
}

func resetTopics(ctx context.Context, p *project.Project, c *Config) error {
	opts, err := c.KafkaOptions()
	if err != nil {
		return err
	}
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return err
	}
	defer cl.Close()
	var names []string
	for _, s := range p.Sources {
		names = append(names, s.Topic, ingest.DeadLetterTopic(s.Topic))
	}
	answers, err := kadm.NewClient(cl).DeleteTopics(ctx, names...)
	if err != nil {
		return c.explainKafka(err)
	}
	for _, a := range answers {
		if a.Err != nil && !errors.Is(a.Err, kerr.UnknownTopicOrPartition) {
			return fmt.Errorf("topic %s: %w", a.Topic, a.Err)
		}
	}
	return nil
}

func resetSchemas(ctx context.Context, p *project.Project, c *Config) error {
	opts, err := c.RegistryOptions()
	if err != nil {
		return err
	}
	rest, err := sr.NewClient(append([]sr.ClientOpt{sr.URLs(c.Registry)}, opts...)...)
	if err != nil {
		return err
	}
	for _, s := range p.Sources {
		subject := s.Topic + "-value"
		for _, how := range []sr.DeleteHow{sr.SoftDelete, sr.HardDelete} {
			_, err := rest.DeleteSubject(ctx, subject, how)
			var answer *sr.ResponseError
			if errors.As(err, &answer) && answer.StatusCode == 404 {
				continue
			}
			if err != nil {
				return fmt.Errorf("subject %s: %w", subject, err)
			}
		}
	}
	return nil
}
