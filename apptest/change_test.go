package apptest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"lockstep/compile"
	"lockstep/examples/olist"
	"lockstep/project"

	"github.com/twmb/franz-go/pkg/kgo"
)

// change is a project folder and its state while the project is changed.
type change struct {
	*testing.T
	project, state string
}

// TestChangedModels changes one project again and again on one state: what was
// served before stays served, frozen and labelled, until the new rows are there.
func TestChangedModels(t *testing.T) {
	dir := t.TempDir()
	c := change{t, filepath.Join(dir, "project"), filepath.Join(dir, "state")}
	if err := os.CopyFS(c.project, olist.FS); err != nil {
		t.Fatal(err)
	}
	c.run()
	for _, step := range []struct {
		name string
		f    func(change)
	}{
		{"only a view", change.view},
		{"a model, with kills while it is rebuilt", change.model},
		{"a column and a model more", change.addition},
		{"a model that is broken, and mended", change.broken},
		{"while a batch of the older version runs", change.underBatch},
		{"a model less", change.removal},
		{"an optional field of a schema", change.field},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.f(change{t, c.project, c.state}) }) {
			return
		}
	}
	fresh := change{t, c.project, filepath.Join(dir, "fresh")}
	fresh.run()
	if got, want := c.digests(), fresh.digests(); got != want {
		t.Errorf("rows after all changes:\n%s\nof a fresh state:\n%s", got, want)
	}
}

// args are a whole run of the project as it is now.
func (c change) args() []string {
	return []string{"run", "--once", "--speed", "max", "--scale", "0.01", "--commit-every", "100ms", "--project", c.project}
}

func (c change) run() summary {
	c.Helper()
	var s summary
	mustJSON(c.T, &s, append(append(c.args(), "--state", c.state), freePorts...)...)
	return s
}

// rebuilt runs to the end: nothing is taken in again, all is clean.
func (c change) rebuilt() {
	c.Helper()
	if s := c.run(); s.Accepted != 0 || s.DriftRows != 0 {
		c.Errorf("after the change: %+v", s)
	}
	must(c.T, "verify", "--state", c.state, "--project", c.project)
}

func (c change) query(sql string) queried {
	c.Helper()
	return query(c.T, c.state, sql, "--project", c.project)
}

// count asks for one number.
func (c change) count(sql string) float64 {
	c.Helper()
	return c.query("SELECT count(*) FROM " + sql).Rows[0][0].(float64)
}

// edit replaces text in a file of the project; what is not there is a fault of
// the test.
func (c change) edit(file, old, new string) {
	c.Helper()
	path := filepath.Join(c.project, file)
	text, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(text), old) {
		c.Fatalf("%s has no %q: %v", file, old, err)
	}
	c.write(file, strings.ReplaceAll(string(text), old, new))
}

func (c change) write(file, text string) {
	c.Helper()
	if err := os.WriteFile(filepath.Join(c.project, file), []byte(text), 0o644); err != nil {
		c.Fatal(err)
	}
}

func (c change) program() *compile.Program {
	c.Helper()
	p, err := project.Load(os.DirFS(c.project))
	if err != nil {
		c.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		c.Fatal(err)
	}
	return program
}

func (c change) digests() string {
	c.Helper()
	var text strings.Builder
	for _, row := range c.query("SELECT * FROM (" + sightSQL(c.program(), nil) + ") ORDER BY ALL").Rows {
		fmt.Fprintln(&text, row...)
	}
	return text.String()
}

const detail = "models/gold/fact_order_detail.sql"

func (c change) view() {
	before := c.count("gold.order_delivery_status WHERE state = 'delivered'")
	c.edit("models/gold/order_delivery_status.sql", "'delivered'", "'arrived'")
	c.edit("models/gold/order_delivery_status.sql", "[closed, delivered,", "[closed, arrived,")
	q := c.query("SELECT count(*) FROM gold.order_delivery_status WHERE state = 'arrived'")
	if q.Frozen != "" || before == 0 || q.Rows[0][0] != before {
		c.Errorf("%v orders were delivered; after the change of the view: %+v", before, q)
	}
	c.rebuilt()
}

// model changes one, is killed while it is rebuilt, and looks at what is
// served meanwhile.
func (c change) model() {
	const old, new = "gold.fact_order_detail WHERE category NOT LIKE '%:%'", "gold.fact_order_detail WHERE category LIKE 'new:%'"
	want := c.count(old)
	c.edit(detail, "coalesce(m.category", "'new:' || coalesce(m.category")
	stale := func(when string) {
		c.Helper()
		q := c.query("SELECT count(*) FROM " + old)
		if q.Rows[0][0] != want || want == 0 || !strings.Contains(q.Frozen, "stale") || !strings.Contains(q.Frozen, "gold.fact_order_detail") {
			c.Errorf("%s: %+v, want %v rows of the old generation, labelled", when, q, want)
		}
	}
	stale("before it is rebuilt")
	for _, point := range []string{"rebuild.stream", "batch.table", "batch.table#5", "batch.compared"} {
		if !killed(c.T, c.state, point, c.args()) {
			c.Fatalf("the rebuild never passed %s", point)
		}
		stale("killed at " + point)
	}
	p := launch(c.T, c.state, "--speed", "max", "--scale", "0.01", "--project", c.project)
	why := p.whyNotReady(c.T)
	if !strings.Contains(why, "changed: gold.fact_order_detail") || !strings.Contains(p.stderr.String(), "changed: gold.fact_order_detail") {
		c.Errorf("/readyz said %q, and the instance:\n%s", why, p.stderr.String())
	}
	if q := c.query("SELECT count(*) FROM " + new); q.Frozen != "" || q.Rows[0][0] != want {
		c.Errorf("rebuilt: %+v, want %v rows", q, want)
	}
	p.interrupt()
	c.edit(detail, "'new:'", "'newer:'")
	if !killed(c.T, c.state, "batch.published", c.args()) {
		c.Fatal("the rebuild never passed batch.published")
	}
	c.rebuilt()
	if n := c.count("gold.fact_order_detail WHERE category LIKE 'newer:%'"); n != want {
		c.Errorf("rebuilt: %v rows, want %v", n, want)
	}
}

func (c change) addition() {
	c.edit(detail, "*/", `  - {name: item_key, type: string, description: "Product and seller in one."}
*/`)
	c.edit(detail, "o.unit_price\nFROM", "o.unit_price, o.product_id || '/' || o.seller_id AS item_key\nFROM")
	c.write("models/gold/seller_sales.sql", `/*
description: What each seller sold.
materialized: incremental
unique_key: [seller_id]
columns:
  - {name: seller_id, type: string, description: "Seller."}
  - {name: sold, type: bigint, description: "Number of items."}
*/
SELECT d.seller_id, cast(sum(d.quantity) AS bigint) AS sold
FROM gold.fact_order_detail d
GROUP BY d.seller_id
`)
	c.rebuilt()
	if n := c.count("gold.fact_order_detail WHERE item_key = product_id || '/' || seller_id"); n == 0 || n != c.count("gold.fact_order_detail") {
		c.Errorf("%v rows have the new column", n)
	}
	q := c.query("SELECT (SELECT sum(sold) FROM gold.seller_sales) - (SELECT sum(quantity) FROM gold.fact_order_detail)")
	if q.Rows[0][0] != 0.0 {
		c.Errorf("the new model and the one that it reads differ by %v", q.Rows)
	}
}

// broken: a project with a fault is refused before anything is touched.
func (c change) broken() {
	want := c.digests()
	c.edit(detail, "silver.customer_order", "silver.customer_orders")
	if r := command(c.T, append(append(c.args(), "--state", c.state), freePorts...)...); r.code != 1 || !strings.Contains(r.stderr, "silver.customer_orders") {
		c.Errorf("exit %d: %s", r.code, r.stderr)
	}
	c.edit(detail, "silver.customer_orders", "silver.customer_order")
	if got := c.digests(); got != want {
		c.Errorf("rows after a project with a fault:\n%s\nbefore:\n%s", got, want)
	}
}

// underBatch kills a batch of one version in its middle and goes on with
// another: no table of the old run gets into the new one.
func (c change) underBatch() {
	if !killed(c.T, c.state, "batch.table#5", []string{"batch", "--project", c.project}) {
		c.Fatal("a batch never passed batch.table for the fifth time")
	}
	c.edit("models/gold/seller_sales.sql", "sum(d.quantity)", "sum(2 * d.quantity)")
	c.rebuilt()
	q := c.query("SELECT (SELECT sum(sold) FROM gold.seller_sales) - 2 * (SELECT sum(quantity) FROM gold.fact_order_detail)")
	if q.Rows[0][0] != 0.0 {
		c.Errorf("after the change under a batch they differ by %v", q.Rows)
	}
}

func (c change) removal() {
	if err := os.Remove(filepath.Join(c.project, "models/gold/seller_sales.sql")); err != nil {
		c.Fatal(err)
	}
	c.rebuilt()
	if r := command(c.T, "query", "SELECT * FROM gold.seller_sales", "--state", c.state, "--project", c.project); r.code != 1 || !strings.Contains(r.stderr, "seller_sales") {
		c.Errorf("a model that is gone is served: exit %d, %s %s", r.code, r.stdout, r.stderr)
	}
}

// field: events that are replayed are made by the schema; other ones cannot be
// what was sent before. It is said, and the field can be taken out again.
func (c change) field() {
	const was, now = "\n  ]", `,
    {"name": "rating", "type": ["null", "int"], "default": null, "doc": "Stars."}
  ]`
	c.edit("schemas/seller.avsc", was, now)
	r := command(c.T, append(append(c.args(), "--state", c.state), freePorts...)...)
	if r.code != 1 || !strings.Contains(r.stderr, "topic seller") || !strings.Contains(r.stderr, "bring the old inputs back") {
		c.Errorf("exit %d: %s", r.code, tail(r.stderr))
	}
	c.edit("schemas/seller.avsc", now, was)
	c.rebuilt()
}

// TestFieldAdded adds an optional field to a schema of a project whose records
// come from outside: the column is there, empty in what came before.
func TestFieldAdded(t *testing.T) {
	dir := t.TempDir()
	c := change{t, filepath.Join(dir, "meters"), filepath.Join(dir, "state")}
	must(t, "init", c.project)
	at := time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC)
	serve := func(hour, want int) {
		t.Helper()
		p := start(t, c.state, "--project", c.project)
		client, err := kgo.NewClient(kgo.SeedBrokers(p.said("kafka")))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		send(t, client, reading(schemaID(t, p.said("registry"), "reading-value")-uint32(hour), "m9", at.Add(time.Duration(hour)*time.Hour), 10_000))
		p.until("the record is served", 3*time.Minute, func() bool { return c.count("bronze.reading") == float64(want) })
		must(t, "verify", "--state", c.state, "--project", c.project)
		p.interrupt()
	}
	serve(0, 1)
	c.edit("schemas/reading.avsc", "\n  ]", `,
    {"name": "quality", "type": ["null", "string"], "default": null, "doc": "Of the meter."}
  ]`)
	serve(1, 2) // by a producer that still has the schema before
	if n := c.count("bronze.reading WHERE quality IS NULL"); n != 2 {
		t.Errorf("%v rows have the new column", n)
	}
}

// TestInterrupted ends a run by Ctrl-C in its replay, in a batch and in a
// rebuild: within seconds, and the state is usable.
func TestInterrupted(t *testing.T) {
	dir := t.TempDir()
	c := change{t, filepath.Join(dir, "project"), filepath.Join(dir, "state")}
	if err := os.CopyFS(c.project, olist.FS); err != nil {
		t.Fatal(err)
	}
	stop := func(p *process, when string) {
		t.Helper()
		if code, took := p.interrupt(); code != 0 || took > 10*time.Second {
			t.Errorf("Ctrl-C %s: exit %d after %s\n%s", when, code, took, tail(p.stderr.String()))
		}
	}
	replay := append([]string{"--scale", "0.01", "--speed", "1500000", "--project", c.project}, freePorts...)
	p := start(t, c.state, append(replay, "--schedule", "off")...)
	p.until("rows are served", 5*time.Minute, func() bool { return c.count("bronze.order_item") > 0 })
	go command(t, "batch", "--state", c.state) // ends with the instance
	p.until("a batch runs", 5*time.Minute, func() bool {
		var s struct {
			BatchNow string `json:"batch_now"`
		}
		mustJSON(t, &s, "status", "--state", c.state, "--project", c.project)
		return s.BatchNow != ""
	})
	stop(p, "in a batch")
	stop(start(t, c.state, replay...), "in the replay")
	c.run()
	c.edit(detail, "coalesce(m.category", "'new:' || coalesce(m.category")
	p = launch(t, c.state, replay...)
	p.until("it rebuilds", 5*time.Minute, func() bool {
		_, reasons := readiness(p.address())
		return strings.Contains(strings.Join(reasons, " "), "rebuilt")
	})
	stop(p, "in a rebuild")
	c.rebuilt()
}
