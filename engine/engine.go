// Package engine is the interface behind which a compiled project runs: once
// in full, or step by step. Both must give the same rows at any moment; the
// suite in enginetest holds every engine to that.
package engine

import (
	"context"

	"lockstep/compile"

	"github.com/apache/arrow-go/v18/arrow"
)

// Tables holds rows by table name. Record batches have the table's columns in
// their declared order (project.ArrowSchema).
type Tables map[string][]arrow.RecordBatch

// Engine runs compiled projects.
type Engine interface {
	// Recompute evaluates the named models and all that they read over whole
	// bronze tables. It uses neither mappings nor kept state, so that it can
	// check what does. A bronze table that is not given is empty. Where rows of
	// a model are given too, they are that model, and what it reads is not
	// evaluated for it.
	Recompute(ctx context.Context, p *compile.Program, bronze Tables, models []string) (Tables, error)
	// Stream opens the state in dir, empty if dir is new.
	Stream(ctx context.Context, p *compile.Program, dir string) (Stream, error)
}

// Stream keeps every incremental model of a project in step with its inputs.
// It is for one goroutine.
type Stream interface {
	// Last is the number of the last step that was committed; 0: none.
	Last() int64
	// Step takes the new rows of bronze tables and commits what they change in
	// all models, all or nothing. Numbers rise; a number that is not above
	// Last is an error.
	Step(ctx context.Context, number int64, bronze Tables) error
	// Rows gives the rows of an incremental model after the last step.
	Rows(ctx context.Context, model string) ([]arrow.RecordBatch, error)
	// Rebuild replaces all state by what whole bronze tables give, as after
	// the step of that number.
	Rebuild(ctx context.Context, number int64, bronze Tables) error
	Close() error
}
