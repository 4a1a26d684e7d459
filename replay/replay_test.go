package replay

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"
	"github.com/twmb/franz-go/pkg/sr/srfake"

	"lockstep/project"
)

// The tests' project: sensors and their readings. Each reading sends its
// sensor again, a little later.

const readingSchema = `{"type":"record","name":"reading","fields":[
	{"name":"sensor","type":"string"},
	{"name":"value","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}]},
	{"name":"note","type":["null","string"]},
	{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}`

const sensorSchema = `{"type":"record","name":"sensor","fields":[
	{"name":"sensor","type":"string"},
	{"name":"height","type":["null","double"]},
	{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}]}`

func column(name, kind string) project.Column {
	t, err := project.ParseType(kind)
	if err != nil {
		panic(err)
	}
	return project.Column{Name: name, Type: t}
}

func testProject() *project.Project {
	files := fstest.MapFS{
		"sources/_1.sql":      {Data: []byte(`CREATE MACRO later(t) AS t + to_milliseconds(50)`)},
		"sources/reading.sql": {Data: []byte(`SELECT sensor, value, note, seen, source_line FROM raw.readings`)},
		"sources/sensor.sql": {Data: []byte(`SELECT s.sensor, s.height, later(r.seen) AS seen, s.source_line
			FROM raw.readings r JOIN raw.sensors s ON s.sensor = r.sensor;`)},
		"generate/_1_setup.sql": {Data: []byte(`SET VARIABLE units = CAST(1000 * getvariable('scale') AS BIGINT);
			CREATE MACRO u(i, what) AS md5_number_lower(concat_ws('/', getvariable('seed'), what, i)) % 1000`)},
		"generate/sensors.sql": {Data: []byte(`SELECT 's' || i AS sensor, u(i, 'height') / 10 AS height, i AS source_line FROM range(20) t(i)`)},
		"generate/readings.sql": {Data: []byte(`SELECT 's' || (u(i, 'sensor') % 20) AS sensor, u(i, 'value') AS value, 'n' || i AS note,
			TIMESTAMP '2020-01-01' + to_seconds(i * 10) AS seen, i AS source_line
			FROM range(getvariable('first_unit'), getvariable('last_unit')) t(i)`)},
	}
	return &project.Project{
		FS: files, Name: "sensors",
		RawFiles: []*project.RawFile{
			{Name: "readings", File: "readings.csv", Columns: []project.Column{column("sensor", "string"), column("value", "decimal(12,2)"), column("note", "string"), column("seen", "timestamp")}},
			{Name: "sensors", File: "sensors.csv", Columns: []project.Column{column("sensor", "string"), column("height", "double")}},
		},
		Sources: []*project.Source{
			{Topic: "sensor", Key: "sensor", EventTime: "seen", Partitions: 2, Query: "sources/sensor.sql", SchemaFile: "schemas/sensor.avsc", Schema: []byte(sensorSchema),
				Fields: []project.Column{column("sensor", "string"), column("height", "double"), column("seen", "timestamp")}},
			{Topic: "reading", Key: "sensor", EventTime: "seen", Partitions: 3, Query: "sources/reading.sql", SchemaFile: "schemas/reading.avsc", Schema: []byte(readingSchema),
				Fields: []project.Column{column("sensor", "string"), column("value", "decimal(12,2)"), column("note", "string"), column("seen", "timestamp")}},
			{Topic: "outside", Key: "x", EventTime: "seen"},
		},
	}
}

// writeData makes raw files with n readings.
func writeData(t *testing.T, n int) string {
	t.Helper()
	dir := t.TempDir()
	var readings, sensors strings.Builder
	readings.WriteString("note,sensor,extra,value,seen\n")
	sensors.WriteString("\ufeffsensor,height\r\n")
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range 20 {
		fmt.Fprintf(&sensors, "s%d,%d.5\r\n", i, i)
	}
	at := time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range n {
		at = at.Add(time.Duration(rng.IntN(3)) * time.Second)
		fmt.Fprintf(&readings, "\"line %d,\nsays \"\"hi\"\"\",s%d,x,%d.25,%s\n", i, rng.IntN(20), rng.IntN(100)-50, at.Format(time.DateTime))
	}
	write(t, filepath.Join(dir, "readings.csv"), readings.String())
	write(t, filepath.Join(dir, "sensors.csv"), sensors.String())
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := writeFile(name, text); err != nil {
		t.Fatal(err)
	}
}

func writeFile(name, text string) error { return os.WriteFile(name, []byte(text), 0o644) }

// cluster is a log on disk and a registry.
type cluster struct {
	t           testing.TB
	log         *kfake.Cluster
	brokers     []string
	registry    *sr.Client
	registryURL string
}

func newCluster(t testing.TB, opts ...kfake.Opt) *cluster {
	t.Helper()
	k, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.DataDir(t.TempDir())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	fake := srfake.New()
	t.Cleanup(fake.Close)
	registry, err := sr.NewClient(sr.URLs(fake.URL()))
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, log: k, brokers: k.ListenAddrs(), registry: registry, registryURL: fake.URL()}
}

func (k *cluster) config(data string) Config {
	return Config{Project: testProject(), Data: data, WorkDir: k.t.TempDir(), Brokers: k.brokers, Registry: k.registry, Threads: 1}
}

// records are all records of the topics in the log, by topic and partition.
func (k *cluster) records(topics ...string) map[string][]*kgo.Record {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.brokers...), kgo.ConsumeTopics(topics...), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		k.t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topics...)
	if err != nil {
		k.t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	all := map[string][]*kgo.Record{}
	for left > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			k.t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			name := fmt.Sprintf("%s/%d", r.Topic, r.Partition)
			all[name] = append(all[name], r)
			left--
		})
	}
	return all
}

// checkComplete says whether the log holds each event of both topics once, in
// order within each partition.
func (k *cluster) checkComplete(want Result) map[string][]*kgo.Record {
	k.t.Helper()
	all := k.records("sensor", "reading")
	seen := map[string]map[int64]bool{}
	for name, records := range all {
		last := int64(-1)
		for _, r := range records {
			n, _, ok := readHeader(r)
			if !ok {
				continue
			}
			if seen[r.Topic] == nil {
				seen[r.Topic] = map[int64]bool{}
			}
			if n <= last || seen[r.Topic][n] {
				k.t.Fatalf("%s offset %d: event %d follows %d or was sent twice", name, r.Offset, n, last)
			}
			seen[r.Topic][n], last = true, n
		}
	}
	for topic, n := range want.Topics {
		if int64(len(seen[topic])) != n {
			k.t.Fatalf("topic %s: %d events in the log, want %d", topic, len(seen[topic]), n)
		}
	}
	return all
}

func TestRun(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 500))
	var told []Progress
	c.Progress = func(p Progress) { told = append(told, p) }
	began := time.Now()
	got, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Events != 1000 || got.Before != 0 || got.Topics["reading"] != 500 {
		t.Errorf("result %+v", got)
	}
	if last := told[len(told)-1]; last.Phase != Done || last.Sent != 1000 || last.Total != 1000 || last.EventTime.IsZero() {
		t.Errorf("last progress %+v", last)
	}
	all := k.checkComplete(got)
	checkValues(t, k, all)
	for _, records := range all {
		for _, r := range records {
			if r.Timestamp.Before(began.Add(-time.Second)) {
				t.Fatalf("record time %v lies before the run", r.Timestamp)
			}
		}
	}

	// A second run finds everything there.
	got, err = Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Events != 1000 || got.Before != 1000 {
		t.Errorf("second run: %+v", got)
	}
	k.checkComplete(got)
}

// checkValues decodes the readings with another implementation of Avro.
func checkValues(t *testing.T, k *cluster, all map[string][]*kgo.Record) {
	t.Helper()
	schema := avro.MustParse(readingSchema)
	subject, err := k.registry.SchemaByVersion(context.Background(), "reading-value", -1)
	if err != nil {
		t.Fatal(err)
	}
	notes := map[string]bool{}
	var header sr.ConfluentHeader
	for name, records := range all {
		if !strings.HasPrefix(name, "reading") {
			continue
		}
		for _, r := range records {
			id, body, err := header.DecodeID(r.Value)
			if err != nil || id != subject.ID {
				t.Fatalf("schema id %d, %v; want %d", id, err, subject.ID)
			}
			var row map[string]any
			if rest, err := schema.Decode(body, &row); err != nil || len(rest) > 0 {
				t.Fatalf("cannot decode %x: %v, %d bytes left", body, err, len(rest))
			}
			if row["sensor"] != string(r.Key) {
				t.Fatalf("key %s, value %v", r.Key, row)
			}
			notes[row["note"].(string)] = true
		}
	}
	if len(notes) != 500 || !notes["line 7,\nsays \"hi\""] {
		t.Errorf("%d notes", len(notes))
	}
}

// TestContinue stops runs at random records, now and then with foreign records
// behind them, until one comes to the end.
func TestContinue(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	k := newCluster(t)
	c := k.config(writeData(t, 3000))
	outside, err := kgo.NewClient(kgo.SeedBrokers(k.brokers...), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer outside.Close()
	for round := 0; ; round++ {
		ctx, cancel := context.WithCancel(context.Background())
		left := rng.IntN(1500)
		c.Hook = func(point string) {
			if point == "replay.record" {
				if left--; left < 0 {
					cancel()
				}
			}
		}
		got, err := Run(ctx, c)
		cancel()
		if err == nil {
			t.Logf("complete in round %d, %d before", round, got.Before)
			k.checkComplete(got)
			return
		}
		if !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if round%2 == 0 {
			removeSpools(t, c.WorkDir)
			foreign(t, outside, rng.IntN(3000))
		}
	}
}

// removeSpools makes the next run prepare its events again.
func removeSpools(t *testing.T, dir string) {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, spoolFolder+"*"))
	if err != nil || len(found) == 0 {
		t.Fatalf("no prepared events in %s: %v", dir, err)
	}
	for _, f := range found {
		os.RemoveAll(f)
	}
}

func foreign(t *testing.T, cl *kgo.Client, n int) {
	t.Helper()
	for i := range n {
		r := &kgo.Record{Topic: "reading", Partition: int32(i % 3), Value: []byte("foreign")}
		cl.Produce(context.Background(), r, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestChangedInputs(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 50))
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	before := len(k.records("reading")["reading/0"])
	f, err := os.OpenFile(filepath.Join(c.Data, "readings.csv"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(f, "n,s1,x,1.00,2021-01-01 00:00:00")
	f.Close()
	_, err = Run(context.Background(), c)
	if err == nil || !strings.Contains(err.Error(), "file readings.csv") || !strings.Contains(err.Error(), "reset") {
		t.Fatalf("error %v does not name the changed file and the remedy", err)
	}
	os.Remove(filepath.Join(c.WorkDir, identityFile))
	if _, err = Run(context.Background(), c); err == nil {
		t.Fatal("the log alone did not show that the inputs changed")
	}
	if n := len(k.records("reading")["reading/0"]); n != before {
		t.Errorf("%d records were sent from changed inputs", n-before)
	}
}

// TestSameBytes runs twice, with other threads and batches, into two logs.
func TestSameBytes(t *testing.T) {
	var logs []map[string][]*kgo.Record
	for threads := range 2 {
		k := newCluster(t)
		c := k.config("")
		c.Scale, c.Seed, c.Threads = 2, 7, threads+1
		got, err := Run(context.Background(), c)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, k.checkComplete(got))
	}
	for name, records := range logs[0] {
		for i, r := range records {
			other := logs[1][name][i]
			if string(r.Key) != string(other.Key) || string(r.Value) != string(other.Value) || string(r.Headers[0].Value) != string(other.Headers[0].Value) {
				t.Fatalf("%s, record %d differs", name, i)
			}
		}
	}
}

func TestCheckQueries(t *testing.T) {
	p := testProject()
	if err := CheckQueries(context.Background(), p); err != nil {
		t.Fatal(err)
	}
	files := p.FS.(fstest.MapFS)
	files["sources/reading.sql"].Data = []byte("SELECT sensor FROM raw.readings")
	files["sources/sensor.sql"].Data = []byte("SELECT * FROM raw.nothing")
	err := CheckQueries(context.Background(), p)
	if err == nil || !strings.Contains(err.Error(), "sources/reading.sql") || !strings.Contains(err.Error(), "sources/sensor.sql") {
		t.Errorf("error %v does not name both files", err)
	}
}

// TestMoreMemory runs a script that does not fit the limit. It is run again
// whole, so what it made before it failed must be gone.
func TestMoreMemory(t *testing.T) {
	c := Config{Project: testProject(), Data: writeData(t, 10), WorkDir: t.TempDir(), MemoryLimit: 64 << 20, Threads: 1}
	files := c.Project.FS.(fstest.MapFS)
	script := "CREATE TABLE one AS SELECT 1; CREATE TABLE long AS SELECT list(i) AS l FROM range(%d) t(i); DROP TABLE long;"
	files["sources/_0.sql"] = &fstest.MapFile{Data: fmt.Appendf(nil, script, 5_000_000)}
	events, err := Open(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	events.Close()
	files["sources/_0.sql"] = &fstest.MapFile{Data: fmt.Appendf(nil, script, 80_000_000)}
	if _, err := Open(context.Background(), c); err == nil || !strings.Contains(err.Error(), "within 256 MB") {
		t.Errorf("error %v, want that four times the limit was not enough", err)
	}
}
