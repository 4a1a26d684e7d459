package store

import (
	"bufio"
	"bytes"
	"container/heap"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"unsafe"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// source gives entries in order of their keys.
type source interface {
	// next gives the entry behind the last one, or io.EOF. The entry is valid
	// until the next call.
	next() (*entry, error)
}

// sorter collects entries in memory.
type sorter struct {
	arena   []byte
	entries []sortEntry
}

type sortEntry struct {
	entry
	start, n int // the row in the arena, which moves while it grows
}

func (s *sorter) size() int {
	return len(s.arena) + len(s.entries)*int(unsafe.Sizeof(sortEntry{}))
}

func (s *sorter) add(index uint32, tuple Hash, row []byte, count int) {
	s.entries = append(s.entries, sortEntry{})
	e := &s.entries[len(s.entries)-1]
	e.set(index, tuple, row)
	e.count, e.start, e.n = count, len(s.arena), len(row)
	s.arena = append(s.arena, row...)
}

func (s *sorter) reset() { s.arena, s.entries = s.arena[:0], s.entries[:0] }

// sorted sorts and gives the entries.
func (s *sorter) sorted() source {
	slices.SortFunc(s.entries, func(a, b sortEntry) int { return bytes.Compare(a.key[:], b.key[:]) })
	return &sortedEntries{arena: s.arena, rest: s.entries}
}

type sortedEntries struct {
	arena []byte
	rest  []sortEntry
}

func (s *sortedEntries) next() (*entry, error) {
	if len(s.rest) == 0 {
		return nil, io.EOF
	}
	e := &s.rest[0]
	e.row = s.arena[e.start : e.start+e.n]
	s.rest = s.rest[1:]
	return &e.entry, nil
}

// run is a file of sorted entries: key, uvarint count, uvarint length, row.
type run struct {
	f vfs.File
	r *bufio.Reader
	e entry
}

const runBuffer = 256 << 10

func writeRun(fs vfs.FS, path string, from source) (*run, error) {
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(writeEntries(f, from), f.Close()); err != nil {
		return nil, err
	}
	if f, err = fs.Open(path, vfs.SequentialReadsOption); err != nil {
		return nil, err
	}
	return &run{f: f, r: bufio.NewReaderSize(f, runBuffer)}, nil
}

func writeEntries(f io.Writer, from source) error {
	w := bufio.NewWriterSize(f, runBuffer)
	var head []byte
	for {
		e, err := from.next()
		if err == io.EOF {
			return w.Flush()
		}
		if err != nil {
			return err
		}
		head = append(head[:0], e.key[:]...)
		head = binary.AppendUvarint(head, uint64(e.count))
		head = binary.AppendUvarint(head, uint64(len(e.row)))
		w.Write(head) // errors stick until Flush
		w.Write(e.row)
	}
}

func (r *run) next() (*entry, error) {
	if _, err := io.ReadFull(r.r, r.e.key[:]); err != nil {
		return nil, err // io.EOF between entries only
	}
	count, err := binary.ReadUvarint(r.r)
	if err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	n, err := binary.ReadUvarint(r.r)
	if err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	r.e.count = int(count)
	r.e.row = slices.Grow(r.e.row[:0], int(n))[:n]
	if _, err := io.ReadFull(r.r, r.e.row); err != nil {
		return nil, errors.Join(io.ErrUnexpectedEOF, err)
	}
	return &r.e, nil
}

func (r *run) close() { r.f.Close() }

// merge gives the entries of several sources in order.
type merge struct {
	heads []head // a heap
	taken entry
}

type head struct {
	*entry
	from source
}

func (m *merge) Len() int           { return len(m.heads) }
func (m *merge) Less(i, j int) bool { return bytes.Compare(m.heads[i].key[:], m.heads[j].key[:]) < 0 }
func (m *merge) Swap(i, j int)      { m.heads[i], m.heads[j] = m.heads[j], m.heads[i] }
func (m *merge) Push(x any)         { m.heads = append(m.heads, x.(head)) }
func (m *merge) Pop() any {
	last := m.heads[len(m.heads)-1]
	m.heads = m.heads[:len(m.heads)-1]
	return last
}

func newMerge(sources []source) (*merge, error) {
	m := &merge{}
	for _, from := range sources {
		e, err := from.next()
		if err == io.EOF {
			continue
		}
		if err != nil {
			return nil, err
		}
		m.heads = append(m.heads, head{e, from})
	}
	heap.Init(m)
	return m, nil
}

// current is the least entry, nil at the end.
func (m *merge) current() *entry {
	if len(m.heads) == 0 {
		return nil
	}
	return m.heads[0].entry
}

// take gives the least entry, with the counts of all that have its key, and
// goes behind them. It is valid until the next call.
func (m *merge) take() (*entry, error) {
	first := m.current()
	m.taken.key, m.taken.count = first.key, 0
	m.taken.row = append(m.taken.row[:0], first.row...)
	for e := m.current(); e != nil && e.key == m.taken.key; e = m.current() {
		m.taken.count += e.count
		if err := m.advance(); err != nil {
			return nil, err
		}
	}
	return &m.taken, nil
}

func (m *merge) advance() error {
	e, err := m.heads[0].from.next()
	if err == io.EOF {
		heap.Pop(m)
		return nil
	}
	if err != nil {
		return err
	}
	m.heads[0].entry = e
	heap.Fix(m, 0)
	return nil
}
