package modeltest_test

import (
	"context"
	"testing"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/engine/duckdb"
	"lockstep/modeltest"
	"lockstep/project"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// overlayEngine gives as a model's rows what a reader makes of the changes of
// each step alone, as serving does: the touched scopes' rows in place of those
// before. Histories over it hold the changes to their word.
type overlayEngine struct {
	duckdb.Engine
	byDir map[string]*served
	// forgetEmpty breaks it: a scope that became empty is not in the changes.
	forgetEmpty bool
}

// served rows by model, scope and place.
type served struct {
	prog   *compile.Program
	scopes map[string]map[string][][]byte
}

type overlayStream struct {
	*duckdb.Stream
	served      *served
	forgetEmpty bool
}

func (e overlayEngine) Stream(ctx context.Context, p *compile.Program, dir string) (engine.Stream, error) {
	inner, err := e.Engine.Stream(ctx, p, dir)
	if err != nil {
		return nil, err
	}
	if e.byDir[dir] == nil {
		e.byDir[dir] = &served{prog: p, scopes: map[string]map[string][][]byte{}}
	}
	return &overlayStream{Stream: inner.(*duckdb.Stream), served: e.byDir[dir], forgetEmpty: e.forgetEmpty}, nil
}

func (s *overlayStream) Step(ctx context.Context, number int64, bronze engine.Tables) error {
	changes, err := s.StepChanges(ctx, number, bronze)
	if err != nil {
		return err
	}
	for _, c := range changes {
		scopes := c.Scopes
		if s.forgetEmpty {
			scopes = nil
		}
		if err := s.served.apply(c.Model, scopes, c.Rows); err != nil {
			return err
		}
	}
	return nil
}

func (s *overlayStream) Rebuild(ctx context.Context, number int64, bronze engine.Tables) error {
	if err := s.Stream.Rebuild(ctx, number, bronze); err != nil {
		return err
	}
	s.served.scopes = map[string]map[string][][]byte{}
	for _, m := range s.served.prog.Models {
		if m.Relation == nil {
			continue
		}
		rows, err := s.Stream.Rows(ctx, m.Name)
		if err != nil {
			return err
		}
		for _, rec := range rows {
			if err := s.served.apply(m.Name, nil, rec); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *overlayStream) Rows(_ context.Context, model string) ([]arrow.RecordBatch, error) {
	var rows store.Rows
	for _, list := range s.served.scopes[model] {
		for _, row := range list {
			rows.Append(row)
		}
	}
	rec, err := store.NewCodec(s.served.prog.Model(model).Columns).Decode(rows, memory.DefaultAllocator)
	return []arrow.RecordBatch{rec}, err
}

// apply replaces the rows of scopes: those given, and those of the rows.
func (s *served) apply(model string, scopes, rows arrow.RecordBatch) error {
	m := s.prog.Model(model)
	if s.scopes[model] == nil {
		s.scopes[model] = map[string][][]byte{}
	}
	state := s.scopes[model]
	if scopes != nil {
		keys, _, err := keyed(m.Relation.Scope, m.Relation.Scope, scopes)
		if err != nil {
			return err
		}
		for _, k := range keys {
			delete(state, k)
		}
	}
	keys, encoded, err := keyed(m.Columns, m.Relation.Scope, rows)
	if err != nil {
		return err
	}
	for _, k := range keys {
		delete(state, k)
	}
	for i, k := range keys {
		state[k] = append(state[k], encoded[i])
	}
	return nil
}

// keyed encodes rows, and gives the scope of each.
func keyed(columns, scope []project.Column, rec arrow.RecordBatch) (keys []string, rows [][]byte, err error) {
	codec := store.NewCodec(columns)
	encoded, err := codec.Encode(rec)
	if err != nil {
		return nil, nil, err
	}
	var at []int
	for _, s := range scope {
		for i, c := range columns {
			if c.Name == s.Name {
				at = append(at, i)
			}
		}
	}
	for i := range encoded.Len() {
		row := append([]byte(nil), encoded.At(i)...)
		rows = append(rows, row)
		keys = append(keys, string(codec.Key(nil, row, at)))
	}
	return keys, rows, nil
}

// TestOverlay: who applies the changes of each step has the model's rows; who
// forgets the scopes that became empty has not.
func TestOverlay(t *testing.T) {
	eng := sharedEngine(t).(duckdb.Engine)
	for _, forget := range []bool{false, true} {
		prog, err := compileText(mutated)
		if err != nil {
			t.Fatal(err)
		}
		r := &modeltest.Runner{Engine: overlayEngine{Engine: eng, byDir: map[string]*served{}, forgetEmpty: forget}, Program: prog}
		f, err := r.Fuzz(context.Background(), 1, 12, 8, nil)
		if err != nil {
			t.Fatal(err)
		}
		if !forget && f != nil {
			t.Error(f)
		}
		if forget && f == nil {
			t.Error("histories do not find that empty scopes are forgotten")
		}
	}
}
