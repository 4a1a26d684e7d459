package duckdb

import (
	"context"
	"encoding/binary"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/project"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// Stream is the state of a project's incremental models, and what steps it. A
// step reads the store for the touched scopes only, lets DuckDB evaluate each
// model over those rows, and commits what changed in one batch.
type Stream struct {
	prog   *compile.Program
	store  *store.Store
	duck   *Session
	codecs map[*compile.Relation]*store.Codec
	scopes map[*compile.Relation]*store.Codec
	keyers map[uint32]*keyer
	last   int64
	kept   atomic.Int64    // changes of the steps above it are kept
	works  *works          // what steps did, by model
	filled map[string]bool // working tables that hold rows
}

// Changes are what a step changed in one model: its scopes that have other
// rows than before, and the rows that they have now.
type Changes struct {
	Model  string
	Scopes arrow.RecordBatch // the scope columns
	Rows   arrow.RecordBatch // all columns
}

// Meta names.
const (
	metaLast        = "last step"
	metaFingerprint = "fingerprint"
	metaRebuild     = "rebuild under way"
	metaDropped     = "changes dropped up to" // step
)

// ErrStale says that the state in a folder was made by another version of the
// project's models, or is half built: Rebuild makes it anew.
var ErrStale = fmt.Errorf("the stream's state was made by other models: it must be rebuilt from bronze")

// Stream implements engine.Engine.
func (e Engine) Stream(ctx context.Context, p *compile.Program, dir string) (engine.Stream, error) {
	return e.Open(ctx, p, dir, store.Options{})
}

// Open opens the state in dir. It gives ErrStale beside a usable Stream where
// the state must be rebuilt before the next step.
func (e Engine) Open(ctx context.Context, p *compile.Program, dir string, o store.Options) (*Stream, error) {
	st, err := store.Open(dir, o)
	if err != nil {
		return nil, err
	}
	s := &Stream{prog: p, store: st, codecs: map[*compile.Relation]*store.Codec{}, scopes: map[*compile.Relation]*store.Codec{}, keyers: map[uint32]*keyer{}, filled: map[string]bool{}, works: &works{all: map[string]Work{}}}
	if err := s.prepare(ctx, e); err != nil {
		st.Close()
		return nil, err
	}
	if err := s.checkMeta(); err != nil {
		if err == ErrStale {
			return s, err
		}
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *Stream) prepare(ctx context.Context, e Engine) (err error) {
	if e.Options.Threads == 0 {
		e.Options.Threads = 1 // a step's rows are few: more threads cost more than they give
	}
	if s.duck, err = e.session(ctx); err != nil {
		return err
	}
	if err := s.duck.CreateSeeds(ctx, s.prog.Project); err != nil {
		return err
	}
	for _, r := range s.prog.Relations {
		s.codecs[r] = store.NewCodec(r.Columns)
		s.scopes[r] = store.NewCodec(r.Scope)
		if err := s.duck.CreateTable(ctx, r.Table, r.Columns); err != nil {
			return err
		}
		for _, x := range r.Indexes {
			s.keyers[x.ID] = newKeyer(r, x, s.codecs[r])
		}
	}
	return nil
}

// checkMeta reads the last step, and stamps a new store with the fingerprint.
func (s *Stream) checkMeta() error {
	rebuild, err := s.store.Meta(metaRebuild)
	if err != nil {
		return err
	}
	print, err := s.store.Meta(metaFingerprint)
	if err != nil {
		return err
	}
	last, err := s.store.Meta(metaLast)
	if err != nil {
		return err
	}
	if rebuild != nil || (print != nil && string(print) != s.prog.Fingerprint) {
		return ErrStale
	}
	if last != nil {
		if s.last, err = strconv.ParseInt(string(last), 10, 64); err != nil {
			return fmt.Errorf("cannot read the last step: %w", err)
		}
	}
	dropped, err := s.store.Meta(metaDropped)
	if err != nil || dropped == nil {
		return err
	}
	kept, err := strconv.ParseInt(string(dropped), 10, 64)
	if err != nil {
		return fmt.Errorf("cannot read up to which step changes were dropped: %w", err)
	}
	s.kept.Store(kept)
	return nil
}

// Last implements engine.Stream.
func (s *Stream) Last() int64 { return s.last }

// Work is what steps did for a model since the state was opened; zero for one
// that is not stepped. Safe from any goroutine.
func (s *Stream) Work(model string) Work { return s.works.of(model) }

// Store is the keyed state, for its metrics.
func (s *Stream) Store() *store.Store { return s.store }

// Close implements engine.Stream.
func (s *Stream) Close() error {
	err := s.duck.Close()
	if e := s.store.Close(); e != nil {
		err = e
	}
	return err
}

// Step implements engine.Stream.
func (s *Stream) Step(ctx context.Context, number int64, bronze engine.Tables) error {
	_, err := s.StepChanges(ctx, number, bronze)
	return err
}

// StepChanges is Step, and gives what changed in each model. The changes are
// also kept in the store until DropChanges, committed with the step.
func (s *Stream) StepChanges(ctx context.Context, number int64, bronze engine.Tables) ([]Changes, error) {
	if number <= s.last {
		return nil, fmt.Errorf("cannot take step %d: step %d was already committed", number, s.last)
	}
	st := newStep(s)
	defer st.batch.Discard()
	for table, batches := range bronze {
		if err := st.arrive(table, batches); err != nil {
			return nil, err
		}
	}
	for _, r := range s.prog.Relations {
		begin := time.Now()
		if err := st.relation(ctx, r); err != nil {
			return nil, fmt.Errorf("cannot take step %d: %s: %w", number, r.Name, err)
		}
		s.works.note(r, st, time.Since(begin).Seconds())
	}
	changes, err := st.changes(number)
	if err != nil {
		return nil, err
	}
	st.batch.SetMeta(metaLast, strconv.AppendInt(nil, number, 10))
	st.batch.SetMeta(metaFingerprint, []byte(s.prog.Fingerprint))
	if err := st.batch.Commit(); err != nil {
		return nil, err
	}
	s.last = number
	return changes, nil
}

// Rows implements engine.Stream.
func (s *Stream) Rows(ctx context.Context, model string) ([]arrow.RecordBatch, error) {
	m := s.prog.Model(model)
	if m == nil || m.Relation == nil {
		return nil, fmt.Errorf("cannot read the stream's rows of %s: it is not an incremental model", model)
	}
	var rows store.Rows
	err := s.store.ScanIndex(m.Relation.Indexes[0].ID, func(row []byte, count int) error {
		for range count {
			rows.Append(row)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	rec, err := s.codecs[m.Relation].Decode(rows, memory.DefaultAllocator)
	if err != nil {
		return nil, err
	}
	return []arrow.RecordBatch{rec}, nil
}

// EachChange hands over the kept changes of all steps from one on, in order.
func (s *Stream) EachChange(from int64, f func(step int64, c Changes) error) error {
	return s.store.Log(from, func(step int64, name string, value []byte) error {
		m := s.prog.Model(name)
		if m == nil || m.Relation == nil {
			return nil
		}
		c, err := s.decodeChanges(m.Relation, value)
		if err != nil {
			return fmt.Errorf("cannot read the changes of %s at step %d: %w", name, step, err)
		}
		return f(step, c)
	})
}

// DropChanges forgets the changes of all steps up to one.
func (s *Stream) DropChanges(upTo int64) error {
	b := s.store.NewBatch()
	b.DropLog(upTo)
	upTo = max(upTo, s.kept.Load())
	b.SetMeta(metaDropped, strconv.AppendInt(nil, upTo, 10))
	if err := b.Commit(); err != nil {
		return err
	}
	s.kept.Store(upTo)
	return nil
}

// Kept is the step up to which changes were dropped, or never kept as a rebuild
// makes none: EachChange knows all changes of the steps above it.
func (s *Stream) Kept() int64 { return s.kept.Load() }

// Changes are kept as two lists of encoded rows, each with its length before.
func encodeLists(lists ...*store.Rows) []byte {
	var out []byte
	for _, l := range lists {
		out = binary.AppendUvarint(out, uint64(l.Len()))
		for i := range l.Len() {
			out = binary.AppendUvarint(out, uint64(len(l.At(i))))
			out = append(out, l.At(i)...)
		}
	}
	return out
}

func decodeList(data []byte) (rows store.Rows, rest []byte, err error) {
	read := func() (uint64, bool) {
		n, size := binary.Uvarint(data)
		if size <= 0 {
			return 0, false
		}
		data = data[size:]
		return n, true
	}
	count, ok := read()
	for range count {
		n, good := read()
		if ok = ok && good && n <= uint64(len(data)); !ok {
			break
		}
		rows.Append(data[:n])
		data = data[n:]
	}
	if !ok {
		return rows, nil, fmt.Errorf("they are cut short")
	}
	return rows, data, nil
}

func (s *Stream) decodeChanges(r *compile.Relation, value []byte) (Changes, error) {
	scopes, rest, err := decodeList(value)
	if err != nil {
		return Changes{}, err
	}
	rows, _, err := decodeList(rest)
	if err != nil {
		return Changes{}, err
	}
	return s.changesOf(r, scopes, rows)
}

func (s *Stream) changesOf(r *compile.Relation, scopes, rows store.Rows) (Changes, error) {
	c := Changes{Model: r.Name}
	var err error
	if c.Scopes, err = s.scopes[r].Decode(scopes, memory.DefaultAllocator); err != nil {
		return c, err
	}
	c.Rows, err = s.codecs[r].Decode(rows, memory.DefaultAllocator)
	return c, err
}

// keyer computes the tuple of an index from an encoded row, where that needs no
// SQL: plain columns and string constants.
type keyer struct {
	index *compile.Index
	codec *store.Codec
	parts []keyPart // nil: SQL is needed
}

type keyPart struct {
	column  int // -1: constant
	literal []byte
}

func newKeyer(r *compile.Relation, x *compile.Index, codec *store.Codec) *keyer {
	k := &keyer{index: x, codec: codec}
	for i, e := range x.Exprs {
		part := keyPart{column: -1}
		for at, c := range r.Columns {
			if c.Name == e {
				part.column = at
			}
		}
		if part.column < 0 {
			text, ok := compile.StringLiteral(e)
			if !ok || x.Types[i].Kind != project.String {
				k.parts = nil
				return k
			}
			part.literal = store.TextCell(text)
		}
		k.parts = append(k.parts, part)
	}
	return k
}

// key appends the tuple of a row to dst; hasNull says whether a part is null.
func (k *keyer) key(dst, row []byte) (tuple []byte, hasNull bool) {
	var one [1]int
	for _, p := range k.parts {
		if p.column < 0 {
			dst = append(dst, p.literal...)
			continue
		}
		at := len(dst)
		one[0] = p.column
		dst = k.codec.Key(dst, row, one[:])
		hasNull = hasNull || store.IsNull(dst[at:])
	}
	return dst, hasNull
}
