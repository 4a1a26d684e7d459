package ingest

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/broker"
	"lockstep/lake"
	"lockstep/project"
	"lockstep/registry"
)

const thingSchema = `{"type":"record","name":"thing","fields":[
	{"name":"id","type":"string"},
	{"name":"count","type":["null","int"],"default":null},
	{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}],"default":null},
	{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`

var thingAvro = avro.MustParse(thingSchema)

const noteSchema = `{"type":"record","name":"note","fields":[
	{"name":"n","type":"long"},
	{"name":"text","type":["null","string"],"default":null},
	{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null}]}`

// testProject has two topics: thing, whose keys can be deleted, and note.
func testProject(t testing.TB) *project.Project {
	t.Helper()
	p, err := project.Load(fstest.MapFS{
		"project.yaml":       {Data: []byte("name: test\n")},
		"sources.yaml":       {Data: []byte("topics:\n  thing: {key: id, event_time: at, partitions: 2, tombstone: delete}\n  note: {key: n, event_time: at, partitions: 1}\n")},
		"schemas/thing.avsc": {Data: []byte(thingSchema)},
		"schemas/note.avsc":  {Data: []byte(noteSchema)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// world is a log and a registry that outlive the ingests under test.
type world struct {
	t        testing.TB
	project  *project.Project
	broker   *broker.Broker
	addrs    []string
	registry *registry.Server
	http     *httptest.Server
	client   *registry.Client
	producer *kgo.Client
	state    string // folder of the ingest: step records and lake
}

func newWorld(t testing.TB) *world {
	t.Helper()
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	b, err := broker.Open(broker.Options{Dir: t.TempDir(), Addr: "127.0.0.1:0", NoSync: true, Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	server, err := registry.New(context.Background(), registry.Config{ClientOpts: b.ClientOpts(), Compatibility: "NONE", Log: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	w := &world{t: t, project: testProject(t), broker: b, addrs: b.Addrs(), registry: server, state: t.TempDir()}
	w.http = httptest.NewServer(server)
	t.Cleanup(w.http.Close)
	if w.client, err = registry.NewClient(w.http.URL); err != nil {
		t.Fatal(err)
	}
	w.producer, err = kgo.NewClient(append(b.ClientOpts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchMaxBytes(15<<20), kgo.BrokerMaxWriteBytes(64<<20))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.producer.Close)
	for topic, parts := range map[string]int{"thing": 2, "note": 1} {
		if err := b.EnsureTopic(context.Background(), topic, parts, nil); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// encoder encodes values of a schema that is registered for a topic.
type encoder struct {
	id     int
	schema *avro.Schema
}

func (w *world) encoder(topic, schema string) encoder {
	w.t.Helper()
	id, err := w.client.Register(context.Background(), topic+"-value", schema)
	if err != nil {
		w.t.Fatal(err)
	}
	return encoder{id, avro.MustParse(schema)}
}

func (e encoder) value(t testing.TB, v map[string]any) []byte {
	t.Helper()
	b, err := e.schema.AppendEncode(wire(e.id, nil), v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func wire(id int, body []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(id)), body...)
}

// produce sends records; each gets its time from its place unless it has one.
func (w *world) produce(records ...*kgo.Record) {
	w.t.Helper()
	if err := w.producer.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
}

func record(topic string, partition int32, key string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: topic, Partition: partition, Key: []byte(key), Value: value, Timestamp: time.UnixMilli(1_700_000_000_000)}
}

// config is that of an ingest of this world, quick to commit.
func (w *world) config(l *lake.Lake) Config {
	return Config{Project: w.project, Brokers: w.addrs, Registry: w.client, Lake: l, Dir: filepath.Join(w.state, "ingest"),
		CommitEvery: 50 * time.Millisecond, StepDelay: time.Millisecond, Log: testLog()}
}

func testLog() *slog.Logger {
	if os.Getenv("INGEST_LOG") != "" {
		return slog.Default()
	}
	return slog.New(slog.NewTextHandler(io.Discard, nil))
}

func (w *world) lake() *lake.Lake {
	w.t.Helper()
	l, err := lake.OpenWith(context.Background(), filepath.Join(w.state, "lake"), lake.Options{Logger: testLog()})
	if err != nil {
		w.t.Fatal(err)
	}
	return l
}

// collector is a consumer that keeps what it gets.
type collector struct {
	mu    sync.Mutex
	last  int64
	steps []*Step
	ends  map[int64]Offsets
	rows  map[string][]string
}

func (c *collector) Last() int64 { c.mu.Lock(); defer c.mu.Unlock(); return c.last }

func (c *collector) Apply(_ context.Context, s *Step) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Number != c.last+1 {
		return fmt.Errorf("step %d after %d", s.Number, c.last)
	}
	c.last = s.Number
	c.steps = append(c.steps, s)
	if c.rows == nil {
		c.rows = map[string][]string{}
	}
	for table, batches := range s.Rows {
		for _, b := range batches {
			c.rows[table] = append(c.rows[table], texts(b)...)
		}
	}
	return nil
}

// texts gives each row as text, columns by name.
func texts(b arrow.RecordBatch) []string {
	out := make([]string, b.NumRows())
	for i := range out {
		var parts []string
		for c, f := range b.Schema().Fields() {
			v := "∅"
			if b.Column(c).IsValid(i) {
				v = b.Column(c).ValueStr(i)
			}
			parts = append(parts, f.Name+"="+v)
		}
		out[i] = strings.Join(parts, " ")
	}
	return out
}

func (c *collector) sorted(table string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := slices.Clone(c.rows[table])
	sort.Strings(out)
	return out
}

// running is an ingest that runs in the background.
type running struct {
	*Ingest
	w      *world
	lake   *lake.Lake
	cancel context.CancelFunc
	done   chan error
	ended  bool
	speed  *collector
}

func (w *world) run(speed *collector, change ...func(*Config)) *running {
	w.t.Helper()
	l := w.lake()
	cfg := w.config(l)
	for _, f := range change {
		f(&cfg)
	}
	i, err := Open(context.Background(), cfg)
	if err != nil {
		l.Close()
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{Ingest: i, w: w, lake: l, cancel: cancel, done: make(chan error, 1), speed: speed}
	go func() {
		if speed == nil {
			r.done <- i.Run(ctx, nil)
		} else {
			r.done <- i.Run(ctx, speed)
		}
	}()
	w.t.Cleanup(func() {
		if !r.ended {
			r.stop()
		}
	})
	return r
}

// stop ends the ingest and gives Run's error.
func (r *running) stop() error {
	r.w.t.Helper()
	r.cancel()
	return r.wait()
}

func (r *running) wait() error {
	r.w.t.Helper()
	select {
	case err := <-r.done:
		r.ended = true
		r.cancel()
		if err := r.Close(); err != nil {
			r.w.t.Error(err)
		}
		if err := r.lake.Close(); err != nil {
			r.w.t.Error(err)
		}
		return err
	case <-time.After(30 * time.Second):
		r.w.t.Fatal("Run does not end")
		return nil
	}
}

// caughtUp waits until everything in the log is judged and in bronze.
func (r *running) caughtUp() {
	r.w.t.Helper()
	eventually(r.w.t, func() (bool, string) {
		select {
		case err := <-r.done:
			r.done <- err
			r.w.t.Fatalf("Run ended: %v", err)
		default:
		}
		_, lag, err := r.Lag(context.Background())
		return err == nil && len(lag) == 0, fmt.Sprintf("lag %v, error %v, %s, %+v", lag, err, r.state(), r.Metrics().Topics)
	})
	if _, err := r.CommitNow(context.Background()); err != nil {
		r.w.t.Fatal(err)
	}
}

func eventually(t testing.TB, f func() (bool, string)) {
	t.Helper()
	var why string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var ok bool
		if ok, why = f(); ok {
			return
		}
	}
	t.Fatalf("not in time: %s", why)
}

// bronzeRows are the rows of a table in the lake, as text, sorted.
func (w *world) bronzeRows(l *lake.Lake, table string, columns ...string) []string {
	w.t.Helper()
	scan, err := l.Scan(context.Background(), table, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	_, batches, err := scan.Records(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for b, err := range batches {
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, texts(b)...)
		b.Release()
	}
	sort.Strings(out)
	return out
}

func (w *world) readTopic(topic string) []*kgo.Record {
	w.t.Helper()
	var out []*kgo.Record
	cfg := Config{Brokers: w.addrs}
	err := readRange(context.Background(), &cfg, []string{topic}, Offsets{}, nil, func(r *kgo.Record) { out = append(out, r) })
	if err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) deleteTopic(topic string) {
	w.t.Helper()
	if _, err := kadm.NewClient(w.producer).DeleteTopic(context.Background(), topic); err != nil {
		w.t.Fatal(err)
	}
}

// state describes a running ingest for a test that waits in vain.
func (r *running) state() string {
	r.mu.Lock()
	g := r.gatherer
	r.mu.Unlock()
	if g == nil {
		return "not gathering"
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	last, _ := r.records.last()
	s := fmt.Sprintf("after step %d of %d, full %v, %d rows", g.last, last, g.full, g.draft.n)
	if g.draft.again != nil {
		s += fmt.Sprintf(", step again to %v", g.draft.again.End)
	}
	for _, pt := range g.order {
		s += fmt.Sprintf("; %s/%d next %d, %d queued, paused %v", pt.topic.name, pt.id, pt.next, len(pt.queue), pt.paused)
		if len(pt.queue) > 0 {
			s += fmt.Sprintf(" from %d", pt.queue[0].Offset)
		}
	}
	return s
}
