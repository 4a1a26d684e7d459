package lake

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	_ "github.com/duckdb/duckdb-go/v2"
)

// column is a column of a type as a project writes it.
func column(t testing.TB, name, typ string) project.Column {
	t.Helper()
	parsed, err := project.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return project.Column{Name: name, Type: parsed, Description: "the " + name}
}

func columns(t testing.TB, nameTypes ...string) []project.Column {
	var cs []project.Column
	for i := 0; i < len(nameTypes); i += 2 {
		cs = append(cs, column(t, nameTypes[i], nameTypes[i+1]))
	}
	return cs
}

// batch makes a record batch; values by column: string, int, float64, bool or
// nil. Ints fill every integer, date, timestamp and (unscaled) decimal type.
func batch(t testing.TB, cs []project.Column, rows ...[]any) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(cs))
	defer b.Release()
	for _, row := range rows {
		for i, v := range row {
			appendValue(t, b.Field(i), v)
		}
	}
	return b.NewRecordBatch()
}

func appendValue(t testing.TB, b array.Builder, v any) {
	t.Helper()
	if v == nil {
		b.AppendNull()
		return
	}
	switch b := b.(type) {
	case *array.StringBuilder:
		b.Append(v.(string))
	case *array.BooleanBuilder:
		b.Append(v.(bool))
	case *array.Int32Builder:
		b.Append(int32(v.(int)))
	case *array.Int64Builder:
		b.Append(int64(v.(int)))
	case *array.Float64Builder:
		b.Append(v.(float64))
	case *array.Date32Builder:
		b.Append(arrow.Date32(v.(int)))
	case *array.TimestampBuilder:
		b.Append(arrow.Timestamp(v.(int)))
	case *array.Decimal128Builder:
		b.Append(decimal128.FromI64(int64(v.(int))))
	default:
		t.Fatalf("no values for %T", b)
	}
}

func open(t testing.TB, dir string, opts Options) *Lake {
	t.Helper()
	l, err := OpenWith(context.Background(), dir, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func mustBronze(t testing.TB, l *Lake, name string, cs []project.Column) *Bronze {
	t.Helper()
	b, err := l.Bronze(context.Background(), name, cs)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func position(step int64, offsets ...int64) Position {
	p := Position{TopicID: "topic-1", Offsets: map[int32]int64{}, Step: step}
	for i, o := range offsets {
		p.Offsets[int32(i)] = o
	}
	return p
}

func mustAppend(t testing.TB, b *Bronze, pos Position, batches ...arrow.RecordBatch) int64 {
	t.Helper()
	id, err := b.Append(context.Background(), batches, pos)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func duck(t testing.TB) *sql.DB {
	t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

// query gives the rows of a query as texts, null as "∅".
func query(t testing.TB, db *sql.DB, q string) [][]string {
	t.Helper()
	rows, err := db.Query(q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer rows.Close()
	cols, _ := rows.Columns()
	var got [][]string
	for rows.Next() {
		vals, ptrs := make([]any, len(cols)), make([]any, len(cols))
		for i := range vals {
			ptrs[i] = &vals[i]
		}
		if err := rows.Scan(ptrs...); err != nil {
			t.Fatal(err)
		}
		texts := make([]string, len(cols))
		for i, v := range vals {
			texts[i] = "∅"
			if v != nil {
				texts[i] = fmt.Sprint(v)
			}
		}
		got = append(got, texts)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return got
}

func scan(t testing.TB, l *Lake, name string, id int64) *Scan {
	t.Helper()
	s, err := l.Scan(context.Background(), name, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// rowsOf reads a snapshot through DuckDB, ordered by all columns.
func rowsOf(t testing.TB, db *sql.DB, l *Lake, name string, id int64) [][]string {
	t.Helper()
	q, err := scan(t, l, name, id).SQL()
	if err != nil {
		t.Fatal(err)
	}
	return query(t, db, "SELECT * FROM "+q+" ORDER BY ALL")
}

func equal(t testing.TB, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestAppendAndReopen(t *testing.T) {
	dir, db := t.TempDir(), duck(t)
	cs := columns(t, "k", "string", "n", "int", "big", "bigint", "x", "double", "d", "decimal(12,2)", "day", "date", "at", "timestamp", "ok", "boolean")
	l := open(t, dir, Options{})
	b := mustBronze(t, l, "bronze.t", cs)
	equal(t, "position of a new table", b.Position(), Position{})
	first := batch(t, cs, []any{"a", 1, 2, 0.5, 1234, 1, 1500000, true}, []any{nil, nil, nil, nil, nil, nil, nil, nil})
	id1 := mustAppend(t, b, position(1, 2, 0), first)
	mustAppend(t, b, position(2, 2, 7)) // no rows: only the position
	id3 := mustAppend(t, b, position(3, 3, 7), batch(t, cs, []any{"b", 2, 3, 1.5, -5, -1, -1, false}))
	want1 := [][]string{{"∅", "∅", "∅", "∅", "∅", "∅", "∅", "∅"}, {"a", "1", "2", "0.5", "12.34", "1970-01-02 00:00:00 +0000 UTC", "1970-01-01 00:00:01.5 +0000 UTC", "true"}}
	want3 := append([][]string{}, want1...)
	want3 = append(want3, []string{"b", "2", "3", "1.5", "-0.05", "1969-12-31 00:00:00 +0000 UTC", "1969-12-31 23:59:59.999999 +0000 UTC", "false"})
	l.Close()

	l = open(t, dir, Options{})
	b = mustBronze(t, l, "bronze.t", cs)
	equal(t, "position after reopening", b.Position(), position(3, 3, 7))
	for id, want := range map[int64][][]string{id1: want1, id3: want3, 0: want3} {
		got := rowsOf(t, db, l, "bronze.t", id)
		byNull := [][]string{}
		for _, r := range got { // NULLs sort last in DuckDB
			if r[0] == "∅" {
				byNull = append([][]string{r}, byNull...)
			} else {
				byNull = append(byNull, r)
			}
		}
		equal(t, fmt.Sprintf("rows of snapshot %d", id), byNull, want)
	}
	p, err := scan(t, l, "bronze.t", id1).Position()
	equal(t, "position of the first snapshot", p, position(1, 2, 0))
	equal(t, "its error", err, nil)
	tables, err := l.Tables(context.Background())
	equal(t, "tables", tables, []string{"bronze.t"})
	equal(t, "error", err, nil)
}

func TestAppendRefusesToGoBack(t *testing.T) {
	cs := columns(t, "k", "string")
	b := mustBronze(t, open(t, t.TempDir(), Options{}), "bronze.t", cs)
	mustAppend(t, b, position(5, 10, 20), batch(t, cs, []any{"a"}))
	other := position(6, 10, 20)
	other.TopicID = "topic-2"
	for what, p := range map[string]Position{"offset": position(6, 9, 20), "partition": position(6, 10), "step": position(4, 10, 20), "topic id": other} {
		if _, err := b.Append(context.Background(), nil, p); err == nil {
			t.Errorf("%s went back and was taken", what)
		}
	}
	mustAppend(t, b, position(6, 10, 20))
}

func TestLostAnswer(t *testing.T) {
	lost := errors.New("connection lost")
	for _, c := range []struct {
		point   string
		happens bool
	}{{PointFiles, false}, {PointMetadata, false}, {PointCommitted, true}} {
		t.Run(c.point, func(t *testing.T) {
			fail := false
			l := open(t, t.TempDir(), Options{Hook: func(e Event) error {
				if fail && e.Op == OpAppend && e.Point == c.point {
					return lost
				}
				return nil
			}})
			cs := columns(t, "k", "string")
			b := mustBronze(t, l, "bronze.t", cs)
			mustAppend(t, b, position(1, 1), batch(t, cs, []any{"a"}))
			fail = true
			_, err := b.Append(context.Background(), []arrow.RecordBatch{batch(t, cs, []any{"b"})}, position(2, 2))
			fail = false
			equal(t, "unknown outcome", errors.Is(err, ErrUnknownOutcome), c.happens)
			equal(t, "cause is kept", errors.Is(err, lost), true)
			if c.happens {
				if _, err := b.Append(context.Background(), nil, position(3, 3)); !errors.Is(err, ErrUnknownOutcome) {
					t.Errorf("append before Reload: %v", err)
				}
			}
			pos, err := b.Reload(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			want := [][]string{{"a"}, {"b"}}
			if !c.happens {
				equal(t, "position", pos, position(1, 1))
				mustAppend(t, b, position(2, 2), batch(t, cs, []any{"b"}))
			} else {
				equal(t, "position", pos, position(2, 2))
				mustAppend(t, b, position(3, 3))
			}
			equal(t, "rows", rowsOf(t, duck(t), l, "bronze.t", 0), want)
			if n := len(glob(t, l, "bronze/t/data/*.parquet")); n != 2 {
				t.Errorf("%d data files on disk, want 2", n)
			}
		})
	}
}

func glob(t testing.TB, l *Lake, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(l.Dir(), "warehouse", pattern))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTwoWritersConflict(t *testing.T) {
	dir, cs := t.TempDir(), columns(t, "k", "string")
	l1, l2 := open(t, dir, Options{}), open(t, dir, Options{})
	b1, b2 := mustBronze(t, l1, "bronze.t", cs), mustBronze(t, l2, "bronze.t", cs)
	mustAppend(t, b1, position(1, 1), batch(t, cs, []any{"a"}))
	_, err := b2.Append(context.Background(), []arrow.RecordBatch{batch(t, cs, []any{"a"})}, position(1, 1))
	if !errors.Is(err, ErrConflict) {
		t.Fatalf("second writer: %v", err)
	}
	pos, err := b2.Reload(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "position the second writer finds", pos, position(1, 1))
	mustAppend(t, b2, position(2, 2), batch(t, cs, []any{"b"}))
	equal(t, "rows", rowsOf(t, duck(t), l1, "bronze.t", 0), [][]string{{"a"}, {"b"}})
	equal(t, "data files", len(glob(t, l1, "bronze/t/data/*.parquet")), 2)
}

func TestEvolution(t *testing.T) {
	ctx, db := context.Background(), duck(t)
	l := open(t, t.TempDir(), Options{})
	old := columns(t, "k", "string", "n", "int", "d", "decimal(5,2)")
	b := mustBronze(t, l, "bronze.t", old)
	before := mustAppend(t, b, position(1, 1), batch(t, old, []any{"a", 1, 100}))
	wide := columns(t, "k", "string", "n", "bigint", "d", "decimal(9,2)", "added", "timestamp")
	if same := mustBronze(t, l, "bronze.t", wide); same != b {
		t.Error("a second handle for the same table")
	}
	mustAppend(t, b, position(2, 2), batch(t, wide, []any{"b", 1 << 40, 1234567, 0}))
	mustAppend(t, b, position(3, 3), batch(t, old, []any{"c", 3, 300})) // a batch of before
	equal(t, "rows", rowsOf(t, db, l, "bronze.t", 0), [][]string{
		{"a", "1", "1", "∅"}, {"b", "1099511627776", "12345.67", "1970-01-01 00:00:00 +0000 UTC"}, {"c", "3", "3", "∅"}})
	equal(t, "rows of before", rowsOf(t, db, l, "bronze.t", before), [][]string{{"a", "1", "1"}})
	q, err := scan(t, l, "bronze.t", before).SQLAs(wide[1:])
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "rows of before as columns of now", query(t, db, "SELECT * FROM "+q), [][]string{{"1", "1", "∅"}})
	for _, bad := range []string{"string", "decimal(9,3)", "double"} {
		if _, err := l.Bronze(ctx, "bronze.t", columns(t, "d", bad)); err == nil {
			t.Errorf("decimal(9,2) became %s", bad)
		}
	}
	mustAppend(t, b, position(4, 4), batch(t, wide, []any{"d", 4, 4, nil}))
	if _, err := b.Append(ctx, []arrow.RecordBatch{batch(t, columns(t, "unknown", "string"), []any{"x"})}, position(5, 5)); err == nil {
		t.Error("rows with an unknown column were taken")
	}
	mustAppend(t, b, position(5, 5))
}

func TestLostCatalogIsMadeAgain(t *testing.T) {
	dir, cs := t.TempDir(), columns(t, "k", "string")
	l := open(t, dir, Options{})
	b := mustBronze(t, l, "bronze.t", cs)
	mustAppend(t, b, position(1, 1), batch(t, cs, []any{"a"}))
	mustAppend(t, b, position(2, 2), batch(t, cs, []any{"b"}))
	l.Close()
	for _, f := range []string{"catalog.db", "catalog.db-wal", "catalog.db-shm"} {
		os.Remove(filepath.Join(dir, f))
	}
	torn := filepath.Join(dir, "warehouse/bronze/t/metadata/00009-00000000-0000-0000-0000-000000000000.metadata.json")
	if err := os.WriteFile(torn, []byte(`{"format-version":2,`), 0o644); err != nil {
		t.Fatal(err)
	}
	l = open(t, dir, Options{})
	b = mustBronze(t, l, "bronze.t", cs)
	equal(t, "position", b.Position(), position(2, 2))
	equal(t, "rows", rowsOf(t, duck(t), l, "bronze.t", 0), [][]string{{"a"}, {"b"}})
}

func TestMovedState(t *testing.T) {
	dir, cs := t.TempDir(), columns(t, "k", "string")
	l := open(t, filepath.Join(dir, "here"), Options{})
	mustBronze(t, l, "bronze.t", cs)
	l.Close()
	if err := os.Rename(filepath.Join(dir, "here"), filepath.Join(dir, "there")); err != nil {
		t.Fatal(err)
	}
	l = open(t, filepath.Join(dir, "there"), Options{})
	if _, err := l.Bronze(context.Background(), "bronze.t", cs); err == nil {
		t.Error("a moved state was opened")
	} else {
		t.Log(err)
	}
}

func TestPathsWithOddCharacters(t *testing.T) {
	dir, cs := filepath.Join(t.TempDir(), "it's 100% #1 ü"), columns(t, "k", "string")
	l := open(t, dir, Options{})
	b := mustBronze(t, l, "bronze.t", cs)
	for i := range int64(12) {
		mustAppend(t, b, position(i, i), batch(t, cs, []any{"a"}))
	}
	if _, err := l.Maintain(context.Background(), nil, Upkeep{CompactFiles: 4, CompactBelow: 1 << 20, KeepSnapshots: 1, OrphansOlderThan: 1}); err != nil {
		t.Fatal(err)
	}
	equal(t, "rows", len(rowsOf(t, duck(t), l, "bronze.t", 0)), 12)
}

func TestEvolvingDoesNotHideAnotherWriter(t *testing.T) {
	dir, cs := t.TempDir(), columns(t, "k", "string")
	b := mustBronze(t, open(t, dir, Options{}), "bronze.t", cs)
	mustAppend(t, b, position(1, 1), batch(t, cs, []any{"a"}))
	other := mustBronze(t, open(t, dir, Options{}), "bronze.t", cs)
	mustAppend(t, other, position(2, 2), batch(t, cs, []any{"b"}))
	wide := columns(t, "k", "string", "n", "int")
	mustBronze(t, b.lake, "bronze.t", wide)
	if _, err := b.Append(context.Background(), []arrow.RecordBatch{batch(t, wide, []any{"b", 1})}, position(2, 2)); !errors.Is(err, ErrConflict) {
		t.Fatalf("append on a position that moved: %v", err)
	}
	pos, err := b.Reload(context.Background())
	equal(t, "position", pos, position(2, 2))
	equal(t, "error", err, nil)
	mustAppend(t, b, position(3, 3), batch(t, wide, []any{"c", 1}))
	if _, err := other.Append(context.Background(), nil, position(3, 3)); !errors.Is(err, ErrConflict) {
		t.Fatalf("the other writer: %v", err)
	}
	equal(t, "rows", rowsOf(t, duck(t), b.lake, "bronze.t", 0), [][]string{{"a", "∅"}, {"b", "∅"}, {"c", "1"}})
}
