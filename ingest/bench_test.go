package ingest

import (
	"context"
	"fmt"
	"math/big"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/lake"
)

// benchSchema has ten fields, three texts among them, about 110 bytes a record.
const benchSchema = `{"type":"record","name":"thing","fields":[
	{"name":"id","type":"string"},
	{"name":"other","type":["null","string"],"default":null},
	{"name":"kind","type":["null","string"],"default":null},
	{"name":"count","type":["null","int"],"default":null},
	{"name":"size","type":["null","long"],"default":null},
	{"name":"weight","type":["null","double"],"default":null},
	{"name":"price","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"default":null},
	{"name":"tax","type":["null",{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}],"default":null},
	{"name":"made","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},
	{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null}]}`

func benchBodies(b *testing.B, n int) [][]byte {
	b.Helper()
	schema := avro.MustParse(benchSchema)
	bodies := make([][]byte, n)
	for i := range bodies {
		body, err := schema.Encode(map[string]any{"id": fmt.Sprintf("%032x", i*7919), "other": fmt.Sprintf("%032x", i%5000), "kind": []string{"created", "approved", "sent"}[i%3],
			"count": int32(i % 100), "size": int64(i), "weight": float64(i) / 3, "price": big.NewRat(int64(i), 100), "tax": nil, "made": time.UnixMilli(int64(i) * 1000), "at": time.UnixMilli(int64(i) * 1001)})
		if err != nil {
			b.Fatal(err)
		}
		bodies[i] = body
	}
	return bodies
}

func cpu() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// perRow reports rows per second and CPU per row since.
func perRow(b *testing.B, rows int, begun time.Time, used time.Duration) {
	b.ReportMetric(float64(rows)/time.Since(begun).Seconds(), "rows/s")
	b.ReportMetric(float64((cpu()-used).Nanoseconds())/float64(rows), "cpu-ns/row")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDecode is the floor of judging: bodies to record batches.
func BenchmarkDecode(b *testing.B) {
	bodies := benchBodies(b, 100_000)
	to := newTestTopic(b, benchSchema, "id")
	dec := compileWriter(b, to, benchSchema)
	r := &kgo.Record{Timestamp: time.UnixMilli(1)}
	begun, used := time.Now(), cpu()
	for b.Loop() {
		d := newDraft()
		for i, body := range bodies {
			r.Offset = int64(i)
			if f := to.append(dec, body, r, d.of(to)); f != nil {
				b.Fatal(f)
			}
		}
		d.step(1, nil)
	}
	perRow(b, b.N*len(bodies), begun, used)
}

func benchBatches(b *testing.B, rows, perBatch int) (*topic, []arrow.RecordBatch) {
	to := newTestTopic(b, benchSchema, "id")
	dec := compileWriter(b, to, benchSchema)
	var batches []arrow.RecordBatch
	d := newDraft()
	for i, body := range benchBodies(b, rows) {
		if f := to.append(dec, body, &kgo.Record{Offset: int64(i), Timestamp: time.UnixMilli(1)}, d.of(to)); f != nil {
			b.Fatal(f)
		}
		if (i+1)%perBatch == 0 {
			batches = append(batches, d.step(1, nil).Rows["bronze.r"]...)
			d = newDraft()
		}
	}
	return to, batches
}

// BenchmarkAppend is the floor of bronze: record batches to committed Parquet.
func BenchmarkAppend(b *testing.B) {
	const rows = 200_000
	to, batches := benchBatches(b, rows, 50_000)
	l, err := lake.Open(context.Background(), b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	table, err := l.Bronze(context.Background(), "bronze.r", to.target.columns)
	if err != nil {
		b.Fatal(err)
	}
	begun, used := time.Now(), cpu()
	for n := int64(1); b.Loop(); n++ {
		if _, err := table.Append(context.Background(), batches, lake.Position{TopicID: "t", Offsets: map[int32]int64{0: n * rows}, Step: n}); err != nil {
			b.Fatal(err)
		}
	}
	perRow(b, b.N*rows, begun, used)
}

// BenchmarkIngest is the whole way: log to committed bronze; the log's server
// runs in this process and is in the figures.
func BenchmarkIngest(b *testing.B) {
	const rows = 1_000_000
	w := newWorld(b)
	src := source(b, benchSchema, "id")
	src.Topic, src.Partitions = "thing", 2
	w.project.Sources[1] = src
	if w.project.Sources[0].Topic == "thing" {
		w.project.Sources[0], w.project.Sources[1] = src, w.project.Sources[0]
	}
	e := w.encoder("thing", benchSchema)
	bodies := benchBodies(b, 100_000)
	producer, err := kgo.NewClient(append(w.broker.ClientOpts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.MaxBufferedRecords(100_000))...)
	if err != nil {
		b.Fatal(err)
	}
	defer producer.Close()
	for i := range rows {
		r := record("thing", int32(i%2), "", wire(e.id, bodies[i%len(bodies)]))
		r.Key = bodies[i%len(bodies)][1:33]
		producer.Produce(context.Background(), r, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := producer.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	bodies = nil
	for b.Loop() {
		w.state = b.TempDir()
		begun, used := time.Now(), cpu()
		r := w.run(nil, func(c *Config) { c.CommitEvery = 5 * time.Second })
		for {
			m := r.Metrics()
			if m.Topics["thing"].Accepted == rows {
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if _, err := r.CommitNow(context.Background()); err != nil {
			b.Fatal(err)
		}
		perRow(b, rows, begun, used)
		m := r.Metrics()
		b.Logf("%d steps, %d commits, %v in commits; %s", m.Steps, m.Commits, m.CommitTime, strings.TrimSpace(fmt.Sprint(m.Topics["thing"].Bytes>>20, " MB")))
		r.stop()
	}
}
