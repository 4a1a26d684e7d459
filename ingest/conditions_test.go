package ingest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/lake"
	"lockstep/project"
	"lockstep/registry"
)

// stops waits until topic thing has stopped with a message, and checks that
// note still flows.
func (r *running) stops(note encoder, message string) {
	r.w.t.Helper()
	eventually(r.w.t, func() (bool, string) {
		m := r.Metrics().Topics["thing"]
		return m.State == Stopped && strings.Contains(m.Message, message), fmt.Sprintf("%+v", m)
	})
	before := r.Metrics().Topics["note"].Accepted
	r.w.produce(record("note", 0, "1", note.value(r.w.t, map[string]any{"n": 1})))
	eventually(r.w.t, func() (bool, string) {
		return r.Metrics().Topics["note"].Accepted == before+1, "note does not flow"
	})
}

func TestTopicMadeAnew(t *testing.T) {
	w := newWorld(t)
	thing, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	w.things(thing, 0, 10)
	r := w.run(nil)
	r.caughtUp()
	rows := w.bronzeRows(r.lake, "bronze.thing")
	w.deleteTopic("thing")
	if err := w.broker.EnsureTopic(context.Background(), "thing", 2, nil); err != nil {
		t.Fatal(err)
	}
	w.producer.PurgeTopicsFromClient("thing")
	w.things(thing, 100, 20)
	r.stops(note, "made anew")
	same(t, "bronze", w.bronzeRows(r.lake, "bronze.thing"), rows)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	r = w.run(nil)
	r.stops(note, "made anew")
	same(t, "bronze after a restart", w.bronzeRows(r.lake, "bronze.thing"), rows)
}

func TestTopicDeleted(t *testing.T) {
	w := newWorld(t)
	thing, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	w.things(thing, 0, 10)
	r := w.run(nil)
	r.caughtUp()
	w.deleteTopic("thing")
	r.stops(note, "is gone")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.run(nil).stops(note, "is gone")
}

func TestLogLostRecords(t *testing.T) {
	w := newWorld(t)
	thing, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	w.things(thing, 0, 10)
	r := w.run(nil)
	r.caughtUp()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.things(thing, 10, 10)
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: "thing", Partition: 1, At: 8})
	if _, err := kadm.NewClient(w.producer).DeleteRecords(context.Background(), at); err != nil {
		t.Fatal(err)
	}
	r = w.run(nil)
	r.stops(note, "offset 5 to 7 were removed")
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
}

func TestLogEndsTooEarly(t *testing.T) {
	s := &logState{id: "a", start: map[int32]int64{0: 0}, high: map[int32]int64{0: 7}}
	err := checkTopic(s, fact{Topic: "x", ID: "a", From: map[int32]int64{0: 0}}, map[int32]int64{0: 8})
	if err == nil || !strings.Contains(err.Error(), "ends at offset 7") {
		t.Errorf("got %v", err)
	}
}

// TestStepRecordsDamaged: a torn end is cut, damage in the middle is refused.
func TestStepRecordsDamaged(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	for range 3 {
		w.things(e, 0, 5)
		r := w.run(nil)
		r.caughtUp()
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(w.state, "ingest", recordsFile)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	open := func() (*records, bool, error) {
		return openRecords(filepath.Dir(path), func(string) {})
	}
	whole, _, err := open()
	if err != nil {
		t.Fatal(err)
	}
	last, end := whole.last()
	whole.close()
	for cut := 0; cut < len(text); cut += 13 {
		if err := os.WriteFile(path, text[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		r, found, err := open()
		if err != nil {
			t.Fatalf("cut to %d bytes: %v", cut, err)
		}
		if lines := bytes.Count(text[:cut], []byte("\n")); found != (lines > 0) {
			t.Fatalf("cut to %d bytes: found %v", cut, found)
		}
		if info, _ := os.Stat(path); found && info.Size() != int64(bytes.LastIndexByte(text[:cut], '\n')+1) {
			t.Fatalf("cut to %d bytes: %d are left", cut, info.Size())
		}
		r.close()
	}
	lastLine := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for i := 0; i < len(text); i += 7 {
		if i == lastLine-1 {
			continue // then the last line has no beginning
		}
		bad := slices.Clone(text)
		bad[i] ^= 4
		if err := os.WriteFile(path, bad, 0o644); err != nil {
			t.Fatal(err)
		}
		r, _, err := open()
		if i < lastLine && (err == nil || !strings.Contains(err.Error(), "line ")) {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if i >= lastLine && err != nil {
			t.Fatalf("byte %d changed: %v", i, err)
		}
		if err == nil {
			r.close()
		}
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
	again, _, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if l, e := again.last(); l != last || !covers(e, end) {
		t.Errorf("read again: step %d, want %d", l, last)
	}
}

// TestStepRecordsLost: numbering goes on above every known step, rows stay
// once, and a consumer is told to build its state anew.
func TestStepRecordsLost(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	more := w.encoder("thing", thingMore)
	speed := &collector{}
	w.things(e, 0, 20)
	w.produce(record("thing", 0, "x", []byte("poison")), record("thing", 0, "a", more.value(t, map[string]any{"id": "a", "colour": "red", "tags": []string{}, "count": 1})))
	r := w.run(speed)
	r.caughtUp()
	r.stop()
	if err := os.Remove(filepath.Join(w.state, "ingest", recordsFile)); err != nil {
		t.Fatal(err)
	}
	w.things(e, 20, 20)
	w.produce(record("thing", 0, "a", more.value(t, map[string]any{"id": "a", "colour": "blue", "tags": []string{}, "count": 1})))
	speed.last += 3 // it knows steps that bronze does not
	r = w.run(speed, func(c *Config) { c.MinStep = speed.last })
	if err := r.wait(); !errors.Is(err, ErrStepsLost) {
		t.Fatalf("Run ended with %v", err)
	}
	fresh := &collector{}
	r = w.run(nil, func(c *Config) { c.MinStep = speed.last })
	c := r.Committed()
	if c.Step <= speed.last {
		t.Errorf("bronze is at step %d, the consumer was at %d", c.Step, speed.last)
	}
	r.caughtUp()
	r.stop()
	fresh.last = c.Step
	r = w.run(fresh)
	r.caughtUp()
	if n := len(fresh.sorted("bronze.thing")); n != 21 {
		t.Errorf("the new consumer got %d rows after step %d, want 21", n, c.Step)
	}
	if n := len(slices.Compact(placesOf(w.bronzeRows(r.lake, "bronze.thing")))); n != 42 {
		t.Errorf("bronze has %d rows, want 42", n)
	}
	if l, err := r.DeadLetters(context.Background(), LetterFilter{}); err != nil || len(l) != 1 {
		t.Errorf("letters: %v, %v", l, err)
	}
}

func TestBronzeRemoved(t *testing.T) {
	w := newWorld(t)
	w.things(w.encoder("thing", thingSchema), 0, 20)
	r := w.run(nil)
	r.caughtUp()
	step := r.Committed().Step
	r.Prune(step + 1)
	if _, err := r.StepEnd(step - 2); err == nil && step > 2 {
		t.Error("a pruned step has an end")
	}
	if _, err := r.StepEnd(step); err != nil {
		t.Error(err)
	}
	r.stop()
	// Nothing is lost while the log and the records have it.
	l := w.lake()
	if err := l.Drop(context.Background(), "bronze.thing"); err != nil {
		t.Fatal(err)
	}
	i, err := Open(context.Background(), w.config(l))
	if err == nil {
		i.Close()
	}
	if err == nil && step > 1 || err != nil && !strings.Contains(err.Error(), "Restore the lake") {
		t.Errorf("without its table: %v", err)
	}
	l.Close()
}

// TestAbortedTransactions: their records take offsets, but no rows, and no lag
// stays.
func TestAbortedTransactions(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	txn, err := kgo.NewClient(append(w.broker.ClientOpts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("t"))...)
	if err != nil {
		t.Fatal(err)
	}
	defer txn.Close()
	r := w.run(nil)
	for i := range 6 {
		value := e.value(t, map[string]any{"id": "a", "count": i})
		err := errors.Join(txn.BeginTransaction(), txn.ProduceSync(context.Background(), record("thing", 0, "a", value)).FirstErr(),
			txn.EndTransaction(context.Background(), kgo.TransactionEndTry(i%2 == 0)))
		if err != nil {
			t.Fatal(err)
		}
		r.caughtUp()
	}
	if n := len(w.bronzeRows(r.lake, "bronze.thing")); n != 3 {
		t.Errorf("%d rows, want 3", n)
	}
}

func TestTail(t *testing.T) {
	w := newWorld(t)
	e, more := w.encoder("thing", thingSchema), w.encoder("thing", thingMore)
	speed := &collector{}
	r := w.run(speed, func(c *Config) { c.StepRows = 7 })
	for i := range 5 {
		w.things(e, i*10, 10)
		w.produce(record("thing", 1, "p", []byte("poison")), record("thing", 0, "a", more.value(t, map[string]any{"id": "a", "colour": "red", "tags": []string{}, "count": 1})), record("thing", 0, "a", nil))
		r.caughtUp()
	}
	for _, span := range [][2]int64{{0, speed.last}, {speed.last / 2, speed.last}, {1, 2}} {
		from, err1 := r.StepEnd(span[0])
		to, err2 := r.StepEnd(span[1])
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		batches, err := r.Tail(context.Background(), from, to)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []string
		for _, b := range batches["bronze.thing"] {
			got = append(got, texts(b)...)
		}
		for _, s := range speed.steps[span[0]:span[1]] {
			for _, b := range s.Rows["bronze.thing"] {
				want = append(want, texts(b)...)
			}
		}
		sort.Strings(got)
		sort.Strings(want)
		same(t, fmt.Sprint("steps ", span), got, want)
	}
}

func TestNewTopicPartitions(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	w.things(e, 0, 10)
	r := w.run(nil)
	r.caughtUp()
	if _, err := kadm.NewClient(w.producer).CreatePartitions(context.Background(), 1, "thing"); err != nil {
		t.Fatal(err)
	}
	w.producer.ForceMetadataRefresh()
	eventually(t, func() (bool, string) {
		err := w.producer.ProduceSync(context.Background(), record("thing", 2, "a", e.value(t, map[string]any{"id": "a"}))).FirstErr()
		return err == nil, fmt.Sprint(err)
	})
	r.caughtUp()
	r.stop()
	speed := &collector{}
	r = w.run(speed)
	r.caughtUp()
	same(t, "consumer", speed.sorted("bronze.thing"), w.bronzeRows(r.lake, "bronze.thing"))
	if n := len(speed.sorted("bronze.thing")); n != 11 {
		t.Errorf("%d rows, want 11", n)
	}
}

// TestUpkeep: many commits leave few files and few snapshots, and what is named
// stays.
func TestUpkeep(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	var spared atomic.Int64
	r := w.run(nil, func(c *Config) {
		c.MaintainEvery = 5
		c.CommitEvery = time.Hour // by CommitNow
		c.Upkeep = lake.Upkeep{CompactFiles: 3, CompactBelow: 1 << 30, KeepSnapshots: 2, ExpireAtMost: 100}
		c.Spare = func() map[string][]int64 { return map[string][]int64{"bronze.thing": {spared.Load()}} }
	})
	for i := range 23 {
		w.things(e, i, 1)
		r.caughtUp()
		if i == 2 {
			spared.Store(r.Committed().Tables["bronze.thing"])
		}
	}
	ctx := context.Background()
	snapshots, err := r.lake.Snapshots(ctx, "bronze.thing")
	if err != nil || len(snapshots) > 12 {
		t.Errorf("%d snapshots, %v", len(snapshots), err)
	}
	if s, err := r.lake.Scan(ctx, "bronze.thing", spared.Load()); err != nil || s.Rows != 3 {
		t.Errorf("the spared snapshot: %+v, %v", s, err)
	}
	s, err := r.lake.Scan(ctx, "bronze.thing", r.Committed().Tables["bronze.thing"])
	if err != nil || s.Rows != 23 || len(s.Files) > 12 {
		t.Errorf("the newest snapshot: %+v, %v", s, err)
	}
	if m := r.Metrics(); m.Upkeeps < 4 || m.UpkeepErrors > 0 {
		t.Errorf("%+v", m)
	}
}

// TestLakeFailsForAWhile: commits are tried again, ingest waits rather than
// fill the memory, and says so.
func TestLakeFailsForAWhile(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	var full atomic.Bool
	full.Store(true)
	l, err := lake.OpenWith(context.Background(), filepath.Join(w.state, "other"), lake.Options{Logger: testLog(), Hook: func(e lake.Event) error {
		if e.Point == lake.PointFiles && full.Load() {
			return errors.New("no space left on device")
		}
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := w.run(nil, func(c *Config) { c.Lake, c.StepRows, c.BufferRows = l, 10, 50 })
	w.things(e, 0, 200)
	eventually(t, func() (bool, string) {
		m := r.Metrics()
		return strings.Contains(m.Failure, "no space") && m.WaitingForBronze >= 40, fmt.Sprintf("%+v", m)
	})
	full.Store(false)
	r.caughtUp()
	if n := len(w.bronzeRows(l, "bronze.thing")); n != 200 {
		t.Errorf("%d rows, want 200", n)
	}
	if m := r.Metrics(); m.Failure != "" || m.WaitingForBronze != 0 {
		t.Errorf("%+v", m)
	}
	r.stop()
}

// TestLetterTooLargeForItsTopic: a letter that the log refuses goes without its
// value, and is replayed from the original.
func TestLetterTooLargeForItsTopic(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	if err := w.broker.EnsureTopic(context.Background(), DeadLetterTopic("thing"), 1, map[string]string{"max.message.bytes": "2000"}); err != nil {
		t.Fatal(err)
	}
	noise := rand.New(rand.NewPCG(1, 2)) // does not compress
	var id string
	for len(id) < 5000 {
		id += strconv.FormatUint(noise.Uint64(), 36)
	}
	w.produce(record("thing", 0, "a", []byte("poison")), record("thing", 1, "b", e.value(t, map[string]any{"id": id})), record("thing", 0, "c", []byte("poison")))
	r := w.run(nil, func(c *Config) { c.MaxRecordBytes = 4000 })
	r.caughtUp()
	letters, err := r.DeadLetters(context.Background(), LetterFilter{Reason: ReasonTooLarge})
	if err != nil || len(letters) != 1 || letters[0].Bytes != 0 {
		t.Fatalf("letters: %+v, %v", letters, err)
	}
	r.stop()
	r = w.run(nil)
	if n, err := r.ReplayLetters(context.Background(), LetterFilter{Reason: ReasonTooLarge}); n != 1 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	r.caughtUp()
	if rows := w.bronzeRows(r.lake, "bronze.thing"); len(rows) != 1 || !strings.Contains(rows[0], id) {
		t.Errorf("rows: %v", rows)
	}
	if l, err := r.DeadLetters(context.Background(), LetterFilter{}); err != nil || len(l) != 2 {
		t.Errorf("letters that are left: %+v, %v", l, err)
	}
}

// reset is a registry that was made anew: its ids stand for other schemas.
type reset struct{ *registry.Client }

func (r reset) SchemaByID(ctx context.Context, id int) (*avro.Schema, error) {
	return avro.MustParse(thingLong), nil
}

func TestRegistryMadeAnew(t *testing.T) {
	w := newWorld(t)
	e, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	w.things(e, 0, 10)
	r := w.run(nil)
	r.caughtUp()
	r.stop()
	w.things(e, 10, 10)
	other := &flakyNote{reset{w.client}, w.client, note.id}
	r = w.run(nil, func(c *Config) { c.Registry = other })
	r.stops(note, "gives another schema for id")
	if n := len(w.bronzeRows(r.lake, "bronze.thing")); n != 10 {
		t.Errorf("%d rows, want 10", n)
	}
}

// flakyNote is right about one schema.
type flakyNote struct {
	reset
	right *registry.Client
	id    int
}

func (f *flakyNote) SchemaByID(ctx context.Context, id int) (*avro.Schema, error) {
	if id == f.id {
		return f.right.SchemaByID(ctx, id)
	}
	return f.reset.SchemaByID(ctx, id)
}

// TestTwoWriters: two ingests without poison go on side by side; each row is
// there once.
func TestTwoWriters(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	first := w.run(nil)
	second := w.run(nil, func(c *Config) { c.Dir, c.CommitEvery = filepath.Join(w.state, "other"), 37*time.Millisecond })
	for i := range 60 {
		w.things(e, i*5, 5)
	}
	first.caughtUp()
	second.caughtUp()
	rows := placesOf(w.bronzeRows(first.lake, "bronze.thing"))
	if n := len(slices.Compact(slices.Clone(rows))); n != 300 || len(rows) != 300 {
		t.Errorf("%d rows, %d of them different, want 300", len(rows), n)
	}
	first.stop()
	second.stop()
	// Whoever of them goes on finds the rows of the other.
	w.things(e, 300, 10)
	r := w.run(nil)
	r.caughtUp()
	if n := len(w.bronzeRows(r.lake, "bronze.thing")); n != 310 {
		t.Errorf("%d rows, want 310", n)
	}
}

func TestSecondProcessOnTheSameFolder(t *testing.T) {
	w := newWorld(t)
	w.run(nil)
	l := w.lake()
	defer l.Close()
	if _, err := Open(context.Background(), w.config(l)); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("got %v", err)
	}
}

// TestProjectAdoptsField: a field that came by itself becomes the project's.
func TestProjectAdoptsField(t *testing.T) {
	w := newWorld(t)
	more := w.encoder("thing", thingMore)
	put := func(id string) {
		w.produce(record("thing", 0, id, more.value(t, map[string]any{"id": id, "colour": "red", "tags": []string{}, "count": 1})))
	}
	put("a")
	r := w.run(nil)
	r.caughtUp()
	r.stop()
	p := *w.project
	p.Sources = slices.Clone(p.Sources)
	for i, s := range p.Sources {
		if s.Topic == "thing" {
			own := *s
			own.Schema = []byte(strings.Replace(thingSchema, `{"name":"count"`, `{"name":"colour","type":["null","string"],"default":null},{"name":"count"`, 1))
			own.Fields, _ = project.AvroColumns(own.Schema)
			p.Sources[i] = &own
		}
	}
	w.project = &p
	put("b")
	speed := &collector{}
	r = w.run(speed)
	r.caughtUp()
	rows := speed.sorted("bronze.thing")
	if len(rows) != 2 || !strings.Contains(rows[0], "colour=red") || !strings.Contains(rows[1], "colour=red") {
		t.Errorf("rows: %v", rows)
	}
}

// TestConsumerBehindLostRecords: a consumer whose steps cannot be formed again
// is told to build its state from bronze; after that the others flow.
func TestConsumerBehindLostRecords(t *testing.T) {
	w := newWorld(t)
	thing, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	w.things(thing, 0, 20)
	r := w.run(nil)
	r.caughtUp()
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	w.things(thing, 20, 10)
	var at kadm.Offsets
	at.Add(kadm.Offset{Topic: "thing", Partition: 0, At: 12})
	if _, err := kadm.NewClient(w.producer).DeleteRecords(context.Background(), at); err != nil {
		t.Fatal(err)
	}
	r = w.run(&collector{})
	if err := r.wait(); !errors.Is(err, ErrStepsLost) {
		t.Fatalf("Run ended with %v", err)
	}
	speed := &collector{}
	r = w.run(nil)
	speed.last = r.Committed().Step
	r.stop()
	r = w.run(speed)
	r.stops(note, "offset 10 to 11 were removed")
	r.stop()
}

// TestLetterReplayInterrupted ends replays of letters at each point and begins
// them again: each record is in the log once more, not more often.
func TestLetterReplayInterrupted(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingSchema)
	for range 30 {
		value := e.value(t, map[string]any{"id": "a"})
		w.produce(record("thing", 0, "a", value[:len(value)-1]))
	}
	r := w.run(nil)
	r.caughtUp()
	for _, point := range []string{"dlq.replay.sent", "dlq.replay.sent", "dlq.replay.done"} {
		ctx, cancel := context.WithCancel(context.Background())
		cfg := Config{Project: w.project, Brokers: w.addrs, Log: testLog(), Hook: func(p string) {
			if p == point {
				cancel()
			}
		}}
		n, err := NewLetters(cfg).Replay(ctx, LetterFilter{})
		t.Logf("%s: %d, %v", point, n, err)
		cancel()
	}
	r.caughtUp()
	open, err := r.DeadLetters(context.Background(), LetterFilter{})
	if err != nil || len(open) != 30 { // they were judged dead again
		t.Errorf("%d letters are open, want 30; %v", len(open), err)
	}
	if n := len(w.readTopic("thing")); n != 60 {
		t.Errorf("the topic has %d records, want 60", n)
	}
}
