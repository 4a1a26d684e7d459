package store

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// benchRows is the size of the index that lookups are measured on;
// STORE_BENCH_ROWS=10000000 for the large one.
func benchRows(b *testing.B) int {
	if n, err := strconv.Atoi(os.Getenv("STORE_BENCH_ROWS")); err == nil {
		return n
	}
	return 1_000_000
}

// The rows of the benchmark: 90 bytes, four under each tuple.
func benchRow(dst []byte, i int) []byte {
	dst = binary.BigEndian.AppendUint64(dst[:0], uint64(i))
	for len(dst) < 90 {
		dst = binary.BigEndian.AppendUint64(dst, uint64(i)*0x9E3779B97F4A7C15*uint64(len(dst)))
	}
	return dst[:90]
}

func loadBench(b *testing.B, s *Store, n int) {
	b.Helper()
	begin := time.Now()
	err := s.BulkLoad([]uint32{1}, func(add func(uint32, Hash, []byte, int) error) error {
		var row []byte
		for i := range n {
			row = benchRow(row, i)
			if err := add(1, tuple(i/4), row, 1); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	fmt.Fprintf(os.Stderr, "bulk load: %d rows in %v, %.0f rows/s, %d MB on disk\n", n, took.Round(time.Millisecond), float64(n)/took.Seconds(), s.Metrics().DiskBytes>>20)
}

// cpu is what this process took so far, compactions included.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// percentiles runs f b.N times and reports its p50 and p95, and the CPU of one.
func percentiles(b *testing.B, f func(i int)) {
	start := cpu()
	times := make([]time.Duration, 0, 1024)
	for i := 0; b.Loop(); i++ {
		begin := time.Now()
		f(i)
		times = append(times, time.Since(begin))
	}
	b.ReportMetric(float64((cpu()-start).Microseconds())/1000/float64(len(times)), "cpu-ms")
	slices.SortFunc(times, cmp.Compare)
	b.ReportMetric(float64(times[len(times)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(times[len(times)*95/100].Microseconds())/1000, "p95-ms")
}

// BenchmarkLookup reads 1,000 scattered tuples: all there, none there, and all
// there while steps write to the same index.
func BenchmarkLookup(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n := benchRows(b)
	loadBench(b, s, n)
	r := seeded(b)
	look := func(b *testing.B, want, first int) {
		asked := make([]Hash, 1000)
		percentiles(b, func(int) {
			for i := range asked {
				asked[i] = tuple(first + r.IntN(n/4))
			}
			rows, err := s.Lookup(1, asked)
			if err != nil || want == 0 && rows.Len() > 0 || want > 0 && rows.Len() < 3900 {
				b.Fatalf("%d rows, %v", rows.Len(), err)
			}
		})
		m := s.Metrics()
		b.Logf("cache hit rate %.2f, filters %d/%d, read amplification %d", m.CacheHitRate(), m.FilterHits, m.FilterMisses, m.ReadAmp)
	}
	b.Run("found", func(b *testing.B) { look(b, 4000, 0) })
	b.Run("absent", func(b *testing.B) { look(b, 0, n) })
	for step := range 200 {
		commit(b, benchStep(s, 1, step, n))
	}
	rest(b, s)
	b.Run("after200steps", func(b *testing.B) { look(b, 4000, 0) })
}

// rest waits until no compaction runs.
func rest(b *testing.B, s *Store) {
	b.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if m := s.db.Metrics(); m.Compact.NumInProgress == 0 && m.Flush.NumInProgress == 0 {
			return
		}
		if time.Now().After(end) {
			b.Fatal("compactions go on")
		}
	}
}

// benchStep adds a row to each of 5,000 tuples, half of them new.
func benchStep(s *Store, index uint32, step, n int) *Batch {
	b := s.NewBatch()
	var row []byte
	for i := range 5000 {
		id := n + step*5000 + i
		row = benchRow(row, id)
		under := id
		if i%2 == 0 {
			under = id * 7919 % (n / 4)
		}
		b.Set(index, tuple(under), row, 1)
	}
	b.SetMeta("step", []byte(strconv.Itoa(step)))
	return b
}

func BenchmarkCommit5000(b *testing.B) {
	s, err := Open(b.TempDir(), Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	percentiles(b, func(i int) { commit(b, benchStep(s, 1, i, 1_000_000)) })
	b.ReportMetric(5000/(b.Elapsed().Seconds()/float64(b.N)), "rows/s")
}

func benchRecord(n int) ([]project.Column, arrow.RecordBatch) {
	kinds := []project.Type{
		{Kind: project.String}, {Kind: project.String}, {Kind: project.Timestamp}, {Kind: project.Timestamp}, {Kind: project.Decimal, Precision: 12, Scale: 2},
		{Kind: project.Bigint}, {Kind: project.Int}, {Kind: project.Boolean}, {Kind: project.Date}, {Kind: project.String},
	}
	columns := make([]project.Column, len(kinds))
	for i, t := range kinds {
		columns[i] = project.Column{Name: fmt.Sprint("c", i), Type: t}
	}
	cells := make([][]any, n)
	for i := range cells {
		ts := arrow.Timestamp(1_500_000_000_000_000 + int64(i)*1e6)
		cells[i] = []any{fmt.Sprintf("%032x", i*7919), "delivered", ts, nil, nil, int64(i), int32(i), i%2 == 0, arrow.Date32(i), "a state"}
	}
	return columns, recordOf(columns, cells)
}

func BenchmarkEncode(b *testing.B) {
	columns, rec := benchRecord(10_000)
	c := NewCodec(columns)
	for b.Loop() {
		mustEncode(b, c, rec)
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkDecode(b *testing.B) {
	columns, rec := benchRecord(10_000)
	c := NewCodec(columns)
	rows := mustEncode(b, c, rec)
	for b.Loop() {
		got, err := c.Decode(rows, memory.DefaultAllocator)
		if err != nil {
			b.Fatal(err)
		}
		got.Release()
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkKey(b *testing.B) {
	columns, rec := benchRecord(10_000)
	c := NewCodec(columns)
	rows := mustEncode(b, c, rec)
	var key []byte
	for b.Loop() {
		for i := range rows.Len() {
			key = c.Key(key[:0], rows.At(i), []int{0, 5})
			HashOf(key)
		}
	}
	b.ReportMetric(10_000*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
