package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestDiskThatFillsUp needs a small disk: LOCKSTEP_SMALL_DISK names an empty
// directory on a file system of 150 to 500 MB (mount -t tmpfs -o size=200m).
func TestDiskThatFillsUp(t *testing.T) {
	disk := os.Getenv("LOCKSTEP_SMALL_DISK")
	if disk == "" {
		t.Skip("LOCKSTEP_SMALL_DISK is not set")
	}
	for name, minFree := range map[string]int64{"guarded": 0, "found by the write": -1} {
		t.Run(name, func(t *testing.T) { fillDisk(t, filepath.Join(disk, "log"), minFree) })
		os.RemoveAll(filepath.Join(disk, "log"))
	}
}

func fillDisk(t *testing.T, dir string, minFree int64) {
	ctx := testContext(t)
	o := Options{Dir: dir, MinFreeBytes: minFree}
	b := openTest(t, o)
	if err := b.EnsureTopic(ctx, "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := testClient(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	acked := make(map[uint64]bool)
	n := uint64(0)
	send := func(patience time.Duration) error {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		v := binary.BigEndian.AppendUint64(nil, n)
		err := c.ProduceSync(ctx, &kgo.Record{Topic: "t", Value: append(v, bytes.Repeat([]byte("x"), 500_000)...)}).FirstErr()
		if err == nil {
			acked[n] = true
		}
		n++
		return err
	}
	var full error
	for full == nil {
		full = send(2 * time.Second)
	}
	t.Logf("after %d records: %v", len(acked), full)
	if err := b.EnsureTopic(ctx, "t", 1, map[string]string{"retention.bytes": "20000000"}); err != nil {
		t.Fatal(err)
	}
	if err := b.ApplyRetention(ctx); err != nil {
		t.Fatal(err)
	}
	start := b.cluster.PartitionInfo("t", 0).LogStartOffset
	deadline := time.Now().Add(20 * time.Second)
	for send(2*time.Second) != nil {
		if time.Now().After(deadline) {
			t.Fatal("producing did not go on when there was room")
		}
	}
	c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openTest(t, o)
	got := make(map[uint64]int)
	for _, v := range readAll(t, b, "t") {
		got[binary.BigEndian.Uint64([]byte(v))]++
	}
	for v := range acked {
		if v >= uint64(start) && got[v] != 1 {
			t.Errorf("acknowledged record %d is there %d times", v, got[v])
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkOpen opens a log of 300,000 records after an orderly end and after a
// crash.
func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	o := Options{Dir: dir, Addr: "127.0.0.1:0", Log: quiet()}
	log, err := Open(o)
	if err != nil {
		b.Fatal(err)
	}
	if err := log.EnsureTopic(b.Context(), "t", 3, nil); err != nil {
		b.Fatal(err)
	}
	c, err := kgo.NewClient(append(log.ClientOpts(), kgo.DefaultProduceTopic("t"), kgo.ProducerBatchCompression(kgo.NoCompression()))...)
	if err != nil {
		b.Fatal(err)
	}
	for range 300_000 {
		c.Produce(b.Context(), &kgo.Record{Value: bytes.Repeat([]byte("x"), 150)}, nil)
	}
	if err := c.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
	c.Close()
	log.Close()
	for _, crash := range []bool{false, true} {
		name := "closed"
		if crash {
			name = "crashed"
		}
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if crash {
					b.StopTimer()
					os.Remove(filepath.Join(dir, cleanFile))
					b.StartTimer()
				}
				log, err := Open(o)
				if err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				log.Close()
				b.StartTimer()
			}
		})
	}
}
