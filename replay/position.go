package replay

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// HeaderKey is the header of each replayed record: its position in the topic
// (8 bytes, big endian), then the identity of the inputs (8 bytes). The log
// itself says how far a replay has come.
const HeaderKey = "lockstep.replay"

func appendHeader(dst []byte, ordinal int64, id [8]byte) []byte {
	return append(binary.BigEndian.AppendUint64(dst, uint64(ordinal)), id[:]...)
}

// readHeader finds a record's replay header.
func readHeader(r *kgo.Record) (ordinal int64, id [8]byte, ok bool) {
	for _, h := range r.Headers {
		if h.Key == HeaderKey && len(h.Value) == 16 {
			return int64(binary.BigEndian.Uint64(h.Value)), [8]byte(h.Value[8:]), true
		}
	}
	return 0, id, false
}

// position is how far a topic was replayed: per topic partition the ordinal
// of the last event in it, -1 for none. A producer with acknowledged order
// leaves no gap below it, while partitions may end at different ordinals.
type position struct {
	last []int64
	id   [8]byte // inputs of the records found
	any  bool    // some record was found
}

func newPosition(partitions int) *position {
	p := &position{last: make([]int64, partitions)}
	for i := range p.last {
		p.last[i] = -1
	}
	return p
}

// next is the first ordinal that any partition may still want.
func (p *position) next() int64 {
	lowest := p.last[0]
	for _, n := range p.last {
		lowest = min(lowest, n)
	}
	return lowest + 1
}

// tail is the part of a topic partition that is yet to be searched, newest
// records first.
type tail struct {
	start    int64 // of the log
	searched int64 // offsets from here on are done
	window   int64
	reached  int64 // offset read up to in the running pass
	ordinal  int64 // -1: not found yet
	id       [8]byte
}

// tailPatience is how long a read of the log may bring nothing.
const tailPatience = 30 * time.Second

const firstWindow = 64 // records; later windows are 16 times as wide

func (t *tail) done() bool { return t.ordinal >= 0 || t.searched <= t.start }

// readPositions finds the last replayed record of each topic partition by
// reading backwards from the end, past the records of other producers. Topics
// that do not exist yet have no position. again says that an earlier run may
// have sent something.
func readPositions(ctx context.Context, c Config, cl *kgo.Client, again bool) (map[string]*position, error) {
	tails, err := listTails(ctx, kadm.NewClient(cl), c.topics())
	if err != nil {
		return nil, err
	}
	for {
		open := openWindows(tails)
		if len(open) == 0 {
			break
		}
		if err := searchPass(ctx, c, open, tails); err != nil {
			return nil, err
		}
	}
	if again {
		if err := checkTrimmed(tails); err != nil {
			return nil, err
		}
	}
	return positions(tails)
}

// openWindows are the offsets at which the next pass starts to read.
func openWindows(tails map[string][]*tail) map[string]map[int32]kgo.Offset {
	open := map[string]map[int32]kgo.Offset{}
	for topic, partitions := range tails {
		for p, t := range partitions {
			if t.done() {
				continue
			}
			t.reached = max(t.start, t.searched-t.window)
			if open[topic] == nil {
				open[topic] = map[int32]kgo.Offset{}
			}
			open[topic][int32(p)] = kgo.NewOffset().At(t.reached)
		}
	}
	return open
}

func listTails(ctx context.Context, adm *kadm.Client, topics []string) (map[string][]*tail, error) {
	details, err := adm.ListTopics(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("cannot list the log's topics: %w", err)
	}
	topics = slices.DeleteFunc(slices.Clone(topics), func(t string) bool { return len(details[t].Partitions) == 0 })
	if len(topics) == 0 {
		return nil, nil
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read where the topics' logs start: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read where the topics' logs end: %w", err)
	}
	return newTails(starts, ends), nil
}

func newTails(starts, ends kadm.ListedOffsets) map[string][]*tail {
	tails := map[string][]*tail{}
	for topic, partitions := range ends {
		tails[topic] = make([]*tail, len(partitions))
		for p, end := range partitions {
			start, _ := starts.Lookup(topic, p)
			tails[topic][p] = &tail{start: start.Offset, searched: end.Offset, window: firstWindow, ordinal: -1}
		}
	}
	return tails
}

// searchPass reads the open windows of all partitions at once.
func searchPass(ctx context.Context, c Config, open map[string]map[int32]kgo.Offset, tails map[string][]*tail) error {
	cl, err := kgo.NewClient(append(c.clientOptions(), kgo.ConsumePartitions(open), kgo.KeepControlRecords())...)
	if err != nil {
		return fmt.Errorf("cannot connect to the log: %w", err)
	}
	defer cl.Close()
	pending := 0
	for _, partitions := range open {
		pending += len(partitions)
	}
	for pending > 0 {
		poll, cancel := context.WithTimeout(ctx, tailPatience)
		fetches := cl.PollFetches(poll)
		cancel()
		if errs := fetches.Errors(); len(errs) > 0 {
			return fmt.Errorf("cannot read where the replay of topic %s stopped: %w", errs[0].Topic, errs[0].Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			t := tails[r.Topic][r.Partition]
			if t.reached >= t.searched {
				return // behind its window
			}
			if n, id, ok := readHeader(r); ok {
				t.ordinal, t.id = n, id
			}
			if t.reached = r.Offset + 1; t.reached >= t.searched {
				pending--
				cl.PauseFetchPartitions(map[string][]int32{r.Topic: {r.Partition}})
			}
		})
	}
	for topic, partitions := range open {
		for p := range partitions {
			t := tails[topic][p]
			t.searched = max(t.start, t.searched-t.window)
			t.window *= 16
		}
	}
	return nil
}

func positions(tails map[string][]*tail) (map[string]*position, error) {
	all := map[string]*position{}
	for topic, partitions := range tails {
		p := newPosition(len(partitions))
		for i, t := range partitions {
			p.last[i] = t.ordinal
			if t.ordinal < 0 {
				continue
			}
			if p.any && p.id != t.id {
				return nil, fmt.Errorf("cannot continue the replay: topic %s holds events of different inputs; remove the state with `lockstep reset` and start again", topic)
			}
			p.any, p.id = true, t.id
		}
		all[topic] = p
	}
	return all, nil
}

// checkTrimmed refuses to go on where retention may have taken the records
// that say how far the replay came.
func checkTrimmed(tails map[string][]*tail) error {
	for topic, partitions := range tails {
		for p, t := range partitions {
			if t.start > 0 && t.ordinal < 0 {
				return fmt.Errorf("cannot tell how far topic %s was replayed: its partition %d starts at offset %d and holds no replayed event any more; raise the retention in project.yaml, then remove the state with `lockstep reset` and start again", topic, p, t.start)
			}
		}
	}
	return nil
}
