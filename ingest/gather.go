package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// part is a topic partition that is read.
type part struct {
	topic  *topic
	id     int32
	next   int64         // the offset to judge next
	queue  []*kgo.Record // read, not judged
	polled time.Time     // when the newest of queue was read
	paused bool          // its queue is long enough
}

// gatherer reads the log and forms drafts, one at a time.
type gatherer struct {
	*Ingest
	cl *kgo.Client

	mu    sync.Mutex
	draft *draft
	full  bool
	last  int64   // number of the last draft taken
	end   Offsets // of the last recorded step that was begun to be formed again
	parts map[string]map[int32]*part
	order []*part // in turn
	turn  int
	err   error // ends the gathering

	ready chan struct{} // the draft may be taken
	space chan struct{} // a draft was taken
	woken chan struct{} // something besides the log changed
}

// judgedAtOnce is how many records are judged under one lock.
const judgedAtOnce = 2048

// newGatherer reads from the end of a step.
func (i *Ingest) newGatherer(after int64, from Offsets) (*gatherer, error) {
	g := &gatherer{Ingest: i, last: after, end: cloneOffsets(from), parts: map[string]map[int32]*part{},
		ready: make(chan struct{}, 1), space: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
	starts := map[string]map[int32]kgo.Offset{}
	for name, t := range i.topics {
		if state, _ := t.status(); state == Stopped {
			continue
		}
		f, _ := i.records.topic(name)
		for p := range f.From {
			g.addPart(t, p, max(f.From[p], from[name][p]), starts)
		}
	}
	var err error
	g.cl, err = i.cfg.client(kgo.ConsumePartitions(starts), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500*time.Millisecond), kgo.FetchMaxBytes(16<<20), kgo.MetadataMaxAge(30*time.Second), kgo.MetadataMinAge(time.Second))
	if err != nil {
		return nil, fmt.Errorf("cannot read the log: %w", err)
	}
	g.begin()
	return g, nil
}

func (g *gatherer) addPart(t *topic, p int32, next int64, starts map[string]map[int32]kgo.Offset) {
	if g.parts[t.name] == nil {
		g.parts[t.name] = map[int32]*part{}
	}
	if g.parts[t.name][p] != nil {
		return
	}
	pt := &part{topic: t, id: p, next: next}
	g.parts[t.name][p] = pt
	g.order = append(g.order, pt)
	if starts[t.name] == nil {
		starts[t.name] = map[int32]kgo.Offset{}
	}
	starts[t.name][p] = kgo.NewOffset().At(next)
}

// begin starts the draft after the last one that was taken.
func (g *gatherer) begin() {
	if g.draft != nil && g.draft.again != nil {
		// Decoders of old steps are made of recorded schemas. New records are
		// to be judged by the registry's.
		for _, t := range g.topics {
			clear(t.decoders)
		}
	}
	g.draft, g.full = newDraft(), false
	if rec := g.records.step(g.last + 1); rec != nil {
		advance(g.end, rec.End)
		g.draft.again, g.draft.end = rec, cloneOffsets(g.end)
	}
}

// run gathers until ctx ends or a draft cannot be formed.
func (g *gatherer) run(ctx context.Context) error {
	defer g.cl.CloseAllowingRebalance()
	for ctx.Err() == nil {
		full, err := g.judgeQueues()
		if err != nil {
			return err
		}
		if full {
			select {
			case <-ctx.Done():
			case <-g.space:
			}
			continue
		}
		g.poll(ctx)
	}
	return ctx.Err()
}

// poll waits for records and queues them.
func (g *gatherer) poll(ctx context.Context) {
	pollCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-g.woken:
			cancel()
		case <-stop:
		}
	}()
	fetches := g.cl.PollRecords(pollCtx, g.cfg.StepRows)
	close(stop)
	<-done
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	fetches.EachError(func(topic string, p int32, err error) { g.fetchFailed(topic, p, err) })
	fetches.EachPartition(func(f kgo.FetchTopicPartition) {
		pt := g.parts[f.Topic][f.Partition]
		if pt == nil || len(f.Records) == 0 {
			return
		}
		if first := f.Records[0].Offset; f.LogStartOffset > pt.next && len(pt.queue) == 0 && first > pt.next {
			g.stop(pt.topic, lostRange(pt, f.LogStartOffset))
			return
		}
		pt.queue = append(pt.queue, f.Records...)
		pt.polled = now
		g.throttle(pt)
	})
}

func lostRange(pt *part, start int64) error {
	return fmt.Errorf("partition %d: records from offset %d to %d were removed from the log before they were read: raise the log's retention; then accept the loss with `lockstep reset`, or restore the log", pt.id, pt.next, start-1)
}

// throttle pauses a topic partition that is far ahead of the others: while an
// old step is formed again, or while its topic waits.
func (g *gatherer) throttle(pt *part) {
	long := len(pt.queue) > 2*g.cfg.StepRows
	short := len(pt.queue) < g.cfg.StepRows/2
	which := map[string][]int32{pt.topic.name: {pt.id}}
	if long && !pt.paused {
		pt.paused = true
		g.cl.PauseFetchPartitions(which)
	} else if short && pt.paused {
		pt.paused = false
		g.cl.ResumeFetchPartitions(which)
	}
}

// fetchFailed looks at what the client could not cope with.
func (g *gatherer) fetchFailed(name string, p int32, err error) {
	t := g.topics[name]
	if t == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	var loss *kgo.ErrDataLoss
	if errors.As(err, &loss) || errors.Is(err, kerr.OffsetOutOfRange) {
		g.stop(t, fmt.Errorf("partition %d: the log does not hold offset %d, which is next: it was restored from an older copy, or its records expired: restore it, or accept the loss with `lockstep reset`: %w", p, g.parts[name][p].next, err))
		return
	}
	g.log.Warn("cannot read a topic partition; trying again", "topic", name, "partition", p, "error", err)
	select {
	case g.look <- struct{}{}:
	default:
	}
}

// stop ends the reading of a topic; the others go on.
func (g *gatherer) stop(t *topic, err error) {
	if state, _ := t.status(); state == Stopped {
		return
	}
	g.log.Error("a topic stops", "topic", t.name, "error", err)
	t.set(Stopped, err.Error())
	parts := map[string][]int32{}
	for p, pt := range g.parts[t.name] {
		parts[t.name] = append(parts[t.name], p)
		pt.queue = nil
	}
	g.cl.PauseFetchPartitions(parts)
}

// judgeQueues judges what was read, until the draft is full. It says so as of
// the last look: a draft that was taken since leaves a token in space, so that
// the queues are looked at again.
func (g *gatherer) judgeQueues() (full bool, err error) {
	for more := true; more && err == nil; {
		more, full, err = g.judgeSome()
	}
	return full, err
}

// judgeSome judges the records of one topic partition, or finds that there is
// nothing to judge now.
func (g *gatherer) judgeSome() (more, full bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	defer g.announce()
	if err := g.canForm(); err != nil {
		return false, false, err
	}
	for range g.order {
		if g.full = g.isFull(); g.full {
			return false, true, nil
		}
		pt := g.order[g.turn%len(g.order)]
		g.turn++
		if state, _ := pt.topic.status(); state == Stopped {
			continue
		}
		n, err := g.judgePart(pt)
		if err != nil || n > 0 {
			return true, false, err
		}
	}
	g.full = g.isFull()
	return false, g.full, nil
}

// canForm finds a recorded step whose records are gone. Bronze may have them;
// if not, building the consumer's state anew does not help.
func (g *gatherer) canForm() error {
	if g.draft.again == nil {
		return nil
	}
	step := g.last + 1
	for name, parts := range g.draft.again.End {
		t := g.topics[name]
		if t == nil {
			continue // the project has no such topic any more
		}
		state, message := t.status()
		for p, end := range parts {
			if pt := g.parts[name][p]; state != Stopped || pt != nil && pt.next >= end {
				continue
			}
			if step <= g.bronze.snapshot().Step {
				return fmt.Errorf("%w: step %d needs topic %s, which stopped: %s", ErrStepsLost, step, name, message)
			}
			return fmt.Errorf("cannot form step %d again, which bronze does not hold: topic %s stopped: %s", step, name, message)
		}
	}
	return nil
}

// isFull: a step that is formed again is full at its end, exactly.
func (g *gatherer) isFull() bool {
	d := g.draft
	if d.again == nil {
		return d.n >= g.cfg.StepRows || d.bytes >= g.cfg.StepBytes
	}
	for name, parts := range d.again.End {
		if g.topics[name] == nil {
			continue // the project has no such topic any more
		}
		for p, end := range parts {
			if pt := g.parts[name][p]; pt == nil || pt.next < end {
				return false
			}
		}
	}
	return true
}

// announce says that the draft may be taken.
func (g *gatherer) announce() {
	if g.full || g.draft.again == nil && g.draft.n > 0 {
		select {
		case g.ready <- struct{}{}:
		default:
		}
	}
}

// judgePart judges records at the head of a queue and says how many.
func (g *gatherer) judgePart(pt *part) (n int, err error) {
	d := g.draft
	until := int64(1<<63 - 1)
	var dead map[int64]bool
	if d.again != nil {
		until = d.again.End[pt.topic.name][pt.id] // 0: the step has nothing of it
		dead = offsetSet(d.again.Dead[pt.topic.name][pt.id])
	}
	for n < judgedAtOnce && n < len(pt.queue) {
		r := pt.queue[n]
		if r.Offset >= until {
			break
		}
		if r.Offset >= pt.next && !r.Attrs.IsControl() {
			if d.again == nil && g.isFull() {
				break
			}
			wait, err := g.one(pt, r, d, dead)
			if err != nil {
				return n, err
			}
			if wait {
				break
			}
		}
		pt.next = max(pt.next, r.Offset+1)
		d.move(pt.topic.name, pt.id, pt.next)
		pt.queue[n] = nil
		n++
	}
	if pt.queue == nil { // the topic stopped
		return n, nil
	}
	pt.queue = pt.queue[n:]
	if len(pt.queue) > 0 && pt.queue[0].Offset >= until {
		pt.next = max(pt.next, until)
	}
	if n > 0 {
		g.throttle(pt)
	}
	return n, nil
}

func offsetSet(offsets []int64) map[int64]bool {
	set := make(map[int64]bool, len(offsets))
	for _, o := range offsets {
		set[o] = true
	}
	return set
}

// one judges a record, or accepts it again.
func (g *gatherer) one(pt *part, r *kgo.Record, d *draft, dead map[int64]bool) (wait bool, err error) {
	if d.again != nil {
		if dead[r.Offset] {
			d.dead = append(d.dead, letter{record: r, written: true})
			return false, nil
		}
		d.accept(r)
		return false, g.judge.again(pt.topic, r, d)
	}
	if g.letters.has(r) {
		d.count(r)
		d.dead = append(d.dead, letter{record: r, written: true})
		return false, nil
	}
	v := g.judge.judge(pt.topic, r, pt.polled, d)
	switch {
	case v.stop != nil:
		g.stop(pt.topic, v.stop)
		return true, nil
	case v.wait:
		g.waits(pt, v.why)
		return true, nil
	case v.fault != nil:
		d.count(r)
		d.dead = append(d.dead, letter{record: r, fault: v.fault, schema: v.schema})
	default:
		d.accept(r)
	}
	if state, _ := pt.topic.status(); state == Waiting {
		pt.topic.set(Running, "")
	}
	return false, nil
}

func (g *gatherer) waits(pt *part, why error) {
	if why == nil {
		return // it was asked for just now
	}
	if state, _ := pt.topic.status(); state == Running {
		g.log.Warn("a topic waits for the registry", "topic", pt.topic.name, "error", why)
	}
	pt.topic.set(Waiting, why.Error())
}

// wake makes the gatherer look at its queues again.
func (g *gatherer) wake() {
	select {
	case g.woken <- struct{}{}:
	default:
	}
}

// take waits for a draft and takes it.
func (g *gatherer) take(ctx context.Context) (*draft, int64, error) {
	for {
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case <-g.ready:
		}
		g.mu.Lock()
		if d := g.draft; g.full || d.again == nil && d.n > 0 {
			g.last++
			number := g.last
			g.begin()
			g.mu.Unlock()
			select {
			case g.space <- struct{}{}:
			default:
			}
			return d, number, nil
		}
		g.mu.Unlock()
	}
}
