package modeltest

import (
	"fmt"
	"math/rand/v2"
	"sort"
	"strings"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// Event is one accepted record: a row of a bronze table.
type Event struct {
	Table string
	Row   Row
}

func (e Event) describe(p *compile.Program) string {
	var cells []string
	for i, c := range sourceOf(p, e.Table).Columns() {
		if e.Row[i] != nil && c.Name != "_timestamp" {
			cells = append(cells, c.Name+"="+*e.Row[i])
		}
	}
	return e.Table + " " + strings.Join(cells, " ")
}

// History is a sequence of steps over events, with what befalls the stream
// before each.
type History struct {
	Seed  uint64
	Steps []HistoryStep
}

// HistoryStep is one step.
type HistoryStep struct {
	Events  []Event
	Restart bool // the stream is closed and opened before it
	Lose    bool // its state is lost and rebuilt before it
}

func sourceOf(p *compile.Program, table string) *project.Source {
	for _, s := range p.Project.Sources {
		if s.Table() == table {
			return s
		}
	}
	return nil
}

// Generate makes a random history over the sources that models read: few
// distinct keys, nulls, ties, repeats, late and changed values, deletions.
func Generate(p *compile.Program, seed uint64, steps, maxEvents int) *History {
	g := &generator{p: p, rand: rand.New(rand.NewPCG(seed, 0x6c6f636b)), offsets: map[string]int64{}, domain: newDomain(p)}
	h := &History{Seed: seed}
	for range steps {
		s := HistoryStep{Restart: g.rand.IntN(6) == 0, Lose: g.rand.IntN(12) == 0}
		for range 1 + g.rand.IntN(maxEvents) {
			s.Events = append(s.Events, g.event())
		}
		h.Steps = append(h.Steps, s)
	}
	return h
}

type generator struct {
	p       *compile.Program
	rand    *rand.Rand
	offsets map[string]int64
	past    []Event
	domain  *domain
}

func (g *generator) event() Event {
	if len(g.past) > 0 && g.rand.IntN(8) == 0 { // the same record again, at a new offset
		e := g.past[g.rand.IntN(len(g.past))]
		e.Row = append(Row(nil), e.Row...)
		g.place(sourceOf(g.p, e.Table), e.Row)
		return e
	}
	s := g.domain.sources[g.rand.IntN(len(g.domain.sources))]
	row := make(Row, 0, len(s.Fields)+len(project.LogColumns))
	deleted := s.Tombstone == project.TombstoneDelete && g.rand.IntN(6) == 0
	for _, c := range s.Fields {
		v := g.value(s, c)
		if deleted && c.Name != s.Key && c.Name != s.EventTime {
			v = nil
		}
		row = append(row, v)
	}
	row = append(row, nil, nil, textOf("2020-01-01 00:00:00"), textOf(fmt.Sprint(deleted)))
	g.place(s, row)
	e := Event{Table: s.Table(), Row: row}
	g.past = append(g.past, e)
	return e
}

// place gives a row the next offset of a topic partition.
func (g *generator) place(s *project.Source, row Row) {
	partition := g.rand.IntN(2) // keys may move between partitions: offsets then repeat
	at := fmt.Sprint(s.Topic, partition)
	row[len(s.Fields)] = textOf(fmt.Sprint(partition))
	row[len(s.Fields)+1] = textOf(fmt.Sprint(g.offsets[at]))
	g.offsets[at]++
}

func textOf(s string) *string { return &s }

func (g *generator) value(s *project.Source, c project.Column) *string {
	if c.Name != s.Key && g.rand.IntN(7) == 0 {
		return nil
	}
	values := g.domain.values(s, c)
	return textOf(values[g.rand.IntN(len(values))])
}

// domain holds the values that are tried for each kind of column: few, so that
// rows meet, and those that the models' text compares with.
type domain struct {
	sources []*project.Source
	texts   []string
	numbers []string
	keyed   map[string]bool // table.column of an index: keys of joins and scopes
}

func newDomain(p *compile.Program) *domain {
	d := &domain{keyed: map[string]bool{}}
	texts, numbers := map[string]bool{}, map[string]bool{}
	for _, m := range p.Models {
		if m.Relation == nil {
			continue
		}
		for _, t := range compile.Constants(m.Query) {
			if t.Number {
				numbers[t.Text] = true
			} else {
				texts[t.Text] = true
			}
		}
	}
	d.texts = append(sortedSet(texts), "other")
	d.numbers = append(sortedSet(numbers), "0", "1", "2")
	for _, r := range p.Relations {
		for _, x := range r.Indexes {
			for _, e := range x.Exprs {
				d.keyed[r.Table+"."+e] = true
			}
		}
		if r.Kind == compile.Raw {
			d.sources = append(d.sources, sourceOf(p, r.Table))
		}
	}
	return d
}

func sortedSet(set map[string]bool) []string {
	var out []string
	for v := range set {
		out = append(out, v)
	}
	sort.Strings(out)
	return out
}

var keys = []string{"k1", "k2", "k3"}

func (d *domain) values(s *project.Source, c project.Column) []string {
	switch c.Type.Kind {
	case project.String:
		if c.Name == s.Key || d.keyed[s.Table()+"."+c.Name] {
			return keys
		}
		return append(append([]string(nil), keys[:2]...), d.texts...)
	case project.Boolean:
		return []string{"true", "false"}
	case project.Int, project.Bigint:
		return []string{"0", "1", "2", "5"}
	case project.Double:
		return append([]string{"-0.0", "1.5"}, d.numbers...)
	case project.Decimal:
		if c.Type.Scale == 0 {
			return []string{"0", "1", "7"}
		}
		return []string{"0", "0.1", "1.5", "9.9"}
	}
	return []string{"2018-01-01 00:00:00", "2018-01-31 23:59:59", "2018-02-01 00:00:00", "2018-02-02 10:30:00", "2018-03-01 12:00:00"}
}

// Tables makes record batches of events, by table.
func Tables(p *compile.Program, events []Event) (engine.Tables, error) {
	byTable := map[string][]Row{}
	for _, e := range events {
		byTable[e.Table] = append(byTable[e.Table], e.Row)
	}
	out := engine.Tables{}
	for table, rows := range byTable {
		rec, err := Record(sourceOf(p, table).Columns(), rows)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", table, err)
		}
		out[table] = []arrow.RecordBatch{rec}
	}
	return out, nil
}

// Incremental names the incremental models of a project.
func Incremental(p *compile.Program) []string {
	var out []string
	for _, m := range p.Models {
		if m.Relation != nil {
			out = append(out, m.Name)
		}
	}
	return out
}
