//go:build stack

package stack_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"lockstep/cluster"
	"lockstep/deploy/stack"
	"lockstep/lake"
	"lockstep/project"
)

// openLake opens the stack's lake, with objects and a namespace of the test's own.
func openLake(t *testing.T) (l *lake.Lake, namespace string) {
	t.Helper()
	c := settings(t, up(t, stack.Core))
	namespace = fmt.Sprintf("test%08x", rand.Uint32())
	c.Warehouse += "/" + namespace
	l, err := cluster.OpenLake(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		tables, err := l.Tables(context.Background())
		for _, name := range tables {
			if len(name) > len(namespace) && name[:len(namespace)+1] == namespace+"." {
				err = errors.Join(err, l.Drop(context.Background(), name))
			}
		}
		if err = errors.Join(err, l.Close()); err != nil {
			t.Error(err)
		}
	})
	return l, namespace
}

func column(t testing.TB, name, typ string) project.Column {
	t.Helper()
	parsed, err := project.ParseType(typ)
	if err != nil {
		t.Fatal(err)
	}
	return project.Column{Name: name, Type: parsed}
}

// bronzeColumns are of every type.
func bronzeColumns(t testing.TB) []project.Column {
	return []project.Column{column(t, "k", "string"), column(t, "n", "int"), column(t, "m", "bigint"), column(t, "amount", "decimal(12,2)"),
		column(t, "d", "double"), column(t, "flag", "boolean"), column(t, "ts", "timestamp"), column(t, "day", "date"),
		column(t, "_partition", "int"), column(t, "_offset", "bigint"), column(t, "_deleted", "boolean")}
}

// bronzeRows are n rows from an offset on; each third is all null but for its offset.
func bronzeRows(t testing.TB, columns []project.Column, from, n int64) arrow.RecordBatch {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(columns))
	defer b.Release()
	for o := from; o < from+n; o++ {
		for i := range columns {
			text := bronzeValue(columns[i].Name, o)
			if text == "" {
				b.Field(i).AppendNull()
			} else if err := b.Field(i).AppendValueFromString(text); err != nil {
				t.Fatal(err)
			}
		}
	}
	return b.NewRecordBatch()
}

func bronzeValue(column string, o int64) string {
	switch {
	case column == "_offset":
		return fmt.Sprint(o)
	case column == "_partition":
		return "0"
	case column == "_deleted":
		return "false"
	case o%3 == 2:
		return ""
	}
	return map[string]string{"k": fmt.Sprintf("key %d ü", o), "n": fmt.Sprint(o), "m": fmt.Sprint(o << 40), "amount": fmt.Sprintf("%d.25", o), "d": fmt.Sprintf("%d.5", o),
		"flag": fmt.Sprint(o%2 == 0), "ts": time.Date(2017, 1, 1, 0, 0, int(o), 123456000, time.UTC).Format("2006-01-02T15:04:05.000000"), "day": "2017-01-31"}[column]
}

func position(offset, step int64) lake.Position {
	return lake.Position{TopicID: "topic-1", Offsets: map[int32]int64{0: offset}, Step: step}
}

// rowsOf reads a table as text, by offset.
func rowsOf(t testing.TB, l *lake.Lake, name string, snapshot int64) map[string]string {
	t.Helper()
	s, err := l.Scan(t.Context(), name, snapshot)
	if err != nil {
		t.Fatal(err)
	}
	_, batches, err := s.Records(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for b, err := range batches {
		if err != nil {
			t.Fatal(err)
		}
		at := b.Schema().FieldIndices("_offset")[0]
		for r := range int(b.NumRows()) {
			var text string
			for i := range int(b.NumCols()) {
				text += b.Column(i).ValueStr(r) + "|"
			}
			offset := b.Column(at).ValueStr(r)
			if rows[offset] != "" {
				t.Errorf("offset %s is in table %s twice", offset, name)
			}
			rows[offset] = text
		}
		b.Release()
	}
	return rows
}

func TestLakeBronze(t *testing.T) {
	l, ns := openLake(t)
	ctx, name, columns := t.Context(), ns+".t", bronzeColumns(t)
	b, err := l.Bronze(ctx, name, columns)
	if err != nil {
		t.Fatal(err)
	}
	if p := b.Position(); p.TopicID != "" || p.Step != 0 {
		t.Errorf("position of an empty table: %+v", p)
	}
	start := time.Now()
	first, err := b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 0, 10)}, position(10, 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("first append took %v", time.Since(start))

	other, err := cluster.OpenLake(ctx, settings(t, up(t, stack.Core)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	o, err := other.Bronze(ctx, name, columns)
	if err != nil {
		t.Fatal(err)
	}
	if p := o.Position(); p.Offsets[0] != 10 || p.Step != 1 {
		t.Errorf("another handle found position %+v", p)
	}
	if _, err := o.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 10, 5)}, position(15, 2)); err != nil {
		t.Fatal(err)
	}
	_, err = b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 10, 5)}, position(15, 2))
	if !errors.Is(err, lake.ErrConflict) {
		t.Fatalf("an append beside another's: %v", err)
	}
	if p, err := b.Reload(ctx); err != nil || p.Offsets[0] != 15 {
		t.Fatalf("after Reload: %+v, %v", p, err)
	}
	wider := append(append([]project.Column(nil), columns...), column(t, "added", "string"))
	if b, err = l.Bronze(ctx, name, wider); err != nil {
		t.Fatal(err)
	}
	last, err := b.Append(ctx, nil, position(16, 3))
	if err != nil {
		t.Fatal(err)
	}
	if rows := rowsOf(t, l, name, 0); len(rows) != 15 || rows["4"] != "key 4 ü|4|4398046511104|4.25|4.5|true|2017-01-01T00:00:04.123456|2017-01-31|0|4|false|(null)|" {
		t.Errorf("%d rows, of offset 4: %s", len(rows), rows["4"])
	}
	if rows := rowsOf(t, l, name, first); len(rows) != 10 {
		t.Errorf("%d rows at the first snapshot", len(rows))
	}
	value, at, err := l.Property(ctx, name, lake.PositionKey)
	if err != nil || at != last || value != `{"topic_id":"topic-1","offsets":{"0":16},"step":3}` {
		t.Errorf("property %q of snapshot %d: %v", value, at, err)
	}
	if _, _, err := l.Property(ctx, ns+".none", lake.PositionKey); !errors.Is(err, lake.ErrNoTable) {
		t.Errorf("property of no table: %v", err)
	}
}

func TestLakeUpkeep(t *testing.T) {
	l, ns := openLake(t)
	ctx, name, columns := t.Context(), ns+".t", bronzeColumns(t)
	b, err := l.Bronze(ctx, name, columns)
	if err != nil {
		t.Fatal(err)
	}
	var first int64
	for i := range int64(6) {
		id, err := b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 4*i, 4)}, position(4*i+4, i+1))
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = id
		}
	}
	m, err := l.Publish(ctx, lake.Manifest{Step: 1, Bronze: map[string]int64{name: first}})
	if err != nil {
		t.Fatal(err)
	}
	rep, err := l.Maintain(ctx, nil, lake.Upkeep{Tables: []string{name}, CompactFiles: 4, CompactBelow: 1 << 30, KeepSnapshots: 1, OrphansOlderThan: time.Nanosecond})
	if err != nil || rep.Compactions != 1 || rep.FilesCompacted != 6 || rep.SnapshotsExpired != 5 {
		t.Fatalf("upkeep did %+v: %v", rep, err)
	}
	if rows := rowsOf(t, l, name, 0); len(rows) != 24 {
		t.Errorf("%d rows after upkeep", len(rows))
	}
	if rows := rowsOf(t, l, name, m.Bronze[name]); len(rows) != 4 {
		t.Errorf("%d rows at the snapshot that the manifest names", len(rows))
	}
	if p, _, err := l.Position(ctx, name); err != nil || p.Offsets[0] != 24 {
		t.Errorf("position %+v, %v", p, err)
	}
	if _, err := b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 24, 4)}, position(28, 7)); err != nil {
		t.Errorf("append after upkeep: %v", err)
	}
}

func TestLakeObjects(t *testing.T) {
	l, _ := openLake(t)
	ctx, objects := t.Context(), l.Objects()
	if _, err := objects.Get(ctx, "runs/1/run.json"); !errors.Is(err, lake.ErrNoObject) {
		t.Errorf("get of nothing: %v", err)
	}
	for _, text := range []string{"one", "two"} {
		if err := objects.Put(ctx, "runs/1/run.json", []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := objects.PutNew(ctx, "runs/1/run.json", []byte("three")); !errors.Is(err, lake.ErrConflict) {
		t.Errorf("put where there is one: %v", err)
	}
	if data, err := objects.Get(ctx, "runs/1/run.json"); err != nil || string(data) != "two" {
		t.Errorf("got %q, %v", data, err)
	}
	if names, err := objects.List(ctx, "runs/"); err != nil || len(names) != 1 || names[0] != "runs/1/run.json" {
		t.Errorf("list %v, %v", names, err)
	}
	for range 2 {
		if err := objects.Delete(ctx, "runs/1/run.json"); err != nil {
			t.Error(err)
		}
	}
}

func TestLakePublishersRace(t *testing.T) {
	l, _ := openLake(t)
	won := make(chan int64, 8)
	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			m, err := l.Publish(t.Context(), lake.Manifest{Step: i})
			if err == nil {
				won <- m.Step
			} else if !errors.Is(err, lake.ErrConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	close(won)
	m, ok, err := l.NewestManifest(t.Context())
	if err != nil || !ok || len(won) != 1 || m.Step != <-won {
		t.Fatalf("%d won, the newest is %+v, %v", len(won), m, err)
	}
	next, err := l.Publish(t.Context(), lake.Manifest{Parent: m.ID, Step: 9})
	if err != nil || next.ID != 2 {
		t.Fatalf("the next is %+v, %v", next, err)
	}
	if err := l.DropManifests(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if list, err := l.Manifests(t.Context()); err != nil || len(list) != 1 || list[0].Step != 9 {
		t.Errorf("left are %+v, %v", list, err)
	}
}

// sparkRows is a query of the rows that bronzeRows makes.
func sparkRows(from, n int64) string {
	value := func(expr, typ string) string { return fmt.Sprintf("CAST(IF(id %% 3 = 2, NULL, %s) AS %s)", expr, typ) }
	return fmt.Sprintf(`SELECT %s k, %s n, %s m, %s amount, %s d, %s flag, %s ts, %s day, 0 AS _log_partition, id AS _offset, false AS _log_deleted FROM range(%d, %d)`,
		value("concat('key ', id, ' ü')", "string"), value("id", "int"), value("shiftleft(id, 40)", "bigint"), value("id + 0.25", "decimal(12,2)"), value("id + 0.5", "double"),
		value("id % 2 = 0", "boolean"), value("timestamp_ntz'2017-01-01 00:00:00.123456' + make_interval(0, 0, 0, 0, 0, 0, id)", "timestamp_ntz"), value("date'2017-01-31'", "date"), from, from+n)
}

func positionText(offset, step int64) string {
	return fmt.Sprintf(`{"topic_id":"topic-1","offsets":{"0":%d},"step":%d}`, offset, step)
}

// TestLakeBothSides: Go and Spark continue one bronze table in turns, and each
// finds out when the other came first.
func TestLakeBothSides(t *testing.T) {
	spark := startSpark(t)
	l, ns := openLake(t)
	ctx, name, columns := t.Context(), ns+".t", bronzeColumns(t)
	b, err := l.Bronze(ctx, name, columns)
	if err != nil {
		t.Fatal(err)
	}
	sparkAppend := func(from, n, since int64, step int64) string {
		t.Helper()
		request := map[string]any{"append": "lake." + name, "rows": sparkRows(from, n), "position": positionText(from+n, step), "from": nil}
		if since != 0 {
			request["from"] = since
		}
		_, fault := spark.ask(request)
		return fault
	}
	goAppend := func(from, n, step int64) (int64, error) {
		return b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, from, n)}, position(from+n, step))
	}
	types := spark.sql("DESCRIBE lake." + name)
	want := [][]string{{"k", "string"}, {"n", "int"}, {"m", "bigint"}, {"amount", "decimal(12,2)"}, {"d", "double"}, {"flag", "boolean"}, {"ts", "timestamp_ntz"}, {"day", "date"},
		{"_log_partition", "int"}, {"_offset", "bigint"}, {"_log_deleted", "boolean"}}
	for i, w := range want {
		if types[i][0] != w[0] || types[i][1] != w[1] {
			t.Errorf("Spark sees column %v, want %v", types[i][:2], w)
		}
	}

	// Spark begins an empty table; Go, which saw it empty, finds out.
	if fault := sparkAppend(0, 4, 0, 1); fault != "" {
		t.Fatal(fault)
	}
	if _, err := goAppend(0, 4, 1); !errors.Is(err, lake.ErrConflict) {
		t.Fatalf("Go appended beside Spark's first rows: %v", err)
	}
	if p, err := b.Reload(ctx); err != nil || p.Offsets[0] != 4 || p.TopicID != "topic-1" || p.Step != 1 {
		t.Fatalf("Go finds position %+v, %v", p, err)
	}
	// Go continues; Spark, which saw the state before, finds out.
	h, err := l.Head(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	second, err := goAppend(4, 3, 2)
	if err != nil {
		t.Fatal(err)
	}
	if fault := sparkAppend(4, 3, h.Snapshot, 2); fault == "" {
		t.Fatal("Spark appended beside Go's rows")
	} else {
		t.Logf("Spark's conflict: %.300s", fault)
	}
	if fault := sparkAppend(7, 5, second, 3); fault != "" {
		t.Fatal(fault)
	}
	if _, err := b.Reload(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := goAppend(12, 1, 4); err != nil {
		t.Fatal(err)
	}

	if got := spark.one("SELECT count(*), count(DISTINCT _offset), count(k), sum(amount), max(ts), min(flag) FROM lake." + name); got != "13|13|9|54.25|2017-01-01 00:00:12.123456|False" {
		t.Errorf("Spark reads %s", got)
	}
	rows := rowsOf(t, l, name, 0)
	fresh, err := l.Bronze(ctx, ns+".same", columns)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 0, 13)}, position(13, 1)); err != nil {
		t.Fatal(err)
	}
	for offset, w := range rowsOf(t, l, ns+".same", 0) {
		if rows[offset] != w {
			t.Errorf("row %s: %s, want %s", offset, rows[offset], w)
		}
	}
	if len(rows) != 13 {
		t.Errorf("%d rows", len(rows))
	}

	t.Run("compaction by Spark", func(t *testing.T) {
		spark.sql(fmt.Sprintf("CALL lake.system.rewrite_data_files(table => '%s', strategy => 'sort', sort_order => 'k', options => map('rewrite-all', 'true'))", name))
		if p, err := b.Reload(ctx); err != nil || p.Offsets[0] != 13 || p.Step != 4 {
			t.Fatalf("position after Spark's compaction: %+v, %v", p, err)
		}
		h, err := l.Head(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		if _, at := h.Property(lake.PositionKey); at == h.Snapshot {
			t.Error("the compaction has the property; this tests nothing")
		}
		up := lake.Upkeep{Tables: []string{name}, KeepSnapshots: 1}
		if _, err := l.Maintain(ctx, nil, up); err != nil {
			t.Fatal(err)
		}
		if p, _, err := l.Position(ctx, name); err != nil || p.Offsets[0] != 13 {
			t.Errorf("position after expiry: %+v, %v", p, err)
		}
		if s, err := l.Snapshots(ctx, name); err != nil || len(s) != 2 {
			t.Errorf("%d snapshots are left, %v", len(s), err)
		}
		if _, err := goAppend(13, 2, 5); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("compaction by Go under a Spark writer", func(t *testing.T) {
		h, err := l.Head(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		up := lake.Upkeep{Tables: []string{name}, CompactFiles: 2, CompactBelow: 1 << 30, KeepSnapshots: 100}
		if rep, err := l.Maintain(ctx, nil, up); err != nil || rep.Compactions != 1 {
			t.Fatalf("%+v, %v", rep, err)
		}
		// Nothing was added: what Spark is about to append still fits.
		if fault := sparkAppend(15, 2, h.Snapshot, 6); fault != "" {
			t.Fatal(fault)
		}
		if got := spark.one("SELECT count(*), count(DISTINCT _offset) FROM lake." + name); got != "17|17" {
			t.Errorf("Spark reads %s", got)
		}
		if p, err := b.Reload(ctx); err != nil || p.Offsets[0] != 17 {
			t.Errorf("position %+v, %v", p, err)
		}
	})
	t.Run("evolution", func(t *testing.T) {
		wider := append(append([]project.Column(nil), columns...), column(t, "added", "string"))
		wider[1].Type = column(t, "n", "bigint").Type
		if b, err = l.Bronze(ctx, name, wider); err != nil {
			t.Fatal(err)
		}
		if got := spark.one("SELECT count(*), count(added), sum(n) FROM lake." + name); got != "17|0|96" {
			t.Errorf("Spark reads %s", got)
		}
		spark.sql("ALTER TABLE lake." + name + " ADD COLUMN later int")
		if _, err := b.Reload(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, 17, 1)}, position(18, 7)); err != nil {
			t.Fatal(err)
		}
		if rows := rowsOf(t, l, name, 0); len(rows) != 18 || rows["4"] != "key 4 ü|4|4398046511104|4.25|4.5|true|2017-01-01T00:00:04.123456|2017-01-31|0|4|false|(null)|(null)|" {
			t.Errorf("%d rows, of offset 4: %s", len(rows), rows["4"])
		}
	})
	t.Run("delete files", func(t *testing.T) {
		spark.sql("ALTER TABLE lake." + name + " SET TBLPROPERTIES ('write.delete.mode'='merge-on-read')")
		spark.sql("DELETE FROM lake." + name + " WHERE _offset IN (1, 16)")
		if rows := rowsOf(t, l, name, 0); len(rows) != 16 || rows["1"] != "" || rows["16"] != "" {
			t.Errorf("%d rows after Spark's delete", len(rows))
		}
		if _, err := b.Reload(ctx); err == nil {
			t.Error("a delete without a position is taken for ingest's")
		}
	})
}

// TestLakeShape: Spark writes a table that Go made, by position, and again
// after its columns changed; Go replaces what Spark wrote.
func TestLakeShape(t *testing.T) {
	spark := startSpark(t)
	l, ns := openLake(t)
	ctx, name := t.Context(), ns+".model"
	columns := []project.Column{column(t, "k", "string"), column(t, "total", "decimal(38,2)"), column(t, "at", "timestamp"), column(t, "_offset", "bigint")}
	props := map[string]string{"write.parquet.bloom-filter-enabled.column.k": "true", "write.parquet.bloom-filter-max-bytes": "65536"}
	for range 2 {
		if err := l.Shape(ctx, name, columns, []string{"month(at)"}, props); err != nil {
			t.Fatal(err)
		}
	}
	spark.sql("SET `spark.sql.iceberg.snapshot-property.run`=r1")
	spark.sql("INSERT OVERWRITE lake." + name + " SELECT concat('k', id), id + 0.5, timestamp_ntz'2017-01-31 00:00:00' + make_interval(0, 0, 0, id), id FROM range(10)")
	if value, at, err := l.Property(ctx, name, "run"); err != nil || value != "r1" || at == 0 {
		t.Errorf("property run is %q of snapshot %d, %v", value, at, err)
	}
	first, err := l.Head(ctx, name)
	if err != nil || first.Properties["write.parquet.bloom-filter-max-bytes"] != "65536" {
		t.Fatalf("properties %v, %v", first.Properties, err)
	}
	changed := []project.Column{column(t, "label", "int"), columns[0], column(t, "total", "bigint"), columns[3]}
	if err := l.Shape(ctx, name, changed, nil, nil); err != nil {
		t.Fatal(err)
	}
	spark.sql("SET `spark.sql.iceberg.snapshot-property.run`=r2")
	spark.sql("INSERT OVERWRITE lake." + name + " SELECT 7, 'x', 8L, id FROM range(3)")
	if got := spark.one(fmt.Sprintf("SELECT count(*), min(total), max(at) FROM lake.%s VERSION AS OF %d", name, first.Snapshot)); got != "10|0.50|2017-02-09 00:00:00" {
		t.Errorf("Spark reads %s at the first snapshot", got)
	}
	if got := spark.one("SELECT count(*), min(label), min(total) FROM lake." + name); got != "3|7|8" {
		t.Errorf("Spark reads %s", got)
	}
	if rows := rowsOf(t, l, name, 0); len(rows) != 3 || rows["2"] != "7|x|8|2|" {
		t.Errorf("Go reads %v", rows)
	}
	rec := bronzeRows(t, []project.Column{changed[1], changed[3]}, 0, 2)
	r, err := array.NewRecordReader(rec.Schema(), []arrow.RecordBatch{rec})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Release()
	if _, err := l.Replace(ctx, name, []project.Column{changed[1], changed[3]}, nil, r, map[string]string{"run": "r3"}); err != nil {
		t.Fatal(err)
	}
	if got := spark.one("SELECT count(*), max(k) FROM lake." + name); got != "2|key 1 ü" {
		t.Errorf("Spark reads %s after Replace", got)
	}
}

// TestLakeKilled: catalog and object store are killed in the middle of commits,
// again and again; bronze holds every row once.
func TestLakeKilled(t *testing.T) {
	s := up(t, stack.Core)
	l, ns := openLake(t)
	ctx, name, columns := t.Context(), ns+".t", bronzeColumns(t)
	b, err := l.Bronze(ctx, name, columns)
	if err != nil {
		t.Fatal(err)
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd, killed := rand.New(rand.NewPCG(seed, 0)), make(chan error, 1)
	go func() {
		for range 3 {
			part := []string{"catalog", "minio"}[rnd.IntN(2)]
			time.Sleep(time.Duration(2000+rnd.IntN(2000)) * time.Millisecond)
			if err := errors.Join(s.Kill(part), s.Start(ctx, part)); err != nil {
				killed <- fmt.Errorf("cannot start %s again: %w", part, err)
				return
			}
		}
		killed <- nil
	}()
	failures, said, deadline := 0, "", time.Now().Add(6*time.Minute)
	appendOne := func() {
		from := b.Position().Offsets[0]
		_, err := b.Append(ctx, []arrow.RecordBatch{bronzeRows(t, columns, from, 3)}, position(from+3, from/3+1))
		for err != nil {
			if failures++; time.Now().After(deadline) {
				t.Fatal(err)
			}
			if told := fmt.Sprintf("at offset %d: %.200v", from, err); told != said {
				t.Log(told)
				said = told
			}
			time.Sleep(200 * time.Millisecond) // as a caller backs off
			_, err = b.Reload(ctx)
		}
	}
	for over := false; !over; appendOne() {
		select {
		case err := <-killed:
			if over = true; err != nil {
				t.Fatal(err)
			}
		default:
		}
	}
	if end := b.Position().Offsets[0]; int64(len(rowsOf(t, l, name, 0))) != end {
		t.Errorf("%d rows up to offset %d", len(rowsOf(t, l, name, 0)), end)
	}
	t.Logf("%d failures on the way to offset %d", failures, b.Position().Offsets[0])
}
