package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/registry"
)

// ensureTopics makes the project's topics where they are missing.
func (i *Ingest) ensureTopics(ctx context.Context) error {
	admin := kadm.NewClient(i.admin)
	details, err := admin.ListTopics(ctx, i.order...)
	if err != nil {
		return fmt.Errorf("cannot list topics: %w", err)
	}
	for _, name := range i.order {
		d, ok := details[name]
		if ok && !errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
			continue
		}
		if f, known := i.records.topic(name); known {
			i.topics[name].set(Stopped, fmt.Sprintf("the topic is gone (it had id %s): restore the log, or begin anew with `lockstep reset`", f.ID))
			continue
		}
		res, err := admin.CreateTopic(ctx, int32(i.topics[name].source.Partitions), -1, nil, name)
		if err == nil && !errors.Is(res.Err, kerr.TopicAlreadyExists) {
			err = res.Err
		}
		if err != nil {
			return fmt.Errorf("cannot make topic %s: %w", name, err)
		}
	}
	return nil
}

// logState is what the log says of a topic.
type logState struct {
	id         string
	start, end map[int32]int64 // end: of what is committed
	high       map[int32]int64
}

// lookAtLog asks the log for the project's topics; those that do not exist are
// left out.
func (i *Ingest) lookAtLog(ctx context.Context) (map[string]*logState, error) {
	admin := kadm.NewClient(i.admin)
	details, err := admin.ListTopics(ctx, i.order...)
	if err != nil {
		return nil, fmt.Errorf("cannot list topics: %w", err)
	}
	states := map[string]*logState{}
	for name, d := range details {
		if d.Err == nil {
			states[name] = &logState{id: d.ID.String(), start: map[int32]int64{}, end: map[int32]int64{}, high: map[int32]int64{}}
		}
	}
	for _, q := range []struct {
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
		into func(*logState) map[int32]int64
	}{
		{admin.ListStartOffsets, func(s *logState) map[int32]int64 { return s.start }},
		{admin.ListCommittedOffsets, func(s *logState) map[int32]int64 { return s.end }},
		{admin.ListEndOffsets, func(s *logState) map[int32]int64 { return s.high }},
	} {
		offsets, err := q.list(ctx, i.order...)
		if err != nil {
			return nil, fmt.Errorf("cannot list offsets: %w", err)
		}
		offsets.Each(func(o kadm.ListedOffset) {
			if s := states[o.Topic]; s != nil && o.Err == nil {
				q.into(s)[o.Partition] = o.Offset
			}
		})
	}
	return states, nil
}

// checkTopics compares the log with what was read of it before, and notes
// topics that are new.
func (i *Ingest) checkTopics(ctx context.Context) error {
	states, err := i.lookAtLog(ctx)
	if err != nil {
		return err
	}
	_, end := i.records.last()
	var facts []fact
	for _, name := range i.order {
		t, s := i.topics[name], states[name]
		if s == nil {
			t.set(Stopped, "the topic is gone: restore the log, or begin anew with `lockstep reset`")
			continue
		}
		held := i.bronze.tables[t].Position()
		f, known := i.records.topic(name)
		if !known {
			f = fact{Topic: name, ID: s.id, From: map[int32]int64{}}
			if held.TopicID != "" {
				f.ID = held.TopicID
			}
		}
		t.id = f.ID
		grown := !known
		for p, start := range s.start {
			if _, ok := f.From[p]; !ok {
				f.From[p], grown = start, true
				if len(held.Offsets) > 0 {
					f.From[p] = held.Offsets[p]
				}
			}
		}
		if grown {
			facts = append(facts, f)
		}
		if err := checkTopic(s, f, end[name]); err != nil {
			t.set(Stopped, err.Error())
			i.log.Error("a topic cannot be read", "topic", name, "error", err)
		}
		i.ends[name] = s.end
	}
	if len(facts) == 0 {
		return nil
	}
	return i.records.append(facts, nil)
}

// checkTopic finds what must not be passed over in silence.
func checkTopic(s *logState, f fact, end map[int32]int64) error {
	if s.id != f.ID {
		return fmt.Errorf("the topic was made anew: its id was %s and is %s, so its offsets mean other records: restore the log, or begin anew with `lockstep reset`", f.ID, s.id)
	}
	for p, from := range f.From {
		next := max(from, end[p])
		if start, ok := s.start[p]; ok && start > next {
			return lostRange(&part{id: p, next: next}, start)
		}
		if high, ok := s.high[p]; !ok || high < next {
			return fmt.Errorf("partition %d: the log ends at offset %d, but records up to %d were read from it: it was restored from an older copy: restore the newer one, or begin anew with `lockstep reset`", p, high, next)
		}
	}
	return nil
}

const watchEvery = time.Second

// watch looks at the log from time to time: at its ends, for topics that were
// made anew and for topic partitions that are new.
func (i *Ingest) watch(ctx context.Context) error {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-i.look:
		}
		lookCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		states, err := i.lookAtLog(lookCtx)
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				i.log.Warn("cannot look at the log", "error", err)
			}
			continue
		}
		if err := i.seen(states); err != nil {
			return err
		}
	}
}

func (i *Ingest) seen(states map[string]*logState) error {
	i.mu.Lock()
	g := i.gatherer
	for name, s := range states {
		i.ends[name] = s.end
	}
	i.mu.Unlock()
	if g == nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, name := range i.order {
		t, s := i.topics[name], states[name]
		if state, _ := t.status(); state == Stopped {
			continue
		}
		f, _ := i.records.topic(name)
		switch {
		case s == nil:
			g.stop(t, errors.New("the topic is gone: restore the log, or begin anew with `lockstep reset`"))
		case s.id != f.ID:
			g.stop(t, checkTopic(s, f, nil))
		case len(s.start) > len(f.From):
			if err := g.grow(t, s, f); err != nil {
				return err
			}
		}
	}
	return nil
}

// grow reads topic partitions that were added to a topic.
func (g *gatherer) grow(t *topic, s *logState, f fact) error {
	from := map[int32]int64{}
	for p, o := range f.From {
		from[p] = o
	}
	starts := map[string]map[int32]kgo.Offset{}
	for p, start := range s.start {
		if _, ok := from[p]; !ok {
			from[p] = start
			g.addPart(t, p, start, starts)
		}
	}
	if err := g.records.append([]fact{{Topic: t.name, ID: f.ID, From: from}}, nil); err != nil {
		return err
	}
	g.log.Info("new topic partitions are read", "topic", t.name, "partitions", len(from))
	g.cl.AddConsumePartitions(starts)
	return nil
}

// register makes the contracts of the project's topics known to the registry,
// for producers that look there.
func (i *Ingest) register(ctx context.Context) error {
	for _, name := range i.order {
		s := i.topics[name].source
		for pause := askAgainFirst; ; pause = min(2*pause, askAgainMost) {
			_, err := i.cfg.Registry.Register(ctx, name+"-value", string(s.Schema))
			if errors.Is(err, registry.ErrRefused) {
				i.log.Warn("the registry refuses the topic's schema: producers work with another contract", "topic", name, "schema", s.SchemaFile, "error", err)
			}
			if err == nil || errors.Is(err, registry.ErrRefused) {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(pause):
			}
		}
	}
	return nil
}
