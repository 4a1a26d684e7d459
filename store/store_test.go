package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, Options{MemTableBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func commit(t testing.TB, b *Batch) {
	t.Helper()
	if err := b.Commit(); err != nil {
		t.Fatal(err)
	}
}

func tuple(i int) Hash { return HashOf(binary.BigEndian.AppendUint64(nil, uint64(i))) }

// place is where the model keeps a row.
type place struct {
	index uint32
	tuple int
	row   string
}

type model map[place]int

func (m model) lookup(index uint32, tuples []int) []string {
	var rows []string
	for p, count := range m {
		if p.index == index && slices.Contains(tuples, p.tuple) {
			rows = append(rows, slices.Repeat([]string{p.row}, count)...)
		}
	}
	slices.Sort(rows)
	return rows
}

var indexes = []uint32{0, 1, 2, 256, 1<<32 - 1}

// change draws a batch and does the same to the model.
func (m model) change(r *rand.Rand, b *Batch) {
	for range r.IntN(100) {
		p := place{pick(r, indexes...), r.IntN(40), strings.Repeat("r", r.IntN(6))}
		count := max(0, r.IntN(6)-2)
		b.Set(p.index, tuple(p.tuple), []byte(p.row), count)
		m[p] = count
		if r.IntN(300) == 0 {
			b.DeleteIndex(p.index)
			maps.DeleteFunc(m, func(q place, _ int) bool { return q.index == p.index })
		}
	}
	maps.DeleteFunc(m, func(_ place, count int) bool { return count == 0 })
}

func checkLookup(t *testing.T, r *rand.Rand, s *Store, m model) {
	t.Helper()
	index := pick(r, indexes...)
	asked := make([]int, r.IntN(30))
	hashes := make([]Hash, len(asked))
	for i := range asked {
		asked[i] = r.IntN(50)
		hashes[i] = tuple(asked[i])
	}
	rows, err := s.Lookup(index, hashes)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := texts(rows), m.lookup(index, asked); !slices.Equal(got, want) {
		t.Fatalf("index %d tuples %v: got %q, want %q", index, asked, got, want)
	}
}

func texts(rows Rows) []string {
	var out []string
	for i := range rows.Len() {
		out = append(out, string(rows.At(i)))
	}
	slices.Sort(out)
	return out
}

func checkScan(t *testing.T, s *Store, m model) {
	t.Helper()
	for _, index := range indexes {
		var got, want Rows
		err := s.ScanIndex(index, func(row []byte, count int) error {
			for range count {
				got.Append(row)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for p, count := range m {
			for range count {
				if p.index == index {
					want.Append([]byte(p.row))
				}
			}
		}
		if !slices.Equal(texts(got), texts(want)) {
			t.Fatalf("index %d: got %q, want %q", index, texts(got), texts(want))
		}
	}
}

func TestStoreEqualsAMap(t *testing.T) {
	r := seeded(t)
	dir := t.TempDir()
	s, m := open(t, dir), model{}
	defer func() { s.Close() }()
	for range 200 {
		b := s.NewBatch()
		before := maps.Clone(m)
		m.change(r, b)
		checkLookup(t, r, s, before) // a batch is not seen before its commit
		if r.IntN(10) == 0 {
			b.Discard()
			m = before
		} else {
			commit(t, b)
		}
		checkLookup(t, r, s, m)
		switch r.IntN(20) {
		case 0:
			if err := s.db.Flush(); err != nil {
				t.Fatal(err)
			}
		case 1:
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
		}
	}
	checkScan(t, s, m)
}

func TestMeta(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.NewBatch()
	b.SetMeta("step", []byte("7"))
	b.SetMeta("empty", []byte{})
	b.SetMeta("gone", []byte("x"))
	b.SetMeta("gone", nil)
	commit(t, b)
	s.Close()
	s = open(t, dir)
	defer s.Close()
	for name, want := range map[string][]byte{"step": []byte("7"), "empty": {}, "gone": nil, "never": nil} {
		got, err := s.Meta(name)
		if err != nil || string(got) != string(want) || (got == nil) != (want == nil) {
			t.Errorf("%s: %q, %v; want %q", name, got, err, want)
		}
	}
}

func logOf(t *testing.T, s *Store, from int64) []string {
	t.Helper()
	var got []string
	err := s.Log(from, func(step int64, name string, value []byte) error {
		got = append(got, fmt.Sprintf("%d %s %s", step, name, value))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestLogIsReadInOrderAndDropped(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	b := s.NewBatch()
	for _, step := range []int64{300, 2, 1, 1<<63 - 1, 256} {
		b.PutLog(step, "b", []byte("x"))
		b.PutLog(step, "a", nil)
	}
	b.Set(1, tuple(1), []byte("row"), 1)
	commit(t, b)
	tests := []struct {
		drop, from int64
		want       string
	}{
		{0, 0, "1 a , 1 b x, 2 a , 2 b x, 256 a , 256 b x, 300 a , 300 b x, 9223372036854775807 a , 9223372036854775807 b x"},
		{0, 2, "2 a , 2 b x, 256 a , 256 b x, 300 a , 300 b x, 9223372036854775807 a , 9223372036854775807 b x"},
		{2, 0, "256 a , 256 b x, 300 a , 300 b x, 9223372036854775807 a , 9223372036854775807 b x"},
		{299, 257, "300 a , 300 b x, 9223372036854775807 a , 9223372036854775807 b x"},
		{1<<63 - 1, 0, ""},
	}
	for _, tt := range tests {
		b := s.NewBatch()
		b.DropLog(tt.drop)
		commit(t, b)
		if got := strings.Join(logOf(t, s, tt.from), ", "); got != tt.want {
			t.Errorf("after DropLog(%d), Log(%d) gives %s; want %s", tt.drop, tt.from, got, tt.want)
		}
	}
	if rows, err := s.Lookup(1, []Hash{tuple(1)}); err != nil || rows.Len() != 1 {
		t.Errorf("DropLog took rows along: %d rows, %v", rows.Len(), err)
	}
}

func TestErrorsOfCallbacksComeBack(t *testing.T) {
	s := open(t, t.TempDir())
	defer s.Close()
	b := s.NewBatch()
	b.PutLog(1, "a", nil)
	b.Set(1, tuple(1), []byte("row"), 1)
	commit(t, b)
	stop := errors.New("stop")
	if err := s.Log(0, func(int64, string, []byte) error { return stop }); err != stop {
		t.Errorf("Log: %v", err)
	}
	if err := s.ScanIndex(1, func([]byte, int) error { return stop }); err != stop {
		t.Errorf("ScanIndex: %v", err)
	}
}

func TestOpenSaysWhyItCannot(t *testing.T) {
	filled := func(t *testing.T) string {
		dir := t.TempDir()
		s := open(t, dir)
		b := s.NewBatch()
		for i := range 1000 {
			b.Set(1, tuple(i), []byte("row"), 1)
		}
		commit(t, b)
		if err := s.db.Flush(); err != nil {
			t.Fatal(err)
		}
		s.Close()
		return dir
	}
	damage := func(pattern string, how func(path string) error) func(*testing.T) string {
		return func(t *testing.T) string {
			dir := filled(t)
			paths, _ := filepath.Glob(filepath.Join(dir, pattern))
			if len(paths) == 0 {
				t.Fatalf("no file %s", pattern)
			}
			for _, path := range paths {
				if err := how(path); err != nil {
					t.Fatal(err)
				}
			}
			return dir
		}
	}
	garbage := func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("garbage ", 100)), 0o644) }
	tests := []struct {
		name string
		dir  func(*testing.T) string
		want error
	}{
		{"open already", func(t *testing.T) string {
			dir := t.TempDir()
			s := open(t, dir)
			t.Cleanup(func() { s.Close() })
			return dir
		}, ErrLocked},
		{"garbage manifest", damage("MANIFEST-*", garbage), ErrCorrupt},
		{"lost manifest", damage("MANIFEST-*", os.Remove), ErrCorrupt},
		{"lost table", damage("*.sst", os.Remove), ErrCorrupt},
		{"short table", damage("*.sst", func(p string) error { return os.Truncate(p, 10) }), ErrCorrupt},
		{"another layout", func(t *testing.T) string {
			dir := filled(t)
			s := open(t, dir)
			if err := s.db.Set([]byte{kindFormat}, []byte("0"), nil); err != nil {
				t.Fatal(err)
			}
			s.Close()
			return dir
		}, ErrFormat},
		{"a file in its place", func(t *testing.T) string {
			path := filepath.Join(t.TempDir(), "state")
			if err := garbage(path); err != nil {
				t.Fatal(err)
			}
			return path
		}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := tt.dir(t)
			s, err := Open(dir, Options{})
			if err == nil {
				s.Close()
				t.Fatal("it opens")
			}
			t.Log(err)
			if tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), dir) {
				t.Errorf("error %v; want %v and the folder in it", err, tt.want)
			}
		})
	}
}

func TestReadsOfADamagedTableAreErrors(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	b := s.NewBatch()
	for i := range 20000 {
		b.Set(1, tuple(i), []byte(fmt.Sprint("row ", i)), 1)
	}
	commit(t, b)
	if err := s.db.Flush(); err != nil {
		t.Fatal(err)
	}
	s.Close()
	paths, _ := filepath.Glob(filepath.Join(dir, "*.sst"))
	for _, path := range paths {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for i := len(data) / 4; i < len(data)/2; i += 512 {
			data[i] ^= 0xff
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, dir)
	defer s.Close()
	err := s.ScanIndex(1, func([]byte, int) error { return nil })
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("ScanIndex: %v", err)
	}
	var asked []Hash
	for i := range 20000 {
		asked = append(asked, tuple(i))
	}
	if _, err := s.Lookup(1, asked); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Lookup: %v", err)
	}
}
