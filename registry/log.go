package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// schemaLog keeps a state equal to what _schemas says, and writes to it.
type schemaLog struct {
	client  *kgo.Client
	topic   string
	timeout time.Duration
	log     *slog.Logger
	stop    context.CancelFunc
	done    chan struct{}

	mu      sync.RWMutex // guards what follows
	state   *state
	next    int64         // offset after the last applied record
	changed chan struct{} // closed when next grows

	writing sync.Mutex // one write at a time: it decides by the state
	pending *outcome   // of a write that was given up waiting for; under writing
}

// outcome is what became of records that were handed to the client. Its fields
// are set when done is closed.
type outcome struct {
	done chan struct{}
	next int64 // offset after the last record
	err  error
}

// openLog reads the topic to its end and goes on following it.
func openLog(ctx context.Context, client *kgo.Client, topic string, state *state, timeout time.Duration, log *slog.Logger) (*schemaLog, error) {
	ends, err := kadm.NewClient(client).ListEndOffsets(ctx, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("cannot find the end of topic %s: %w", topic, err)
	}
	end, ok := ends.Lookup(topic, 0)
	if !ok {
		return nil, fmt.Errorf("cannot find the end of topic %s: it has no partition 0", topic)
	}
	run, stop := context.WithCancel(context.Background())
	l := &schemaLog{
		client: client, topic: topic, timeout: timeout, log: log, stop: stop,
		done: make(chan struct{}), state: state, changed: make(chan struct{}),
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}})
	go l.follow(run)
	if err := l.await(ctx, end.Offset); err != nil {
		l.close()
		return nil, fmt.Errorf("cannot read topic %s to offset %d: %w", topic, end.Offset, err)
	}
	return l, nil
}

func (l *schemaLog) close() {
	l.stop()
	<-l.done
}

// follow applies the topic's records in order.
func (l *schemaLog) follow(ctx context.Context) {
	defer close(l.done)
	for {
		fetches := l.client.PollFetches(ctx)
		if ctx.Err() != nil || fetches.IsClientClosed() {
			return
		}
		fetches.EachError(func(_ string, _ int32, err error) {
			l.log.Warn("cannot read the registry's topic, trying again", "topic", l.topic, "error", err)
		})
		if records := fetches.Records(); len(records) > 0 {
			l.apply(records)
		}
	}
}

func (l *schemaLog) apply(records []*kgo.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if err := l.state.apply(r); err != nil {
			l.log.Warn("passed over a record of the registry's topic", "topic", l.topic, "offset", r.Offset, "error", err)
		}
		l.next = r.Offset + 1
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// await blocks until all records below the offset are applied.
func (l *schemaLog) await(ctx context.Context, offset int64) error {
	for {
		l.mu.RLock()
		next, changed := l.next, l.changed
		l.mu.RUnlock()
		if next >= offset {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
			return errors.New("the registry is closed")
		}
	}
}

// read calls fn with the state as it is.
func (l *schemaLog) read(fn func(*state) error) error {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return fn(l.state)
}

// write lets decide look at the state and name the records to write, and comes
// back when they are in the log and applied. Writes are one after another, so
// what decide saw still holds. No records: nothing is to be done.
func (l *schemaLog) write(ctx context.Context, decide func(*state) ([]entry, error)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	// A client that goes away must not leave a half-known write.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
	defer cancel()
	if err := l.settle(ctx); err != nil {
		return storeError(err)
	}
	var entries []entry
	err := l.read(func(s *state) (err error) {
		entries, err = decide(s)
		return err
	})
	if err != nil || len(entries) == 0 {
		return err
	}
	return l.append(ctx, entries)
}

// settle waits until the outcome of a write that was given up is known and
// shows in the state. The client sends such a write as soon as it can.
func (l *schemaLog) settle(ctx context.Context) error {
	if l.pending == nil {
		return nil
	}
	select {
	case <-l.pending.done:
	case <-ctx.Done():
		return ctx.Err()
	}
	next := l.pending.next
	if l.pending.err != nil {
		// It may be in the log all the same; behind this record it would show.
		o := l.send(&kgo.Record{Topic: l.topic, Key: []byte(`{"keytype":"NOOP","magic":0}`)})
		select {
		case <-o.done:
		case <-ctx.Done():
			return ctx.Err()
		}
		if o.err != nil {
			return o.err
		}
		next = o.next
	}
	if err := l.await(ctx, next); err != nil {
		return err
	}
	l.pending = nil
	return nil
}

func (l *schemaLog) append(ctx context.Context, entries []entry) error {
	var records []*kgo.Record
	for _, e := range entries {
		r, err := e.record(l.topic)
		if err != nil {
			return fmt.Errorf("cannot encode a record of the registry: %w", err)
		}
		records = append(records, r)
	}
	l.pending = l.send(records...)
	select {
	case <-l.pending.done:
		if err := l.pending.err; err != nil {
			return storeError(err)
		}
	case <-ctx.Done():
		return storeError(ctx.Err())
	}
	if err := l.await(ctx, l.pending.next); err != nil {
		return storeError(err)
	}
	l.pending = nil
	return nil
}

// send hands records to the client, which keeps trying: a record that may be
// under way cannot be called back.
func (l *schemaLog) send(records ...*kgo.Record) *outcome {
	o := &outcome{done: make(chan struct{})}
	left := len(records)
	for _, r := range records {
		l.client.Produce(context.Background(), r, func(r *kgo.Record, err error) {
			if err != nil && o.err == nil {
				o.err = err
			}
			o.next = max(o.next, r.Offset+1)
			if left--; left == 0 { // the client calls back one at a time
				close(o.done)
			}
		})
	}
	return o
}

func storeError(err error) error {
	if errors.Is(err, context.DeadlineExceeded) {
		return fail(codeStoreTimeout, "Write to the log timed out: its outcome is not known; try again: %v", err)
	}
	return fail(codeStoreError, "Error in the backend data store: the log did not take the write: %v", err)
}
