package ingest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/lake"
	"lockstep/registry"
)

var (
	crashes   = flag.Int("crashes", 12, "kills at random instants")
	crashSeed = flag.Uint64("crash-seed", 0, "seed of crash tests; 0: by the clock")
)

// A child is an ingest in a process of its own, which kills itself at a point.
type child struct {
	Addrs    []string
	Registry string
	State    string
	Point    string // of the ingest, or lake.<op>.<point>
	Nth      int
	LostAt   string // lake point at which a commit's answer is lost
}

func TestMain(m *testing.M) {
	if text := os.Getenv("INGEST_CHILD"); text != "" {
		var c child
		if err := json.Unmarshal([]byte(text), &c); err != nil {
			panic(err)
		}
		if err := c.main(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	os.Exit(m.Run())
}

func (c *child) main() error {
	var mu sync.Mutex
	passed := 0
	hook := func(point string) {
		mu.Lock()
		defer mu.Unlock()
		if point == c.Point {
			if passed++; passed == c.Nth {
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {}
			}
		}
	}
	lost := 0
	lakeHook := func(e lake.Event) error {
		hook("lake." + e.Op + "." + e.Point)
		if lost++; "lake."+e.Op+"."+e.Point == c.LostAt && lost%3 == 0 {
			return errors.New("the answer is lost")
		}
		return nil
	}
	l, err := lake.OpenWith(context.Background(), filepath.Join(c.State, "lake"), lake.Options{Hook: lakeHook, Logger: testLog()})
	if err != nil {
		return err
	}
	client, err := registry.NewClient(c.Registry)
	if err != nil {
		return err
	}
	w := &world{t: nil, addrs: c.Addrs, client: client, state: c.State}
	w.project = testProject(&testing.T{})
	cfg := w.config(l)
	cfg.Hook, cfg.StepRows, cfg.MaintainEvery, cfg.CommitEvery = hook, 40, 4, 15*time.Millisecond
	cfg.Upkeep = lake.Upkeep{CompactFiles: 3, CompactBelow: 1 << 30, KeepSnapshots: 2, ExpireAtMost: 10, OrphansOlderThan: time.Hour}
	i, err := Open(context.Background(), cfg)
	if err != nil {
		return err
	}
	fmt.Println("open")
	return i.Run(context.Background(), newDurable(c.State))
}

// durable is a consumer that keeps a line per step on disk.
type durable struct {
	path string
	last int64
}

func newDurable(dir string) *durable {
	d := &durable{path: filepath.Join(dir, "applied")}
	for n := range d.read() {
		d.last = max(d.last, n)
	}
	return d
}

// read gives what was applied: a hash of the rows by step.
func (d *durable) read() map[int64]string {
	steps := map[int64]string{}
	f, err := os.Open(d.path)
	if err != nil {
		return steps
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		n, hash, ok := strings.Cut(lines.Text(), " ")
		number, err := strconv.ParseInt(n, 10, 64)
		if ok && err == nil && strings.HasSuffix(hash, ".") {
			steps[number] = hash
		}
	}
	return steps
}

func (d *durable) Last() int64 { return d.last }

func (d *durable) Apply(_ context.Context, s *Step) error {
	f, err := os.OpenFile(d.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, "%d %s\n", s.Number, stepHash(s)); err != nil {
		return err
	}
	d.last = s.Number
	return nil
}

func stepHash(s *Step) string {
	h := fnv.New64a()
	var rows []string
	for _, batches := range s.Rows {
		for _, b := range batches {
			rows = append(rows, texts(b)...)
		}
	}
	sort.Strings(rows)
	for _, r := range rows {
		fmt.Fprintln(h, r)
	}
	return fmt.Sprintf("%d-%x.", len(rows), h.Sum64())
}

// start begins a child.
func (w *world) start(c child) *exec.Cmd {
	w.t.Helper()
	c.Addrs, c.Registry, c.State = w.addrs, w.http.URL, w.state
	text, err := json.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "INGEST_CHILD="+string(text))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	bufio.NewReader(out).ReadString('\n') // it is open, or it ended
	return cmd
}

// traffic produces good records, poison and aborted transactions until it is
// told to stop.
type traffic struct {
	w    *world
	r    *rand.Rand
	e    encoder
	n    int
	stop chan struct{}
	done chan struct{}
}

func (w *world) traffic(r *rand.Rand) *traffic {
	t := &traffic{w: w, r: rand.New(rand.NewPCG(r.Uint64(), 1)), e: w.encoder("thing", thingSchema), stop: make(chan struct{}), done: make(chan struct{})}
	go t.run()
	return t
}

func (t *traffic) run() {
	defer close(t.done)
	txn, err := kgo.NewClient(append(t.w.broker.ClientOpts(), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID("traffic"))...)
	if err != nil {
		t.w.t.Error(err)
		return
	}
	defer txn.Close()
	for {
		select {
		case <-t.stop:
			return
		case <-time.After(time.Duration(t.r.IntN(4)+t.n/1000) * time.Millisecond): // a slow machine gets fewer
		}
		var records []*kgo.Record
		for range 1 + t.r.IntN(12) {
			records = append(records, t.record())
		}
		if t.r.IntN(4) > 0 {
			t.w.produce(records...)
			continue
		}
		end := kgo.TransactionEndTry(t.r.IntN(2) == 0)
		if err := errors.Join(txn.BeginTransaction(), txn.ProduceSync(context.Background(), records...).FirstErr(), txn.EndTransaction(context.Background(), end)); err != nil {
			t.w.t.Error(err)
			return
		}
	}
}

func (t *traffic) record() *kgo.Record {
	t.n++
	key := fmt.Sprint("k", t.r.IntN(20))
	value := t.e.value(t.w.t, map[string]any{"id": key, "count": t.n})
	switch t.r.IntN(10) {
	case 0:
		value = value[:len(value)-1-t.r.IntN(3)] // truncated
	case 1:
		value = nil // deleted
	}
	return record("thing", int32(t.r.IntN(2)), key, value)
}

func (t *traffic) end() {
	close(t.stop)
	<-t.done
}

// check compares bronze, letters and steps with the log, record by record.
func (w *world) check() {
	w.t.Helper()
	speed := &collector{}
	r := w.run(speed)
	r.caughtUp()
	var rows, dead []string
	for _, rec := range w.readTopic("thing") {
		at := fmt.Sprintf("%d/%d", rec.Partition, rec.Offset)
		if rec.Value != nil && len(rec.Value) < 5 || rec.Value != nil && !w.whole(rec.Value) {
			dead = append(dead, at)
		} else {
			rows = append(rows, at)
		}
	}
	sort.Strings(rows)
	sort.Strings(dead)
	same(w.t, "bronze against the log", placesOf(w.bronzeRows(r.lake, "bronze.thing")), rows)
	same(w.t, "consumer against the log", placesOf(speed.sorted("bronze.thing")), rows)
	letters, err := r.DeadLetters(context.Background(), LetterFilter{})
	if err != nil {
		w.t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprintf("%d/%d", l.Partition, l.Offset))
	}
	sort.Strings(got)
	same(w.t, "letters against the log", got, dead)
	applied := newDurable(w.state).read()
	for _, s := range speed.steps {
		if hash, ok := applied[s.Number]; ok && hash != stepHash(s) {
			w.t.Errorf("step %d was %s, formed again it is %s", s.Number, hash, stepHash(s))
		}
	}
	if len(applied) == 0 || len(dead) == 0 {
		w.t.Errorf("the test did nothing: %d steps, %d dead letters", len(applied), len(dead))
	}
	w.t.Logf("%d rows, %d dead letters, %d steps", len(rows), len(dead), len(speed.steps))
	if err := r.stop(); err != nil {
		w.t.Error(err)
	}
}

// whole says whether a value was not cut.
func (w *world) whole(value []byte) bool {
	var v any
	rest, err := thingAvro.Decode(value[5:], &v)
	return err == nil && len(rest) == 0
}

// placesOf gives the places of rows in the log, and says so if one comes twice.
func placesOf(rows []string) []string {
	out := make([]string, len(rows))
	for i, row := range rows {
		var p, o string
		for _, part := range strings.Fields(row) {
			if v, ok := strings.CutPrefix(part, "_partition="); ok {
				p = v
			} else if v, ok := strings.CutPrefix(part, "_offset="); ok {
				o = v
			}
		}
		out[i] = p + "/" + o
	}
	sort.Strings(out)
	return out
}

// TestKilledAtPoints kills the ingest at every named point, one after the
// other on the same state, while records come in.
func TestKilledAtPoints(t *testing.T) {
	w := newWorld(t)
	r := w.random()
	traffic := w.traffic(r)
	points := []string{"ingest.judged", "ingest.letters.first", "ingest.letters.written", "ingest.letters", "ingest.record.written", "ingest.recorded", "ingest.queued", "ingest.applied",
		"ingest.commit", "ingest.commit.table", "ingest.upkeep",
		"lake.append.files", "lake.append.metadata", "lake.append.committed", "lake.compact.files", "lake.compact.committed", "lake.expire.metadata", "lake.expire.expired"}
	for _, point := range points {
		cmd := w.start(child{Point: point, Nth: 1 + r.IntN(3)})
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		select {
		case err := <-ended:
			if state := cmd.ProcessState.Sys().(syscall.WaitStatus); !state.Signaled() {
				t.Fatalf("%s: the child ended by itself: %v", point, err)
			}
		case <-time.After(60 * time.Second):
			cmd.Process.Kill()
			<-ended
			t.Errorf("%s: never reached", point)
		}
	}
	traffic.end()
	w.check()
}

// TestKilledAtRandom kills the ingest at random instants. Commits' answers are
// lost too.
func TestKilledAtRandom(t *testing.T) {
	w := newWorld(t)
	r := w.random()
	traffic := w.traffic(r)
	for range *crashes {
		cmd := w.start(child{LostAt: "lake.append.committed"})
		time.Sleep(time.Duration(r.IntN(800)) * time.Millisecond)
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		cmd.Wait()
	}
	traffic.end()
	w.check()
}

func (w *world) random() *rand.Rand {
	seed := *crashSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	w.t.Logf("-crash-seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// TestTwoInstances runs two ingests with step records of their own into the
// same lake: rows are there once, and the older one gives up when the younger
// one writes dead letters.
func TestTwoInstances(t *testing.T) {
	w := newWorld(t)
	traffic := w.traffic(w.random())
	first := w.run(nil)
	second := w.run(nil, func(c *Config) { c.Dir = filepath.Join(w.state, "other") })
	select {
	case err := <-first.done:
		if !errors.Is(err, ErrFenced) {
			t.Errorf("the older ingest ended with %v", err)
		}
		first.done <- err
	case <-time.After(20 * time.Second):
		t.Error("the older ingest is not fenced")
	}
	traffic.end()
	second.caughtUp()
	var rows, dead []string
	for _, rec := range w.readTopic("thing") {
		at := fmt.Sprintf("%d/%d", rec.Partition, rec.Offset)
		if rec.Value != nil && !w.whole(rec.Value) {
			dead = append(dead, at)
		} else {
			rows = append(rows, at)
		}
	}
	sort.Strings(rows)
	sort.Strings(dead)
	same(t, "bronze", placesOf(w.bronzeRows(second.lake, "bronze.thing")), rows)
	letters, err := second.DeadLetters(context.Background(), LetterFilter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		got = append(got, fmt.Sprintf("%d/%d", l.Partition, l.Offset))
	}
	sort.Strings(got)
	same(t, "letters", got, slices.Compact(dead))
}
