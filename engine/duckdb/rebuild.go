package duckdb

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"lockstep/compile"
	"lockstep/engine"
	"lockstep/store"

	"github.com/apache/arrow-go/v18/arrow"
)

// Rebuild implements engine.Stream.
func (s *Stream) Rebuild(ctx context.Context, number int64, bronze engine.Tables) error {
	work, err := OpenMemory(ctx, Options{})
	if err != nil {
		return err
	}
	defer work.Close()
	if err := loadBronze(ctx, work, s.prog, bronze); err != nil {
		return err
	}
	return s.RebuildFrom(ctx, number, work)
}

// RebuildFrom replaces all state by what the bronze tables (or views) of work
// give. Models are recomputed in full there. Afterwards no changes are kept.
func (s *Stream) RebuildFrom(ctx context.Context, number int64, work *Session) error {
	if err := work.CreateSeeds(ctx, s.prog.Project); err != nil {
		return err
	}
	begin := s.store.NewBatch()
	begin.SetMeta(metaRebuild, []byte("1"))
	begin.SetMeta(metaLast, nil)
	begin.DropLog(1<<63 - 1)
	if err := begin.Commit(); err != nil {
		return err
	}
	for _, m := range s.prog.Models {
		if m.Relation != nil {
			if err := Evaluate(ctx, work, m); err != nil {
				return err
			}
		}
	}
	var indexes []uint32
	for _, r := range s.prog.Relations {
		for _, x := range r.Indexes {
			indexes = append(indexes, x.ID)
		}
	}
	err := s.store.BulkLoad(indexes, func(add func(uint32, store.Hash, []byte, int) error) error {
		for _, r := range s.prog.Relations {
			if err := s.bulk(ctx, work, r, add); err != nil {
				return fmt.Errorf("cannot rebuild %s: %w", r.Name, err)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	end := s.store.NewBatch()
	end.SetMeta(metaRebuild, nil)
	end.SetMeta(metaFingerprint, []byte(s.prog.Fingerprint))
	end.SetMeta(metaLast, strconv.AppendInt(nil, number, 10))
	end.SetMeta(metaDropped, strconv.AppendInt(nil, number, 10))
	if err := end.Commit(); err != nil {
		return err
	}
	s.last = number
	s.kept.Store(number)
	return nil
}

// bulk reads a relation's rows with the tuples of those indexes that need SQL.
func (s *Stream) bulk(ctx context.Context, work *Session, r *compile.Relation, add func(uint32, store.Hash, []byte, int) error) error {
	if len(r.Indexes) == 0 {
		return nil
	}
	parts := columnNames(r)
	tuples := map[*compile.Index]int{} // where an index's tuple begins in the result
	for _, x := range r.Indexes {
		if s.keyers[x.ID].parts != nil {
			continue
		}
		tuples[x] = len(parts)
		for i, e := range x.Exprs {
			parts = append(parts, fmt.Sprintf("CAST(%s AS %s) AS k%d", e, x.Types[i], len(parts)))
		}
	}
	query := "SELECT " + strings.Join(parts, ", ") + " FROM " + relationSQL(r)
	n := len(r.Columns)
	return work.Each(ctx, query, func(rec arrow.RecordBatch) error {
		rows, err := s.codecs[r].Encode(columnsOf(rec, 0, n))
		if err != nil {
			return err
		}
		for _, x := range r.Indexes {
			if err := s.bulkIndex(x, rec, rows, tuples, add); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Stream) bulkIndex(x *compile.Index, rec arrow.RecordBatch, rows store.Rows, tuples map[*compile.Index]int, add func(uint32, store.Hash, []byte, int) error) error {
	var keyed store.Rows
	k := s.keyers[x.ID]
	if k.parts == nil {
		var err error
		if keyed, err = store.NewCodec(keyColumns(x)).Encode(columnsOf(rec, tuples[x], len(x.Exprs))); err != nil {
			return err
		}
	}
	var buf []byte
	for i := range rows.Len() {
		if k.parts != nil {
			buf, _ = k.key(buf[:0], rows.At(i))
		} else {
			buf = append(buf[:0], keyed.At(i)...)
		}
		if err := add(x.ID, store.HashOf(buf), rows.At(i), 1); err != nil {
			return err
		}
	}
	return nil
}

func columnNames(r *compile.Relation) []string {
	names := make([]string, len(r.Columns))
	for i, c := range r.Columns {
		names[i] = c.Name
	}
	return names
}

// relationSQL is a relation as a full recompute sees it.
func relationSQL(r *compile.Relation) string {
	if r.Kind != compile.Folded {
		return r.Table
	}
	return fmt.Sprintf("(SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY %s ORDER BY %s) AS _first FROM %s) WHERE _first = 1)",
		strings.Join(r.Fold.Key, ", "), r.Fold.SQL(), r.Table)
}

// columnsOf gives n columns of a record batch as one of their own.
func columnsOf(rec arrow.RecordBatch, from, n int) arrow.RecordBatch {
	return newRecordBatch(rec.Schema().Fields()[from:from+n], rec.Columns()[from:from+n], rec.NumRows())
}
