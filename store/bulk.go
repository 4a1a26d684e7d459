package store

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/zeebo/xxh3"
)

// bulkDir holds the files of a bulk load under way, inside the store's folder.
const bulkDir = "bulk"

// bulkFileBytes is how large a table file of a bulk load gets.
const bulkFileBytes = 64 << 20

// BulkLoad replaces the rows of some indexes by those that fill adds, in any
// order: the fast way to build or rebuild them, in bounded memory. A row added
// twice counts twice. An index that gets no row is empty afterwards; adding to
// one that is not listed panics. add is for one goroutine.
//
// Each index is replaced as a whole and durably, but one after another: keep a
// Meta value from before the load to after it, so that a crash in between is
// seen. An error of fill leaves everything as it was. Batches that touch the
// same indexes must wait.
func (s *Store) BulkLoad(indexes []uint32, fill func(add func(index uint32, tuple Hash, row []byte, count int) error) error) (err error) {
	l := &bulkLoad{store: s, dir: s.opts.fs.PathJoin(s.dir, bulkDir), limit: s.opts.bulkBytes}
	defer func() {
		l.close()
		err = errors.Join(err, s.opts.fs.RemoveAll(l.dir))
	}()
	if err := s.opts.fs.MkdirAll(l.dir, 0o755); err != nil {
		return s.failed("load", err)
	}
	err = fill(func(index uint32, tuple Hash, row []byte, count int) error {
		if !slices.Contains(indexes, index) {
			panic(fmt.Sprintf("store: bulk load of indexes %v got a row of %d", indexes, index))
		}
		return l.add(index, tuple, row, count)
	})
	if err != nil {
		return err
	}
	if err := l.finish(indexes); err != nil {
		return s.failed("load", err)
	}
	return nil
}

// bulkLoad is a merge sort: rows are collected up to a limit, sorted and written
// as a run; at the end the runs are merged into table files that pebble takes
// over as they are, at the lowest level, without a compaction.
type bulkLoad struct {
	store *Store
	dir   string
	limit int // bytes in memory
	rows  sorter
	runs  []*run
}

func (l *bulkLoad) add(index uint32, tuple Hash, row []byte, count int) error {
	if count <= 0 {
		panic(fmt.Sprintf("store: bulk load of a row with count %d", count))
	}
	l.rows.add(index, tuple, row, count)
	if l.rows.size() < l.limit {
		return nil
	}
	if err := l.spill(); err != nil {
		return l.store.failed("load", err)
	}
	return nil
}

// spill writes the rows in memory as a run.
func (l *bulkLoad) spill() error {
	r, err := writeRun(l.store.opts.fs, l.store.opts.fs.PathJoin(l.dir, fmt.Sprintf("run-%d", len(l.runs))), l.rows.sorted())
	l.rows.reset()
	if err == nil {
		l.runs = append(l.runs, r)
	}
	return err
}

func (l *bulkLoad) close() {
	for _, r := range l.runs {
		r.close()
	}
}

// finish merges the runs and hands the files to pebble, index by index.
func (l *bulkLoad) finish(indexes []uint32) error {
	sources := []source{l.rows.sorted()}
	for _, r := range l.runs {
		sources = append(sources, r)
	}
	m, err := newMerge(sources)
	if err != nil {
		return err
	}
	indexes = slices.Clone(indexes)
	slices.Sort(indexes)
	for _, index := range slices.Compact(indexes) {
		paths, err := l.writeTables(index, m)
		if err != nil {
			return err
		}
		if err := l.replace(index, paths); err != nil {
			return err
		}
	}
	return nil
}

func (l *bulkLoad) replace(index uint32, paths []string) error {
	if len(paths) == 0 {
		b := l.store.NewBatch()
		b.DeleteIndex(index)
		return b.Commit()
	}
	start, end := indexBounds(index)
	_, err := l.store.db.IngestAndExcise(context.Background(), paths, nil, nil, pebble.KeyRange{Start: start, End: end})
	return err
}

// writeTables writes all rows of an index, equal ones once with their sum.
func (l *bulkLoad) writeTables(index uint32, m *merge) (paths []string, err error) {
	var w *sstable.Writer
	var value []byte
	for m.current() != nil && m.current().index() == index {
		e, err := m.take()
		if err != nil {
			return nil, errors.Join(err, closeTable(w))
		}
		if w == nil {
			path := l.store.opts.fs.PathJoin(l.dir, fmt.Sprintf("table-%d-%d", index, len(paths)))
			if w, err = l.newTable(path); err != nil {
				return nil, err
			}
			paths = append(paths, path)
		}
		value = append(binary.AppendUvarint(value[:0], uint64(e.count)), e.row...)
		if err := w.Set(e.key[:], value); err != nil {
			return nil, errors.Join(err, closeTable(w))
		}
		if w.Raw().EstimatedSize() >= bulkFileBytes {
			if err := closeTable(w); err != nil {
				return nil, err
			}
			w = nil
		}
	}
	return paths, closeTable(w)
}

func (l *bulkLoad) newTable(path string) (*sstable.Writer, error) {
	f, err := l.store.opts.fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	const lowest = 6
	o := l.store.pebbleOptions(nil)
	o.EnsureDefaults()
	return sstable.NewWriter(objstorageprovider.NewFileWritable(f), o.MakeWriterOptions(lowest, l.store.db.TableFormat())), nil
}

// closeTable completes and syncs a file.
func closeTable(w *sstable.Writer) error {
	if w == nil {
		return nil
	}
	return w.Close()
}

// entry is a row of a bulk load.
type entry struct {
	key   [rowKeyLen]byte
	count int
	row   []byte
}

func (e *entry) index() uint32 { return binary.BigEndian.Uint32(e.key[1:]) }

func (e *entry) set(index uint32, tuple Hash, row []byte) {
	appendPrefix(e.key[:0], index, tuple)
	hash := xxh3.Hash128(row).Bytes()
	copy(e.key[prefixLen:], hash[:])
}
