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
// time that it passes there, in the order in which a run comes to them.
var killPoints = []string{
	"replay.prepare", "replay.prepared", "replay.identity", "replay.schemas", "replay.record#500", "replay.sent",
	"ingest.judged", "ingest.letters", "ingest.record.written", "ingest.recorded", "ingest.queued", "speed.committed", "speed.served", "ingest.applied",
	"ingest.commit", "lake.append.files#3", "lake.append.metadata#3", "lake.append.committed#3", "ingest.commit.table#3", "lake.append.committed#8",
	"batch.begun", "lake.replace.files#5", "lake.replace.metadata#5", "lake.replace.committed#5", "batch.table", "batch.table#7",
	"batch.compared", "lake.publish.manifest", "lake.publish.published", "batch.published", "batch.handed",
	"ingest.judged#2", "ingest.recorded#2", "speed.committed#2", "speed.served#2",
}

// TestKilledAtNamedPoints kills the main job at one point after another. A
// state is killed as long as it has work left; then everything must be as if
// nothing had happened, and the next state begins.
func TestKilledAtNamedPoints(t *testing.T) {
	state, fresh := t.TempDir(), true
	for _, point := range killPoints {
		if killed(t, state, point, killRun) {
			t.Logf("killed at %s", point)
			fresh = false
			continue
		}
		if fresh {
			t.Fatalf("a whole run never passed %s", point)
		}
		whole(t, state)
		state = t.TempDir()
		if !killed(t, state, point, killRun) {
			t.Fatalf("a whole run never passed %s", point)
		}
		t.Logf("killed at %s, on a new state", point)
	}
	whole(t, state)
}

// TestUpkeepKilled kills compaction and expiry, which a short run does not
// come to by itself.
func TestUpkeepKilled(t *testing.T) {
	state := t.TempDir()
	slow := []string{"run", "--once", "--speed", "12000000", "--scale", "0.01", "--commit-every", "50ms"} // for some seconds, so that there are many commits
	must(t, append(slow, append(freePorts, "--state", state)...)...)
	for _, point := range []string{"lake.compact.files", "lake.compact.metadata", "lake.compact.committed", "lake.expire.metadata", "lake.expire.committed", "lake.expire.expired"} {
		if !killed(t, state, point, []string{"maintain", "--keep-for", "1ms"}) {
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
	bronze, dead := bronzeRecords(t, state), deadRecords(t, state)
	for _, topic := range status.Topics {
		inLog, have := logRecords(t, kafka, topic.Topic), bronze[topic.Topic]
		for at, keys := range have {
			if len(keys) != 1 {
				t.Errorf("%s: record %s is %d times in bronze", topic.Topic, at, len(keys))
			}
			if want, ok := inLog[at]; !ok || want != keys[0] {
				t.Errorf("%s: record %s has key %q in bronze, %q in the log (there: %v)", topic.Topic, at, keys[0], want, ok)
			}
		}
		for at := range inLog {
			if len(have[at]) == 0 && !dead[topic.Topic+"/"+at] {
				t.Errorf("%s: record %s is in the log, but not in bronze", topic.Topic, at)
			}
		}
		if len(inLog) == 0 {
			t.Errorf("%s: the log holds nothing", topic.Topic)
		}
	}
	p.interrupt()
}

// bronzeRecords gives, by topic and partition/offset, the keys of the rows in
// bronze.
func bronzeRecords(t *testing.T, state string) map[string]map[string][]string {
	t.Helper()
	var parts []string
	for _, row := range query(t, state, "SELECT table_name, column_name FROM information_schema.columns WHERE table_catalog = 'memory' AND table_schema = 'bronze' AND ordinal_position = 1").Rows {
		parts = append(parts, fmt.Sprintf("SELECT '%v' AS topic, _partition || '/' || _offset AS at, %v AS key FROM bronze.%v", row[0], row[1], row[0]))
	}
	out := map[string]map[string][]string{}
	for _, row := range query(t, state, strings.Join(parts, " UNION ALL ")).Rows {
		topic, at := fmt.Sprint(row[0]), fmt.Sprint(row[1])
		if out[topic] == nil {
			out[topic] = map[string][]string{}
		}
		out[topic][at] = append(out[topic][at], fmt.Sprint(row[2]))
	}
	return out
}

// logRecords reads a topic from its beginning: key by partition/offset.
func logRecords(t *testing.T, broker, topic string) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
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

// deadRecords names the records that were judged dead: topic/partition/offset.
func deadRecords(t *testing.T, state string) map[string]bool {
	t.Helper()
	var letters []struct {
		Topic     string
		Partition int32
		Offset    int64
	}
	mustJSON(t, &letters, "dlq", "list", "--done", "--limit", "0", "--state", state)
	out := map[string]bool{}
	for _, l := range letters {
		out[fmt.Sprintf("%s/%d/%d", l.Topic, l.Partition, l.Offset)] = true
	}
	return out
}
