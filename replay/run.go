package replay

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/project"
)

// Result is what the log holds of the replay when Run returns.
type Result struct {
	Events int64            // all of them
	Before int64            // of these, sent by earlier runs
	Topics map[string]int64 // events per topic
}

// Run sends the events of a project's inputs to the log, or those that earlier
// runs did not send, and returns when the log has taken the last one. Topics
// that are missing are created; schemas are registered under <topic>-value.
//
// When ctx ends, Run lets what it has begun reach the log, for a few seconds,
// and returns the context's error; so it does when it is killed, only without
// the courtesy: the next Run goes on behind what the log holds.
func Run(ctx context.Context, c Config) (Result, error) {
	c = c.withDefaults()
	if err := c.check(); err != nil {
		return Result{}, err
	}
	if err := os.MkdirAll(c.WorkDir, 0o755); err != nil {
		return Result{}, fmt.Errorf("cannot make the replay's work folder: %w", err)
	}
	c.Progress(Progress{Phase: Checking})
	id, err := identify(c)
	if err != nil {
		return Result{}, err
	}
	cl, err := kgo.NewClient(append(producerOptions(), c.clientOptions()...)...)
	if err != nil {
		return Result{}, fmt.Errorf("cannot connect to the log: %w", err)
	}
	defer cl.Close()
	positions, err := continueFrom(ctx, c, cl, id)
	if err != nil {
		return Result{}, err
	}
	events, err := open(ctx, c, id)
	if err != nil {
		return Result{}, err
	}
	defer events.Close()
	s, err := newSender(ctx, c, cl, events, positions)
	if err != nil {
		return Result{}, err
	}
	return s.run(ctx)
}

func (c Config) clientOptions() []kgo.Opt {
	return append([]kgo.Opt{kgo.SeedBrokers(c.Brokers...), kgo.ClientID("lockstep-replay")}, c.ClientOptions...)
}

// continueFrom reads how far earlier runs came and refuses to go on with other
// inputs than theirs.
func continueFrom(ctx context.Context, c Config, cl *kgo.Client, id *identity) (map[string]*position, error) {
	recorded, err := readIdentity(c.WorkDir)
	if err != nil {
		return nil, err
	}
	positions, err := readPositions(ctx, c, cl, recorded != nil)
	if err != nil {
		return nil, err
	}
	for _, s := range c.sources() {
		p := positions[s.Topic]
		if p == nil || !p.any || p.id == id.sum() {
			continue
		}
		changed := "the inputs or the queries are others"
		if recorded != nil && recorded.sum() == p.id {
			changed = "changed since: " + strings.Join(id.difference(recorded), ", ")
		}
		return nil, fmt.Errorf("cannot continue the replay: topic %s holds events of other inputs (%s); bring the old inputs back, or remove the state with `lockstep reset` and start again, or give another --state", s.Topic, changed)
	}
	if err := id.write(c.WorkDir); err != nil {
		return nil, err
	}
	c.Hook("replay.identity")
	return positions, nil
}

// ensureTopics creates the topics that are missing and gives the number of
// partitions of each.
func ensureTopics(ctx context.Context, c Config, adm *kadm.Client) (map[string]int32, error) {
	details, err := adm.ListTopics(ctx, c.topics()...)
	if err != nil {
		return nil, fmt.Errorf("cannot list the log's topics: %w", err)
	}
	counts := map[string]int32{}
	for _, s := range c.sources() {
		wanted := int32(max(s.Partitions, 1))
		d := details[s.Topic]
		switch {
		case d.Err == nil && len(d.Partitions) > 0:
			if n := int32(len(d.Partitions)); n != wanted {
				return nil, fmt.Errorf("cannot replay topic %s: it has %d partitions, sources.yaml says %d; a key would change its partition; correct sources.yaml", s.Topic, n, wanted)
			}
		case d.Err == nil || errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			if err := createTopic(ctx, adm, s.Topic, wanted, c.Project.Retention); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("cannot look up topic %s: %w", s.Topic, d.Err)
		}
		counts[s.Topic] = wanted
	}
	return counts, nil
}

func createTopic(ctx context.Context, adm *kadm.Client, topic string, partitions int32, keep project.Retention) error {
	settings := map[string]*string{}
	if keep.LogBytes > 0 {
		settings["retention.bytes"] = kadm.StringPtr(fmt.Sprint(keep.LogBytes))
	}
	if keep.LogAge != "" {
		age, err := time.ParseDuration(keep.LogAge)
		if err != nil {
			return fmt.Errorf("cannot create topic %s: retention %q is no duration: %w", topic, keep.LogAge, err)
		}
		settings["retention.ms"] = kadm.StringPtr(fmt.Sprint(age.Milliseconds()))
	}
	_, err := adm.CreateTopic(ctx, partitions, -1, settings, topic)
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("cannot create topic %s: %w", topic, err)
	}
	return nil
}

// registerSchema registers the schema of a topic, or finds it, and gives its
// id.
func registerSchema(ctx context.Context, registry *sr.Client, s *project.Source) (uint32, error) {
	subject := s.Topic + "-value"
	if err := ensureCompatibility(ctx, registry, subject); err != nil {
		return 0, err
	}
	id, err := registry.RegisterSchema(ctx, subject, sr.Schema{Schema: string(s.Schema), Type: sr.TypeAvro}, -1, -1)
	if err != nil {
		return 0, fmt.Errorf("cannot register %s as subject %s: %w", filepath.Base(s.SchemaFile), subject, err)
	}
	return uint32(id), nil
}

// ensureCompatibility has the registry refuse schemas that cannot read what
// the topic holds. Some registries check nothing unless they are told to; one
// that checks anything keeps its own rule.
func ensureCompatibility(ctx context.Context, registry *sr.Client, subject string) error {
	rule := registry.Compatibility(sr.WithParams(ctx, sr.DefaultToGlobal), subject)[0]
	var answer *sr.ResponseError
	if errors.As(rule.Err, &answer) && answer.StatusCode == http.StatusNotFound { // some know no rule of a subject that is not there yet
		rule = registry.Compatibility(ctx)[0]
	}
	if rule.Err == nil && rule.Level == sr.CompatNone {
		rule = registry.SetCompatibility(ctx, sr.SetCompatibility{Level: sr.CompatBackward}, subject)[0]
	}
	if rule.Err != nil {
		return fmt.Errorf("cannot have the registry check the schemas of subject %s: %w", subject, rule.Err)
	}
	return nil
}

func (c Config) topics() []string {
	var topics []string
	for _, s := range c.sources() {
		topics = append(topics, s.Topic)
	}
	return topics
}
