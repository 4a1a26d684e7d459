package broker

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
)

// Stats is the state of the log at one moment, for metrics.
type Stats struct {
	Topics        []TopicStats // by name
	Groups        []GroupStats // by name
	StorageErrors int64        // writes to the disk that failed since Open
}

// TopicStats are the topic partitions of one topic.
type TopicStats struct {
	Topic      string
	ID         kadm.TopicID // another one after the topic was made again
	Partitions []PartitionStats
}

// PartitionStats describes one topic partition. Start is its first offset,
// HighWatermark the next one to be written.
type PartitionStats struct {
	Partition            int32
	Start, HighWatermark int64
	LastStable           int64 // what read_committed consumers see ends here
	Bytes                int64
	MaxTimestamp         int64 // milliseconds since 1970; -1: none
}

// GroupStats is a consumer group and how many records it is behind.
type GroupStats struct {
	Group   string
	State   string
	Members int
	Lag     int64            // over all topics
	Topics  map[string]int64 // lag by topic
}

// Stats asks the log for its topics and groups. It costs a few requests and no
// disk access.
func (b *Broker) Stats(ctx context.Context) (Stats, error) {
	topics, err := b.admin.ListTopicsWithInternal(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("cannot list the log's topics: %w", err)
	}
	s := Stats{}
	s.StorageErrors, _ = b.log.failures()
	for _, t := range topics.Sorted() {
		s.Topics = append(s.Topics, b.topicStats(t))
	}
	lags, err := b.admin.Lag(ctx)
	if err != nil {
		return Stats{}, fmt.Errorf("cannot read the lag of the log's groups: %w", err)
	}
	for _, l := range lags.Sorted() {
		s.Groups = append(s.Groups, groupStats(l))
	}
	slices.SortFunc(s.Groups, func(x, y GroupStats) int { return strings.Compare(x.Group, y.Group) })
	return s, nil
}

func (b *Broker) topicStats(t kadm.TopicDetail) TopicStats {
	ts := TopicStats{Topic: t.Topic, ID: t.ID}
	for _, p := range b.cluster.PartitionInfos(t.Topic) {
		ts.Partitions = append(ts.Partitions, PartitionStats{
			Partition:     p.Partition,
			Start:         p.LogStartOffset,
			HighWatermark: p.HighWatermark,
			LastStable:    p.LastStableOffset,
			Bytes:         p.NumBytes,
			MaxTimestamp:  p.MaxTimestamp,
		})
	}
	return ts
}

func groupStats(l kadm.DescribedGroupLag) GroupStats {
	g := GroupStats{Group: l.Group, State: l.State, Members: len(l.Members), Topics: make(map[string]int64)}
	for topic, lag := range l.Lag.TotalByTopic() {
		g.Topics[topic] = lag.Lag
		g.Lag += lag.Lag
	}
	return g
}
