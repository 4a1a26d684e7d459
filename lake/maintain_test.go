package lake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
)

// often is an upkeep for tests: nothing is too young.
var often = Upkeep{CompactFiles: 8, CompactBelow: 128 << 20, KeepSnapshots: 5, ExpireAtMost: 500}

func mustMaintain(t testing.TB, l *Lake, spare map[string][]int64, up Upkeep) Report {
	t.Helper()
	r, err := l.Maintain(context.Background(), spare, up)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// size is how many files are under a folder of the warehouse, and their bytes.
func size(t testing.TB, l *Lake, folder string) (files int, bytes int64) {
	t.Helper()
	err := filepath.Walk(filepath.Join(l.Dir(), "warehouse", folder), func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			files++
			bytes += info.Size()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files, bytes
}

func TestManySmallCommitsStaySmall(t *testing.T) {
	l, db := open(t, t.TempDir(), Options{}), duck(t)
	cs := columns(t, "k", "string", "n", "bigint")
	b := mustBronze(t, l, "bronze.t", cs)
	var pinned int64
	for i := 1; i <= 200; i++ {
		id := mustAppend(t, b, position(int64(i), int64(i)), batch(t, cs, []any{"a", i}))
		if i == 30 {
			pinned = id
		}
		if i%25 == 0 {
			mustMaintain(t, l, map[string][]int64{"bronze.t": {pinned}}, often)
			equal(t, "position after maintenance", b.Position(), position(int64(i), int64(i)))
		}
	}
	equal(t, "count and sum", query(t, db, "SELECT count(*), count(DISTINCT n), sum(n) FROM "+mustSQL(t, l, "bronze.t", 0)), [][]string{{"200", "200", "20100"}})
	equal(t, "count of a spared snapshot", query(t, db, "SELECT count(*), max(n) FROM "+mustSQL(t, l, "bronze.t", pinned)), [][]string{{"30", "30"}})
	if files, _ := size(t, l, "bronze/t/data"); files > 45 {
		t.Errorf("%d data files after 200 commits", files)
	}
	if files, bytes := size(t, l, "bronze/t/metadata"); files > 120 || bytes > 1<<20 {
		t.Errorf("metadata: %d files, %d bytes after 200 commits", files, bytes)
	}
	if history, _ := l.Snapshots(context.Background(), "bronze.t"); len(history) > 40 {
		t.Errorf("%d snapshots after 200 commits", len(history))
	}
	mustMaintain(t, l, nil, often)
	if _, err := l.Scan(context.Background(), "bronze.t", pinned); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("a snapshot that is spared no more: %v", err)
	}
	l = open(t, l.Dir(), Options{})
	equal(t, "position after all", mustBronze(t, l, "bronze.t", cs).Position(), position(200, 200))
}

func mustSQL(t testing.TB, l *Lake, name string, id int64) string {
	t.Helper()
	q, err := scan(t, l, name, id).SQL()
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestExpirySparesManifests(t *testing.T) {
	l, db, ctx := open(t, t.TempDir(), Options{}), duck(t), context.Background()
	cs := columns(t, "n", "int")
	var ids []int64
	for i := range 10 {
		ids = append(ids, mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{i})))
	}
	if _, err := l.Publish(ctx, Manifest{Tables: map[string]int64{"gold.t": ids[2]}}); err != nil {
		t.Fatal(err)
	}
	up := often
	up.KeepSnapshots = 2
	equal(t, "expired", mustMaintain(t, l, map[string][]int64{"gold.t": {ids[4]}}, up).SnapshotsExpired, 6)
	for i, id := range ids {
		kept := i == 2 || i == 4 || i >= 8
		if _, err := l.Scan(ctx, "gold.t", id); (err == nil) != kept {
			t.Errorf("snapshot %d: %v", i, err)
		} else if kept {
			equal(t, fmt.Sprintf("rows of snapshot %d", i), rowsOf(t, db, l, "gold.t", id), [][]string{{fmt.Sprint(i)}})
		}
	}
	equal(t, "data files", len(glob(t, l, "gold/t/data/*.parquet")), 4)
	release := scan(t, l, "gold.t", ids[4]).Hold()
	mustMaintain(t, l, nil, up)
	scan(t, l, "gold.t", ids[4])
	release()
	mustMaintain(t, l, nil, up)
	if _, err := l.Scan(ctx, "gold.t", ids[4]); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("a snapshot that nobody holds: %v", err)
	}
	up.KeepFor = time.Hour
	equal(t, "expired while young", mustMaintain(t, l, nil, up).SnapshotsExpired, 0)
}

func TestCompactionKeepsRowsAndColumns(t *testing.T) {
	l, db := open(t, t.TempDir(), Options{}), duck(t)
	old, wide := columns(t, "k", "string", "n", "int"), columns(t, "k", "string", "n", "bigint", "added", "string")
	b := mustBronze(t, l, "bronze.t", old)
	for i := range 10 {
		mustAppend(t, b, position(int64(i), int64(i)), batch(t, old, []any{"a", i}))
	}
	mustBronze(t, l, "bronze.t", wide)
	for i := 10; i < 20; i++ {
		mustAppend(t, b, position(int64(i), int64(i)), batch(t, wide, []any{"b", i, "x"}))
	}
	before := rowsOf(t, db, l, "bronze.t", 0)
	r := mustMaintain(t, l, nil, often)
	equal(t, "report", []int{r.Compactions, r.FilesCompacted, r.FilesWritten}, []int{1, 20, 1})
	equal(t, "rows", rowsOf(t, db, l, "bronze.t", 0), before)
	equal(t, "files", len(scan(t, l, "bronze.t", 0).Files), 1)
	equal(t, "nothing left to do", mustMaintain(t, l, nil, often).Compactions, 0)
	mustAppend(t, b, position(20, 20), batch(t, wide, []any{"c", 20, nil}))
}

// TestMaintenanceMayStopAnywhere lets upkeep fail at each point and compares
// the table with what it was.
func TestMaintenanceMayStopAnywhere(t *testing.T) {
	for _, at := range []Event{{Op: OpCompact, Point: PointFiles}, {Op: OpCompact, Point: PointMetadata}, {Op: OpCompact, Point: PointCommitted},
		{Op: OpExpire, Point: PointMetadata}, {Op: OpExpire, Point: PointCommitted}, {Op: OpExpire, Point: PointExpired}} {
		t.Run(at.Op+" "+at.Point, func(t *testing.T) {
			stop := true
			l := open(t, t.TempDir(), Options{Hook: func(e Event) error {
				if stop && e.Op == at.Op && e.Point == at.Point {
					return errors.New("stopped")
				}
				return nil
			}})
			cs := columns(t, "n", "int")
			b := mustBronze(t, l, "bronze.t", cs)
			for i := range 12 {
				mustAppend(t, b, position(int64(i), int64(i)), batch(t, cs, []any{i}))
			}
			before := rowsOf(t, duck(t), l, "bronze.t", 0)
			if _, err := l.Maintain(context.Background(), nil, often); err == nil {
				t.Fatal("no error")
			}
			stop = false
			if _, err := b.Reload(context.Background()); err != nil {
				t.Fatal(err)
			}
			equal(t, "position", b.Position(), position(11, 11))
			mustAppend(t, b, position(12, 12))
			mustMaintain(t, l, nil, often)
			equal(t, "rows", rowsOf(t, duck(t), l, "bronze.t", 0), before)
			up := often
			up.OrphansOlderThan = time.Nanosecond
			mustMaintain(t, l, nil, up)
			equal(t, "rows without orphans", rowsOf(t, duck(t), l, "bronze.t", 0), before)
			mustAppend(t, b, position(13, 13), batch(t, cs, []any{13}))
		})
	}
}

func TestOrphansGoAtTheirAge(t *testing.T) {
	l, cs := open(t, t.TempDir(), Options{}), columns(t, "n", "int")
	b := mustBronze(t, l, "bronze.t", cs)
	mustAppend(t, b, position(1, 1), batch(t, cs, []any{1}))
	young, old := filepath.Join(l.Dir(), "warehouse/bronze/t/data/young.parquet"), filepath.Join(l.Dir(), "warehouse/bronze/t/data/old.parquet")
	for _, f := range []string{young, old, filepath.Join(l.Dir(), "manifests/tmp-1")} {
		if err := os.WriteFile(f, []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-2 * time.Hour)
	for _, f := range append(glob(t, l, "bronze/t/*/*"), filepath.Join(l.Dir(), "manifests/tmp-1")) {
		if f != young {
			os.Chtimes(f, past, past)
		}
	}
	up := often
	up.OrphansOlderThan = time.Hour
	equal(t, "orphans", mustMaintain(t, l, nil, up).OrphansRemoved, 1)
	if _, err := os.Stat(young); err != nil {
		t.Errorf("a young file: %v", err)
	}
	if f, _ := filepath.Glob(filepath.Join(l.Dir(), "manifests/tmp-*")); len(f) != 0 {
		t.Errorf("left: %v", f)
	}
	equal(t, "rows", rowsOf(t, duck(t), l, "bronze.t", 0), [][]string{{"1"}})
	mustAppend(t, b, position(2, 2), batch(t, cs, []any{2}))
}

func TestMaintainAndAppendTogether(t *testing.T) {
	l, cs := open(t, t.TempDir(), Options{}), columns(t, "n", "int")
	b := mustBronze(t, l, "bronze.t", cs)
	done := make(chan error, 1)
	go func() {
		for i := 1; i <= 60; i++ {
			rec := batch(t, cs, []any{i})
			if _, err := b.Append(context.Background(), []arrow.RecordBatch{rec}, position(int64(i), int64(i))); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	for running := true; running; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			running = false
		default:
			mustMaintain(t, l, nil, often)
		}
	}
	equal(t, "rows", len(rowsOf(t, duck(t), l, "bronze.t", 0)), 60)
	equal(t, "position", b.Position(), position(60, 60))
}

func TestDamagedTableIsNamed(t *testing.T) {
	l, cs := open(t, t.TempDir(), Options{}), columns(t, "n", "int")
	mustAppend(t, mustBronze(t, l, "bronze.t", cs), position(1, 1), batch(t, cs, []any{1}))
	l.Close()
	l = open(t, l.Dir(), Options{})
	files := glob(t, l, "bronze/t/metadata/00001-*.json")
	if len(files) != 1 {
		t.Fatalf("metadata files: %v", files)
	}
	if err := os.WriteFile(files[0], []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Bronze(context.Background(), "bronze.t", cs); err == nil || !strings.Contains(err.Error(), files[0]) {
		t.Errorf("damaged metadata: %v", err)
	}
}

func TestDamagedCatalogIsNamed(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "catalog.db"), []byte(strings.Repeat("not a database", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "catalog.db") {
		t.Errorf("damaged catalog: %v", err)
	}
	if _, err := Open(context.Background(), filepath.Join(dir, "catalog.db")); err == nil {
		t.Error("a file was opened as a lake")
	}
}

// TestReplaceDuringMerge replaces a table while its old files are merged.
func TestReplaceDuringMerge(t *testing.T) {
	var l *Lake
	cs, once := columns(t, "n", "int"), true
	l = open(t, t.TempDir(), Options{Hook: func(e Event) error {
		if e.Op == OpCompact && e.Point == PointFiles && once {
			once = false
			mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{7}))
		}
		return nil
	}})
	b := mustBronze(t, l, "gold.t", cs) // to get many files
	for i := range 10 {
		mustAppend(t, b, position(int64(i), int64(i)), batch(t, cs, []any{i}))
	}
	delete(l.live, "gold.t")
	equal(t, "compactions", mustMaintain(t, l, nil, often).Compactions, 0)
	equal(t, "rows", rowsOf(t, duck(t), l, "gold.t", 0), [][]string{{"7"}})
}
