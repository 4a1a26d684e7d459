//go:build stack

package stack_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/cluster"
	"lockstep/compile"
	"lockstep/deploy/stack"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/engine/spark"
	"lockstep/lake"
	"lockstep/modeltest"
	"lockstep/project"
	"lockstep/registry"
)

// localMaster lets the driver execute everything itself: the tests here start
// it often.
const localMaster = "LOCKSTEP_SPARK_MASTER=local[2]"

// shortLived has a JVM that lives for a minute compile no more than it must.
const shortLived = "spark.driver.memory 800m\nspark.driver.extraJavaOptions -XX:+UseSerialGC -Xss4m -XX:TieredStopAtLevel=1\nspark.ui.enabled false\nspark.driver.host 127.0.0.1\nspark.driver.bindAddress 127.0.0.1\n"

// things is a small project: a topic with all kinds of values, a latest row per
// key, and sums over those.
var things = map[string]string{
	"project.yaml": "name: things\nenvironments:\n  cluster: {" + strings.Join([]string{
		"kafka: '${LOCKSTEP_KAFKA}'", "registry: '${LOCKSTEP_REGISTRY}'", "catalog: '${LOCKSTEP_CATALOG}'", "warehouse: '${LOCKSTEP_WAREHOUSE}/things'", "s3_endpoint: '${LOCKSTEP_S3_ENDPOINT}'",
		"s3_access_key: '${LOCKSTEP_S3_ACCESS_KEY}'", "s3_secret_key: '${LOCKSTEP_S3_SECRET_KEY}'", "spark_submit: '${LOCKSTEP_SPARK_SUBMIT}'", "spark_master: '${LOCKSTEP_SPARK_MASTER}'",
		"spark_conf: '${LOCKSTEP_SPARK_CONF}'", "spark_jars: '${LOCKSTEP_SPARK_JARS}'", "thrift: '${LOCKSTEP_THRIFT}'", "max_rows: '20'"}, ", ") + "}\n",
	"sources.yaml":                 "topics:\n  thing: {key: id, event_time: ts, tombstone: delete, partitions: 2}\n  note: {key: n, event_time: ts, partitions: 1}\n",
	"schemas/thing.avsc":           thingContract,
	"schemas/note.avsc":            noteContract,
	"models/silver/thing_last.sql": "/* {description: d, unique_key: [id], columns: [{name: id, type: string, description: d}, {name: count, type: int, description: d}, {name: price, type: \"decimal(10,2)\", description: d}, {name: month, type: string, description: d}]} */\nWITH r AS (SELECT id, count, price, ts, _deleted, row_number() OVER (PARTITION BY id ORDER BY ts DESC NULLS LAST, count DESC NULLS LAST, price DESC NULLS LAST, _offset DESC, _partition DESC) AS rn FROM bronze.thing)\nSELECT r.id, r.count, r.price, substring(cast(r.ts AS string), 1, 7) AS month FROM r WHERE r.rn = 1 AND NOT r._deleted\n",
	"models/gold/month_sum.sql":    "/* {description: d, unique_key: [month], columns: [{name: month, type: string, description: d}, {name: things, type: bigint, description: d}, {name: total, type: \"decimal(18,2)\", description: d}]} */\nSELECT t.month, count(*) AS things, cast(sum(t.price) AS decimal(18,2)) AS total FROM silver.thing_last t GROUP BY t.month\n",
	"models/gold/thing_note.sql":   "/* {description: d, unique_key: [id], columns: [{name: id, type: string, description: d}, {name: notes, type: bigint, description: d}]} */\nSELECT t.id, count(n.n) AS notes FROM silver.thing_last t LEFT JOIN bronze.note n ON t.count = n.n GROUP BY t.id\n",
}

const (
	thingContract = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"count","type":["null","int"],"default":null},{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null},{"name":"ts","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`
	noteContract  = `{"type":"record","name":"note","fields":[{"name":"n","type":"int"},{"name":"text","type":["null","string"],"default":null},{"name":"ts","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`
	thingScale    = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}}]}`
	thingLong     = `{"type":"record","name":"thing","fields":[{"name":"id","type":["null","string"]},{"name":"count","type":"long"}]}`
	thingMore     = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"colour","type":["null","string"],"default":null},{"name":"tags","type":{"type":"array","items":"string"}}]}`
)

// world is the small project on the stack.
type world struct {
	*site
	dir     string
	program *compile.Program
	config  *cluster.Config
	log     *kgo.Client
	schemas *registry.Client

	produced int // records
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir()}
	for name, text := range things {
		path := filepath.Join(w.dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := up(t, stack.Core, stack.Spark)
	w.site = onStack(t, s, "--project", w.dir)
	conf := filepath.Join(t.TempDir(), "spark.conf")
	if err := os.WriteFile(conf, []byte(shortLived), 0o644); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, localMaster, "LOCKSTEP_SPARK_CONF="+conf)
	p, err := project.Load(os.DirFS(w.dir))
	if err != nil {
		t.Fatal(err)
	}
	if w.program, err = compile.Compile(p); err != nil {
		t.Fatal(err)
	}
	if w.config, err = cluster.Read(p, "cluster", w.getenv); err != nil {
		t.Fatal(err)
	}
	opts, err := w.config.KafkaOptions()
	if err != nil {
		t.Fatal(err)
	}
	if w.log, err = kgo.NewClient(append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.log.Close)
	if w.schemas, err = registry.NewClient(w.config.Registry); err != nil {
		t.Fatal(err)
	}
	w.makeTopics()
	return w
}

// makeTopics makes the topics, so that there is something to produce to.
func (w *world) makeTopics() {
	w.t.Helper()
	admin := kadm.NewClient(w.log)
	for _, src := range w.program.Project.Sources {
		res, err := admin.CreateTopic(context.Background(), int32(src.Partitions), -1, nil, src.Topic)
		if err = errors.Join(err, res.Err); err != nil {
			w.t.Fatal(err)
		}
	}
}

func (w *world) getenv(name string) string {
	for _, e := range slices.Backward(w.env) {
		if k, v, _ := strings.Cut(e, "="); k == name {
			return v
		}
	}
	return ""
}

// encoder writes values of a schema in the registry's wire format.
type encoder struct {
	id     int
	schema *avro.Schema
}

func (w *world) encoder(topic, schema string) encoder {
	w.t.Helper()
	id, err := w.schemas.Register(context.Background(), topic+"-value", schema)
	if err != nil {
		w.t.Fatal(err)
	}
	return encoder{id, avro.MustParse(schema)}
}

// anyEncoder registers a schema that is not compatible with the topic's.
func (w *world) anyEncoder(schema string) encoder {
	return w.encoder(fmt.Sprint("test", time.Now().UnixNano()), schema)
}

func wire(id int, body []byte) []byte {
	return append([]byte{0, byte(id >> 24), byte(id >> 16), byte(id >> 8), byte(id)}, body...)
}

func (e encoder) value(t testing.TB, v map[string]any) []byte {
	t.Helper()
	body, err := e.schema.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return wire(e.id, body)
}

func (w *world) produce(records ...*kgo.Record) {
	w.t.Helper()
	if err := w.log.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	w.produced += len(records)
}

func (w *world) openLake() *lake.Lake {
	w.t.Helper()
	l, err := cluster.OpenLake(context.Background(), w.config, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { l.Close() })
	return l
}

// table reads a table's current rows with exactly these columns.
func (w *world) table(l *lake.Lake, name string, columns []project.Column) []arrow.RecordBatch {
	w.t.Helper()
	s, err := l.Scan(context.Background(), name, 0)
	if errors.Is(err, lake.ErrNoTable) {
		return nil
	}
	if err != nil {
		w.t.Fatal(err)
	}
	_, batches, err := s.Records(context.Background())
	if err != nil {
		w.t.Fatal(err)
	}
	var out []arrow.RecordBatch
	for b, err := range batches {
		if err != nil {
			w.t.Fatal(err)
		}
		arrays := make([]arrow.Array, len(columns))
		for i, c := range columns {
			arrays[i] = b.Column(b.Schema().FieldIndices(c.Name)[0])
		}
		out = append(out, array.NewRecordBatch(project.ArrowSchema(columns), arrays, b.NumRows()))
	}
	return out
}

// inStep compares what the speed table says of each model with a full recompute
// on DuckDB over bronze, and bronze with the log.
func (w *world) inStep() { w.t.Helper(); w.compare(lake.Manifest{}) }

// compare is inStep where the speed table goes on from a manifest.
func (w *world) compare(base lake.Manifest) {
	w.t.Helper()
	l := w.openLake()
	want := w.recompute(l)
	got := w.speedRows(l, base)
	for _, m := range w.program.Models {
		lines, err := modeltest.Difference(m.Columns, want[m.Name], got[m.Name])
		if err != nil {
			w.t.Fatal(err)
		}
		for _, line := range lines {
			w.t.Errorf("%s: - recompute, + speed: %s", m.Name, line)
		}
	}
}

// recompute evaluates all models over bronze, which must be as the log is.
func (w *world) recompute(l *lake.Lake) engine.Tables {
	w.t.Helper()
	bronze := engine.Tables{}
	for _, src := range w.program.Project.Sources {
		bronze[src.Table()] = w.table(l, src.Table(), src.Columns())
		w.sameAsTopic(src, bronze[src.Table()])
	}
	var names []string
	for _, m := range w.program.Models {
		names = append(names, m.Name)
	}
	want, err := duckdb.Engine{}.Recompute(context.Background(), w.program, bronze, names)
	if err != nil {
		w.t.Fatal(err)
	}
	return want
}

// speedRows are the rows of the latest step of each scope, and those of the
// manifest's tables of all other scopes.
func (w *world) speedRows(l *lake.Lake, base lake.Manifest) engine.Tables {
	w.t.Helper()
	text := project.Type{Kind: project.String}
	columns := []project.Column{{Name: "step", Type: project.Type{Kind: project.Bigint}}, {Name: "model", Type: text}, {Name: "fingerprint", Type: text},
		{Name: "scope", Type: text}, {Name: "empty", Type: project.Type{Kind: project.Boolean}}, {Name: "row", Type: text}}
	type scope struct{ model, scope string }
	latest, rows := map[scope]int64{}, map[scope][]string{}
	for _, b := range w.table(l, "lockstep.speed", columns) {
		for i := range int(b.NumRows()) {
			at := func(c int) string { return b.Column(c).(*array.String).Value(i) }
			m := w.program.Model(at(1))
			step := b.Column(0).(*array.Int64).Value(i)
			if m == nil || m.Fingerprint != at(2) || step <= base.Step {
				continue
			}
			k := scope{at(1), at(3)}
			if step > latest[k] {
				latest[k], rows[k] = step, nil
			}
			if step == latest[k] && !b.Column(4).(*array.Boolean).Value(i) {
				rows[k] = append(rows[k], at(5))
			}
		}
	}
	byModel := map[string][]modeltest.Row{}
	for k, list := range rows {
		for _, text := range list {
			byModel[k.model] = append(byModel[k.model], w.rowOf(k.model, text))
		}
	}
	out := engine.Tables{}
	for name := range base.Tables {
		m := w.program.Model(name)
		for _, b := range w.table(l, name, m.Columns) {
			at := b.Schema().FieldIndices(m.Scope[0])[0] // every scope here is one string
			for i := range int(b.NumRows()) {
				text, err := json.Marshal(map[string]string{m.Scope[0]: b.Column(at).(*array.String).Value(i)})
				if err != nil {
					w.t.Fatal(err)
				}
				if _, changed := latest[scope{name, string(text)}]; !changed {
					out[name] = append(out[name], b.NewSlice(int64(i), int64(i)+1))
				}
			}
		}
	}
	for name, list := range byModel {
		rec, err := modeltest.Record(w.program.Model(name).Columns, list)
		if err != nil {
			w.t.Fatal(err)
		}
		out[name] = append(out[name], rec)
	}
	return out
}

// publish makes a manifest at the last step, as a batch does, by DuckDB.
func (w *world) publish() lake.Manifest {
	w.t.Helper()
	ctx, l := context.Background(), w.openLake()
	record := w.lastStep(l)
	newest, _, err := l.NewestManifest(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	m := lake.Manifest{Parent: newest.ID, Step: record.Step, Offsets: record.Ends, Fingerprints: map[string]string{}, Tables: map[string]int64{}, Bronze: map[string]int64{}}
	for name, batches := range w.recompute(l) {
		columns := w.program.Model(name).Columns
		rows, err := array.NewRecordReader(project.ArrowSchema(columns), batches)
		if err != nil {
			w.t.Fatal(err)
		}
		if m.Tables[name], err = l.Replace(ctx, name, columns, nil, rows, nil); err != nil {
			w.t.Fatal(err)
		}
		m.Fingerprints[name] = w.program.Model(name).Fingerprint
	}
	for _, src := range w.program.Project.Sources {
		head, err := l.Head(ctx, src.Table())
		if err != nil {
			w.t.Fatal(err)
		}
		m.Bronze[src.Table()] = head.Snapshot
	}
	if m, err = l.Publish(ctx, m); err != nil {
		w.t.Fatal(err)
	}
	return m
}

// TestSpeedBase: after a manifest the stream goes on from its tables, at a start
// and in mid-run, and while rows that the manifest holds are changed again.
func TestSpeedBase(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingContract)
	w.events(e, 0, 40)
	w.must("speed", "--until-idle", "--listen", "127.0.0.1:0")
	w.compare(w.publish())
	stream := w.start("speed", "--listen", "127.0.0.1:0")
	w.events(e, 40, 20)
	w.taken()
	m := w.publish()
	eventually(t, commandTime, "it goes on from the new manifest", func() bool { return strings.Contains(stream.log.String(), "goes on from manifest 2") })
	w.events(e, 60, 20)
	w.taken()
	w.compare(m)
	stream.stop()
	w.events(e, 80, 20)
	w.must("speed", "--until-idle", "--listen", "127.0.0.1:0")
	w.compare(m)
}

// taken waits until all that was produced is in steps.
func (w *world) taken() {
	w.t.Helper()
	l := w.openLake()
	eventually(w.t, commandTime, "all records are in steps", func() bool {
		r := w.lastStep(l)
		n := 0
		for _, counts := range []map[string]int{r.Accepted, r.Dead} {
			for _, c := range counts {
				n += c
			}
		}
		return n == w.produced
	})
}

type stepRecord struct {
	Step     int64                      `json:"step"`
	Ends     map[string]map[int32]int64 `json:"ends"`
	Accepted map[string]int             `json:"accepted"`
	Dead     map[string]int             `json:"dead"`
}

func (w *world) lastStep(l *lake.Lake) (r stepRecord) {
	w.t.Helper()
	head, err := l.Head(context.Background(), "lockstep.speed")
	if err != nil {
		w.t.Fatal(err)
	}
	text, _ := head.Property("lockstep.step")
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		w.t.Fatal(err)
	}
	return r
}

func (w *world) rowOf(model, text string) modeltest.Row {
	w.t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	cells := map[string]any{}
	if err := d.Decode(&cells); err != nil {
		w.t.Fatal(err)
	}
	var row modeltest.Row
	for _, c := range w.program.Model(model).Columns {
		v, ok := cells[c.Name]
		if !ok {
			w.t.Fatalf("%s: a row without %s: %s", model, c.Name, text)
		}
		if v == nil {
			row = append(row, nil)
			continue
		}
		s := fmt.Sprint(v)
		row = append(row, &s)
	}
	return row
}

// sameAsTopic: each record of a topic is in bronze once, or has one dead letter.
func (w *world) sameAsTopic(src *project.Source, batches []arrow.RecordBatch) {
	w.t.Helper()
	n := len(src.Fields)
	have := map[[2]int64]int{}
	for _, b := range batches {
		for i := range int(b.NumRows()) {
			have[[2]int64{int64(b.Column(n).(*array.Int32).Value(i)), b.Column(n + 1).(*array.Int64).Value(i)}]++
		}
	}
	for _, l := range w.letters() {
		if l.Topic == src.Topic {
			have[[2]int64{int64(l.Partition), l.Offset}]++
		}
	}
	records := 0
	w.eachRecord(src.Topic, func(r *kgo.Record) {
		records++
		if at := [2]int64{int64(r.Partition), r.Offset}; have[at] != 1 {
			w.t.Errorf("%s: the record at partition %d, offset %d is %d times in bronze and dead letters", src.Topic, at[0], at[1], have[at])
		}
	})
	if len(have) != records {
		w.t.Errorf("%s: bronze and dead letters have %d records, the log %d", src.Topic, len(have), records)
	}
}

type letter struct {
	Topic, Reason string
	Partition     int32
	Offset        int64
}

func (w *world) letters() (list []letter) {
	w.t.Helper()
	w.mustJSON(&list, "dlq", "list")
	return list
}

func appendLong(b []byte, v int64) []byte {
	u := uint64(v<<1) ^ uint64(v>>63)
	for ; u >= 0x80; u >>= 7 {
		b = append(b, byte(u)|0x80)
	}
	return append(b, byte(u))
}

// TestSpeedPoison sends each kind of poison between good records: it gets the
// reason that Lockstep's own ingest gives it, once, and the good ones flow.
func TestSpeedPoison(t *testing.T) {
	w := newWorld(t)
	good, scale, long, more := w.encoder("thing", thingContract), w.anyEncoder(thingScale), w.anyEncoder(thingLong), w.anyEncoder(thingMore)
	alien := w.anyEncoder(`{"type":"record","name":"other","fields":[{"name":"id","type":"string"}]}`)
	noKey := w.anyEncoder(`{"type":"record","name":"thing","fields":[{"name":"count","type":"int"}]}`)
	row := func(id string) []byte { return good.value(t, map[string]any{"id": id, "count": 1}) }
	const day, maxDay = int64(86_400_000), int64(2932896)
	cases := []struct {
		value  []byte
		reason string // empty: accepted
	}{
		{good.value(t, map[string]any{"id": "é", "count": -5, "price": big.NewRat(-1999, 100), "ts": time.UnixMilli(1_600_000_000_123)}), ""},
		{[]byte("{\"id\":1}"), "wrong_magic_byte"},
		{[]byte{}, "short_header"},
		{[]byte{0, 0, 0, 1}, "short_header"},
		{wire(987654, []byte{2, 'a'}), "unknown_schema"},
		{row("abc")[:7], "truncated"},
		{wire(good.id, nil), "truncated"},
		{append(row("abc"), 0), "trailing_bytes"},
		{wire(good.id, []byte{2, 'a', 9, 0, 0}), "malformed"},
		{wire(good.id, []byte{1, 'a', 0, 0, 0}), "malformed"},
		{wire(good.id, append([]byte{2, 'a', 2}, bytes.Repeat([]byte{0xff}, 11)...)), "malformed"},
		{wire(good.id, []byte{4, 0xc3, 0x28, 0, 0, 0}), "invalid_utf8"},
		{scale.value(t, map[string]any{"id": "d", "price": big.NewRat(12_345_678_901, 100)}), "value_out_of_range"},
		{wire(good.id, append(append([]byte{2, 'd', 0, 2, 80, 1}, make([]byte, 39)...), 0)), "value_out_of_range"},
		{wire(good.id, append(append([]byte{2, 'z', 0, 2, 80}, make([]byte, 40)...), 0)), ""},
		{wire(good.id, appendLong([]byte{2, 'l', 0, 0, 2}, (maxDay+1)*day-1)), ""},
		{wire(good.id, appendLong([]byte{2, 'd', 0, 0, 2}, (maxDay+1)*day)), "value_out_of_range"},
		{wire(good.id, appendLong([]byte{2, 'd', 0, 0, 2}, 1<<62)), "value_out_of_range"},
		{long.value(t, map[string]any{"id": "n", "count": int64(-1 << 31)}), ""},
		{long.value(t, map[string]any{"id": "n", "count": int64(1 << 31)}), "value_out_of_range"},
		{long.value(t, map[string]any{"id": nil, "count": int64(1)}), "null_not_allowed"},
		{scale.value(t, map[string]any{"id": "s", "price": big.NewRat(1250, 1000)}), ""},
		{scale.value(t, map[string]any{"id": "s", "price": big.NewRat(1255, 1000)}), "value_out_of_range"},
		{more.value(t, map[string]any{"id": "c", "colour": "red", "tags": []string{"a", "b"}}), ""},
		{noKey.value(t, map[string]any{"count": 1}), "incompatible_schema"},
		{alien.value(t, map[string]any{"id": "x"}), "incompatible_schema"},
		{nil, ""}, // a deletion
		{wire(good.id, make([]byte, 5<<20)), "too_large"},
		{row("last"), ""},
	}
	var want []string
	for i, c := range cases {
		if len(c.value) > 1<<20 {
			continue // the log of the stack does not take it
		}
		w.produce(&kgo.Record{Topic: "thing", Key: []byte("key"), Value: c.value, Headers: []kgo.RecordHeader{{Key: "trace", Value: []byte{1, 2}}}})
		if c.reason != "" {
			want = append(want, fmt.Sprintf("thing %d %s", i, c.reason))
		}
	}
	w.produce(&kgo.Record{Topic: "note", Key: []byte("2")}, &kgo.Record{Topic: "thing", Partition: 1})
	want = append(want, "note 0 tombstone", "thing/1 0 unusable_key")
	for range 2 { // the second time there is nothing to do
		w.must("speed", "--until-idle", "--listen", "127.0.0.1:0")
		var got []string
		for _, l := range w.letters() {
			name := l.Topic
			if l.Partition > 0 {
				name += fmt.Sprint("/", l.Partition)
			}
			got = append(got, fmt.Sprintf("%s %d %s", name, l.Offset, l.Reason))
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("dead letters:\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		w.inStep()
	}
	// A field that the contract lacks is a column of bronze.
	colour := project.Column{Name: "colour", Type: project.Type{Kind: project.String}}
	found := 0
	for _, b := range w.table(w.openLake(), "bronze.thing", []project.Column{colour}) {
		for i := range int(b.NumRows()) {
			if c := b.Column(0).(*array.String); c.IsValid(i) && c.Value(i) == "red" {
				found++
			}
		}
	}
	if found != 1 {
		t.Errorf("%d rows have the new field, want 1", found)
	}
}

// events are good records, with a poisoned one now and then.
func (w *world) events(e encoder, from, n int) {
	w.t.Helper()
	var records []*kgo.Record
	for i := from; i < from+n; i++ {
		id := fmt.Sprint("k", i%7)
		r := &kgo.Record{Topic: "thing", Partition: int32(i % 2), Key: []byte(id)}
		switch {
		case i%11 == 10: // a deletion
		case i%13 == 12:
			r.Value = []byte{9}
		default:
			r.Value = e.value(w.t, map[string]any{"id": id, "count": i % 5, "price": big.NewRat(int64(i), 4), "ts": time.UnixMilli(1_600_000_000_000 + int64(i*i%97)*86_400_000)})
		}
		records = append(records, r)
		if i%5 == 0 {
			records = append(records, &kgo.Record{Topic: "note", Key: fmt.Append(nil, i%5), Value: w.note(i % 5)})
		}
	}
	w.produce(records...)
}

func (w *world) note(n int) []byte {
	return w.encoder("note", noteContract).value(w.t, map[string]any{"n": n, "text": "x"})
}

// TestSpeedKilled ends the driver and its JVM at every place that matters, in
// turn. Each time the supervisor starts it again: every record is in bronze or
// a dead letter once, and what the speed table says is what a recompute gives.
func TestSpeedKilled(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingContract)
	const points = 5
	w.events(e, 0, 120)
	w.env = append(w.env, "LOCKSTEP_KILL=in-letters,letters,bronze:3,before-speed:2,after-speed:2")
	log := w.mustLog("speed", "--until-idle", "--listen", "127.0.0.1:0")
	if n := strings.Count(log, "speed layer: starting"); n != points+1 {
		t.Errorf("it was started %d times, want %d:\n%s", n, points+1, tail(log))
	}
	w.inStep()
}

// mustLog is must, and gives what was written to standard error.
func (w *world) mustLog(args ...string) string {
	w.t.Helper()
	_, log, code := w.run(args...)
	if code != 0 {
		w.t.Fatalf("lockstep %s: exit %d\n%s", strings.Join(args, " "), code, tail(log))
	}
	return log
}

// TestSpeedTwice: a second speed layer that is started by mistake does no harm,
// and one of the two ends with a message.
func TestSpeedTwice(t *testing.T) {
	w := newWorld(t)
	e := w.encoder("thing", thingContract)
	second := *w.site
	second.state = filepath.Join(t.TempDir(), "second")
	w.events(e, 0, 20)
	one, two := w.start("speed", "--listen", "127.0.0.1:0"), second.start("speed", "--listen", "127.0.0.1:0")
	n := 20
	eventually(t, commandTime, "one of the two ends", func() bool {
		w.events(e, n, 3)
		n += 3
		time.Sleep(2 * time.Second) // so that the log does not run away from both
		return one.ended() || two.ended()
	})
	loser, winner := one, two
	if two.ended() {
		loser, winner = two, one
	}
	if loser.ProcessState.ExitCode() != 1 || !strings.Contains(loser.log.String(), "another speed layer") {
		t.Errorf("it ended with %d:\n%s", loser.ProcessState.ExitCode(), tail(loser.log.String()))
	}
	winner.stop()
	w.must("speed", "--until-idle", "--listen", "127.0.0.1:0")
	w.inStep()
}

// TestSpeedAppend runs testdata/cas.py: what the application's commits do when
// others commit in between.
func TestSpeedAppend(t *testing.T) {
	s := up(t, stack.Core, stack.Spark)
	c := settings(t, s)
	dir := t.TempDir()
	if err := spark.WriteApp(dir); err != nil {
		t.Fatal(err)
	}
	script, err := os.ReadFile("testdata/cas.py")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cas.py"), script, 0o644); err != nil {
		t.Fatal(err)
	}
	config, err := json.Marshal(map[string]any{"catalog": c.Catalog, "warehouse": c.Warehouse, "s3_endpoint": c.S3Endpoint, "s3_access_key": c.S3AccessKey, "s3_secret_key": c.S3SecretKey, "s3_region": c.S3Region})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.SparkSubmit, "--master", "local[2]", "--driver-memory", "1g", "--driver-class-path", c.SparkJars, "--conf", "spark.ui.enabled=false",
		"--conf", "spark.driver.host=127.0.0.1", filepath.Join(dir, "cas.py"))
	cmd.Env = append(os.Environ(), "LOCKSTEP_SPEED="+string(config))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || !strings.Contains(string(out), "\ndone") {
		t.Fatalf("%v\n%s\n%s", err, out, tail(stderr.String()))
	}
	t.Logf("%s", out)
}
