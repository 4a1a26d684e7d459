package broker

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func TestFullDiskHoldsProducersBack(t *testing.T) {
	ctx := testContext(t)
	b := openTest(t, Options{Dir: t.TempDir(), MinFreeBytes: 1000})
	if err := b.EnsureTopic(ctx, "a", 1, nil); err != nil {
		t.Fatal(err)
	}
	guard := newSpaceGuard(b.cluster, b.opts)
	free := uint64(999)
	guard.free = func(string) (uint64, error) { return free, nil }
	guard.check()

	c := testClient(t, b)
	done := make(chan error, 1)
	c.Produce(ctx, &kgo.Record{Topic: "a", Value: []byte("x")}, func(_ *kgo.Record, err error) { done <- err })
	if err := guard.fault.Wait(ctx, 1); err != nil {
		t.Fatalf("the produce request did not come: %v", err)
	}
	select {
	case err := <-done:
		t.Fatalf("producing to a full disk ended with %v, want it to wait", err)
	default:
	}
	free = 1000
	guard.check()
	if err := <-done; err != nil {
		t.Errorf("after room was made: %v", err)
	}
	if got := readAll(t, b, "a"); len(got) != 1 {
		t.Errorf("the topic has %d records, want 1", len(got))
	}
}

func TestRetentionBySizeKeepsTheNewest(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	b := openTest(t, Options{Dir: dir, SegmentBytes: 1 << 20})
	for topic, configs := range map[string]map[string]string{
		"limited":   {"retention.bytes": "1000000"},
		"compacted": {"cleanup.policy": "compact"},
	} {
		if err := b.EnsureTopic(ctx, topic, 1, configs); err != nil {
			t.Fatal(err)
		}
		c := testClient(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
		for range 50 {
			r := &kgo.Record{Topic: topic, Key: []byte("k"), Value: []byte(strings.Repeat("x", 100_000))}
			if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := b.ApplyRetention(ctx); err != nil {
		t.Fatal(err)
	}
	p := b.cluster.PartitionInfo("limited", 0)
	if p.NumBytes > 1_000_000 || p.LogStartOffset < 40 || p.HighWatermark != 50 {
		t.Errorf("after retention: %+v", p)
	}
	if got := b.cluster.PartitionInfo("compacted", 0); got.LogStartOffset != 0 {
		t.Errorf("a compacted topic lost its beginning: %+v", got)
	}
	if got := *b.cluster.TopicInfo("compacted").Configs["retention.bytes"]; got != "-1" {
		t.Errorf("retention.bytes of a compacted topic is %s", got)
	}
}

func TestRetentionByAgeNeverEmptiesATopic(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	o := Options{Dir: dir, RetentionAge: time.Hour}
	b := openTest(t, o)
	if err := b.EnsureTopic(ctx, "a", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := testClient(t, b)
	for range 10 {
		r := &kgo.Record{Topic: "a", Value: []byte("x"), Timestamp: time.Now().Add(-2 * time.Hour)}
		if err := c.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.ApplyRetention(ctx); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openTest(t, o)
	p := b.cluster.PartitionInfo("a", 0)
	if p.LogStartOffset != 9 || p.HighWatermark != 10 {
		t.Errorf("after retention and a restart: start %d, high watermark %d; want 9 and 10", p.LogStartOffset, p.HighWatermark)
	}
}
