package lake

import (
	"context"
	"fmt"
	"testing"
	"time"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// tenColumns are the columns of the benchmarks, and one batch of them.
func tenColumns(t testing.TB, rows int) ([]project.Column, arrow.RecordBatch) {
	cs := columns(t, "id", "string", "customer", "string", "status", "string", "price", "decimal(12,2)", "freight", "decimal(12,2)",
		"at", "timestamp", "day", "date", "n", "int", "offset_", "bigint", "deleted", "boolean")
	values := make([][]any, rows)
	for i := range values {
		h := uint64(i) * 0x9e3779b97f4a7c15
		values[i] = []any{fmt.Sprintf("%016x%016x", h, h*3), fmt.Sprintf("%032x", h>>40), []string{"new", "paid", "sent"}[i%3],
			int(h >> 44), i % 5000, 1500000000000000 + i*1000000, 17000 + i/10000, i % 7, i, i%100 == 0}
	}
	return cs, batch(t, cs, values...)
}

func split(b arrow.RecordBatch, size int64) []arrow.RecordBatch {
	var parts []arrow.RecordBatch
	for at := int64(0); at < b.NumRows(); at += size {
		parts = append(parts, b.NewSlice(at, min(at+size, b.NumRows())))
	}
	return parts
}

// BenchmarkCommit is a commit of 1,000 rows in a table that has had 200
// commits, with Maintain every 50.
func BenchmarkCommit(b *testing.B) {
	l := open(b, b.TempDir(), Options{})
	cs, rec := tenColumns(b, 1000)
	t := mustBronze(b, l, "bronze.t", cs)
	var upkeep time.Duration
	step := func(i int) {
		mustAppend(b, t, position(int64(i), int64(i)), rec)
		if i%50 == 0 {
			start := time.Now()
			up := DefaultUpkeep()
			up.KeepFor = 0
			mustMaintain(b, l, nil, up)
			upkeep += time.Since(start)
		}
	}
	for i := range 200 {
		step(i)
	}
	i := 200
	for b.Loop() {
		step(i)
		i++
	}
	b.ReportMetric(float64(upkeep.Milliseconds())/float64(i/50), "ms/upkeep")
}

// BenchmarkAppend is one commit of a million rows of ten columns.
func BenchmarkAppend(b *testing.B) {
	cs, rec := tenColumns(b, 1<<20)
	parts := split(rec, 16384)
	for b.Loop() {
		l := open(b, b.TempDir(), Options{})
		mustAppend(b, mustBronze(b, l, "bronze.t", cs), position(1, 1), parts...)
	}
	b.ReportMetric(float64(rec.NumRows())*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkReplace is one exchange of a million rows of ten columns.
func BenchmarkReplace(b *testing.B) {
	cs, rec := tenColumns(b, 1<<20)
	parts := split(rec, 16384)
	for _, by := range [][]string{nil, {"month(at)"}} {
		b.Run(fmt.Sprint(by), func(b *testing.B) {
			l := open(b, b.TempDir(), Options{})
			for b.Loop() {
				if _, err := l.Replace(context.Background(), "gold.t", cs, by, reader(b, cs, parts...), nil); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(rec.NumRows())*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

// TestCommitTimeStaysFlat reports the time of commits #10 and #200, with
// upkeep; run with -v to see it.
func TestCommitTimeStaysFlat(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds")
	}
	l := open(t, t.TempDir(), Options{})
	cs, rec := tenColumns(t, 100)
	b := mustBronze(t, l, "bronze.t", cs)
	var times []time.Duration
	up := often
	up.KeepSnapshots = 20
	for i := range 220 {
		start := time.Now()
		mustAppend(t, b, position(int64(i), int64(i)), rec)
		times = append(times, time.Since(start))
		if i%50 == 49 {
			start = time.Now()
			mustMaintain(t, l, nil, up)
			t.Logf("upkeep after %d commits: %v", i+1, time.Since(start))
		}
	}
	early, late := mean(times[5:25]), mean(times[195:215])
	t.Logf("commit #10: %v, #200: %v", early, late)
	if late > 4*early+20*time.Millisecond {
		t.Errorf("commits became slow: %v at #10, %v at #200", early, late)
	}
}

func mean(ds []time.Duration) time.Duration {
	var sum time.Duration
	for _, d := range ds {
		sum += d
	}
	return sum / time.Duration(len(ds))
}
