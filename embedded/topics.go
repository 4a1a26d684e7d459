package embedded

import (
	"context"

	"lockstep/ingest"
	"lockstep/web"
)

// countLetters counts the dead letters that are open, by topic. What this
// process judges from then on is added by its own counters.
func (i *Instance) countLetters(ctx context.Context) error {
	all, err := i.ingest.DeadLetters(ctx, ingest.LetterFilter{})
	if err != nil {
		return err
	}
	open := map[string]int64{}
	for _, l := range all {
		open[l.Topic]++
	}
	for topic, m := range i.ingest.Metrics().Topics {
		open[topic] -= judgedDead(m)
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.openLetters = open
	return nil
}

func judgedDead(m ingest.TopicMetrics) (n int64) {
	for _, c := range m.DeadLetters {
		n += c
	}
	return n
}

// deadOf is the number of a topic's dead letters that were not replayed.
func (i *Instance) deadOf(topic string, m ingest.TopicMetrics) int64 {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.openLetters[topic] + judgedDead(m)
}

// deadLetters is deadOf over all topics.
func (i *Instance) deadLetters() (n int64) {
	for topic, m := range i.ingest.Metrics().Topics {
		n += i.deadOf(topic, m)
	}
	return n
}

// topicStatus fills in the topics and their bronze tables.
func (i *Instance) topicStatus(ctx context.Context, s *web.Status) {
	metrics := i.ingest.Metrics()
	committed := i.ingest.Committed()
	s.Commits, s.CommitSeconds = metrics.Commits, metrics.CommitTime.Seconds()
	for _, src := range i.cfg.Program.Project.Sources {
		m := metrics.Topics[src.Topic]
		t := web.TopicStatus{Topic: src.Topic, Records: records(committed.End[src.Topic]), Rate: i.rates.of(src.Topic, m.Accepted), Lag: m.Lag, Bytes: m.Bytes}
		t.Dead, t.DeadTotal = i.deadOf(src.Topic, m), judgedDead(m)
		t.LagSeconds = i.lags.Seconds(src.Topic)
		if m.State == ingest.Stopped {
			t.Stopped = m.Message
			s.Problems = append(s.Problems, "topic "+src.Topic+": "+m.Message)
		}
		if id := committed.Tables[src.Table()]; id != 0 {
			if scan, err := i.lake.Scan(ctx, src.Table(), id); err == nil {
				t.BronzeRows, t.BronzeFiles = scan.Rows, int64(len(scan.Files))
			}
		}
		s.Topics = append(s.Topics, t)
	}
	if metrics.Failure != "" {
		s.Problems = append(s.Problems, "bronze: "+metrics.Failure)
	}
}

func records(end map[int32]int64) (n int64) {
	for _, o := range end {
		n += o
	}
	return n
}
