package web

import (
	"sync"
	"time"
)

// LagAge tells how long the oldest record that waits has waited, from how far
// a reader and the end of the log are, told from time to time. It is as exact
// as these times are close, and knows nothing of the time before the first.
// Its zero value is ready; it is safe for concurrent use.
type LagAge struct {
	mu    sync.Mutex
	topic map[string]map[int32]*lagAge // by topic partition: one that is stuck must not hide behind others
}

type lagAge struct {
	ends []lagEnd // those that the reader has not reached, oldest first
	now  time.Time
}

type lagEnd struct {
	end int64
	at  time.Time
}

// lagEnds limits what is kept of a topic. Beyond it every second end goes.
const lagEnds = 512

// Observe notes that at a time a topic partition ended at offset end, and that
// what is below offset read is done with.
func (l *LagAge) Observe(topic string, partition int32, read, end int64, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.topic == nil {
		l.topic = map[string]map[int32]*lagAge{}
	}
	if l.topic[topic] == nil {
		l.topic[topic] = map[int32]*lagAge{}
	}
	a := l.topic[topic][partition]
	if a == nil {
		a = &lagAge{}
		l.topic[topic][partition] = a
	}
	a.observe(read, end, at)
}

func (a *lagAge) observe(read, end int64, at time.Time) {
	a.now = at
	for len(a.ends) > 0 && a.ends[0].end <= read {
		a.ends = a.ends[1:]
	}
	for len(a.ends) > 0 && a.ends[len(a.ends)-1].end > end {
		a.ends = a.ends[:len(a.ends)-1] // the log was made anew
	}
	if n := len(a.ends); end > read && (n == 0 || a.ends[n-1].end < end) {
		a.ends = append(a.ends, lagEnd{end, at})
	}
	if len(a.ends) > lagEnds {
		kept := a.ends[:1]
		for i := 2; i < len(a.ends); i += 2 {
			kept = append(kept, a.ends[i])
		}
		a.ends = kept
	}
}

// Seconds is how long the oldest record of the topic that waits has waited, at
// the time of the last Observe; 0: none waits.
func (l *LagAge) Seconds(topic string) (oldest float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range l.topic[topic] {
		if len(a.ends) > 0 {
			oldest = max(oldest, a.now.Sub(a.ends[0].at).Seconds())
		}
	}
	return oldest
}
