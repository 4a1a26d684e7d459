//go:build stack

package stack_test

import (
	"encoding/csv"
	"slices"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/examples/olist"
	"lockstep/examples/olist/figures"
	"lockstep/project"
)

// tables are those with rows in every layer: silver and gold, views included.
func tables(t testing.TB) []string {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range program.Models {
		names = append(names, m.Name)
	}
	return names
}

// rows are a table's rows as text, sorted, so that two engines can be compared.
func (x *site) rows(table, layer string) []string {
	x.t.Helper()
	out := x.must("query", "SELECT * FROM "+table, "--layer", layer, "--format", "csv")
	r := csv.NewReader(strings.NewReader(out))
	all, err := r.ReadAll()
	if err != nil {
		x.t.Fatalf("%s: %v", table, err)
	}
	var lines []string
	for _, record := range all[1:] {
		lines = append(lines, strings.Join(record, "\x1f"))
	}
	slices.Sort(lines)
	return append([]string{strings.Join(all[0], "\x1f")}, lines...)
}

// compareRows names what two lists differ in.
func compareRows(t testing.TB, what string, want, got []string) {
	t.Helper()
	if slices.Equal(want, got) {
		return
	}
	count := map[string]int{}
	for _, l := range want {
		count[l]++
	}
	for _, l := range got {
		count[l]--
	}
	shown := 0
	for l, n := range count {
		if n != 0 && shown < 6 {
			t.Errorf("%s: %+d of %q", what, n, l)
			shown++
		}
	}
	t.Errorf("%s: %d rows, want %d", what, len(got)-1, len(want)-1)
}

// TestFourWays: the same events as stream and as batch, on DuckDB and on Spark,
// give the same rows: in mid-run with the batch behind, and at the end.
func TestFourWays(t *testing.T) {
	for _, c := range []struct {
		name  string
		args  []string
		first int64 // records before the first batch
	}{
		{"synthetic data", []string{"--scale", "0.01"}, 4000},
		{"public data", []string{"--data", "olist10k"}, 40000},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := slices.Clone(c.args)
			if source[0] == "--data" {
				long(t)
				source[1] = dataFolder(t, source[1])
			}
			s := up(t, "core", "spark")
			local, cloud := embedded(t), onStack(t, s)
			local.must(append([]string{"run", "--once", "--speed", "max", "--listen", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--registry", "127.0.0.1:0"}, source...)...)

			stream := cloud.start("speed")
			cloud.replayed(source, c.first, stream)
			cloud.must("verify") // the stream against a full recompute; nothing is published yet
			cloud.must("batch")
			cloud.must("verify") // both layers
			stream.stop()
			var differ []string
			for _, table := range tables(t) {
				for _, layer := range []string{"serving", "batch"} {
					before := t.Failed()
					compareRows(t, table+" "+layer+", Spark against DuckDB", local.rows(table, "batch"), cloud.rows(table, layer))
					if t.Failed() && !before {
						differ = append(differ, table)
					}
				}
			}
			if len(differ) > 0 {
				t.Logf("differ first: %v", differ)
			}
			if c.name == "public data" {
				cloud.expected()
			}
		})
	}
}

// replayed sends a source while the stream runs, its first records and then
// the rest. With nothing published, after a batch, and again in mid-run with that
// batch behind the stream, what is served must be what a full recompute gives.
func (x *site) replayed(source []string, first int64, stream *process) {
	x.t.Helper()
	send := x.start(append([]string{"replay", "--speed", "500000"}, source...)...)
	eventually(x.t, commandTime, "the first records are in the log", func() bool { return x.inLog() >= first || send.ended() })
	send.stop()
	x.caughtUp(stream)
	x.must("verify")
	x.must("batch")
	published := x.status().Step
	x.must(append([]string{"replay", "--speed", "max"}, source...)...)
	x.stepReached(stream, published+1)
	x.must("verify")
	x.caughtUp(stream)
}

// inLog counts the records of the project's topics.
func (x *site) inLog() (n int64) {
	x.t.Helper()
	cl := x.kafka()
	defer cl.Close()
	for _, topic := range x.topics() {
		for _, end := range x.ends(cl, topic) {
			n += end
		}
	}
	return n
}

type status struct {
	Step     int64 `json:"step"`
	Manifest int64 `json:"manifest"`
	Topics   []struct {
		Lag  int64 `json:"lag"`
		Dead int64 `json:"dead"`
	} `json:"topics"`
}

func (s *status) lag() (n int64) {
	for _, t := range s.Topics {
		n += t.Lag
	}
	return n
}

// status is zero while nothing can be said.
func (x *site) status() (s status) {
	x.t.Helper()
	if out, _, code := x.run("status", "--json"); code != 0 || !decode(out, &s) {
		return status{}
	}
	return s
}

func (x *site) stepReached(stream *process, step int64) {
	x.t.Helper()
	eventually(x.t, commandTime, "the stream makes steps", func() bool {
		if stream.ended() {
			x.t.Fatalf("the stream ended:\n%s", tail(stream.log.String()))
		}
		return x.status().Step >= step
	})
}

// caughtUp waits until the stream has no record before it.
func (x *site) caughtUp(stream *process) {
	x.t.Helper()
	eventually(x.t, commandTime, "the stream has caught up", func() bool {
		if stream.ended() {
			x.t.Fatalf("the stream ended:\n%s", tail(stream.log.String()))
		}
		s := x.status()
		return s.Step > 0 && s.lag() == 0
	})
}

// expected compares with the figures of the public data.
func (x *site) expected() {
	x.t.Helper()
	want, err := figures.Read(dataFolder(x.t, "olist10k_expected.json"))
	if err != nil {
		x.t.Fatal(err)
	}
	for entry := range want {
		got := figures.Actual(entry, func(sql string) (r figures.Result) {
			x.mustJSON(&r, "query", sql)
			return r
		})
		for _, fault := range figures.Compare(entry, want[entry], got) {
			x.t.Error(fault)
		}
	}
}
