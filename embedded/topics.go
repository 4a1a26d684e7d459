package embedded

import (
	"context"

	"lockstep/ingest"
	"lockstep/web"
)

// deadLetters counts the records judged dead by this process.
func (i *Instance) deadLetters() (n int64) {
	for _, t := range i.ingest.Metrics().Topics {
		for _, c := range t.DeadLetters {
			n += c
		}
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
		for _, c := range m.DeadLetters {
			t.Dead += c
		}
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
