package embedded

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"lockstep/replay"
)

// meter counts what goes through the speed layer.
type meter struct {
	mu         sync.Mutex
	records    int64
	sinceBatch int64
	lastStep   float64 // seconds
	begin, end time.Time
	recent     []reading
}

type meterState struct{ records int64 }

type reading struct {
	at      time.Time
	records int64
}

// rateWindow is the time over which rates are taken.
const rateWindow = 10 * time.Second

func (m *meter) took(_, records int64, seconds float64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records += records
	m.sinceBatch += records
	m.lastStep = seconds
	now := time.Now()
	m.recent = append(m.recent, reading{now, m.records})
	for len(m.recent) > 2 && now.Sub(m.recent[0].at) > rateWindow {
		m.recent = m.recent[1:]
	}
}

func (m *meter) now() meterState {
	m.mu.Lock()
	defer m.mu.Unlock()
	return meterState{m.records}
}

// rate is records per second over the last seconds.
func (m *meter) rate() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.recent) < 2 {
		return 0
	}
	first := m.recent[0]
	if span := time.Since(first.at).Seconds(); span > 0 && span < 2*rateWindow.Seconds() {
		return float64(m.records-first.records) / span
	}
	return 0
}

func (m *meter) started() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begin.IsZero() {
		m.begin = time.Now()
	}
}

func (m *meter) caughtUp() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.end = time.Now()
}

// seconds from the first event sent to everything served.
func (m *meter) seconds() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.begin.IsZero() {
		return 0
	}
	return m.end.Sub(m.begin).Seconds()
}

// overlay estimates the changed rows in memory: records since the last batch.
func (m *meter) overlay() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sinceBatch
}

func (m *meter) resetOverlay() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sinceBatch = 0
}

func (m *meter) stepSeconds() float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lastStep
}

// rates takes rates per topic from counters that only grow.
type rates struct {
	mu   sync.Mutex
	seen map[string][]reading
}

// of notes a counter and gives its growth per second over the last seconds.
func (r *rates) of(topic string, records int64) float64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string][]reading{}
	}
	now := time.Now()
	list := append(r.seen[topic], reading{now, records})
	for len(list) > 2 && now.Sub(list[0].at) > rateWindow {
		list = list[1:]
	}
	r.seen[topic] = list
	if span := now.Sub(list[0].at).Seconds(); span > 0 {
		return float64(records-list[0].records) / span
	}
	return 0
}

func (i *Instance) progress(ctx context.Context, tell func(Progress)) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		tell(i.progressNow())
		select {
		case <-tick.C:
		case <-ctx.Done():
			tell(i.progressNow())
			return nil
		}
	}
}

func (i *Instance) progressNow() Progress {
	_, lag := i.ingest.Position()
	p := Progress{Step: i.server.Step(), Accepted: i.meter.now().records, Dead: i.deadLetters(), Lag: lagOf(lag), Rate: i.meter.rate()}
	i.mu.Lock()
	defer i.mu.Unlock()
	p.Batch, p.Rebuild = i.batchNow, i.notReady["rebuild"]
	if i.replay != nil {
		p.Replay = *i.replay
	} else {
		p.Replay = replay.Progress{}
	}
	return p
}

// watchDisk keeps an eye on the state's size.
func (i *Instance) watchDisk(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
		total := int64(0)
		for _, n := range i.sizes() {
			total += n
		}
		if i.cfg.DiskLimit > 0 && total > i.cfg.DiskLimit {
			return errDiskLimit(i.cfg.Dir, total, i.cfg.DiskLimit)
		}
	}
}

// watchLag notes how far ingest is, so that the age of what waits is known.
func (i *Instance) watchLag(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		for topic, parts := range i.ingest.Spans() {
			for p, s := range parts {
				i.lags.Observe(topic, p, s.Read, s.End, time.Now())
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// sizes gives the bytes on disk of each part of the state.
func (i *Instance) sizes() map[string]int64 {
	out := map[string]int64{}
	for _, part := range []string{"log", "lake", "speed", "ingest", "replay", "batch"} {
		filepath.WalkDir(i.path(part), func(_ string, d os.DirEntry, err error) error {
			if err != nil {
				return nil // it went while we looked
			}
			if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
				if st, ok := info.Sys().(*syscall.Stat_t); ok {
					out[part] += st.Blocks * 512
				}
			}
			return nil
		})
	}
	return out
}

// residentBytes is the memory of this process.
func residentBytes() int64 {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
