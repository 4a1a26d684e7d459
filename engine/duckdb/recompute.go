package duckdb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/project"

	"github.com/duckdb/duckdb-go/v2"
)

// Engine runs projects in this process, with DuckDB for SQL and pebble for the
// stream's state.
type Engine struct {
	Options Options
	// Instance, if set, holds every recompute and stream as a database of its
	// own, with the instance's limits in place of Options: for those who open
	// many small ones, as tests do. The caller closes it last.
	Instance *duckdb.Connector
}

var _ engine.Engine = Engine{}

// Recompute implements engine.Engine.
func (e Engine) Recompute(ctx context.Context, p *compile.Program, bronze engine.Tables, models []string) (engine.Tables, error) {
	s, err := e.session(ctx)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := loadBronze(ctx, s, p, bronze); err != nil {
		return nil, err
	}
	if err := s.CreateSeeds(ctx, p.Project); err != nil {
		return nil, err
	}
	if err := loadGiven(ctx, s, p, bronze); err != nil {
		return nil, err
	}
	for _, m := range needed(p, models, func(name string) bool { _, given := bronze[name]; return given }) {
		if err := Evaluate(ctx, s, m); err != nil {
			return nil, err
		}
	}
	out := engine.Tables{}
	for _, name := range models {
		if out[name], err = s.All(ctx, "SELECT * FROM "+name); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Needed lists models and all models that they read, in graph order.
func Needed(p *compile.Program, models []string) []*compile.Model {
	return needed(p, models, func(string) bool { return false })
}

// needed is Needed, without models whose rows are given and what only they read.
func needed(p *compile.Program, models []string, given func(string) bool) []*compile.Model {
	need := map[string]bool{}
	for _, name := range models {
		need[name] = true
	}
	for i := len(p.Models) - 1; i >= 0; i-- {
		if need[p.Models[i].Name] && !given(p.Models[i].Name) {
			for _, t := range p.Models[i].Reads {
				need[t] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(p.Models), func(m *compile.Model) bool { return !need[m.Name] || given(m.Name) })
}

// Evaluate makes a model's table from the tables that its SQL names: the whole
// of what a recompute is. A view becomes a view.
func Evaluate(ctx context.Context, s *Session, m *compile.Model) error {
	namespace, _, _ := strings.Cut(m.Name, ".")
	if err := s.Exec(ctx, "CREATE SCHEMA IF NOT EXISTS "+namespace); err != nil {
		return err
	}
	what := "TABLE"
	if m.Materialized == project.View {
		what = "VIEW"
	}
	if err := s.Exec(ctx, "CREATE OR REPLACE "+what+" "+m.Name+" AS "+m.Select); err != nil {
		return fmt.Errorf("cannot evaluate %s (%s): %w", m.Name, m.File, err)
	}
	return nil
}

// loadGiven makes tables of the models whose rows are given.
func loadGiven(ctx context.Context, s *Session, p *compile.Program, given engine.Tables) error {
	for _, m := range p.Project.Models {
		batches, ok := given[m.Name]
		if !ok {
			continue
		}
		if err := s.CreateTable(ctx, m.Name, m.Columns); err != nil {
			return err
		}
		if err := s.Insert(ctx, m.Name, project.ArrowSchema(m.Columns), batches...); err != nil {
			return err
		}
	}
	return nil
}

// loadBronze makes every bronze table of the project and fills those given.
func loadBronze(ctx context.Context, s *Session, p *compile.Program, bronze engine.Tables) error {
	for _, src := range p.Project.Sources {
		if err := s.CreateTable(ctx, src.Table(), src.Columns()); err != nil {
			return err
		}
		if err := s.Insert(ctx, src.Table(), project.ArrowSchema(src.Columns()), bronze[src.Table()]...); err != nil {
			return err
		}
	}
	return nil
}

// Below is a condition that keeps the rows of a bronze table under end offsets,
// by topic partition; one that has none yet has no rows.
func Below(end map[int32]int64) string {
	parts := []string{"FALSE"}
	for _, p := range slices.Sorted(maps.Keys(end)) {
		parts = append(parts, fmt.Sprintf("_partition = %d AND _offset < %d", p, end[p]))
	}
	return "(" + strings.Join(parts, " OR ") + ")"
}
