//go:build stack

package stack_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"lockstep/cluster"
	"lockstep/compile"
	"lockstep/deploy/stack"
	"lockstep/lake"
	"lockstep/project"

	"github.com/apache/arrow-go/v18/arrow"
)

// served is project testdata/served on the stack, with bronze and the rows of
// the stream written by hand: what is served of them must not depend on who
// streams.
type served struct {
	*site
	program *compile.Program
	config  *cluster.Config
	lake    *lake.Lake
	stack   *stack.Stack
}

func newServed(t *testing.T) *served {
	t.Helper()
	s := up(t, stack.Core, stack.Spark)
	folder, err := filepath.Abs("testdata/served")
	if err != nil {
		t.Fatal(err)
	}
	x := &served{site: onStack(t, s, "--project", folder), stack: s, config: settings(t, s)}
	p, err := project.Load(os.DirFS(folder))
	if err != nil {
		t.Fatal(err)
	}
	if x.program, err = compile.Compile(p); err != nil {
		t.Fatal(err)
	}
	if x.lake, err = cluster.OpenLake(t.Context(), x.config, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { x.lake.Close() })
	bronze, err := x.lake.Bronze(t.Context(), "bronze.event", p.Sources[0].Columns())
	if err != nil {
		t.Fatal(err)
	}
	_ = bronze
	columns := []project.Column{column(t, "step", "bigint"), column(t, "model", "string"), column(t, "fingerprint", "string"), column(t, "scope", "string"), column(t, "empty", "boolean"), column(t, "row", "string")}
	if err := x.lake.Shape(t.Context(), "lockstep.speed", columns, nil, nil); err != nil {
		t.Fatal(err)
	}
	return x
}

// sql runs one statement of Spark; properties go into the snapshot it makes.
func (x *served) sql(text string, properties map[string]string) (rows []string) {
	x.t.Helper()
	set := map[string]string{}
	for k, v := range properties {
		set["spark.sql.iceberg.snapshot-property."+k] = v
	}
	s, err := x.config.ThriftServer().Open(context.Background(), set)
	if err != nil {
		x.t.Fatal(err)
	}
	defer s.Close()
	err = s.Each(context.Background(), text, func(rec arrow.RecordBatch) error {
		for i := range int(rec.NumRows()) {
			var cells []string
			for c := range int(rec.NumCols()) {
				cells = append(cells, rec.Column(c).ValueStr(i))
			}
			rows = append(rows, strings.Join(cells, "|"))
		}
		return nil
	})
	if err != nil {
		x.t.Fatal(err)
	}
	return rows
}

// events appends rows to bronze as the stream does.
func (x *served) events(step, next int64, values string) {
	x.t.Helper()
	position, _ := json.Marshal(lake.Position{TopicID: "topic", Offsets: map[int32]int64{0: next, 1: 0}, Step: step})
	x.sql("INSERT INTO lake.bronze.event VALUES "+values, map[string]string{lake.PositionKey: string(position)})
}

// changes commits what a step of the stream changed: model, scope as JSON, row
// as JSON (empty: the scope has none any more).
func (x *served) changes(step, next int64, program string, rows ...[3]string) {
	x.t.Helper()
	record, _ := json.Marshal(cluster.StepRecord{Step: step, Program: program, Ends: map[string]map[int32]int64{"event": {0: next, 1: 0}}, TopicIDs: map[string]string{"event": "topic"},
		Accepted: map[string]int64{"event": next}, Time: time.Now().UTC().Format(time.RFC3339Nano)})
	text := "INSERT INTO lake.lockstep.speed SELECT * FROM VALUES (0L, '', '', '', true, '') AS t(step, model, fingerprint, scope, empty, row) WHERE false"
	var values []string
	for _, r := range rows {
		row := "NULL"
		if r[2] != "" {
			row = literal(r[2])
		}
		values = append(values, fmt.Sprintf("(%dL, '%s', '%s', %s, %t, %s)", step, r[0], x.program.Model(r[0]).Fingerprint, literal(r[1]), r[2] == "", row))
	}
	if len(values) > 0 {
		text = "INSERT INTO lake.lockstep.speed VALUES " + strings.Join(values, ", ")
	}
	x.sql(text, map[string]string{lake.StepKey: string(record)})
}

func literal(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(s) + "'"
}

// event is a row of bronze: the columns that differ from one to another.
func event(offset int64, id, kind, amount, at string, deleted bool) string {
	return fmt.Sprintf(`('%s', %s, 'it''s "%s", \\ é', %s, CAST('-12345678901234567890.0123456789' AS decimal(38,10)), 7, 9007199254740993L, 0.1D, true, DATE'2018-02-28', %s, 0, %dL, TIMESTAMP_NTZ'2018-01-01 00:00:00', %t)`,
		id, kind, id, amount, at, offset, deleted)
}

// item is the same row as the stream has it of silver.item.
func item(id, kind, amount, at string) [3]string {
	return [3]string{"silver.item", fmt.Sprintf(`{"id":"%s"}`, id),
		fmt.Sprintf(`{"id":"%s","kind":%s,"note":"it's \"%s\", \\ é","amount":%s,"big":-12345678901234567890.0123456789,"small":7,"large":9007199254740993,"ratio":0.1,"fine":true,"day":"2018-02-28","changed_at":"%s"}`, id, kind, id, amount, at)}
}

func kindRow(kind string, items int, amount string) [3]string {
	return [3]string{"gold.by_kind", fmt.Sprintf(`{"kind":%s}`, kind), fmt.Sprintf(`{"kind":%s,"items":%d,"amount":%s}`, kind, items, amount)}
}

const (
	firstTime  = "TIMESTAMP_NTZ'2018-01-02 03:04:05.000001'"
	secondTime = "TIMESTAMP_NTZ'2018-01-02 03:04:05.123'"
)

// published puts four items into bronze and publishes them, unseen by the
// stream of this program: there is nothing to compare with.
func (x *served) published() {
	x.t.Helper()
	x.events(1, 4, strings.Join([]string{
		event(0, "a", "'k1'", "1.50", firstTime, false), event(1, "b", "'k1'", "2.25", firstTime, false),
		event(2, "c", "NULL", "3.00", firstTime, false), event(3, "d", "'k2'", "4.00", firstTime, false)}, ", "))
	x.changes(1, 4, "another program")
	x.must("batch")
}

// stepped adds a step: c replaced, d deleted with its kind, e new with its own.
func (x *served) stepped(amount string) {
	x.t.Helper()
	x.events(2, 7, strings.Join([]string{
		event(4, "c", "NULL", "5.00", secondTime, false), event(5, "d", "'k2'", "4.00", secondTime, true), event(6, "e", "'k3'", "9.99", secondTime, false)}, ", "))
	at := "2018-01-02T03:04:05.123000"
	x.changes(2, 7, x.program.Fingerprint, item("c", "null", "5.00", at), [3]string{"silver.item", `{"id":"d"}`, ""}, item("e", `"k3"`, amount, at),
		kindRow("null", 1, "5.00"), [3]string{"gold.by_kind", `{"kind":"k2"}`, ""}, kindRow(`"k3"`, 1, amount))
}

func (x *served) csv(args ...string) []string {
	x.t.Helper()
	lines := strings.Split(strings.TrimSpace(x.must(append([]string{"query", "--format", "csv"}, args...)...)), "\r\n")
	slices.Sort(lines[1:])
	return lines
}

func (x *served) same(what string, got []string, want ...string) {
	x.t.Helper()
	if !slices.Equal(got, want) {
		x.t.Errorf("%s gives\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestServing: views merge what a batch published and what the stream changed
// since; a batch publishes; what the stream has wrong is found; a rollback
// serves what was.
func TestServing(t *testing.T) {
	x := newServed(t)
	x.published()
	x.same("the first batch", x.csv("SELECT * FROM gold.by_kind", "--layer", "batch"), "kind,items,amount", ",1,3.00", "k1,2,3.75", "k2,1,4.00")

	x.stepped("9.99")
	merged := []string{"kind,items,amount", ",1,5.00", "k1,2,3.75", "k3,1,9.99"}
	x.same("the merged view", x.csv("SELECT * FROM gold.by_kind"), merged...)
	x.same("every kind of value", x.csv("SELECT * FROM silver.item WHERE id IN ('a', 'e') -- a comment"),
		"id,kind,note,amount,big,small,large,ratio,fine,day,changed_at",
		`a,k1,"it's ""a"", \ é",1.50,-12345678901234567890.0123456789,7,9007199254740993,0.1,true,2018-02-28,2018-01-02 03:04:05.000001`,
		`e,k3,"it's ""e"", \ é",9.99,-12345678901234567890.0123456789,7,9007199254740993,0.1,true,2018-02-28,2018-01-02 03:04:05.123`)
	x.same("a view and a seed", x.csv("SELECT kind, label, share FROM gold.labelled"), "kind,label,share", ",,0.25", `k1,"the ""first""; it's \ k1",0.5`, "k3,third,0.25")
	x.same("a batch model", x.csv("SELECT * FROM gold.ranked"), "place,kind", "1,k2", "2,k1", "3,")
	x.must("verify")

	var first struct{ Manifest int64 }
	x.mustJSON(&first, "batch")
	x.same("after the batch", x.csv("SELECT * FROM gold.by_kind"), merged...)
	x.same("the batch model after it", x.csv("SELECT * FROM gold.ranked"), "place,kind", "1,k3", "2,", "3,k1")
	x.same("the Thrift Server's own view", x.sql("SELECT kind, items, amount FROM gold.by_kind ORDER BY kind", nil), "(null)|1|5", "k1|2|3.75", "k3|1|9.99")
	x.same("the view by a name of its own", x.sql("SELECT count(*) FROM spark_catalog.gold.labelled", nil), "3")

	x.must("rollback", "--to", fmt.Sprint(first.Manifest-1))
	x.same("a rollback", x.csv("SELECT kind FROM gold.by_kind"), "kind", "", "k1", "k2")
	x.same("a rollback, in the Thrift Server", x.sql("SELECT kind FROM gold.by_kind ORDER BY kind", nil), "(null)", "k1", "k2")
	x.must("rollback", "--release")
	x.same("the release", x.csv("SELECT * FROM gold.by_kind"), merged...)
	x.same("as of the first", x.csv("SELECT kind FROM gold.by_kind", "--as-of", fmt.Sprint(first.Manifest-1)), "kind", "", "k1", "k2")

	if _, errs, code := x.run("query", "WITH t AS (SELECT 1L AS kind) INSERT INTO lake.lockstep.speed SELECT kind, '', '', '', true, '' FROM t"); code == 0 {
		t.Errorf("a statement that writes ran: %s", errs)
	}
	if _, errs, _ := x.run("query", "SELECT kind,\n  nope FROM gold.by_kind"); !strings.Contains(errs, "`nope`") || !strings.Contains(errs, "line 2") || strings.Contains(errs, "org.apache") {
		t.Errorf("the error of a query is %s", errs)
	}
}

// TestDrift: a row of the stream that is wrong is found, and gone with the
// next batch.
func TestDrift(t *testing.T) {
	x := newServed(t)
	x.published()
	x.stepped("8.88")
	out, _, code := x.run("verify")
	if code != 1 || !strings.Contains(out, "rows differ") || !strings.Contains(out, "8.88") {
		t.Errorf("verify ends with %d and says\n%s", code, out)
	}
	if out, errs, code := x.run("batch"); code != 1 || !strings.Contains(errs, "2 models") {
		t.Errorf("batch ends with %d and says\n%s%s", code, out, errs)
	}
	x.same("after the batch", x.csv("SELECT amount FROM gold.by_kind WHERE kind = 'k3'"), "amount", "9.99")
	x.must("verify")
	drift, err := x.lake.Objects().List(t.Context(), "drift/")
	if err != nil || len(drift) != 1 {
		t.Errorf("kept of the drift is %v, %v", drift, err)
	}
}

// TestBatchInParts: an outside scheduler begins, runs models side by side and
// publishes; each part is a process of its own, and may come twice.
func TestBatchInParts(t *testing.T) {
	x := newServed(t)
	x.published()
	x.stepped("9.99")
	id := strings.TrimSpace(x.must("batch", "--begin"))
	if _, errs, code := x.run("batch", "--publish", id); code == 0 || !strings.Contains(errs, "is not done") {
		t.Errorf("an unfinished run is published: %s", errs)
	}
	x.must("batch", "--run", id, "--select", "silver.item")
	x.must("batch", "--run", id, "--select", "gold.by_kind")
	x.must("batch", "--run", id, "--select", "gold.by_kind")
	x.must("batch", "--run", id, "--select", "gold.ranked,gold.labelled")
	x.must("batch", "--publish", id)
	x.must("batch", "--publish", id)
	var history []struct{ ID, Step int64 }
	x.mustJSON(&history, "history")
	if len(history) != 2 || history[0].Step != 2 {
		t.Errorf("the history is %+v", history)
	}
	x.must("maintain", "--keep-for", "0s")
	x.must("verify")
}

// TestThriftServerKilled: a batch whose Thrift Server dies goes on when it is
// there again, and the views come back.
func TestThriftServerKilled(t *testing.T) {
	long(t)
	x := newServed(t)
	x.published()
	x.stepped("9.99")
	keeper := x.start("serve", "--listen", "127.0.0.1:0")
	batch := x.start("batch")
	batchBegun(t, x.lake)
	if err := x.stack.Kill("thrift"); err != nil {
		t.Fatal(err)
	}
	if err := x.stack.Start(t.Context(), "thrift"); err != nil {
		t.Fatal(err)
	}
	<-batch.done
	if code := batch.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("the batch ends with %d:\n%s", code, batch.log)
	}
	var history []struct{ Step int64 }
	x.mustJSON(&history, "history")
	if len(history) != 2 || history[0].Step != 2 {
		t.Errorf("the history is %+v", history)
	}
	x.must("verify")
	if err := x.stack.Kill("thrift"); err != nil {
		t.Fatal(err)
	}
	if err := x.stack.Start(t.Context(), "thrift"); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Minute, "the views are there again", func() bool { return x.viewThere("gold.labelled") })
	x.same("the views", x.sql("SELECT kind FROM gold.labelled ORDER BY kind", nil), "(null)", "k1", "k3")
	x.pyHive()
	if keeper.ended() {
		t.Errorf("serve ended:\n%s", keeper.log)
	}
}

func (x *served) viewThere(name string) bool {
	s, err := x.config.ThriftServer().Open(context.Background(), nil)
	if err != nil {
		return false
	}
	defer s.Close()
	return s.Exec(context.Background(), "SELECT * FROM "+name+" LIMIT 1") == nil
}

// pyHive reads a view with a client that others wrote.
func (x *served) pyHive() {
	x.t.Helper()
	cache, err := stack.CacheDir()
	if err != nil {
		x.t.Fatal(err)
	}
	host, port, _ := strings.Cut(x.config.Thrift, ":")
	script := fmt.Sprintf(`
from pyhive import hive
c = hive.connect(host=%q, port=%s, username="guest", database="silver").cursor()
c.execute("SELECT id, amount, large, day FROM item WHERE id IN ('a', 'e') ORDER BY id")
for row in c.fetchall(): print(*row)
`, host, port)
	out, err := exec.Command(filepath.Join(cache, "venv", "spark", "bin", "python"), "-c", script).CombinedOutput()
	if err != nil {
		x.t.Fatalf("PyHive: %v\n%s", err, out)
	}
	x.same("PyHive", strings.Split(strings.TrimSpace(string(out)), "\n"), "a 1.50 9007199254740993 2018-02-28", "e 9.99 9007199254740993 2018-02-28")
}
