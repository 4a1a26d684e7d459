//go:build stack

package stack_test

import (
	"context"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/cluster"
	"lockstep/examples/olist"
	"lockstep/lake"
	"lockstep/project"
)

// TestCrashes kills, in the middle of a run, a node of Kafka, the executors of
// the stream, its driver, the Thrift Server under a batch, and the object store.
// All go on or are started again; nothing is lost, nothing is twice, and the
// rows are those of the same events in one process.
func TestCrashes(t *testing.T) {
	long(t)
	s := up(t, "core", "spark")
	source := []string{"--scale", "0.02"}
	local, cloud := embedded(t), onStack(t, s)
	local.must(append([]string{"run", "--once", "--speed", "max", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}, source...)...)

	ctx := context.Background()
	try := func(what string, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
	}
	stream := cloud.start("speed")
	send := cloud.start(append([]string{"replay", "--speed", "200000"}, source...)...) // five minutes
	cloud.stepReached(stream, 2)

	try("kill a node of Kafka", s.Kill("kafka-2"))
	cloud.goesOn(stream, send)
	try("start it again", s.Start(ctx, "kafka-2"))

	_, err := s.KillExecutors()
	try("kill the executors", err)
	cloud.goesOn(stream, send)

	stream.kill()
	stream = cloud.start("speed")
	cloud.goesOn(stream, send)

	l, err := cluster.OpenLake(ctx, settings(t, s), nil)
	try("open the lake", err)
	defer l.Close()
	batch := cloud.start("batch")
	batchBegun(t, l)
	try("kill the Thrift Server", s.Kill("thrift"))
	try("start it again", s.Start(ctx, "thrift"))
	eventually(t, commandTime, "the batch ends", batch.ended)
	cloud.must("batch") // goes on with what the other left, or begins anew

	try("kill the object store", s.Kill("minio"))
	try("start it again", s.Start(ctx, "minio"))
	if stream.ended() {
		t.Fatalf("the stream ended with the object store:\n%s", tail(stream.log.String()))
	}
	eventually(t, commandTime, "the source is at its end", send.ended)
	if code := send.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("replay: exit %d\n%s", code, tail(send.log.String()))
	}
	cloud.caughtUp(stream)
	cloud.sameAsLog()
	cloud.must("verify")
	cloud.must("batch")
	for _, table := range tables(t) {
		compareRows(t, table, local.rows(table, "batch"), cloud.rows(table, "serving"))
	}
}

// batchBegun waits until the lake holds the record of a run.
func batchBegun(t *testing.T, l *lake.Lake) {
	t.Helper()
	eventually(t, commandTime, "the batch begins", func() bool {
		runs, err := l.Objects().List(t.Context(), "runs/")
		return err == nil && len(runs) > 0
	})
}

// goesOn waits until the stream makes further steps, or has nothing left to do.
func (x *site) goesOn(stream, send *process) {
	x.t.Helper()
	from := x.status().Step
	eventually(x.t, commandTime, "the stream goes on", func() bool {
		if stream.ended() {
			x.t.Fatalf("the stream ended:\n%s", tail(stream.log.String()))
		}
		s := x.status()
		return s.Step >= from+2 || send.ended() && s.Step > 0 && s.lag() == 0
	})
}

// sameAsLog compares bronze with the log, record by record: each is there once.
func (x *site) sameAsLog() {
	x.t.Helper()
	for _, topic := range x.topics() {
		var r struct {
			Rows [][]float64 `json:"rows"`
		}
		x.mustJSON(&r, "query", "SELECT _partition, _offset FROM bronze."+topic)
		have := map[[2]int64]int{}
		for _, row := range r.Rows {
			have[[2]int64{int64(row[0]), int64(row[1])}]++
		}
		n := 0
		x.eachRecord(topic, func(r *kgo.Record) {
			n++
			if at := [2]int64{int64(r.Partition), r.Offset}; have[at] != 1 {
				x.t.Errorf("%s: the record at partition %d, offset %d is %d times in bronze", topic, at[0], at[1], have[at])
			}
		})
		if len(have) != n {
			x.t.Errorf("%s: bronze has %d records, the log %d", topic, len(have), n)
		}
	}
}

// eachRecord reads a topic to its end.
func (x *site) eachRecord(topic string, f func(*kgo.Record)) {
	x.t.Helper()
	cl := x.kafka(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer cl.Close()
	left := x.ends(cl, topic)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for len(left) > 0 {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			x.t.Fatalf("topic %s: %v", topic, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			f(r)
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
		})
	}
}

// topics are those of the bundled project.
func (x *site) topics() (names []string) {
	x.t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, s := range p.Sources {
		names = append(names, s.Topic)
	}
	return names
}

// kafka connects to the stack's log.
func (x *site) kafka(more ...kgo.Opt) *kgo.Client {
	x.t.Helper()
	opts, err := settings(x.t, up(x.t, "core")).KafkaOptions()
	if err != nil {
		x.t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(opts, more...)...)
	if err != nil {
		x.t.Fatal(err)
	}
	return cl
}

// ends are the next offsets of the partitions that hold records.
func (x *site) ends(cl *kgo.Client, topic string) map[int32]int64 {
	x.t.Helper()
	offsets, err := kadm.NewClient(cl).ListEndOffsets(context.Background(), topic)
	if err != nil {
		x.t.Fatal(err)
	}
	out := map[int32]int64{}
	offsets.Each(func(o kadm.ListedOffset) { // a topic that is not there yet has none
		if o.Err == nil && o.Offset > 0 {
			out[o.Partition] = o.Offset
		}
	})
	return out
}
