package broker

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestChild is not a test: the crash tests start it as a process of its own.
func TestChild(t *testing.T) {
	dir := os.Getenv("BROKER_TEST_DIR")
	if dir == "" {
		t.Skip("only as a child process")
	}
	b, err := Open(Options{Dir: dir, Addr: os.Getenv("BROKER_TEST_ADDR"), SegmentBytes: 1 << 20, Log: quiet()})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("addr", b.Addrs()[0])
	select {} // until it is killed
}

type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t *testing.T, dir, addr string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$")
	cmd.Env = append(os.Environ(), "BROKER_TEST_DIR="+dir, "BROKER_TEST_ADDR="+addr)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd: cmd}
	t.Cleanup(c.kill)
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if a, ok := strings.CutPrefix(lines.Text(), "addr "); ok {
			c.addr = a
			return c
		}
		if strings.HasPrefix(lines.Text(), "error ") {
			t.Fatal(lines.Text())
		}
	}
	t.Fatal("the child ended before it listened")
	return nil
}

func (c *child) kill() {
	c.cmd.Process.Signal(syscall.SIGKILL)
	c.cmd.Wait()
}

// TestKillKeepsEveryAckedRecord kills the broker at random instants while one
// producer goes on producing: each acknowledged record is there once, also
// those that the producer had to send again over the crash.
func TestKillKeepsEveryAckedRecord(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir := t.TempDir()
	ctx := testContext(t)
	c := startChild(t, dir, "127.0.0.1:0")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.ProducerLinger(0), kgo.MaxBufferedRecords(200))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := EnsureTopic(ctx, kadm.NewClient(client), "t", 2, nil); err != nil {
		t.Fatal(err)
	}

	stop := make(chan struct{})
	acked := make(chan map[string]bool)
	go func() {
		seen := make(chan string, 1000)
		failed := make(chan error, 1)
		n := 0
		go func() {
			defer close(seen)
			for {
				select {
				case <-stop:
					client.Flush(ctx)
					return
				default:
				}
				n++
				v := strconv.Itoa(n) + strings.Repeat("-", 500)
				client.Produce(ctx, &kgo.Record{Topic: "t", Key: []byte(v), Value: []byte(v)}, func(r *kgo.Record, err error) {
					if err != nil {
						select {
						case failed <- err:
						default:
						}
						return
					}
					seen <- string(r.Value)
				})
			}
		}()
		all := make(map[string]bool)
		for v := range seen {
			all[v] = true
		}
		select {
		case err := <-failed:
			t.Errorf("producing over crashes failed: %v", err)
		default:
		}
		acked <- all
	}()

	for range 5 {
		time.Sleep(time.Duration(100+rng.IntN(400)) * time.Millisecond) // the instant is what is tested
		c.kill()
		c = startChild(t, dir, c.addr)
	}
	close(stop)
	want := <-acked
	c.kill()

	b := openTest(t, Options{Dir: dir})
	got := make(map[string]int)
	for _, v := range readAll(t, b, "t") {
		got[v]++
	}
	for v := range want {
		if got[v] != 1 {
			t.Errorf("acknowledged record %.8s is there %d times", v, got[v])
		}
	}
	for v, n := range got {
		if n > 1 {
			t.Errorf("record %.8s is there %d times", v, n)
		}
	}
	t.Logf("%d acknowledged, %d in the log", len(want), len(got))
	if len(want) == 0 {
		t.Error("nothing was acknowledged")
	}
}

// TestKillInTransaction: what was committed is read, what was open is not.
func TestKillInTransaction(t *testing.T) {
	dir := t.TempDir()
	ctx := testContext(t)
	c := startChild(t, dir, "127.0.0.1:0")
	client, err := kgo.NewClient(kgo.SeedBrokers(c.addr), kgo.TransactionalID("tx"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := EnsureTopic(ctx, kadm.NewClient(client), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	for _, commit := range []bool{true, false} {
		if err := client.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		r := &kgo.Record{Topic: "t", Value: []byte(fmt.Sprint(commit))}
		if err := client.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if commit {
			if err := client.EndTransaction(ctx, kgo.TryCommit); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.kill()

	b := openTest(t, Options{Dir: dir})
	produce(t, testClient(t, b), "t", 7, 8)
	reader := testClient(t, b, kgo.ConsumeTopics("t"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	var got []string
	for len(got) < 2 {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	if fmt.Sprint(got) != "[true 7]" {
		t.Errorf("read_committed reads %v, want [true 7]", got)
	}
}

// filled makes a log of several segments and gives their files in order.
func filled(t *testing.T) (dir string, segments []string) {
	t.Helper()
	dir = t.TempDir()
	b := openTest(t, Options{Dir: dir, SegmentBytes: 1 << 20})
	if err := b.EnsureTopic(testContext(t), "t", 1, nil); err != nil {
		t.Fatal(err)
	}
	c := testClient(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	for range 30 {
		r := &kgo.Record{Topic: "t", Value: bytes.Repeat([]byte("x"), 100_000)}
		if err := c.ProduceSync(testContext(t), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	c.Close()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	bases, err := segmentBases(partitionDir(dir, "t", 0))
	if err != nil || len(bases) < 3 {
		t.Fatalf("segments %v, %v", bases, err)
	}
	for _, base := range bases {
		segments = append(segments, filepath.Join(partitionDir(dir, "t", 0), fmt.Sprint(base)+".dat"))
	}
	return dir, segments
}

func edit(t *testing.T, path string, fn func([]byte) []byte) {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, fn(raw), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDamageIsRefused(t *testing.T) {
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[at] ^= 1; return b }
	}
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string, segments []string)
		want   string
	}{
		{"a bit in the first segment", func(t *testing.T, _ string, s []string) { edit(t, s[0], flip(200_000)) }, "checksum is wrong"},
		{"a bit in the last segment before its end", func(t *testing.T, _ string, s []string) { edit(t, s[len(s)-1], flip(5_000)) }, "whole batches go on"},
		{"a middle segment cut", func(t *testing.T, _ string, s []string) {
			edit(t, s[1], func(b []byte) []byte { return b[:len(b)-10] })
		}, "cut short"},
		{"a middle segment lost", func(t *testing.T, _ string, s []string) {
			if err := os.Remove(s[1]); err != nil {
				t.Fatal(err)
			}
		}, "are missing"},
		{"the meta file lost", func(t *testing.T, dir string, _ []string) {
			if err := os.Remove(filepath.Join(dir, "meta.json")); err != nil {
				t.Fatal(err)
			}
		}, "meta.json is missing"},
		{"the topic list garbled", func(t *testing.T, dir string, _ []string) {
			edit(t, filepath.Join(dir, "topics.json"), func([]byte) []byte { return []byte("{") })
		}, "topics.json"},
		{"the topic list lost", func(t *testing.T, dir string, _ []string) {
			if err := os.Remove(filepath.Join(dir, "topics.json")); err != nil {
				t.Fatal(err)
			}
		}, "topics.json is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir, segments := filled(t)
			c.damage(t, dir, segments)
			_, err := Open(Options{Dir: dir, Addr: "127.0.0.1:0", Log: quiet()})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "restore it from a copy") {
				t.Errorf("got %v, want %q and a remedy", err, c.want)
			}
		})
	}
}

func TestUnfinishedLastWriteIsCut(t *testing.T) {
	dir, segments := filled(t)
	last := segments[len(segments)-1]
	first, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	edit(t, last, func(b []byte) []byte { return append(b, first[:40_000]...) })
	b := openTest(t, Options{Dir: dir})
	if got := len(readAll(t, b, "t")); got != 30 {
		t.Errorf("%d records after a cut write, want 30", got)
	}
	produce(t, testClient(t, b), "t", 0, 1)
	if got := len(readAll(t, b, "t")); got != 31 {
		t.Errorf("%d records after one more, want 31", got)
	}
}

func TestOrphansAreSetAside(t *testing.T) {
	dir, _ := filled(t)
	if err := os.Rename(partitionDir(dir, "t", 0), partitionDir(dir, "gone", 0)); err != nil {
		t.Fatal(err)
	}
	b := openTest(t, Options{Dir: dir})
	if fileExists(partitionDir(dir, "gone", 0)) {
		t.Error("the data of an unknown topic is still there")
	}
	moved, err := filepath.Glob(filepath.Join(dir, "orphans", "gone-0.*", "0.dat"))
	if err != nil || len(moved) != 1 {
		t.Errorf("set aside: %v, %v", moved, err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, cleanFile)); errors.Is(err, os.ErrNotExist) {
		t.Error("an orderly close left no mark")
	}
}
