package duckdb

import (
	"context"
	"fmt"
	"strings"

	"lockstep/compile"
	"lockstep/project"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// step executes the plan of one step. Row sets and key sets go by the names
// that the plan gives them; a set that was never written is empty.
type step struct {
	s       *Stream
	batch   *store.Batch
	rows    map[string]*store.Rows
	keys    map[string]*keySet
	delta   map[*compile.Relation]*delta
	changed []change
}

// keySet is a set of tuples.
type keySet struct {
	seen   map[store.Hash]bool
	hashes []store.Hash
	tuples store.Rows
}

func (k *keySet) add(tuple []byte) {
	h := store.HashOf(tuple)
	if !k.seen[h] {
		k.seen[h] = true
		k.hashes = append(k.hashes, h)
		k.tuples.Append(tuple)
	}
}

// delta is what the step changes in a relation, found by index when asked.
type delta struct {
	added, removed *store.Rows
	byIndex        map[uint32]*deltaIndex
}

type deltaIndex struct{ added, removed map[store.Hash][]int }

// change is what goes to the overlay: the scopes whose rows changed and the
// rows that they have now.
type change struct {
	relation     *compile.Relation
	scopes, rows store.Rows
}

func newStep(s *Stream) *step {
	return &step{s: s, batch: s.store.NewBatch(), rows: map[string]*store.Rows{}, keys: map[string]*keySet{}, delta: map[*compile.Relation]*delta{}}
}

func (st *step) set(name string) *store.Rows {
	if st.rows[name] == nil {
		st.rows[name] = &store.Rows{}
	}
	return st.rows[name]
}

func (st *step) keySet(name string) *keySet {
	if st.keys[name] == nil {
		st.keys[name] = &keySet{seen: map[store.Hash]bool{}}
	}
	return st.keys[name]
}

// arrive takes new bronze rows, which no model reads where the plan has no
// relation for them.
func (st *step) arrive(table string, batches []arrow.RecordBatch) error {
	for _, r := range st.s.prog.Relations {
		if r.Kind != compile.Raw || r.Table != table {
			continue
		}
		for _, b := range batches {
			rows, err := st.s.codecs[r].Encode(b)
			if err != nil {
				return fmt.Errorf("cannot take rows of %s: %w", table, err)
			}
			into := st.set(r.Added())
			if into.Len() == 0 {
				*into = rows
				continue
			}
			for i := range rows.Len() {
				into.Append(rows.At(i))
			}
		}
	}
	return nil
}

// relation brings one relation up to date.
func (st *step) relation(ctx context.Context, r *compile.Relation) error {
	if r.Kind == compile.Raw {
		return st.replace(ctx, r, st.set(r.Added()), st.set(r.Removed()), nil)
	}
	for _, op := range r.Step {
		if err := st.run(ctx, op); err != nil {
			return fmt.Errorf("%s: %w", op, err)
		}
	}
	return nil
}

func (st *step) run(ctx context.Context, op compile.Op) error {
	switch op := op.(type) {
	case *compile.Keys:
		return st.runKeys(ctx, op)
	case *compile.Lookup:
		return st.runLookup(ctx, op)
	case *compile.FoldFirst:
		st.runFold(op)
		return nil
	case *compile.Evaluate:
		return st.runEvaluate(ctx, op)
	case *compile.Diff:
		st.runDiff(op)
		return nil
	case *compile.Replace:
		return st.runReplace(ctx, op)
	}
	return fmt.Errorf("unknown operation %T", op)
}

func (st *step) runKeys(ctx context.Context, op *compile.Keys) error {
	rows, keys := st.set(op.From), st.keySet(op.Out)
	if rows.Len() == 0 {
		return nil
	}
	return st.tuples(ctx, op.Relation, op.Index, rows, func(_ int, tuple []byte, hasNull bool) {
		if !hasNull || !op.DropNulls {
			keys.add(tuple)
		}
	})
}

// tuples gives the index tuple of each row, in order: without SQL where the
// expressions are plain columns and constants.
func (st *step) tuples(ctx context.Context, r *compile.Relation, x *compile.Index, rows *store.Rows, f func(i int, tuple []byte, hasNull bool)) error {
	k := st.s.keyers[x.ID]
	if k == nil || k.index != x { // an index of the plan's own, over the same relation
		k = newKeyer(r, x, st.s.codecs[r])
	}
	if k.parts != nil {
		var buf []byte
		for i := range rows.Len() {
			tuple, hasNull := k.key(buf[:0], rows.At(i))
			f(i, tuple, hasNull)
			buf = tuple
		}
		return nil
	}
	return st.sqlTuples(ctx, r, x, rows, f)
}

func (st *step) sqlTuples(ctx context.Context, r *compile.Relation, x *compile.Index, rows *store.Rows, f func(i int, tuple []byte, hasNull bool)) error {
	if err := st.load(ctx, r, rows); err != nil {
		return err
	}
	codec := store.NewCodec(keyColumns(x))
	parts := make([]string, len(x.Exprs))
	for i, e := range x.Exprs {
		parts[i] = fmt.Sprintf("CAST(%s AS %s) AS k%d", e, x.Types[i], i)
	}
	n := 0
	all := make([]int, len(parts))
	for i := range all {
		all[i] = i
	}
	return st.s.duck.Each(ctx, "SELECT "+strings.Join(parts, ", ")+" FROM "+r.Table+" ORDER BY rowid", func(rec arrow.RecordBatch) error {
		tuples, err := codec.Encode(rec)
		if err != nil {
			return err
		}
		for i := range tuples.Len() {
			hasNull := false
			for c := range all {
				hasNull = hasNull || store.IsNull(codec.Key(nil, tuples.At(i), all[c:c+1]))
			}
			f(n, tuples.At(i), hasNull)
			n++
		}
		return nil
	})
}

func keyColumns(x *compile.Index) []project.Column {
	cols := make([]project.Column, len(x.Types))
	for i, t := range x.Types {
		cols[i] = project.Column{Name: fmt.Sprintf("k%d", i), Type: t}
	}
	return cols
}

// load fills the working table of a relation with rows.
func (st *step) load(ctx context.Context, r *compile.Relation, rows *store.Rows) error {
	if st.s.filled[r.Table] {
		if err := st.s.duck.Exec(ctx, "TRUNCATE "+r.Table); err != nil {
			return err
		}
		st.s.filled[r.Table] = false
	}
	if rows.Len() == 0 {
		return nil
	}
	st.s.filled[r.Table] = true
	rec, err := st.s.codecs[r].Decode(*rows, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	defer rec.Release()
	return st.s.duck.Insert(ctx, r.Table, rec.Schema(), rec)
}

// runLookup reads the state before the step, and for New applies to it what
// the step changed in the relation.
func (st *step) runLookup(ctx context.Context, op *compile.Lookup) error {
	keys := st.keySet(op.Keys)
	if len(keys.hashes) == 0 {
		st.rows[op.Out] = &store.Rows{}
		return nil
	}
	rows, err := st.s.store.Lookup(op.Index.ID, keys.hashes)
	if err != nil {
		return err
	}
	if d := st.delta[op.Relation]; d != nil && op.State == compile.New {
		if rows, err = st.apply(ctx, op, d, keys, rows); err != nil {
			return err
		}
	}
	st.rows[op.Out] = &rows
	return nil
}

func (st *step) apply(ctx context.Context, op *compile.Lookup, d *delta, keys *keySet, rows store.Rows) (store.Rows, error) {
	x, err := st.deltaIndex(ctx, op, d)
	if err != nil {
		return rows, err
	}
	removed := map[string]int{}
	for _, h := range keys.hashes {
		for _, i := range x.removed[h] {
			removed[string(d.removed.At(i))]++
		}
	}
	if len(removed) > 0 {
		var kept store.Rows
		for i := range rows.Len() {
			row := rows.At(i)
			if n := removed[string(row)]; n > 0 {
				removed[string(row)] = n - 1
				continue
			}
			kept.Append(row)
		}
		rows = kept
	}
	for _, h := range keys.hashes {
		for _, i := range x.added[h] {
			rows.Append(d.added.At(i))
		}
	}
	return rows, nil
}

func (st *step) deltaIndex(ctx context.Context, op *compile.Lookup, d *delta) (*deltaIndex, error) {
	if x := d.byIndex[op.Index.ID]; x != nil {
		return x, nil
	}
	x := &deltaIndex{added: map[store.Hash][]int{}, removed: map[store.Hash][]int{}}
	for _, side := range []struct {
		rows *store.Rows
		into map[store.Hash][]int
	}{{d.added, x.added}, {d.removed, x.removed}} {
		if side.rows.Len() == 0 {
			continue
		}
		err := st.tuples(ctx, op.Relation, op.Index, side.rows, func(i int, tuple []byte, _ bool) {
			h := store.HashOf(tuple)
			side.into[h] = append(side.into[h], i)
		})
		if err != nil {
			return nil, err
		}
	}
	d.byIndex[op.Index.ID] = x
	return x, nil
}

// runEvaluate lets DuckDB run the model's text over the rows of the touched
// scopes, and keeps of the result what is of touched scopes: rows that were
// read for one reading of a table may give rows of other scopes through
// another.
func (st *step) runEvaluate(ctx context.Context, op *compile.Evaluate) error {
	touched := st.keySet(op.Touched)
	out := &store.Rows{}
	st.rows[op.Out] = out
	if len(touched.hashes) == 0 {
		return nil
	}
	loaded := map[string]bool{}
	for _, in := range op.Model.Inputs {
		if in.Relation == nil || loaded[in.Ref.Table] {
			continue
		}
		loaded[in.Ref.Table] = true
		if err := st.load(ctx, in.Relation, st.union(op.Inputs[in.Ref.Table])); err != nil {
			return err
		}
	}
	codec, key := st.s.codecs[op.Model], st.s.keyers[op.Model.Indexes[0].ID]
	var buf []byte
	return st.s.duck.Each(ctx, op.Model.Model.Select, func(rec arrow.RecordBatch) error {
		rows, err := codec.Encode(rec)
		if err != nil {
			return err
		}
		for i := range rows.Len() {
			buf, _ = key.key(buf[:0], rows.At(i))
			if touched.seen[store.HashOf(buf)] {
				out.Append(rows.At(i))
			}
		}
		return nil
	})
}

// union puts row sets together; a row that several of them read is one row.
func (st *step) union(sets []string) *store.Rows {
	if len(sets) == 1 {
		return st.set(sets[0])
	}
	out, have := &store.Rows{}, map[string]int{}
	for _, name := range sets {
		rows, here := st.set(name), map[string]int{}
		for i := range rows.Len() {
			row := string(rows.At(i))
			if here[row]++; here[row] > have[row] {
				have[row] = here[row]
				out.Append(rows.At(i))
			}
		}
	}
	return out
}

// runDiff is a multiset difference.
func (st *step) runDiff(op *compile.Diff) {
	before, after := st.set(op.Old), st.set(op.New)
	count := make(map[string]int, before.Len())
	for i := range before.Len() {
		count[string(before.At(i))]++
	}
	added, removed := &store.Rows{}, &store.Rows{}
	for i := range after.Len() {
		if n := count[string(after.At(i))]; n > 0 {
			count[string(after.At(i))] = n - 1
			continue
		}
		added.Append(after.At(i))
	}
	for i := range before.Len() {
		if n := count[string(before.At(i))]; n > 0 {
			count[string(before.At(i))] = n - 1
			removed.Append(before.At(i))
		}
	}
	st.rows[op.Added], st.rows[op.Removed] = added, removed
}

func (st *step) runReplace(ctx context.Context, op *compile.Replace) error {
	added, removed := st.set(op.Added), st.set(op.Removed)
	if added.Len() == 0 && removed.Len() == 0 {
		return nil
	}
	after := st.set(op.Relation.Name + ".new")
	if err := st.replace(ctx, op.Relation, added, removed, counts(after)); err != nil {
		return err
	}
	if op.Relation.Kind == compile.Derived {
		st.note(op.Relation, added, removed, after, st.keySet(op.Touched))
	}
	return nil
}

func counts(rows *store.Rows) map[string]int {
	out := make(map[string]int, rows.Len())
	for i := range rows.Len() {
		out[string(rows.At(i))]++
	}
	return out
}

// replace writes changed rows to every index of a relation. after says how
// often a row is there now; nil: added rows are there once.
func (st *step) replace(ctx context.Context, r *compile.Relation, added, removed *store.Rows, after map[string]int) error {
	if added.Len() == 0 && removed.Len() == 0 {
		return nil
	}
	st.delta[r] = &delta{added: added, removed: removed, byIndex: map[uint32]*deltaIndex{}}
	for _, x := range r.Indexes {
		for _, rows := range []*store.Rows{removed, added} {
			if rows.Len() == 0 {
				continue
			}
			err := st.tuples(ctx, r, x, rows, func(i int, tuple []byte, _ bool) {
				count := 1
				if after != nil {
					count = after[string(rows.At(i))]
				}
				st.batch.Set(x.ID, store.HashOf(tuple), rows.At(i), count)
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// note remembers the scopes whose rows changed, also those that became empty.
func (st *step) note(r *compile.Relation, added, removed, after *store.Rows, touched *keySet) {
	key := st.s.keyers[r.Indexes[0].ID]
	changed := map[store.Hash]bool{}
	var buf []byte
	for _, rows := range []*store.Rows{added, removed} {
		for i := range rows.Len() {
			buf, _ = key.key(buf[:0], rows.At(i))
			changed[store.HashOf(buf)] = true
		}
	}
	c := change{relation: r}
	for i, h := range touched.hashes {
		if changed[h] {
			c.scopes.Append(touched.tuples.At(i))
		}
	}
	for i := range after.Len() {
		buf, _ = key.key(buf[:0], after.At(i))
		if changed[store.HashOf(buf)] {
			c.rows.Append(after.At(i))
		}
	}
	st.changed = append(st.changed, c)
}

// changes puts the step's changes into the batch and gives them as Arrow.
func (st *step) changes(number int64) ([]Changes, error) {
	var out []Changes
	for _, c := range st.changed {
		st.batch.PutLog(number, c.relation.Name, encodeLists(&c.scopes, &c.rows))
		decoded, err := st.s.changesOf(c.relation, c.scopes, c.rows)
		if err != nil {
			return nil, err
		}
		out = append(out, decoded)
	}
	return out, nil
}
