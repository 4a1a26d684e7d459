package replay

import (
	"context"
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
	"github.com/twmb/franz-go/pkg/sr"

	"lockstep/project"
)

// TestChild is the process that TestKill kills; on its own it does nothing.
func TestChild(t *testing.T) {
	point, after, ok := strings.Cut(os.Getenv("REPLAY_KILL"), " ")
	if !ok {
		t.Skip("run by TestKill")
	}
	left, err := strconv.Atoi(after)
	if err != nil {
		t.Fatal(err)
	}
	registry, err := sr.NewClient(sr.URLs(os.Getenv("REPLAY_REGISTRY")))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{Project: testProject(), Data: os.Getenv("REPLAY_DATA"), WorkDir: os.Getenv("REPLAY_WORK"), Brokers: strings.Split(os.Getenv("REPLAY_BROKERS"), ","), Registry: registry, Threads: 1}
	c.Hook = func(at string) {
		if at == point {
			if left--; left < 0 {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
}

// TestKill kills a replay with SIGKILL at each named point and after random
// records. Then one runs to the end, and the log must hold each event once.
func TestKill(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	k := newCluster(t)
	data, work := writeData(t, 4000), t.TempDir()
	var kills []string
	killed := 0
	for _, p := range Points[:len(Points)-1] {
		kills = append(kills, p+" 0")
	}
	for range 8 {
		kills = append(kills, fmt.Sprintf("replay.record %d", rng.IntN(1500)))
	}
	kills = append(kills, "replay.sent 0")
	for _, kill := range kills {
		child := exec.Command(os.Args[0], "-test.run=^TestChild$")
		child.Env = append(os.Environ(), "REPLAY_KILL="+kill, "REPLAY_REGISTRY="+k.registryURL, "REPLAY_DATA="+data, "REPLAY_WORK="+work, "REPLAY_BROKERS="+strings.Join(k.brokers, ","))
		out, err := child.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("%s: %v\n%s", kill, err, out)
		}
		if err != nil {
			killed++
		}
	}
	if killed < len(Points) {
		t.Errorf("only %d of %d replays were killed", killed, len(kills))
	}
	c := k.config(data)
	c.WorkDir = work
	got, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	k.checkComplete(got)
	if left, _ := filepath.Glob(filepath.Join(work, "*")); len(left) != 2 {
		t.Errorf("the work folder holds %v, want the events and the inputs' record", left)
	}
}

// TestFaultyFileSendsNothing wants a fault at the end of the last file to
// leave the log without topics.
func TestFaultyFileSendsNothing(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 100))
	write(t, filepath.Join(c.Data, "sensors.csv"), "sensor,height\ns1,1\ns2,tall\n")
	_, err := Run(context.Background(), c)
	var faults project.Problems
	if !errors.As(err, &faults) || faults[0].Line != 3 {
		t.Fatalf("error %v", err)
	}
	cl := k.client()
	topics, err := kadm.NewClient(cl).ListTopics(context.Background())
	if err != nil || len(topics) != 0 {
		t.Errorf("topics %v, %v", topics.Names(), err)
	}
	left, _ := filepath.Glob(filepath.Join(c.WorkDir, spoolFolder+"*"))
	if len(left) > 0 {
		t.Errorf("half-made events are left: %v", left)
	}
}

func (k *cluster) client(opts ...kgo.Opt) *kgo.Client {
	k.t.Helper()
	cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(k.brokers...))...)
	if err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(cl.Close)
	return cl
}

func TestEventsNeedTheirKey(t *testing.T) {
	k := newCluster(t)
	c := k.config(t.TempDir())
	write(t, filepath.Join(c.Data, "sensors.csv"), "sensor,height\ns1,1\n")
	write(t, filepath.Join(c.Data, "readings.csv"), "sensor,value,note,seen\ns1,1,,2020-01-01\n,2,,2020-01-02\n")
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "1 of its events have no sensor") {
		t.Errorf("error %v", err)
	}
}

// TestEventsWithoutTime are sent first.
func TestEventsWithoutTime(t *testing.T) {
	k := newCluster(t)
	c := k.config(t.TempDir())
	c.Speed = 3600
	write(t, filepath.Join(c.Data, "sensors.csv"), "sensor,height\n")
	write(t, filepath.Join(c.Data, "readings.csv"), "sensor,value,note,seen\ns1,1,second,2020-01-01\ns1,2,first,\ns1,3,third,2020-01-01 00:10:00\n")
	began := time.Now()
	got, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Events != 3 {
		t.Fatalf("result %+v", got)
	}
	for _, records := range k.records("reading") {
		for i, want := range []string{"first", "second", "third"} {
			if !strings.Contains(string(records[i].Value), want) {
				t.Errorf("record %d is %q, want the %s", i, records[i].Value, want)
			}
		}
		if gap := records[2].Timestamp.Sub(records[1].Timestamp); gap < 150*time.Millisecond {
			t.Errorf("ten minutes at speed 3600 took %v", gap)
		}
	}
	if time.Since(began) < 150*time.Millisecond {
		t.Error("the replay did not wait")
	}
}

// TestPositionBehindTransactions finds the position behind committed and
// aborted transactions of others, whose markers take offsets of their own.
func TestPositionBehindTransactions(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 200))
	want, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	other := k.client(kgo.TransactionalID("other"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i, commit := range []kgo.TransactionEndTry{kgo.TryCommit, kgo.TryAbort, kgo.TryCommit} {
		if err := other.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		for p := range int32(3) {
			for range 100 * i {
				other.Produce(context.Background(), &kgo.Record{Topic: "reading", Partition: p, Value: []byte("x")}, nil)
			}
			if err := other.ProduceSync(context.Background(), &kgo.Record{Topic: "reading", Partition: p, Value: []byte("x")}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := other.EndTransaction(context.Background(), commit); err != nil {
			t.Fatal(err)
		}
	}
	got, err := Run(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	if got.Before != want.Events {
		t.Errorf("found %d events in the log, want %d", got.Before, want.Events)
	}
}

// TestTrimmedLog refuses to guess when retention took the replayed records.
func TestTrimmedLog(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 200))
	if _, err := Run(context.Background(), c); err != nil {
		t.Fatal(err)
	}
	adm := kadm.NewClient(k.client())
	ends, err := adm.ListEndOffsets(context.Background(), "reading")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adm.DeleteRecords(context.Background(), ends.Offsets()); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "cannot tell how far topic reading was replayed") {
		t.Errorf("error %v", err)
	}
}

func TestPartitionsChanged(t *testing.T) {
	k := newCluster(t)
	c := k.config(writeData(t, 20))
	if _, err := kadm.NewClient(k.client()).CreateTopic(context.Background(), 5, 1, nil, "reading"); err != nil {
		t.Fatal(err)
	}
	if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), "it has 5 partitions, sources.yaml says 3") {
		t.Errorf("error %v", err)
	}
}

func TestConfigFaults(t *testing.T) {
	tests := []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.Data = "" }, "--scale"},
		{func(c *Config) { c.Speed = -1 }, "speed"},
		{func(c *Config) { c.Project.Sources = c.Project.Sources[2:] }, "outside producers"},
		{func(c *Config) { c.Data = filepath.Join(c.Data, "none") }, "is not a folder"},
		{func(c *Config) { os.Remove(filepath.Join(c.Data, "sensors.csv")) }, "sensors.csv: the file is missing"},
		{func(c *Config) { c.Registry = nil }, "registry"},
	}
	k := newCluster(t)
	for _, test := range tests {
		c := k.config(writeData(t, 10))
		test.change(&c)
		if _, err := Run(context.Background(), c); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("error %v, want %q", err, test.want)
		}
	}
}

// TestStopWithoutLog ends a replay whose log has gone away.
func TestStopWithoutLog(t *testing.T) {
	defer func(d time.Duration) { courtesy = d }(courtesy)
	courtesy = 100 * time.Millisecond
	k := newCluster(t)
	c := k.config(writeData(t, 3000))
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	sent := 0
	c.Hook = func(point string) {
		if point != "replay.record" {
			return
		}
		if sent++; sent == 1000 {
			k.log.Close()
			time.AfterFunc(50*time.Millisecond, cancel)
		}
	}
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, c)
		ended <- err
	}()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("the replay says that it is complete")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the replay does not end")
	}
}
