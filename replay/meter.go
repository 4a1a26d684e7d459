package replay

import (
	"sync/atomic"
	"time"
)

// meterPeriod is how often progress is told.
const meterPeriod = 500 * time.Millisecond

// meter tells the progress of sending.
type meter struct {
	tell        func(Progress)
	total       int64
	sent        *atomic.Int64
	eventTime   atomic.Int64
	quit, ended chan struct{}

	rate   float64 // smoothed
	lastAt time.Time
	last   int64
}

func startMeter(tell func(Progress), total int64, sent *atomic.Int64) *meter {
	m := &meter{tell: tell, total: total, sent: sent, last: sent.Load(), quit: make(chan struct{}), ended: make(chan struct{}), lastAt: time.Now()}
	m.eventTime.Store(noTime)
	tell(m.progress(Sending))
	go m.run()
	return m
}

func (m *meter) run() {
	defer close(m.ended)
	ticker := time.NewTicker(meterPeriod)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			m.sample()
			m.tell(m.progress(Sending))
		case <-m.quit:
			return
		}
	}
}

// sample smooths the rate over about five periods.
func (m *meter) sample() {
	now, n := time.Now(), m.sent.Load()
	current := float64(n-m.last) / now.Sub(m.lastAt).Seconds()
	if m.rate == 0 {
		m.rate = current
	}
	m.rate += (current - m.rate) / 5
	m.last, m.lastAt = n, now
}

func (m *meter) progress(phase Phase) Progress {
	p := Progress{Phase: phase, Sent: m.sent.Load(), Total: m.total, Rate: m.rate}
	if t := m.eventTime.Load(); t != noTime {
		p.EventTime = time.UnixMicro(t).UTC()
	}
	if m.rate > 0 {
		p.Left = time.Duration(float64(p.Total-p.Sent) / m.rate * float64(time.Second))
	}
	return p
}

func (m *meter) at(ev *Event) { m.eventTime.Store(ev.Time) }

// stop tells the last figures. Nothing is told afterwards.
func (m *meter) stop(complete bool) {
	close(m.quit)
	<-m.ended
	m.sample()
	phase := Sending
	if complete {
		phase = Done
	}
	m.tell(m.progress(phase))
}
