package spark

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Engine runs compiled projects on one local Spark, whose application executes
// the same plan by the same code as the streaming one on a cluster. It is for
// tests of a project: state lies in a local folder, as SQLite and Arrow files.
// Close it last.
type Engine struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	dir string // rows on their way

	mu    sync.Mutex // one request at a time
	plans map[*compile.Program]int
	calls int
	dead  error
}

var _ engine.Engine = (*Engine)(nil)

// LocalConfig says how a local Spark is started.
type LocalConfig struct {
	Python string   // interpreter that has pyspark and pyarrow; required
	Jars   string   // class path of further jars
	Env    []string // of the process, beside this one's
	Memory string   // heap of Spark's driver; default 1g
	Log    *slog.Logger
	Stderr io.Writer // default: thrown away
}

// StartLocal starts Spark and returns when it answers, which takes some ten
// seconds. It ends when ctx does.
func StartLocal(ctx context.Context, c LocalConfig) (*Engine, error) {
	dir, err := os.MkdirTemp("", "lockstep-spark-")
	if err != nil {
		return nil, fmt.Errorf("cannot start Spark: %w", err)
	}
	e := &Engine{dir: dir, plans: map[*compile.Program]int{}}
	if err := e.start(ctx, c); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start Spark with %s: %w", c.Python, err), e.Close())
	}
	return e, nil
}

func (e *Engine) start(ctx context.Context, c LocalConfig) error {
	if c.Memory == "" {
		c.Memory = "1g"
	}
	if err := WriteApp(filepath.Join(e.dir, "app")); err != nil {
		return err
	}
	submit := "--master local[2] --driver-memory " + c.Memory + " --driver-java-options '-XX:+UseSerialGC -Xss4m'"
	if c.Jars != "" {
		submit += " --driver-class-path " + c.Jars
	}
	e.cmd = exec.CommandContext(ctx, c.Python, filepath.Join(e.dir, "app", "steps.py"))
	e.cmd.Dir = e.dir
	e.cmd.Env = append(append(os.Environ(), c.Env...), "PYSPARK_SUBMIT_ARGS="+submit+" pyspark-shell", "PYTHONDONTWRITEBYTECODE=1")
	e.cmd.Stderr = c.Stderr
	var err error
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	e.out = bufio.NewReaderSize(out, 1<<20)
	if err := e.cmd.Start(); err != nil {
		return err
	}
	_, err = e.answer()
	return err
}

// Close ends Spark and removes what lay on the way.
func (e *Engine) Close() error {
	var err error
	if e.cmd != nil && e.cmd.Process != nil {
		e.in.Close() // the application ends with its input
		err = e.cmd.Wait()
	}
	return errors.Join(err, os.RemoveAll(e.dir))
}

// call sends a request and waits for its answer.
func (e *Engine) call(do string, args map[string]any) (json.RawMessage, error) {
	if e.dead != nil {
		return nil, e.dead
	}
	args["do"] = do
	line, err := json.Marshal(args)
	if err != nil {
		return nil, err
	}
	if _, err := e.in.Write(append(line, '\n')); err != nil {
		e.dead = fmt.Errorf("Spark has ended: %w", err)
		return nil, e.dead
	}
	return e.answer()
}

func (e *Engine) answer() (json.RawMessage, error) {
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		e.dead = fmt.Errorf("Spark has ended: %w", err)
		return nil, e.dead
	}
	var a struct {
		OK    json.RawMessage `json:"ok"`
		Error string          `json:"error"`
	}
	if err := json.Unmarshal(line, &a); err != nil {
		return nil, fmt.Errorf("cannot read Spark's answer %.200q: %w", line, err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.OK, nil
}

// plan gives the number by which Spark knows a program. The lock is held.
func (e *Engine) plan(p *compile.Program) (int, error) {
	if id, ok := e.plans[p]; ok {
		return id, nil
	}
	plan, err := NewPlan(p)
	if err != nil {
		return 0, err
	}
	id := len(e.plans) + 1
	if _, err := e.call("plan", map[string]any{"id": id, "plan": plan}); err != nil {
		return 0, fmt.Errorf("cannot give Spark the plan: %w", err)
	}
	e.plans[p] = id
	return id, nil
}

// folder is a new one for the rows of a call.
func (e *Engine) folder() (string, error) {
	e.calls++
	dir := filepath.Join(e.dir, fmt.Sprint("rows-", e.calls))
	return dir, os.MkdirAll(dir, 0o755)
}

// send writes tables into a folder and names them.
func (e *Engine) send(p *compile.Program, tables engine.Tables) (dir string, names []string, err error) {
	names = []string{}
	if dir, err = e.folder(); err != nil {
		return "", nil, err
	}
	for name, batches := range tables {
		if err := writeArrow(filepath.Join(dir, name+".arrow"), project.ArrowSchema(columnsOf(p, name)), batches); err != nil {
			return dir, nil, fmt.Errorf("cannot hand rows of %s to Spark: %w", name, err)
		}
		names = append(names, name)
	}
	return dir, names, nil
}

func columnsOf(p *compile.Program, table string) []project.Column {
	for _, s := range p.Project.Sources {
		if s.Table() == table {
			return s.Columns()
		}
	}
	for _, m := range p.Project.Models {
		if m.Name == table {
			return m.Columns
		}
	}
	return nil
}

func writeArrow(path string, schema *arrow.Schema, batches []arrow.RecordBatch) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w, err := ipc.NewFileWriter(f, ipc.WithSchema(schema))
	if err != nil {
		return errors.Join(err, f.Close())
	}
	for _, b := range batches {
		if err := w.Write(b); err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return errors.Join(w.Close(), f.Close())
}

// receive reads a table that Spark wrote, with the columns' own schema.
func receive(dir, name string, columns []project.Column) ([]arrow.RecordBatch, error) {
	f, err := os.Open(filepath.Join(dir, name+".arrow"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := ipc.NewFileReader(f, ipc.WithAllocator(memory.DefaultAllocator))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var out []arrow.RecordBatch
	for i := range r.NumRecords() {
		b, err := r.RecordBatchAt(i)
		if err != nil {
			return nil, err
		}
		out = append(out, array.NewRecordBatch(project.ArrowSchema(columns), b.Columns(), b.NumRows()))
	}
	return out, nil
}

// Recompute implements engine.Engine.
func (e *Engine) Recompute(_ context.Context, p *compile.Program, bronze engine.Tables, models []string) (engine.Tables, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, err := e.plan(p)
	if err != nil {
		return nil, err
	}
	rows, names, err := e.send(p, bronze)
	defer os.RemoveAll(rows)
	if err != nil {
		return nil, err
	}
	into, err := e.folder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(into)
	if _, err := e.call("recompute", map[string]any{"id": id, "rows": rows, "tables": names, "models": models, "into": into}); err != nil {
		return nil, fmt.Errorf("cannot recompute on Spark: %w", err)
	}
	out := engine.Tables{}
	for _, m := range models {
		if out[m], err = receive(into, m, columnsOf(p, m)); err != nil {
			return nil, fmt.Errorf("cannot read rows of %s from Spark: %w", m, err)
		}
	}
	return out, nil
}

// Stream implements engine.Engine.
func (e *Engine) Stream(_ context.Context, p *compile.Program, dir string) (engine.Stream, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	id, err := e.plan(p)
	if err != nil {
		return nil, err
	}
	answer, err := e.call("open", map[string]any{"id": id, "dir": dir})
	if err != nil {
		return nil, fmt.Errorf("cannot open the stream's state in %s: %w", dir, err)
	}
	s := &Stream{engine: e, program: p}
	var opened struct{ Stream, Last int64 }
	if err := json.Unmarshal(answer, &opened); err != nil {
		return nil, fmt.Errorf("cannot open the stream's state in %s: %w", dir, err)
	}
	s.number, s.last = opened.Stream, opened.Last
	return s, nil
}

// Stream is an engine.Stream of an Engine.
type Stream struct {
	engine  *Engine
	program *compile.Program
	number  int64 // by which Spark knows it
	last    int64
}

// Last implements engine.Stream.
func (s *Stream) Last() int64 { return s.last }

// give sends rows for an operation of the stream.
func (s *Stream) give(do string, number int64, bronze engine.Tables) error {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	rows, names, err := s.engine.send(s.program, bronze)
	defer os.RemoveAll(rows)
	if err != nil {
		return err
	}
	if _, err := s.engine.call(do, map[string]any{"stream": s.number, "number": number, "rows": rows, "tables": names}); err != nil {
		return err
	}
	s.last = number
	return nil
}

// Step implements engine.Stream.
func (s *Stream) Step(_ context.Context, number int64, bronze engine.Tables) error {
	if err := s.give("step", number, bronze); err != nil {
		return fmt.Errorf("cannot take step %d on Spark: %w", number, err)
	}
	return nil
}

// Rebuild implements engine.Stream.
func (s *Stream) Rebuild(_ context.Context, number int64, bronze engine.Tables) error {
	if err := s.give("rebuild", number, bronze); err != nil {
		return fmt.Errorf("cannot rebuild at step %d on Spark: %w", number, err)
	}
	return nil
}

// Rows implements engine.Stream.
func (s *Stream) Rows(_ context.Context, model string) ([]arrow.RecordBatch, error) {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	into, err := s.engine.folder()
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(into)
	if _, err := s.engine.call("rows", map[string]any{"stream": s.number, "model": model, "into": into}); err != nil {
		return nil, fmt.Errorf("cannot read rows from Spark: %w", err)
	}
	return receive(into, model, columnsOf(s.program, model))
}

// Close implements engine.Stream.
func (s *Stream) Close() error {
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	_, err := s.engine.call("close", map[string]any{"stream": s.number})
	return err
}
