package lake

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	"github.com/apache/iceberg-go/table"
)

func reader(t testing.TB, cs []project.Column, batches ...arrow.RecordBatch) array.RecordReader {
	t.Helper()
	r, err := array.NewRecordReader(project.ArrowSchema(cs), batches)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustReplace(t testing.TB, l *Lake, name string, cs []project.Column, by []string, batches ...arrow.RecordBatch) int64 {
	t.Helper()
	id, err := l.Replace(context.Background(), name, cs, by, reader(t, cs, batches...), map[string]string{"step": "1"})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestReplaceAndTimeTravel(t *testing.T) {
	db, l := duck(t), open(t, t.TempDir(), Options{})
	cs := columns(t, "k", "string", "n", "int")
	empty := mustReplace(t, l, "gold.t", cs, nil)
	one := mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"a", 1}, []any{"b", 2}))
	two := mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"c", 3}))
	none := mustReplace(t, l, "gold.t", cs, nil)
	again := mustReplace(t, l, "gold.t", cs, nil)
	for id, want := range map[int64][][]string{empty: nil, one: {{"a", "1"}, {"b", "2"}}, two: {{"c", "3"}}, none: nil, again: nil, 0: nil} {
		equal(t, fmt.Sprintf("rows of snapshot %d", id), rowsOf(t, db, l, "gold.t", id), want)
	}
	if _, err := l.Scan(context.Background(), "gold.t", 42); !errors.Is(err, ErrNoSnapshot) {
		t.Errorf("snapshot 42: %v", err)
	}
	if _, err := l.Scan(context.Background(), "gold.none", 0); !errors.Is(err, ErrNoTable) {
		t.Errorf("table none: %v", err)
	}
	history, err := l.Snapshots(context.Background(), "gold.t")
	if err != nil {
		t.Fatal(err)
	}
	var rows []int64
	for _, s := range history {
		rows = append(rows, s.Rows)
		equal(t, "summary", s.Summary["lockstep.step"], "1")
	}
	equal(t, "rows by snapshot", rows, []int64{0, 2, 1, 0, 0})
	equal(t, "columns with their descriptions", scan(t, l, "gold.t", 0).Columns, cs)
}

func TestReplaceWithOtherColumns(t *testing.T) {
	db, l := duck(t), open(t, t.TempDir(), Options{})
	versions := []struct {
		columns []project.Column
		by      []string
		row     []any
		want    []string
	}{
		{columns(t, "k", "string", "n", "int"), nil, []any{"a", 1}, []string{"a", "1"}},
		{columns(t, "n", "string", "k", "string"), []string{"k"}, []any{"one", "a"}, []string{"one", "a"}}, // type and order
		{columns(t, "n", "string"), nil, []any{"one"}, []string{"one"}},                                    // dropped, partitions too
		{columns(t, "n", "string", "k", "int"), []string{"bucket(4, k)"}, []any{"one", 7}, []string{"one", "7"}},
		{columns(t, "k", "bigint"), []string{"truncate(10, k)"}, []any{77}, []string{"77"}},
	}
	var ids []int64
	for _, v := range versions {
		ids = append(ids, mustReplace(t, l, "silver.t", v.columns, v.by, batch(t, v.columns, v.row)))
	}
	for i, v := range versions {
		equal(t, fmt.Sprintf("rows of version %d", i), rowsOf(t, db, l, "silver.t", ids[i]), [][]string{v.want})
		equal(t, fmt.Sprintf("columns of version %d", i), scan(t, l, "silver.t", ids[i]).Columns, v.columns)
	}
}

func TestPartitionedReplace(t *testing.T) {
	db := duck(t)
	cs := columns(t, "k", "string", "n", "int", "big", "bigint", "day", "date", "at", "timestamp", "d", "decimal(9,2)", "ok", "boolean")
	const hour = 3600_000_000
	rows := [][]any{
		{"a", 1, 10, 0, 0, 100, true}, {"b", -2, 20, 40, 40 * 24 * hour, -200, false},
		{"c/d=e", 3, 30, 400, 400*24*hour + hour, 300, true}, {nil, nil, nil, nil, nil, nil, nil},
	}
	for i, c := range []struct {
		by    []string
		files int
	}{
		{[]string{"k"}, 4}, {[]string{"identity(n)"}, 4}, {[]string{"month(at)"}, 4}, {[]string{"year(day)", "ok"}, 4}, {[]string{"day(at)"}, 4},
		{[]string{"hour(at)"}, 4}, {[]string{"bucket(2, k)"}, 0}, {[]string{"truncate(2, k)"}, 4}, {[]string{"bucket(4, big)", "month(day)"}, 4}, {[]string{"truncate(100, d)"}, 0},
	} {
		l := open(t, t.TempDir(), Options{})
		name := fmt.Sprintf("silver.t%d", i)
		plain := mustReplace(t, l, "silver.plain", cs, nil, batch(t, cs, rows...))
		mustReplace(t, l, name, cs, c.by, batch(t, cs, rows...))
		id := mustReplace(t, l, name, cs, c.by, batch(t, cs, rows...)) // over a partitioned one
		equal(t, fmt.Sprint(c.by), rowsOf(t, db, l, name, id), rowsOf(t, db, l, "silver.plain", plain))
		if got := len(scan(t, l, name, id).Files); c.files > 0 && got != c.files {
			t.Errorf("%v: %d files, want %d", c.by, got, c.files)
		}
	}
	l := open(t, t.TempDir(), Options{})
	for _, bad := range []string{"nothing", "month(k)", "month(at", "bucket(k)", "bucket(0,k)", "lower(k)", "truncate(2, ok)"} {
		if _, err := l.Replace(context.Background(), "silver.bad", cs, []string{bad}, reader(t, cs), nil); err == nil {
			t.Errorf("partition_by %q was taken", bad)
		} else {
			t.Log(err)
		}
	}
}

// failingReader gives one batch and then an error.
type failingReader struct {
	array.RecordReader
	given bool
}

func (f *failingReader) Next() bool {
	ok := !f.given && f.RecordReader.Next()
	f.given = true
	return ok
}
func (f *failingReader) Err() error { return errors.New("engine failed") }

func TestFailedReplaceLeavesTheOldRows(t *testing.T) {
	point, db := "", duck(t)
	l := open(t, t.TempDir(), Options{Hook: func(e Event) error {
		if e.Point == point {
			return errors.New("stopped at " + point)
		}
		return nil
	}})
	old, cs := columns(t, "k", "string"), columns(t, "k", "int", "n", "string")
	mustReplace(t, l, "gold.t", old, nil, batch(t, old, []any{"a"}))
	files := len(glob(t, l, "gold/t/data/*"))
	for _, point = range []string{PointFiles, PointMetadata} {
		if _, err := l.Replace(context.Background(), "gold.t", cs, []string{"n"}, reader(t, cs, batch(t, cs, []any{1, "x"})), nil); err == nil {
			t.Errorf("%s: no error", point)
		}
	}
	point = ""
	if _, err := l.Replace(context.Background(), "gold.t", cs, nil, &failingReader{RecordReader: reader(t, cs, batch(t, cs, []any{1, "x"}))}, nil); err == nil {
		t.Error("failing reader: no error")
	}
	equal(t, "rows", rowsOf(t, db, l, "gold.t", 0), [][]string{{"a"}})
	equal(t, "data files", len(glob(t, l, "gold/t/data/*.parquet")), files)
	equal(t, "columns", scan(t, l, "gold.t", 0).Columns, old)
	mustReplace(t, l, "gold.t", cs, []string{"n"}, batch(t, cs, []any{1, "x"}))
	equal(t, "rows at last", rowsOf(t, db, l, "gold.t", 0), [][]string{{"1", "x"}})
}

func TestReplaceHealsDeletedFiles(t *testing.T) {
	for _, what := range []string{"gold/t", "gold/t/data", "gold/t/metadata", "gold/t/metadata/*.avro"} {
		l := open(t, t.TempDir(), Options{})
		cs := columns(t, "k", "string")
		mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"a"}))
		l.Close()
		for _, f := range glob(t, l, what) {
			if err := os.RemoveAll(f); err != nil {
				t.Fatal(err)
			}
		}
		l = open(t, l.Dir(), Options{})
		mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"b"}))
		equal(t, what, rowsOf(t, duck(t), l, "gold.t", 0), [][]string{{"b"}})
	}
}

func TestDrop(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	cs := columns(t, "k", "string")
	mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"a"}))
	for range 2 {
		if err := l.Drop(context.Background(), "gold.t"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(filepath.Join(l.Dir(), "warehouse/gold/t")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("files of a dropped table: %v", err)
	}
	if _, err := l.Scan(context.Background(), "gold.t", 0); !errors.Is(err, ErrNoTable) {
		t.Errorf("a dropped table: %v", err)
	}
	mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"b"}))
}

func TestRecordsEqualSQL(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	cs := columns(t, "k", "string", "n", "int")
	mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"a", 1}, []any{"b", nil}))
	sc, rows, err := scan(t, l, "gold.t", 0).Records(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "columns", names(sc), []string{"k", "n"})
	n := int64(0)
	for b, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		n += b.NumRows()
		b.Release()
	}
	equal(t, "rows", n, int64(2))
}

func TestForeignDeleteFiles(t *testing.T) {
	ctx, l := context.Background(), open(t, t.TempDir(), Options{})
	cs := columns(t, "k", "string", "n", "int")
	mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"a", 1}, []any{"b", 2}, []any{"c", 3}))
	tbl, err := l.cat.LoadTable(ctx, table.Identifier{"gold", "t"})
	if err != nil {
		t.Fatal(err)
	}
	txn := tbl.NewTransaction()
	if err := txn.SetProperties(iceberg.Properties{table.WriteDeleteModeKey: table.WriteModeMergeOnRead}); err != nil {
		t.Fatal(err)
	}
	if err := txn.Delete(ctx, iceberg.EqualTo(iceberg.Reference("k"), "b"), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := txn.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	s := scan(t, l, "gold.t", 0)
	if _, err := s.SQL(); !errors.Is(err, ErrDeleteFiles) {
		t.Errorf("SQL over delete files: %v", err)
	}
	_, rows, err := s.Records(ctx)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for b, err := range rows {
		if err != nil {
			t.Fatal(err)
		}
		for i := range int(b.NumRows()) {
			got = append(got, b.Column(0).(*array.String).Value(i))
		}
		b.Release()
	}
	equal(t, "rows", got, []string{"a", "c"})
	mustMaintain(t, l, nil, often)
	mustReplace(t, l, "gold.t", cs, nil, batch(t, cs, []any{"d", 4}))
	equal(t, "rows after a replace", rowsOf(t, duck(t), l, "gold.t", 0), [][]string{{"d", "4"}})
}

// scribbler is memory that another one writes to as soon as it is given back.
type scribbler struct{ memory.Allocator }

func (s scribbler) Free(b []byte) {
	for i := range b {
		b[i] = 0xb3
	}
	s.Allocator.Free(b)
}

// TestPartitionTexts writes rows whose memory is gone before the manifest is
// written, as that of DuckDB is.
func TestPartitionTexts(t *testing.T) {
	l := open(t, t.TempDir(), Options{})
	cs := columns(t, "k", "string", "n", "int")
	var batches []arrow.RecordBatch
	for i := range 5 {
		b := batch(t, cs, []any{fmt.Sprintf("part %d", i), i})
		var cols []arrow.Array
		for _, c := range b.Columns() {
			foreign, err := array.Concatenate([]arrow.Array{c}, scribbler{memory.NewGoAllocator()})
			if err != nil {
				t.Fatal(err)
			}
			cols = append(cols, foreign)
		}
		batches = append(batches, array.NewRecordBatch(b.Schema(), cols, b.NumRows()))
		for _, c := range cols {
			c.Release()
		}
	}
	rows := reader(t, cs, batches...)
	for _, b := range batches {
		b.Release() // the reader has them, one after another
	}
	if _, err := l.Replace(context.Background(), "gold.t", cs, []string{"k"}, rows, nil); err != nil {
		t.Fatal(err)
	}
	tbl, err := l.cat.LoadTable(context.Background(), table.Identifier{"gold", "t"})
	if err != nil {
		t.Fatal(err)
	}
	tasks, err := tbl.Scan().PlanFiles(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for _, task := range tasks {
		for _, v := range task.File.Partition() {
			parts = append(parts, fmt.Sprint(v))
		}
	}
	slices.Sort(parts)
	equal(t, "partitions", parts, []string{"part 0", "part 1", "part 2", "part 3", "part 4"})
}
