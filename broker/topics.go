package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ErrPartitions says that a topic exists with another partition count.
var ErrPartitions = errors.New("partition count differs")

// EnsureTopic makes a topic, or checks that it has the partitions asked for and
// sets the configs that differ. It never changes a partition count: that would
// move keys to other partitions and break their order. See EnsureTopic, the
// function, for clusters elsewhere.
func (b *Broker) EnsureTopic(ctx context.Context, name string, partitions int, configs map[string]string) error {
	return EnsureTopic(ctx, b.admin, name, partitions, configs)
}

// EnsureTopic makes a topic on any Kafka cluster with the cluster's default
// replication, or checks the one that is there. ErrPartitions: it has another
// partition count.
func EnsureTopic(ctx context.Context, admin *kadm.Client, name string, partitions int, configs map[string]string) error {
	values := make(map[string]*string, len(configs))
	for k, v := range configs {
		values[k] = kadm.StringPtr(v)
	}
	res, err := admin.CreateTopic(ctx, int32(partitions), -1, values, name)
	if err == nil {
		err = res.Err
	}
	// A full disk is no hindrance to a topic that is there.
	if errors.Is(err, kerr.TopicAlreadyExists) || errors.Is(err, kerr.KafkaStorageError) {
		topics, listErr := admin.ListTopics(ctx, name)
		if listErr != nil {
			return fmt.Errorf("cannot look at topic %s: %w", name, listErr)
		}
		if topics.Has(name) {
			return checkTopic(ctx, admin, topics[name], partitions, configs)
		}
	}
	if err != nil {
		return fmt.Errorf("cannot make topic %s: %w", name, err)
	}
	return nil
}

func checkTopic(ctx context.Context, admin *kadm.Client, t kadm.TopicDetail, partitions int, configs map[string]string) error {
	if t.Err != nil {
		return fmt.Errorf("cannot look at topic %s: %w", t.Topic, t.Err)
	}
	if have := len(t.Partitions); have != partitions {
		return fmt.Errorf("cannot use topic %s: %w: it has %d, %d are wanted: keep the old count, or delete the topic and replay it", t.Topic, ErrPartitions, have, partitions)
	}
	return setConfigs(ctx, admin, t.Topic, configs)
}

func setConfigs(ctx context.Context, admin *kadm.Client, name string, configs map[string]string) error {
	if len(configs) == 0 {
		return nil
	}
	have, err := admin.DescribeTopicConfigs(ctx, name)
	if err != nil {
		return fmt.Errorf("cannot read the configs of topic %s: %w", name, err)
	}
	current := make(map[string]string) // what the topic sets itself
	for _, rc := range have {
		for _, c := range rc.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				current[c.Key] = c.MaybeValue()
			}
		}
	}
	var alter []kadm.AlterConfig
	for k, v := range configs {
		if old, ok := current[k]; !ok || old != v {
			alter = append(alter, kadm.AlterConfig{Op: kadm.SetConfig, Name: k, Value: kadm.StringPtr(v)})
		}
	}
	if len(alter) == 0 {
		return nil
	}
	res, err := admin.AlterTopicConfigs(ctx, alter, name)
	if err == nil && len(res) == 1 {
		err = res[0].Err
	}
	if err != nil {
		return fmt.Errorf("cannot set the configs of topic %s: %w", name, err)
	}
	return nil
}
