package store

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBulkLoadReplacesWholeIndexes(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	for range 30 {
		// From everything in memory to a run for every few rows.
		s, err := Open(dir, Options{MemTableBytes: 1 << 20, bulkBytes: 200 << r.IntN(12)})
		if err != nil {
			t.Fatal(err)
		}
		m := model{}
		b := s.NewBatch()
		for _, index := range indexes {
			b.DeleteIndex(index)
		}
		m.change(r, b)
		commit(t, b)
		loaded := slices.DeleteFunc(slices.Clone(indexes), func(uint32) bool { return r.IntN(2) == 0 })
		maps.DeleteFunc(m, func(p place, _ int) bool { return slices.Contains(loaded, p.index) })
		r.Shuffle(len(loaded), func(i, j int) { loaded[i], loaded[j] = loaded[j], loaded[i] })
		err = s.BulkLoad(loaded, func(add func(uint32, Hash, []byte, int) error) error {
			for range r.IntN(300) {
				if len(loaded) == 0 {
					break
				}
				p := place{pick(r, loaded...), r.IntN(40), strings.Repeat("b", r.IntN(6))}
				count := 1 + r.IntN(2)
				m[p] += count
				if err := add(p.index, tuple(p.tuple), []byte(p.row), count); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		checkScan(t, s, m)
		b = s.NewBatch() // what is loaded can be changed
		m.change(r, b)
		commit(t, b)
		checkLookup(t, r, s, m)
		checkScan(t, s, m)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = open(t, dir)
		checkScan(t, s, m)
		s.Close()
	}
}

func TestFailedBulkLoadChangesNothing(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, Options{bulkBytes: 1000})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := s.NewBatch()
	b.Set(1, tuple(1), []byte("old"), 2)
	commit(t, b)
	stop := errors.New("stop")
	err = s.BulkLoad([]uint32{1, 2}, func(add func(uint32, Hash, []byte, int) error) error {
		for i := range 100 {
			if err := add(1, tuple(i), []byte("new"), 1); err != nil {
				return err
			}
		}
		return stop
	})
	if !errors.Is(err, stop) {
		t.Fatalf("error %v", err)
	}
	checkScan(t, s, model{{1, 1, "old"}: 2})
	if left, _ := filepath.Glob(filepath.Join(dir, bulkDir)); left != nil {
		t.Errorf("left behind: %v", left)
	}
}

func TestOpenRemovesWhatABulkLoadLeft(t *testing.T) {
	dir := t.TempDir()
	open(t, dir).Close()
	if err := os.MkdirAll(filepath.Join(dir, bulkDir, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	open(t, dir).Close()
	if _, err := os.Stat(filepath.Join(dir, bulkDir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestBulkLoadOfSeveralTableFiles(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	const n = 3000
	row := bytes.Repeat([]byte("0123456789abcdef"), 4096) // 64 KB: 3,000 of them are 190 MB before compression
	err := s.BulkLoad([]uint32{7}, func(add func(uint32, Hash, []byte, int) error) error {
		for i := range n {
			copy(row, fmt.Sprintf("%08d", i))
			if err := add(7, tuple(i), row, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	if err := s.ScanIndex(7, func(row []byte, count int) error { seen += count; return nil }); err != nil || seen != n {
		t.Fatalf("%d rows, %v; want %d", seen, err, n)
	}
}
