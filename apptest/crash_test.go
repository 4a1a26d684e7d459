package apptest

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

var (
	kills    = flag.Int("kills", 8, "kills at random instants")
	killSeed = flag.Uint64("kill-seed", 0, "seed of the random kills; 0: by the clock")
)

// killRun is a replay that is over in seconds and passes every point often.
var killRun = []string{"run", "--once", "--speed", "max", "--scale", "0.01", "--schedule", "@every 1s", "--commit-every", "100ms"}

// killPoints are the named places at which a run is killed, "#n" at the n-th
// time that it passes there.
var killPoints = []string{
	"replay.prepare", "replay.prepared", "replay.identity", "replay.schemas", "replay.sent", "replay.record#500",
	"ingest.judged#3", "ingest.letters#3", "ingest.recorded", "ingest.recorded#4", "ingest.record.written#2", "ingest.queued#2", "ingest.applied#2",
	"ingest.commit#2", "ingest.commit.table#3",
	"lake.append.files#3", "lake.append.metadata#3", "lake.append.committed#3", "lake.append.committed#8",
	"speed.committed", "speed.committed#3", "speed.served#2",
	"batch.begun", "batch.table", "batch.table#7", "batch.compared", "batch.published", "batch.handed",
	"lake.replace.files#5", "lake.replace.metadata#5", "lake.replace.committed#5", "lake.publish.manifest", "lake.publish.published",
}

// TestKilledAtNamedPoints kills the main job at each point, starts it again
// and wants everything as if nothing had happened.
func TestKilledAtNamedPoints(t *testing.T) {
	for _, point := range killPoints {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			state := t.TempDir()
			if !killed(t, state, point, killRun) {
				t.Fatalf("the run never passed %s", point)
			}
			whole(t, state)
		})
	}
}

// TestUpkeepKilled kills compaction and expiry, which a short run does not
// come to by itself.
func TestUpkeepKilled(t *testing.T) {
	state := t.TempDir()
	must(t, append(append([]string{}, killRun...), append(freePorts, "--state", state)...)...)
	for _, point := range []string{"lake.compact.files", "lake.compact.metadata", "lake.compact.committed", "lake.expire.metadata", "lake.expire.committed", "lake.expire.expired"} {
		if !killed(t, state, point, []string{"maintain"}) {
			t.Errorf("maintain never passed %s", point)
		}
	}
	must(t, "maintain", "--state", state)
	whole(t, state)
}

// TestKilledAtRandom kills one state again and again, at random instants.
func TestKilledAtRandom(t *testing.T) {
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d (replay with -kill-seed)", seed)
	random := rand.New(rand.NewPCG(seed, 1))
	state := t.TempDir()
	for n := 0; n < *kills; n++ {
		if n%10 == 9 { // a fresh one, so that there is always something to do
			whole(t, state)
			state = t.TempDir()
		}
		p := launch(t, state, append(killRun[1:], freePorts...)...)
		select {
		case err := <-p.exited:
			p.exited <- err
			if err != nil {
				t.Fatalf("the run failed after %d kills: %v\n%s", n, err, tail(p.stderr.String()))
			}
		case <-time.After(time.Duration(random.Int64N(int64(3 * time.Second)))):
			p.kill()
		}
	}
	whole(t, state)
}

// killed runs a command that ends itself at a point; false: it never came
// there.
func killed(t *testing.T, state, point string, args []string) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), commandTime)
	defer cancel()
	args = append(append([]string{}, args...), "--state", state)
	if args[0] == "run" {
		args = append(args, freePorts...)
	}
	c := exec.CommandContext(ctx, binary, args...)
	c.Env = append(os.Environ(), "LOCKSTEP_KILL="+point)
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if s, ok := exit.Sys().(syscall.WaitStatus); ok && s.Signaled() && s.Signal() == syscall.SIGKILL && ctx.Err() == nil {
			return true
		}
	}
	if err != nil {
		t.Fatalf("lockstep %s: %v\n%s", strings.Join(args, " "), err, tail(string(out)))
	}
	return false
}

// whole lets a run come to its end and holds the state to its promises: every
// model is a full recompute, and bronze holds every record of the log once.
func whole(t *testing.T, state string) {
	t.Helper()
	must(t, append(append([]string{}, killRun...), append(freePorts, "--state", state)...)...)
	must(t, "verify", "--state", state)
	compareWithLog(t, state)
}

// compareWithLog compares bronze with the log record by record.
func compareWithLog(t *testing.T, state string) {
	t.Helper()
	p := start(t, state, append([]string{"--scale", "0.01", "--speed", "max"}, freePorts...)...)
	var status struct {
		Addresses []struct{ Name, Addr string } `json:"addresses"`
		Topics    []struct{ Topic string }      `json:"topics"`
	}
	mustJSON(t, &status, "status", "--state", state)
	kafka := ""
	for _, a := range status.Addresses {
		if a.Name == "kafka" {
			kafka = a.Addr
		}
	}
	for _, topic := range status.Topics {
		inLog := logRecords(t, kafka, topic.Topic)
		dead := deadOffsets(t, state, topic.Topic)
		key := query(t, state, "SELECT column_name FROM (DESCRIBE bronze."+topic.Topic+") LIMIT 1").Rows[0][0]
		rows := query(t, state, fmt.Sprintf("SELECT _partition, _offset, %s FROM bronze.%s", key, topic.Topic)).Rows
		seen := map[string]bool{}
		for _, row := range rows {
			at := fmt.Sprintf("%v/%v", row[0], row[1])
			if seen[at] {
				t.Errorf("%s: record %s is twice in bronze", topic.Topic, at)
			}
			seen[at] = true
			if want, ok := inLog[at]; !ok {
				t.Errorf("%s: record %s is in bronze, but not in the log", topic.Topic, at)
			} else if want != fmt.Sprint(row[2]) {
				t.Errorf("%s: record %s has key %v in bronze, %s in the log", topic.Topic, at, row[2], want)
			}
		}
		for at := range inLog {
			if !seen[at] && !dead[at] {
				t.Errorf("%s: record %s is in the log, but not in bronze", topic.Topic, at)
			}
		}
		if len(inLog) == 0 {
			t.Errorf("%s: the log holds nothing", topic.Topic)
		}
	}
	p.interrupt()
}

// logRecords reads a topic from its beginning: key by partition/offset.
func logRecords(t *testing.T, broker, topic string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(broker), kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ends, err := kadm.NewClient(cl).ListCommittedOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	left := int64(0)
	ends.Each(func(o kadm.ListedOffset) { left += o.Offset })
	out := map[string]string{}
	for int64(len(out)) < left {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("cannot read topic %s (%d of %d records): %v", topic, len(out), left, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { out[fmt.Sprintf("%d/%d", r.Partition, r.Offset)] = string(r.Key) })
	}
	return out
}

func deadOffsets(t *testing.T, state, topic string) map[string]bool {
	t.Helper()
	var letters []struct {
		Partition int32
		Offset    int64
	}
	mustJSON(t, &letters, "dlq", "list", "--done", "--limit", "0", "--topic", topic, "--state", state)
	out := map[string]bool{}
	for _, l := range letters {
		out[fmt.Sprintf("%d/%d", l.Partition, l.Offset)] = true
	}
	return out
}
