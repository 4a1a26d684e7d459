package ingest

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Letter is a dead letter.
type Letter struct {
	ID        string    `json:"id"` // topic/number, by which Filter finds it
	Reason    string    `json:"reason"`
	Detail    string    `json:"detail"`
	Topic     string    `json:"topic"`
	Partition int32     `json:"partition"`
	Offset    int64     `json:"offset"`
	SchemaID  int       `json:"schema_id,omitempty"`
	Time      time.Time `json:"time"` // of the record
	Key       string    `json:"key"`  // preview: text where it is text, else hexadecimal
	Value     string    `json:"value"`
	Bytes     int       `json:"bytes"` // of the value
	Done      bool      `json:"done"`  // it was replayed
	Replayed  string    `json:"replayed,omitempty"`
	Headers   []Header  `json:"headers,omitempty"` // of the record

	number int64 // offset in the dead letter topic
	record *kgo.Record
}

// Raw gives key and value of the record as they were; the value is missing
// where the letter says that it was left out.
func (l *Letter) Raw() (key, value []byte) {
	if l.record == nil {
		return nil, nil
	}
	return l.record.Key, l.record.Value
}

// Header is a header of a record, its value as a preview.
type Header struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// LetterFilter chooses dead letters. Its zero value is: all that are not done.
type LetterFilter struct {
	Topic  string   // empty: of all topics
	Reason string   // empty: all reasons
	IDs    []string // empty: all
	Done   bool     // also those that were replayed
	Limit  int      // the newest so many of each topic; 0: all
}

// wants gives a function that says whether a letter is chosen.
func (f *LetterFilter) wants() func(*Letter) bool {
	ids := make(map[string]bool, len(f.IDs))
	for _, id := range f.IDs {
		ids[id] = true
	}
	return func(l *Letter) bool {
		return (f.Reason == "" || f.Reason == l.Reason) && (f.Done || !l.Done) && (len(ids) == 0 || ids[l.ID])
	}
}

// Letters is access to the dead letters of a project. It needs the log only.
type Letters struct {
	cfg    Config
	topics []string
	hook   func(string)
	log    *slog.Logger
}

// NewLetters gives access to the dead letters of cfg.Project through the log
// at cfg.Brokers; nothing else of cfg is needed.
func NewLetters(cfg Config) *Letters {
	l := &Letters{cfg: cfg, hook: cfg.Hook, log: cfg.Log}
	if l.hook == nil {
		l.hook = func(string) {}
	}
	if l.log == nil {
		l.log = slog.Default()
	}
	for _, s := range cfg.Project.Sources {
		l.topics = append(l.topics, s.Topic)
	}
	sort.Strings(l.topics)
	return l
}

// Letters is access to the dead letters of the project that is taken in.
func (i *Ingest) Letters() *Letters { return NewLetters(i.cfg) }

// DeadLetters lists dead letters in order of topic and age.
func (i *Ingest) DeadLetters(ctx context.Context, f LetterFilter) ([]Letter, error) {
	return NewLetters(i.cfg).List(ctx, f)
}

// ReplayLetters sends the records of dead letters to their topics again, and
// says how many. See Letters.Replay.
func (i *Ingest) ReplayLetters(ctx context.Context, f LetterFilter) (int, error) {
	return NewLetters(i.cfg).Replay(ctx, f)
}

// doneTopic holds a mark for each dead letter of a topic that was replayed: its
// key is the letter's number, its value the time of the replay.
func doneTopic(topic string) string { return DeadLetterTopic(topic) + ".done" }

// List lists dead letters in order of topic and age.
func (l *Letters) List(ctx context.Context, f LetterFilter) ([]Letter, error) {
	var out []Letter
	for _, topic := range l.topics {
		if f.Topic != "" && f.Topic != topic {
			continue
		}
		letters, err := l.of(ctx, topic, f)
		if err != nil {
			return nil, err
		}
		out = append(out, letters...)
	}
	return out, nil
}

func (l *Letters) of(ctx context.Context, topic string, f LetterFilter) ([]Letter, error) {
	var out []Letter
	wants := f.wants()
	done := map[string]string{}
	err := readRange(ctx, &l.cfg, []string{doneTopic(topic)}, Offsets{}, nil, func(r *kgo.Record) { done[string(r.Key)] = string(r.Value) })
	if err != nil {
		return nil, fmt.Errorf("cannot read which dead letters are done: %w", err)
	}
	err = readRange(ctx, &l.cfg, []string{DeadLetterTopic(topic)}, Offsets{}, nil, func(r *kgo.Record) {
		letter := letterOf(topic, r)
		letter.Replayed, letter.Done = done[strconv.FormatInt(r.Offset, 10)]
		if !wants(&letter) {
			return
		}
		out = append(out, letter)
		if f.Limit > 0 && len(out) > 2*f.Limit {
			out = append(out[:0], out[len(out)-f.Limit:]...)
		}
	})
	if err != nil {
		return nil, fmt.Errorf("cannot read dead letters: %w", err)
	}
	if f.Limit > 0 && len(out) > f.Limit {
		out = out[len(out)-f.Limit:]
	}
	return out, nil
}

func letterOf(topic string, r *kgo.Record) Letter {
	p, o, _ := origin(r)
	schema, _ := strconv.Atoi(header(r, HeaderSchema))
	l := Letter{ID: fmt.Sprintf("%s/%d", topic, r.Offset), Reason: header(r, HeaderReason), Detail: header(r, HeaderDetail), Topic: topic,
		Partition: p, Offset: o, SchemaID: schema, Time: r.Timestamp.UTC(), Key: preview(r.Key), Value: preview(r.Value), Bytes: len(r.Value), number: r.Offset, record: r}
	for _, h := range r.Headers {
		if !strings.HasPrefix(h.Key, ownHeaders) {
			l.Headers = append(l.Headers, Header{h.Key, preview(h.Value)})
		}
	}
	return l
}

const previewBytes = 200

// preview shows bytes as text where they are, else as hexadecimal digits.
func preview(b []byte) string {
	cut := b
	if len(cut) > previewBytes {
		cut = cut[:previewBytes]
		for len(cut) > previewBytes-4 && !utf8.Valid(cut) {
			cut = cut[:len(cut)-1]
		}
	}
	more := ""
	if len(cut) < len(b) {
		more = fmt.Sprintf("… (%d bytes)", len(b))
	}
	if utf8.Valid(cut) && !strings.ContainsFunc(string(cut), func(r rune) bool { return !unicode.IsPrint(r) && r != '\n' && r != '\t' }) {
		return string(cut) + more
	}
	return "0x" + hex.EncodeToString(cut) + more
}

// Count counts letters by topic and reason.
func Count(letters []Letter) map[string]map[string]int {
	n := map[string]map[string]int{}
	for _, l := range letters {
		if n[l.Topic] == nil {
			n[l.Topic] = map[string]int{}
		}
		n[l.Topic][l.Reason]++
	}
	return n
}

// replayedAtOnce limits the letters of one transaction.
const replayedAtOnce = 500

// Replay sends the original records of dead letters to their topics again,
// where they are judged as any other record, and marks the letters as done. It
// gives the number of letters that this call did.
//
// A record and its mark are one transaction, and a replay fences the one before
// it: however often it is interrupted and begun again, each letter is replayed
// once.
func (l *Letters) Replay(ctx context.Context, f LetterFilter) (int, error) {
	cl, err := l.cfg.client(kgo.TransactionalID(transactionalID(l.cfg.Project.Name, "letter-replay")), kgo.TransactionTimeout(30*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(letterBytes), kgo.BrokerMaxWriteBytes(4*letterBytes), kgo.ProducerLinger(0))
	if err != nil {
		return 0, fmt.Errorf("cannot replay dead letters: %w", err)
	}
	defer cl.CloseAllowingRebalance()
	// After this no earlier replay can mark anything any more.
	if _, _, err := cl.ProducerID(ctx); err != nil {
		return 0, fmt.Errorf("cannot replay dead letters: %w", err)
	}
	f.Done = false
	letters, err := l.List(ctx, f)
	if err != nil {
		return 0, err
	}
	if err := l.makeDoneTopics(ctx, kadm.NewClient(cl), letters); err != nil {
		return 0, err
	}
	n := 0
	for chunk := range slices.Chunk(letters, replayedAtOnce) {
		if err := l.replay(ctx, cl, chunk); err != nil {
			return n, fmt.Errorf("cannot replay dead letters (%d of %d are done; run it again for the rest): %w", n, len(letters), err)
		}
		n += len(chunk)
	}
	return n, nil
}

func (l *Letters) makeDoneTopics(ctx context.Context, admin *kadm.Client, letters []Letter) error {
	made := map[string]bool{}
	for _, letter := range letters {
		if topic := doneTopic(letter.Topic); !made[topic] {
			made[topic] = true
			res, err := admin.CreateTopic(ctx, 1, -1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, topic)
			if err == nil && !errors.Is(res.Err, kerr.TopicAlreadyExists) {
				err = res.Err
			}
			if err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
				return fmt.Errorf("cannot make topic %s: %w", topic, err)
			}
		}
	}
	return nil
}

// replay sends records and marks in one transaction.
func (l *Letters) replay(ctx context.Context, cl *kgo.Client, letters []Letter) error {
	var records []*kgo.Record
	for n := range letters {
		r, err := l.original(ctx, &letters[n])
		if err != nil {
			return err
		}
		mark := &kgo.Record{Topic: doneTopic(letters[n].Topic), Key: []byte(strconv.FormatInt(letters[n].number, 10)), Value: []byte(time.Now().UTC().Format(time.RFC3339))}
		records = append(records, r, mark)
	}
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	if err := cl.ProduceSync(ctx, records...).FirstErr(); err != nil {
		abort, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(err, cl.AbortBufferedRecords(abort), cl.EndTransaction(abort, kgo.TryAbort))
	}
	l.hook("dlq.replay.sent")
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		return err
	}
	l.hook("dlq.replay.done")
	return nil
}

// original is the record that a letter was made of, without headers of ours:
// it is not an event of a replay any more. Its time is kept.
func (l *Letters) original(ctx context.Context, letter *Letter) (*kgo.Record, error) {
	from := letter.record
	if header(from, HeaderOmitted) != "" {
		var found *kgo.Record
		start := Offsets{letter.Topic: {letter.Partition: letter.Offset}}
		end := Offsets{letter.Topic: {letter.Partition: letter.Offset + 1}}
		err := readRange(ctx, &l.cfg, []string{letter.Topic}, start, end, func(r *kgo.Record) { found = r })
		if err == nil && (found == nil || found.Offset != letter.Offset) {
			err = errors.New("the log does not hold it any more")
		}
		if err != nil {
			return nil, fmt.Errorf("cannot read the record of letter %s: %w", letter.ID, err)
		}
		from = found
	}
	r := &kgo.Record{Topic: letter.Topic, Partition: letter.Partition, Key: from.Key, Value: from.Value, Timestamp: from.Timestamp}
	for _, h := range from.Headers {
		if !strings.HasPrefix(h.Key, ownHeaders) {
			r.Headers = append(r.Headers, h)
		}
	}
	return r, nil
}
