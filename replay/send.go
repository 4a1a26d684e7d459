package replay

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/project"
)

// courtesy is how long a replay that is told to stop waits for the log. A
// test shortens it.
var courtesy = 5 * time.Second

const (
	// maxValueBytes is what fits a record batch of Kafka's default limit, with
	// room for its own fields.
	maxValueBytes = 1_000_012 - 512
	arenaBytes    = 256 << 10
	slabRecords   = 512
)

func producerOptions() []kgo.Opt {
	return []kgo.Opt{
		kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.RequiredAcks(kgo.AllISRAcks()), // and idempotent, kgo's default
		// zstd takes 0.6 of the bytes for 1.5 times the CPU; lz4 is no smaller.
		kgo.ProducerBatchCompression(kgo.SnappyCompression(), kgo.NoCompression()),
		kgo.ProducerLinger(2 * time.Millisecond),
	}
}

// sender encodes events and hands them to the log.
type sender struct {
	Config
	cl     *kgo.Client
	events *Events
	topics map[*project.Source]*topicSender
	pace   *pacer
	before int64   // events that earlier runs sent
	id     [8]byte // of the inputs
	meter  *meter

	inLog   atomic.Int64 // events that the log has taken, of all runs
	failed  sync.Once
	failure error // of the first record that the log refused
	abort   context.CancelCauseFunc

	arena   []byte
	records []kgo.Record
	headers []kgo.RecordHeader
}

// topicSender is what the records of one topic have in common.
type topicSender struct {
	encoder    *encoder
	schemaID   uint32
	partitions int32
	position   *position
}

func newSender(ctx context.Context, c Config, cl *kgo.Client, events *Events, positions map[string]*position) (*sender, error) {
	if c.Registry == nil {
		return nil, errors.New("cannot replay: no schema registry is given")
	}
	partitions, err := ensureTopics(ctx, c, kadm.NewClient(cl))
	if err != nil {
		return nil, err
	}
	s := &sender{Config: c, cl: cl, events: events, topics: map[*project.Source]*topicSender{}, pace: newPacer(c.Speed, c.BaseInterval), id: events.id.sum()}
	for _, sp := range events.spools {
		t, err := s.newTopic(ctx, sp, partitions[sp.source.Topic], positions[sp.source.Topic])
		if err != nil {
			return nil, err
		}
		s.topics[sp.source] = t
	}
	c.Hook("replay.schemas")
	return s, nil
}

// newTopic makes the topic ready and goes to the first event that is not in
// the log yet.
func (s *sender) newTopic(ctx context.Context, sp *spool, partitions int32, at *position) (*topicSender, error) {
	t := &topicSender{partitions: partitions, position: at}
	if at == nil {
		t.position = newPosition(int(partitions))
	}
	var err error
	if t.encoder, err = newEncoder(sp.source); err != nil {
		return nil, err
	}
	if t.schemaID, err = registerSchema(ctx, s.Registry, sp.source); err != nil {
		return nil, err
	}
	first := t.position.next()
	s.before += first
	return t, sp.seek(first)
}

func (s *sender) run(ctx context.Context) (Result, error) {
	produce, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)
	s.abort = abort
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(courtesy, func() { abort(ctx.Err()) })
	})
	defer stop()

	s.inLog.Store(s.before)
	s.meter = startMeter(s.Progress, s.events.Total(), &s.inLog)
	err := s.send(ctx, produce)
	if flushed := s.cl.Flush(produce); err == nil && flushed != nil {
		err = fmt.Errorf("cannot flush events to the log: %w", flushed)
	}
	s.failed.Do(func() {}) // failure is set before or never
	if s.failure != nil {
		err = s.failure
	}
	if err == nil {
		s.Hook("replay.sent")
	}
	result := Result{Events: s.inLog.Load(), Before: s.before, Topics: s.events.Counts()}
	s.meter.stop(err == nil)
	return result, err
}

// send hands over every event that the log does not hold.
func (s *sender) send(ctx, produce context.Context) error {
	var ev Event
	for {
		more, err := s.events.Next(&ev)
		if err != nil || !more {
			return err
		}
		t := s.topics[ev.Source]
		partition := partitionOf(ev.Key, t.partitions)
		if ev.Ordinal <= t.position.last[partition] {
			s.before++
			s.inLog.Add(1)
			continue
		}
		if err := s.pace.wait(ctx, ev.Time); err != nil {
			return err
		}
		record, err := s.record(t, &ev)
		if err != nil {
			return err
		}
		record.Partition = partition
		s.cl.Produce(produce, record, s.promise)
		s.meter.at(&ev)
		s.Hook("replay.record")
		if err := errors.Join(ctx.Err(), produce.Err()); err != nil {
			return err
		}
	}
}

// record encodes an event in Confluent's wire format. Its bytes lie in arenas
// that are freed with their last record. The record's time is set by the
// client when it is produced.
func (s *sender) record(t *topicSender, ev *Event) (*kgo.Record, error) {
	if t.encoder.bound != ev.Batch {
		if err := t.encoder.bindBatch(ev.Batch); err != nil {
			return nil, err
		}
	}
	if cap(s.arena)-len(s.arena) < 2<<10 {
		s.arena = make([]byte, 0, arenaBytes)
	}
	start := len(s.arena)
	b := append(s.arena, ev.Key...)
	keyEnd := len(b)
	b = appendHeader(b, ev.Ordinal, s.id)
	headerEnd := len(b)
	b = binary.BigEndian.AppendUint32(append(b, 0), t.schemaID)
	b, err := t.encoder.appendRow(b, ev.Row)
	if err != nil {
		return nil, err
	}
	if len(b)-start > maxValueBytes {
		return nil, fmt.Errorf("cannot send event %d of topic %s, key %s: it has %d bytes and the log takes %d; shorten it in %s", ev.Ordinal, ev.Source.Topic, ev.Key, len(b)-start, maxValueBytes, ev.Source.Query)
	}
	s.arena = b
	r, header := s.newRecord()
	header[0] = kgo.RecordHeader{Key: HeaderKey, Value: b[keyEnd:headerEnd:headerEnd]}
	r.Topic, r.Key, r.Value, r.Headers = ev.Source.Topic, b[start:keyEnd:keyEnd], b[headerEnd:len(b):len(b)], header
	return r, nil
}

func (s *sender) newRecord() (*kgo.Record, []kgo.RecordHeader) {
	if len(s.records) == 0 {
		s.records = make([]kgo.Record, slabRecords)
		s.headers = make([]kgo.RecordHeader, slabRecords)
	}
	r, h := &s.records[0], s.headers[:1:1]
	s.records, s.headers = s.records[1:], s.headers[1:]
	return r, h
}

// promise counts what the log has taken. After a refusal nothing more is
// sent: a later record of the same partition would hide the gap.
func (s *sender) promise(r *kgo.Record, err error) {
	if err == nil {
		s.inLog.Add(1)
		return
	}
	s.failed.Do(func() {
		s.failure = fmt.Errorf("cannot send to topic %s: %w", r.Topic, err)
		s.abort(s.failure)
	})
}
