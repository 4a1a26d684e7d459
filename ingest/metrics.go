package ingest

import (
	"context"
	"maps"
	"sync"
	"time"

	"lockstep/lake"
)

// Metrics are counters since Open.
type Metrics struct {
	Topics map[string]TopicMetrics

	Steps     int64 // that were handed on
	Step      int64 // number of the last
	Recorded  int64 // number of the last on disk
	Committed int64 // number of the last in bronze

	Commits          int64 // of all tables to a step
	CommitTime       time.Duration
	LastCommitTime   time.Duration
	LastCommit       time.Time
	WaitingForBronze int    // rows
	Failure          string // of the commit that is being tried again

	Upkeeps      int64
	UpkeepErrors int64
	Upkeep       lake.Report
}

// TopicMetrics are those of one topic. Messages = Accepted + dead letters.
type TopicMetrics struct {
	Messages    int64
	Bytes       int64 // of keys and values
	Accepted    int64
	DeadLetters map[string]int64 // by reason
	Lag         int64            // committed records in the log that are not in a step yet
	State       State
	Message     string // why it waits or stopped
}

type meters struct {
	mu  sync.Mutex
	all Metrics
}

func newMeters(topics []string) *meters {
	m := &meters{all: Metrics{Topics: map[string]TopicMetrics{}}}
	for _, name := range topics {
		m.all.Topics[name] = TopicMetrics{DeadLetters: map[string]int64{}}
	}
	return m
}

// judged counts a new step's records.
func (m *meters) judged(d *draft) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for t, r := range d.rows {
		c := m.all.Topics[t.name]
		c.Messages += int64(r.n)
		c.Accepted += int64(r.n)
		c.Bytes += r.bytes
		m.all.Topics[t.name] = c
	}
	for _, l := range d.dead {
		c := m.all.Topics[l.record.Topic]
		c.Messages++
		c.Bytes += int64(len(l.record.Key) + len(l.record.Value))
		reason := "judged_before"
		if l.fault != nil {
			reason = l.fault.reason
		}
		c.DeadLetters[reason]++
		m.all.Topics[l.record.Topic] = c
	}
}

func (m *meters) stepped(s *Step) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all.Steps++
	m.all.Step = s.Number
}

func (m *meters) committed(took time.Duration, ids map[string]int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	m.all.Commits++
	m.all.CommitTime += took
	m.all.LastCommitTime, m.all.LastCommit = took, time.Now()
}

func (m *meters) maintained(r lake.Report, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.all.Upkeeps++
	if err != nil {
		m.all.UpkeepErrors++
	}
	m.all.Upkeep.Compactions += r.Compactions
	m.all.Upkeep.FilesCompacted += r.FilesCompacted
	m.all.Upkeep.FilesWritten += r.FilesWritten
	m.all.Upkeep.SnapshotsExpired += r.SnapshotsExpired
	m.all.Upkeep.OrphansRemoved += r.OrphansRemoved
	m.all.Upkeep.OrphanBytes += r.OrphanBytes
}

// Metrics gives the counters now. Lags are at most a second old.
func (i *Ingest) Metrics() Metrics {
	_, lag := i.Position()
	i.metrics.mu.Lock()
	m := i.metrics.all
	m.Topics = map[string]TopicMetrics{}
	for name, c := range i.metrics.all.Topics {
		c.DeadLetters = maps.Clone(c.DeadLetters)
		for _, n := range lag[name] {
			c.Lag += n
		}
		c.State, c.Message = i.topics[name].status()
		m.Topics[name] = c
	}
	i.metrics.mu.Unlock()
	m.Recorded, _ = i.records.last()
	b := i.bronze
	b.mu.Lock()
	defer b.mu.Unlock()
	m.Committed, m.WaitingForBronze, m.Failure = b.committed.Step, b.rows, b.failure
	return m
}

// Position is the last step that was handed on, and how many offsets of each
// topic partition are not in a step yet; the log's ends are at most a second
// old.
func (i *Ingest) Position() (step int64, lag Offsets) {
	_, recorded := i.records.last()
	i.mu.Lock()
	defer i.mu.Unlock()
	read := i.handed
	if i.gatherer == nil { // nothing runs: what was recorded is what there is
		read = recorded
	}
	return i.published, i.lagTo(i.ends, read)
}

// Span is where ingest is in a topic partition, and where the log ends there.
type Span struct{ Read, End int64 }

// Spans gives the topic partitions that the log has; its ends are at most a
// second old.
func (i *Ingest) Spans() map[string]map[int32]Span {
	_, recorded := i.records.last()
	i.mu.Lock()
	defer i.mu.Unlock()
	read := i.handed
	if i.gatherer == nil {
		read = recorded
	}
	lag := i.lagTo(i.ends, read)
	out := map[string]map[int32]Span{}
	for name, parts := range i.ends {
		out[name] = map[int32]Span{}
		for p, end := range parts {
			out[name][p] = Span{Read: end - lag[name][p], End: end}
		}
	}
	return out
}

// Lag is Position with the log's ends of now: no lag means that everything
// that was committed to the log when it was called is in steps that the
// consumer took.
func (i *Ingest) Lag(ctx context.Context) (step int64, lag Offsets, err error) {
	states, err := i.lookAtLog(ctx)
	if err != nil {
		return 0, nil, err
	}
	ends := Offsets{}
	for name, s := range states {
		ends[name] = s.end
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.published, i.lagTo(ends, i.handed), nil
}

// lagTo gives what is between read and ends. It is called with i.mu held.
func (i *Ingest) lagTo(ends, read Offsets) Offsets {
	if g := i.gatherer; g != nil {
		read = g.judgedUpTo(i.published, read)
	}
	lag := Offsets{}
	for name, parts := range ends {
		f, _ := i.records.topic(name)
		for p, end := range parts {
			if n := end - max(read[name][p], f.From[p]); n > 0 {
				if lag[name] == nil {
					lag[name] = map[int32]int64{}
				}
				lag[name][p] = n
			}
		}
	}
	return lag
}

// judgedUpTo is the end of the last step, or what was read after it when that
// needs no step: marks of transactions.
func (g *gatherer) judgedUpTo(published int64, handed Offsets) Offsets {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != published || g.draft.again != nil || g.draft.n > 0 {
		return handed
	}
	read := cloneOffsets(handed)
	for name, parts := range g.parts {
		for p, pt := range parts {
			if read[name] == nil {
				read[name] = map[int32]int64{}
			}
			read[name][p] = max(read[name][p], pt.next)
		}
	}
	return read
}
