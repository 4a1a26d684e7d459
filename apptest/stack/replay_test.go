//go:build stack

package stack_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/cluster"
	"lockstep/deploy/stack"
	"lockstep/ingest"
	"lockstep/project"
	"lockstep/registry"
	"lockstep/replay"
	"lockstep/web"
)

const readings = 5000

// readingSchema has one field more than the first version when it is wide.
func readingSchema(topic, more string) string {
	return fmt.Sprintf(`{"type":"record","name":"%s","fields":[{"name":"sensor","type":"string"},{"name":"n","type":["null","int"]},
		{"name":"seen","type":["null",{"type":"long","logicalType":"timestamp-millis"}]}%s]}`, topic, more)
}

// readingProject has one topic, of a name of the test's own, and a folder of
// raw files for it. What it leaves on the stack is removed at the end.
func readingProject(t *testing.T, c *cluster.Config) (p *project.Project, topic, data string) {
	t.Helper()
	topic = fmt.Sprintf("reading_%08x", rand.Uint32())
	p, err := project.Load(fstest.MapFS{
		"project.yaml": {Data: []byte("name: " + topic + "\n")},
		"sources.yaml": {Data: []byte(fmt.Sprintf("raw:\n  readings: {file: readings.csv, columns: {sensor: string, n: int, seen: timestamp}}\n"+
			"topics:\n  %s: {key: sensor, event_time: seen, partitions: 3, query: sources/reading.sql}\n", topic))},
		"sources/reading.sql":        {Data: []byte("SELECT sensor, n, seen, source_line FROM raw.readings")},
		"schemas/" + topic + ".avsc": {Data: []byte(readingSchema(topic, ""))},
	})
	if err != nil {
		t.Fatal(err)
	}
	var csv strings.Builder
	csv.WriteString("sensor,n,seen\n")
	for i := range readings {
		fmt.Fprintf(&csv, "s%d,%d,%s\n", i%97, i, time.Date(2017, 1, 1, 0, 0, i, 0, time.UTC).Format(time.DateTime))
	}
	data = t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "readings.csv"), []byte(csv.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { forget(t, c, topic) })
	return p, topic, data
}

func forget(t *testing.T, c *cluster.Config, topic string) {
	ctx := context.Background()
	cl := kafkaClient(t, c)
	_, err := kadm.NewClient(cl).DeleteTopics(ctx, topic, ingest.DeadLetterTopic(topic), ingest.DeadLetterTopic(topic)+".done")
	l, lakeErr := cluster.OpenLake(ctx, c, nil)
	if err = errors.Join(err, lakeErr); lakeErr == nil {
		err = errors.Join(err, l.Drop(ctx, "bronze."+topic), l.Close())
	}
	if err != nil {
		t.Error(err)
	}
}

func kafkaClient(t *testing.T, c *cluster.Config, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	base, err := c.KafkaOptions()
	if err != nil {
		t.Fatal(err)
	}
	cl, err := kgo.NewClient(append(base, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// ends are the offsets behind the last record of each partition, summed.
func ends(t *testing.T, c *cluster.Config, topic string) (n int64) {
	t.Helper()
	listed, err := kadm.NewClient(kafkaClient(t, c)).ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	listed.Each(func(o kadm.ListedOffset) { n += o.Offset })
	return n
}

// TestReplayResumes: a replay that is stopped again and again sends each event
// once, to a topic of the cluster's replication whose schema is guarded.
func TestReplayResumes(t *testing.T) {
	c := settings(t, up(t, stack.Core))
	p, topic, data := readingProject(t, c)
	o := cluster.ReplayOptions{Data: data, WorkDir: t.TempDir()}
	for _, stopAfter := range []int{1, 700, 1900} {
		ctx, stop := context.WithCancel(t.Context())
		seen := 0
		o.Hook = func(point string) {
			if point == "replay.record" {
				if seen++; seen == stopAfter {
					stop()
				}
			}
		}
		if _, err := cluster.Replay(ctx, p, c, o); !errors.Is(err, context.Canceled) {
			t.Fatalf("a stopped replay gives %v", err)
		}
		stop()
	}
	o.Hook = nil
	for i := range 2 {
		r, err := cluster.Replay(t.Context(), p, c, o)
		if err != nil {
			t.Fatal(err)
		}
		if r.Events != readings || i == 0 && (r.Before == 0 || r.Before == readings) || i == 1 && r.Before != readings {
			t.Errorf("replay %d: %+v", i, r)
		}
	}
	if n := ends(t, c, topic); n != readings {
		t.Errorf("the log holds %d records", n)
	}
	ordinals := map[string]bool{}
	cl := kafkaClient(t, c, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for len(ordinals) < readings {
		fetches := cl.PollFetches(t.Context())
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(ordinals), err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			key := string(r.Headers[0].Value[:8])
			if r.Headers[0].Key != replay.HeaderKey || ordinals[key] {
				t.Errorf("record %s/%d is a second one, or has no header", topic, r.Offset)
			}
			ordinals[key] = true
		})
	}
	details, err := kadm.NewClient(cl).ListTopics(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	for _, partition := range details[topic].Partitions {
		if len(partition.Replicas) != 3 {
			t.Errorf("partition %d has %d replicas", partition.Partition, len(partition.Replicas))
		}
	}
	checkRegistry(t, c, topic)
}

// checkRegistry: the schema is there under its subject; one that cannot read
// its records is refused, one with a further field is not.
func checkRegistry(t *testing.T, c *cluster.Config, topic string) {
	client, err := c.RegistryClient()
	if err != nil {
		t.Fatal(err)
	}
	ctx, subject := t.Context(), topic+"-value"
	first, err := client.SchemaByVersion(ctx, subject, -1)
	if err != nil || first.Version != 1 {
		t.Fatalf("version %d: %v", first.Version, err)
	}
	register := func(more string) (int, error) {
		return client.RegisterSchema(ctx, subject, sr.Schema{Schema: readingSchema(topic, more), Type: sr.TypeAvro}, -1, -1)
	}
	if id, err := register(""); err != nil || id != first.ID {
		t.Errorf("the same schema again has id %d, not %d: %v", id, first.ID, err)
	}
	var refused *sr.ResponseError
	if _, err := register(`,{"name":"must","type":"string"}`); !errors.As(err, &refused) || refused.StatusCode != http.StatusConflict {
		t.Errorf("an incompatible schema: %v", err)
	}
	if id, err := register(`,{"name":"note","type":["null","string"],"default":null}`); err != nil || id == first.ID {
		t.Errorf("a wider schema has id %d: %v", id, err)
	}
}

// TestLettersOnKafka: ingest writes the cluster's bronze from the cluster's
// log, and what it cannot take is listed and sent again, once.
func TestLettersOnKafka(t *testing.T) {
	c := settings(t, up(t, stack.Core))
	p, topic, data := readingProject(t, c)
	if _, err := cluster.Replay(t.Context(), p, c, cluster.ReplayOptions{Data: data, WorkDir: t.TempDir()}); err != nil {
		t.Fatal(err)
	}
	stop := startIngest(t, p, c)
	id := schemaID(t, c, topic)
	bad := binary.BigEndian.AppendUint32([]byte{0}, uint32(id))
	producer := kafkaClient(t, c)
	if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: topic, Key: []byte("s1"), Value: append(bad, 0xff)}, &kgo.Record{Topic: topic, Key: []byte("s2"), Value: []byte("text")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	letters, err := cluster.NewLetters(p, c, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	list := awaitLetters(t, letters, 2, 2)
	if string(list[0].Key) != "s1" && string(list[0].Key) != "s2" || list[0].Topic != topic || list[0].Reason == "" {
		t.Errorf("the first letter is %+v", list[0])
	}
	for i, want := range []int{2, 2} { // sent again they are as bad as before: two new letters
		n, err := letters.ReplayLetters(t.Context(), web.LetterFilter{Topic: topic})
		if err != nil || n != want {
			t.Fatalf("replay %d sent %d letters: %v", i, n, err)
		}
		awaitLetters(t, letters, 2, 4+2*i)
	}
	stop()
	l, err := cluster.OpenLake(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s, err := l.Scan(t.Context(), "bronze."+topic, 0)
	if err != nil || s.Rows != readings {
		t.Errorf("bronze holds %d rows: %v", s.Rows, err)
	}
}

func schemaID(t *testing.T, c *cluster.Config, topic string) int {
	t.Helper()
	client, err := c.RegistryClient()
	if err != nil {
		t.Fatal(err)
	}
	s, err := client.SchemaByVersion(t.Context(), topic+"-value", -1)
	if err != nil {
		t.Fatal(err)
	}
	return s.ID
}

// awaitLetters waits for so many open letters, of so many in all.
func awaitLetters(t *testing.T, letters web.LogLetters, open, all int) []web.Letter {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		every, err1 := letters.DeadLetters(t.Context(), web.LetterFilter{Done: true})
		list, err2 := letters.DeadLetters(t.Context(), web.LetterFilter{})
		if err1 == nil && err2 == nil && len(list) == open && len(every) == all {
			return list
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d open letters of %d, want %d of %d: %v, %v", len(list), len(every), open, all, err1, err2)
		}
	}
}

// sink takes steps and does nothing with them.
type sink struct{ last int64 }

func (s *sink) Last() int64 { return s.last }

func (s *sink) Apply(_ context.Context, step *ingest.Step) error {
	s.last = step.Number
	return nil
}

// startIngest runs ingest, as the embedded environment does, on the cluster's
// parts until stop, which waits for all to be in bronze.
func startIngest(t *testing.T, p *project.Project, c *cluster.Config) (stop func()) {
	t.Helper()
	kafka, err := c.KafkaOptions()
	if err != nil {
		t.Fatal(err)
	}
	opts, err := c.RegistryOptions()
	if err != nil {
		t.Fatal(err)
	}
	schemas, err := registry.NewClient(c.Registry, opts...)
	if err != nil {
		t.Fatal(err)
	}
	l, err := cluster.OpenLake(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, err := ingest.Open(t.Context(), ingest.Config{Project: p, ClientOptions: kafka, Registry: schemas, Lake: l, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- in.Run(ctx, &sink{}) }()
	return func() {
		commit, cancelCommit := context.WithTimeout(t.Context(), time.Minute)
		defer cancelCommit()
		if _, err := in.CommitNow(commit); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-done; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := errors.Join(in.Close(), l.Close()); err != nil {
			t.Error(err)
		}
	}
}
