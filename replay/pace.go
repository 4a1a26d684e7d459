package replay

import (
	"context"
	"time"
)

// pacer says when each event is due: the event time between two of them,
// divided by the speed, and no more than a cap.
type pacer struct {
	speed float64 // 0: at once
	limit time.Duration
	now   func() time.Time
	sleep func(context.Context, time.Duration) error

	due  time.Time
	last int64 // event time of the last event, microseconds
}

const (
	// shortest is not worth a sleep: timers are no finer.
	shortest = time.Millisecond
	// catchUp is how far a replay that fell behind tries to make good.
	catchUp = time.Second
)

func newPacer(speed float64, limit time.Duration) *pacer {
	return &pacer{speed: speed, limit: limit, now: time.Now, sleep: sleep, last: noTime}
}

// wait returns when the event of this time is due.
func (p *pacer) wait(ctx context.Context, eventTime int64) error {
	if p.speed == 0 || eventTime == noTime {
		return nil
	}
	if p.last == noTime {
		p.last, p.due = eventTime, p.now()
		return nil
	}
	gap := time.Duration(min(float64(eventTime-p.last)*1000/p.speed, float64(p.limit)))
	p.last = eventTime
	p.due = p.due.Add(gap)
	ahead := p.due.Sub(p.now())
	if ahead < -catchUp {
		p.due = p.now()
	}
	if ahead < shortest {
		return nil
	}
	return p.sleep(ctx, ahead)
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
