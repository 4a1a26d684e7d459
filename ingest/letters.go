package ingest

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// DeadLetterTopic is the topic for the dead letters of a topic. It has one
// partition.
func DeadLetterTopic(topic string) string { return "dlq." + topic }

// Headers of a dead letter. Key, value, time and all other headers are those of
// the record that was judged dead.
const (
	HeaderReason    = "lockstep.dlq.reason"
	HeaderDetail    = "lockstep.dlq.detail"
	HeaderTopic     = "lockstep.dlq.topic"
	HeaderPartition = "lockstep.dlq.partition"
	HeaderOffset    = "lockstep.dlq.offset"
	HeaderSchema    = "lockstep.dlq.schema_id"
	HeaderOmitted   = "lockstep.dlq.value_omitted" // the value was too large to be copied: it is at topic, partition, offset
)

// ownHeaders begins the names of all headers that Lockstep adds.
const ownHeaders = "lockstep."

// ErrFenced says that another ingest of the same project has begun to write
// dead letters. There must be one only.
var ErrFenced = errors.New("another ingest of this project has taken over")

// letterWriter writes dead letters, each once. A step's letters are one
// transaction, and a new writer fences the one before it, so that what it then
// reads back is all there is.
type letterWriter struct {
	*Ingest
	cl   *kgo.Client
	read map[string]int64 // by topic: next offset of its dead letter topic
	made map[string]bool  // dead letter topics that are known to exist

	mu   sync.Mutex
	have map[judged]bool // letters of records that no recorded step has judged
	any  atomic.Bool     // have is not empty
}

// judged is where a record that was judged stood.
type judged struct {
	place
	offset int64
}

func (i *Ingest) newLetterWriter() *letterWriter {
	return &letterWriter{Ingest: i, read: map[string]int64{}, have: map[judged]bool{}, made: map[string]bool{}}
}

// has says whether an earlier run wrote a letter for a record.
func (w *letterWriter) has(r *kgo.Record) bool {
	if !w.any.Load() {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.have[judged{place{r.Topic, r.Partition}, r.Offset}]
}

func transactionalID(project, use string) string { return "lockstep." + project + "." + use }

// open takes over from any writer before and reads back what it wrote after
// the last recorded step.
func (w *letterWriter) open(ctx context.Context) error {
	w.close()
	cl, err := w.cfg.client(
		kgo.TransactionalID(transactionalID(w.cfg.Project.Name, "dead-letters")),
		kgo.TransactionTimeout(30*time.Second), kgo.RequiredAcks(kgo.AllISRAcks()),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(letterBytes),
		kgo.BrokerMaxWriteBytes(4*letterBytes), kgo.MaxBufferedRecords(1<<20), kgo.ProducerLinger(0))
	if err != nil {
		return fmt.Errorf("cannot write dead letters: %w", err)
	}
	w.cl = cl
	if _, _, err := cl.ProducerID(ctx); err != nil {
		return fmt.Errorf("cannot write dead letters: %w", err)
	}
	return w.readBack(ctx)
}

// letterBytes limits a batch of letters; the log's own limit comes first.
const letterBytes = 64 << 20

func (w *letterWriter) close() {
	if w.cl != nil {
		w.cl.CloseAllowingRebalance()
		w.cl = nil
	}
}

// readBack finds letters whose step was not recorded.
func (w *letterWriter) readBack(ctx context.Context) error {
	var topics []string
	of := map[string]string{}
	for name := range w.topics {
		topics = append(topics, DeadLetterTopic(name))
		of[DeadLetterTopic(name)] = name
	}
	from := Offsets{}
	for name := range w.topics {
		from[DeadLetterTopic(name)] = map[int32]int64{0: max(w.read[name], w.records.letters(name))}
	}
	_, end := w.records.last()
	return readRange(ctx, &w.cfg, topics, from, nil, func(r *kgo.Record) {
		name := of[r.Topic]
		w.made[name] = true
		w.read[name] = max(w.read[name], r.Offset+1)
		if p, o, ok := origin(r); ok && o >= end[name][p] {
			w.note(name, p, o)
		}
	})
}

func (w *letterWriter) note(topic string, p int32, o int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.have[judged{place{topic, p}, o}] = true
	w.any.Store(true)
}

// forget drops what is needed no more once the letters' step is recorded.
func (w *letterWriter) forget(letters []letter) {
	if !w.any.Load() {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range letters {
		delete(w.have, judged{place{l.record.Topic, l.record.Partition}, l.record.Offset})
	}
	w.any.Store(len(w.have) > 0)
}

// origin is where the record of a letter stood.
func origin(r *kgo.Record) (partition int32, offset int64, ok bool) {
	p, err1 := strconv.ParseInt(header(r, HeaderPartition), 10, 32)
	o, err2 := strconv.ParseInt(header(r, HeaderOffset), 10, 64)
	return int32(p), o, err1 == nil && err2 == nil
}

func header(r *kgo.Record, key string) string {
	for _, h := range r.Headers {
		if h.Key == key {
			return string(h.Value)
		}
	}
	return ""
}

// write returns when the letters are in the log, and gives the next offsets of
// the dead letter topics. It tries until ctx ends.
func (w *letterWriter) write(ctx context.Context, letters []letter) (map[string]int64, error) {
	pause := 100 * time.Millisecond
	for {
		err := w.try(ctx, letters)
		if err == nil {
			break
		}
		if isFenced(err) {
			return nil, fmt.Errorf("%w: %w", ErrFenced, err)
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		w.log.Warn("cannot write dead letters; trying again", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
		pause = min(2*pause, 5*time.Second)
		// What the failed transaction left, the log knows.
		if err := w.open(ctx); err != nil && ctx.Err() == nil {
			w.log.Warn("cannot read dead letters back; trying again", "error", err)
		}
	}
	next := map[string]int64{}
	for _, l := range letters {
		next[l.record.Topic] = w.read[l.record.Topic]
	}
	return next, nil
}

func isFenced(err error) bool {
	return errors.Is(err, kerr.ProducerFenced) || errors.Is(err, kerr.InvalidProducerEpoch)
}

// try writes the letters that are not there yet in one transaction.
func (w *letterWriter) try(ctx context.Context, letters []letter) error {
	var todo []letter
	for _, l := range letters {
		if !l.written && !w.has(l.record) {
			todo = append(todo, l)
		}
	}
	if len(todo) == 0 {
		return nil
	}
	if w.cl == nil {
		return errors.New("the producer is closed")
	}
	if err := w.makeTopics(ctx, todo); err != nil {
		return err
	}
	if err := w.cl.BeginTransaction(); err != nil {
		return err
	}
	records := make([]*kgo.Record, len(todo))
	for n, l := range todo {
		records[n] = l.letter(false)
	}
	if err := w.produce(ctx, todo, records); err != nil {
		return err
	}
	w.cfg.Hook("ingest.letters.written")
	if err := w.cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return err
	}
	for n, l := range todo {
		name := l.record.Topic
		w.read[name] = max(w.read[name], records[n].Offset+1)
	}
	return nil
}

// produce sends the letters. One that the log finds too large goes without its
// value.
func (w *letterWriter) produce(ctx context.Context, letters []letter, records []*kgo.Record) error {
	for n, r := range records {
		w.cl.Produce(ctx, r, func(_ *kgo.Record, err error) {
			if err != nil {
				r.Context = failedContext{ctx, err}
			}
		})
		if n == 0 {
			w.cfg.Hook("ingest.letters.first")
		}
	}
	if err := w.cl.Flush(ctx); err != nil {
		return err
	}
	for n, r := range records {
		failed, ok := r.Context.(failedContext)
		if !ok {
			continue
		}
		if !errors.Is(failed.err, kerr.MessageTooLarge) || header(r, HeaderOmitted) != "" {
			return failed.err
		}
		records[n] = letters[n].letter(true)
		if err := w.cl.ProduceSync(ctx, records[n]).FirstErr(); err != nil {
			return err
		}
	}
	return nil
}

// failedContext carries a record's error.
type failedContext struct {
	context.Context
	err error
}

func (w *letterWriter) makeTopics(ctx context.Context, letters []letter) error {
	for _, l := range letters {
		name := l.record.Topic
		if w.made[name] {
			continue
		}
		if err := makeLetterTopic(ctx, kadm.NewClient(w.admin), DeadLetterTopic(name)); err != nil {
			return err
		}
		w.made[name] = true
	}
	return nil
}

// makeLetterTopic makes a topic that keeps its records for ever, larger ones
// than the log's default where it allows that.
func makeLetterTopic(ctx context.Context, admin *kadm.Client, topic string) error {
	configs := map[string]*string{"retention.ms": kadm.StringPtr("-1"), "max.message.bytes": kadm.StringPtr(strconv.Itoa(letterBytes))}
	res, err := admin.CreateTopic(ctx, 1, -1, configs, topic)
	if errors.Is(err, kerr.InvalidConfig) || errors.Is(err, kerr.PolicyViolation) || res.Err != nil && !errors.Is(res.Err, kerr.TopicAlreadyExists) {
		res, err = admin.CreateTopic(ctx, 1, -1, nil, topic)
	}
	if err == nil {
		err = res.Err
	}
	if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("cannot make topic %s: %w", topic, err)
	}
	return nil
}

// letter is the record of a dead letter topic.
func (l *letter) letter(omit bool) *kgo.Record {
	r := l.record
	out := &kgo.Record{Topic: DeadLetterTopic(r.Topic), Key: r.Key, Value: r.Value, Timestamp: r.Timestamp}
	add := func(key, value string) {
		out.Headers = append(out.Headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	add(HeaderReason, l.fault.reason)
	add(HeaderDetail, strings.ToValidUTF8(l.fault.detail, "\uFFFD"))
	add(HeaderTopic, r.Topic)
	add(HeaderPartition, strconv.Itoa(int(r.Partition)))
	add(HeaderOffset, strconv.FormatInt(r.Offset, 10))
	if l.schema != 0 {
		add(HeaderSchema, strconv.Itoa(l.schema))
	}
	if omit {
		add(HeaderOmitted, "true")
		out.Value = nil
		return out
	}
	out.Headers = append(out.Headers, r.Headers...)
	return out
}
