package apptest

import (
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/examples/olist"
	"lockstep/project"
	"lockstep/web"

	"github.com/apache/arrow-go/v18/arrow"
)

var (
	midQueries   = flag.Int("queries", 1000, "queries at random moments of a run")
	midRecompute = flag.Int("recomputes", 25, "how many of the steps that they saw are recomputed; 0: all")
)

// sight is what one statement saw: by model a digest of its rows, and, where
// it looked at all tables, by bronze partition the number of rows and the last
// offset.
type sight struct {
	step, manifest int64
	digests        map[string]string
	bronze         map[string]map[int32]string
	last           map[string]map[int32]int64
}

// TestQueriesInMidRun asks a thousand queries at random moments of a run,
// with steps flowing and batches behind them. Each sees one step across all
// tables, the one that it names, and every model in it is a full recompute of
// the bronze rows in it.
func TestQueriesInMidRun(t *testing.T) {
	program := bundledProgram(t)
	state := filepath.Join(t.TempDir(), "state")
	p := start(t, state, "--scale", "0.02", "--speed", "900000", "--schedule", "@every 3s", "--commit-every", "1s")
	client, err := web.Dial(t.Context(), state)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	seen := watch(t, client, program)
	rows := bronzeRows(t, client, program)
	whole := checkSteps(t, seen)
	recomputeSome(t, program, rows, whole)
	p.interrupt()
}

func bundledProgram(t *testing.T) *compile.Program {
	t.Helper()
	p, err := project.Load(olist.FS)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// watch asks from several sides at once, and verifies steps on the way. One
// query of ten looks at all tables, the others at three models.
func watch(t *testing.T, client *web.Client, program *compile.Program) (seen []sight) {
	const sides = 3
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	var lock sync.Mutex
	var all sync.WaitGroup
	ask := func(random *rand.Rand) {
		for range *midQueries/sides + 1 {
			time.Sleep(time.Duration(random.Int64N(int64(40 * time.Millisecond)))) // the random moment itself
			s, err := look(t.Context(), client, sightSQL(program, random))
			if err != nil {
				t.Error(err)
				return
			}
			lock.Lock()
			seen = append(seen, s)
			lock.Unlock()
		}
	}
	begin := time.Now()
	for side := range sides {
		all.Go(func() { ask(rand.New(rand.NewPCG(seed, uint64(side)))) })
	}
	asked := make(chan struct{})
	go func() { all.Wait(); close(asked) }()
	verified := 0
	for {
		select {
		case <-asked:
			t.Logf("%d queries in %.0f s, verified %d times on the way", len(seen), time.Since(begin).Seconds(), verified)
			return seen
		case <-time.After(4 * time.Second):
			verified += verifyNow(t, client)
		}
	}
}

// verifyNow verifies the step that is served at this moment.
func verifyNow(t *testing.T, client *web.Client) int {
	t.Helper()
	rep, err := client.Verify(t.Context(), 0)
	if err != nil {
		t.Errorf("verify in mid-run: %v", err)
		return 0
	}
	if !rep.Clean() {
		t.Errorf("step %d is not clean: %+v", rep.Step, rep.Models)
	}
	return 1
}

// sightSQL is one statement over several tables: now and then all models that
// the stream keeps and all bronze tables, else three models. No random: all.
func sightSQL(program *compile.Program, random *rand.Rand) string {
	models := slices.DeleteFunc(slices.Clone(program.Models), func(m *compile.Model) bool { return m.Relation == nil })
	whole := random == nil || random.IntN(10) == 0
	if !whole {
		random.Shuffle(len(models), func(i, j int) { models[i], models[j] = models[j], models[i] })
		models = models[:3]
	}
	var parts []string
	for _, m := range models {
		parts = append(parts, fmt.Sprintf("SELECT '%s' AS name, -1 AS part, %s AS digest, CAST(0 AS BIGINT) AS last FROM %s AS t", m.Name, digestSQL, m.Name))
	}
	for _, s := range program.Project.Sources {
		if whole {
			parts = append(parts, fmt.Sprintf("SELECT '%s', _partition, CAST(count(*) AS VARCHAR), max(_offset) FROM %s GROUP BY ALL", s.Table(), s.Table()))
		}
	}
	return strings.Join(parts, "\nUNION ALL ")
}

// digestSQL is the same for the same rows in any order.
const digestSQL = "CAST(count(*) AS VARCHAR) || '/' || CAST(coalesce(sum(hash(t)), 0) AS VARCHAR)"

func look(ctx context.Context, client *web.Client, sql string) (sight, error) {
	r, err := client.Query(ctx, web.Query{SQL: sql})
	if err != nil {
		return sight{}, err
	}
	defer r.Rows.Release()
	s := sight{step: r.Step, manifest: r.Manifest, digests: map[string]string{}, bronze: map[string]map[int32]string{}, last: map[string]map[int32]int64{}}
	for r.Rows.Next() {
		s.add(r.Rows.RecordBatch())
	}
	return s, r.Rows.Err()
}

func (s *sight) add(rec arrow.RecordBatch) {
	cell := func(column, row int) string { return web.CellText(rec.Column(column), row) }
	for i := range int(rec.NumRows()) {
		name := cell(0, i)
		if cell(1, i) == "-1" {
			s.digests[name] = cell(2, i)
			continue
		}
		var part int32
		var last int64
		fmt.Sscan(cell(1, i), &part)
		fmt.Sscan(cell(3, i), &last)
		if s.bronze[name] == nil {
			s.bronze[name], s.last[name] = map[int32]string{}, map[int32]int64{}
		}
		s.bronze[name][part], s.last[name][part] = cell(2, i), last
	}
}

// checkSteps: who names the same step saw the same rows; a later step holds no
// less; and the run moved under the queries. It gives, in order of steps, all
// that was seen at each step of which a query saw bronze.
func checkSteps(t *testing.T, seen []sight) (whole []sight) {
	t.Helper()
	byStep, manifests := map[int64]*sight{}, map[int64]bool{}
	for _, s := range seen {
		manifests[s.manifest] = true
		if known := byStep[s.step]; known == nil {
			byStep[s.step] = &s
		} else {
			known.merge(t, s)
		}
	}
	steps := slices.Sorted(maps.Keys(byStep))
	for _, step := range steps {
		if len(byStep[step].bronze) > 0 {
			whole = append(whole, *byStep[step])
		}
	}
	t.Logf("%d steps and %d manifests seen, whole at %d steps", len(steps), len(manifests), len(whole))
	if len(whole) < 10 || len(manifests) < 3 {
		t.Errorf("the queries saw %d steps whole and %d manifests: they did not meet the run", len(whole), len(manifests))
	}
	for i := 1; i < len(whole); i++ {
		for table, parts := range whole[i-1].last {
			for part, last := range parts {
				if now := whole[i].last[table][part]; now < last {
					t.Errorf("%s/%d: offset %d at step %d, %d at step %d", table, part, last, whole[i-1].step, now, whole[i].step)
				}
			}
		}
	}
	return whole
}

// merge adds what another query saw at the same step.
func (s *sight) merge(t *testing.T, o sight) {
	t.Helper()
	for model, digest := range o.digests {
		if known, ok := s.digests[model]; ok && known != digest {
			t.Errorf("two queries saw different rows of %s at step %d: %s under manifest %d, %s under manifest %d", model, s.step, known, s.manifest, digest, o.manifest)
		}
		s.digests[model] = digest
	}
	switch {
	case len(s.bronze) == 0:
		s.bronze, s.last = o.bronze, o.last
	case len(o.bronze) > 0 && fmt.Sprint(s.bronze, s.last) != fmt.Sprint(o.bronze, o.last):
		t.Errorf("two queries saw different bronze rows at step %d:\n%v\n%v", s.step, s.last, o.last)
	}
}

// bronzeRows reads the bronze tables whole, after the run.
func bronzeRows(t *testing.T, client *web.Client, program *compile.Program) map[string][]arrow.RecordBatch {
	t.Helper()
	out := map[string][]arrow.RecordBatch{}
	for _, s := range program.Project.Sources {
		r, err := client.Query(t.Context(), web.Query{SQL: "SELECT * FROM " + s.Table()})
		if err != nil {
			t.Fatal(err)
		}
		for r.Rows.Next() {
			r.Rows.RecordBatch().Retain()
			out[s.Table()] = append(out[s.Table()], r.Rows.RecordBatch())
		}
		if err := r.Rows.Err(); err != nil {
			t.Fatal(err)
		}
		r.Rows.Release()
	}
	return out
}

// recomputeSome recomputes steps over the bronze rows that their queries saw.
func recomputeSome(t *testing.T, program *compile.Program, rows map[string][]arrow.RecordBatch, whole []sight) {
	t.Helper()
	d, err := duckdb.OpenMemory(t.Context(), duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := d.CreateSeeds(t.Context(), program.Project); err != nil {
		t.Fatal(err)
	}
	for _, s := range program.Project.Sources {
		kept := strings.Replace(s.Table(), "bronze.", "whole.", 1)
		if err := d.CreateTable(t.Context(), kept, s.Columns()); err != nil {
			t.Fatal(err)
		}
		if err := d.Insert(t.Context(), kept, project.ArrowSchema(s.Columns()), rows[s.Table()]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range sample(whole) {
		if got := recomputed(t, d, program, s); !maps.Equal(got.digests, s.digests) || fmt.Sprint(got.bronze) != fmt.Sprint(s.bronze) {
			t.Errorf("at step %d, manifest %d, a query saw\n%v\nand a recompute gives\n%v", s.step, s.manifest, s, got)
		}
	}
}

// sample takes some of many, evenly.
func sample(whole []sight) (out []sight) {
	n := len(whole)
	if *midRecompute > 0 {
		n = min(n, *midRecompute)
	}
	for i := range n {
		out = append(out, whole[i*len(whole)/n])
	}
	return out
}

// recomputed evaluates every model in full over the rows at or below the
// offsets that a query saw, and digests them as the query did.
func recomputed(t *testing.T, d *duckdb.Session, program *compile.Program, s sight) sight {
	t.Helper()
	exec := func(sql string) {
		if err := d.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE SCHEMA IF NOT EXISTS bronze")
	for _, src := range program.Project.Sources {
		where := []string{"false"}
		for part, last := range s.last[src.Table()] {
			where = append(where, fmt.Sprintf("_partition = %d AND _offset <= %d", part, last))
		}
		exec(fmt.Sprintf("CREATE OR REPLACE VIEW %s AS SELECT * FROM %s WHERE %s", src.Table(), strings.Replace(src.Table(), "bronze.", "whole.", 1), strings.Join(where, " OR ")))
	}
	for _, m := range program.Models {
		if m.Relation == nil {
			continue // none of those compared may read it
		}
		if err := duckdb.Evaluate(t.Context(), d, m); err != nil {
			t.Fatal(err)
		}
	}
	got := sight{step: s.step, digests: map[string]string{}, bronze: map[string]map[int32]string{}, last: map[string]map[int32]int64{}}
	err := d.Each(t.Context(), sightSQL(program, nil), func(rec arrow.RecordBatch) error {
		got.add(rec)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}
