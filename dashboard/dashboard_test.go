package dashboard

import (
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"lockstep/compile"
	"lockstep/project"
)

// A small project: sales of things in shops.
var files = map[string]string{
	"project.yaml":      "name: shops\n",
	"sources.yaml":      "topics:\n  sale: {key: id, event_time: sold_at}\n",
	"schemas/sale.avsc": `{"type": "record", "name": "sale", "fields": [{"name": "id", "type": "string"}, {"name": "shop", "type": ["null", "string"]}, {"name": "thing", "type": ["null", "string"]}, {"name": "pieces", "type": ["null", "long"]}, {"name": "month", "type": ["null", "string"]}, {"name": "sold_at", "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}]}]}`,
	"models/gold/sold.sql": `/*
description: Sales.
materialized: view
unique_key: [id]
columns:
  - {name: id, type: string, description: Sale.}
  - {name: shop, type: string, description: Where.}
  - {name: thing, type: string, description: What.}
  - {name: pieces, type: bigint, description: How many.}
  - {name: month, type: string, description: When.}
*/
SELECT s.id, s.shop, s.thing, s.pieces, s.month FROM bronze.sale s
`,
	"models/gold/stock.sql": `/*
description: Things in stock.
materialized: view
unique_key: [thing]
columns:
  - {name: thing, type: string, description: What.}
  - {name: n, type: bigint, description: How many.}
*/
SELECT s.thing, count(*) AS n FROM bronze.sale s GROUP BY s.thing
`,
}

const good = `title: Sales
fields:
  - {name: shop, label: Shop, format: badge, colors: {north: blue}}
filters:
  - {name: shop, table: gold.sold, builtin: {via: [{table: gold.sold, on: thing}]}}
  - {name: thing, table: gold.sold}
  - {name: month, kind: range, table: gold.sold}
  - {name: sale, column: id, kind: hidden}
rows:
  - panels:
      - name: by_shop
        title: By shop
        chart: table
        width: 6
        table: gold.sold
        where: t.pieces > 0
        dimensions: [shop]
        measures: [{name: pieces, sql: sum(pieces), bar: true}]
        sort: [pieces desc]
        search: [shop]
        summary: true
        builtin:
          drill: [shop, thing]
          detail: {title: Sales, table: gold.sold, dimensions: [id, shop, thing, pieces], sort: [id]}
      - name: by_month
        title: By month
        chart: bar
        width: 6
        query: SELECT * FROM gold.sold
        dimensions: [month, shop]
        measures: [{name: pieces, sql: sum(pieces)}]
        encode: {x: month, y: pieces, color: shop}
        builtin: {switch: [shop, thing], top: 3}
  - panels:
      - {name: stock, title: Stock, chart: bar, width: 12, table: gold.stock, dimensions: [thing], measures: [{name: n, sql: sum(n)}], encode: {x: thing, y: n}}
`

func projectWith(t *testing.T, dashboards map[string]string) (fs.FS, *compile.Program) {
	t.Helper()
	fsys := fstest.MapFS{}
	for name, text := range files {
		fsys[name] = &fstest.MapFile{Data: []byte(text)}
	}
	for name, text := range dashboards {
		fsys["dashboards/"+name+".yaml"] = &fstest.MapFile{Data: []byte(text)}
	}
	p, err := project.Load(fsys)
	if err != nil {
		t.Fatal(err)
	}
	program, err := compile.Compile(p)
	if err != nil {
		t.Fatal(err)
	}
	return fsys, program
}

func checked(t *testing.T, text string) *Dashboard {
	t.Helper()
	fsys, program := projectWith(t, map[string]string{"sales": text})
	list, err := Check(t.Context(), fsys, program)
	if err != nil {
		t.Fatal(err)
	}
	return list[0]
}

// TestQuery looks at the statements of choices.
func TestQuery(t *testing.T) {
	d := checked(t, good)
	north := "north'; DROP TABLE x; --"
	for _, c := range []struct {
		name    string
		request Request
		want    []string // in the statement
		not     []string
	}{
		{"plain", Request{Panel: "by_shop"}, []string{"WHERE (t.pieces > 0)", "GROUP BY 1", "ORDER BY g.pieces DESC NULLS LAST, g.shop ASC NULLS LAST", "LIMIT 10 OFFSET 0", "_sum_pieces", "_max_pieces"}, []string{" AND "}},
		{"values", Request{Panel: "by_shop", Filters: map[string]Selection{"shop": {Values: []*string{&north, nil}}}}, []string{"(t.shop IN (concat('north', chr(39), '; DROP TABLE x; --')) OR t.shop IS NULL)"}, nil},
		{"only null", Request{Panel: "by_shop", Filters: map[string]Selection{"shop": {Values: []*string{nil}}}}, []string{"t.shop IS NULL"}, []string{" IN "}},
		{"range", Request{Panel: "by_shop", Filters: map[string]Selection{"month": {From: "2017-01", To: "2017-03"}}}, []string{"t.month >= '2017-01' AND t.month <= '2017-03'"}, nil},
		{"nothing chosen", Request{Panel: "by_shop", Filters: map[string]Selection{"month": {}}}, nil, []string{"t.month"}},
		{"via", Request{Panel: "stock", Filters: map[string]Selection{"shop": {Values: []*string{&north}}}}, []string{"t.thing IN (SELECT v.thing FROM gold.sold AS v WHERE v.shop IN"}, nil},
		{"out of reach", Request{Panel: "stock", Filters: map[string]Selection{"month": {From: "2017-01"}}}, nil, []string{"month"}},
		{"page, sort, search", Request{Panel: "by_shop", Offset: 20, Sort: "shop desc", Search: " NoRth%' "}, []string{"OFFSET 20", "ORDER BY g.shop DESC", "contains(lower(cast(t.shop AS string)), concat('north%', chr(39)))"}, nil},
		{"export", Request{Panel: "by_shop", All: true}, []string{"LIMIT 100000"}, []string{"OFFSET"}},
		{"drill", Request{Panel: "by_shop", By: "thing"}, []string{"SELECT t.thing AS thing"}, []string{"t.shop"}},
		{"detail", Request{Panel: "by_shop", By: DetailLevel}, []string{"t.id AS id", "row_number() OVER (ORDER BY t.id"}, []string{"GROUP BY"}},
		{"top", Request{Panel: "by_month", By: "thing"}, []string{"LIMIT 3) AS g) THEN cast(t.thing AS string) ELSE 'Other' END AS thing", "LIMIT 5001"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			sql, err := d.Query(d.Panel(c.request.Panel), c.request)
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(sql, want) {
					t.Errorf("%q is not in\n%s", want, sql)
				}
			}
			for _, not := range c.not {
				if strings.Contains(sql, not) {
					t.Errorf("%q is in\n%s", not, sql)
				}
			}
		})
	}
}

// TestQueryRefuses what no page asks for.
func TestQueryRefuses(t *testing.T) {
	d := checked(t, good)
	for name, r := range map[string]Request{
		"filter": {Filters: map[string]Selection{"nosuch": {From: "a"}}},
		"level":  {By: "pieces"},
		"sort":   {Sort: "1; DROP TABLE x"},
	} {
		if sql, err := d.Query(d.Panel("by_shop"), r); err == nil {
			t.Errorf("%s: no error but\n%s", name, sql)
		}
	}
}

// TestFaults wants each fault with its line and a remedy.
func TestFaults(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":      {"title: Sales\n", "titel: Sales\n", "dashboards/sales.yaml:1: unknown key titel"},
		"deep unknown key": {"sql: sum(pieces), bar: true", "sql: sum(pieces), bars: true", "dashboards/sales.yaml:18: unknown key bars"},
		"no such table":    {"table: gold.stock,", "table: gold.stocks,", `dashboards/sales.yaml:35: panel stock: there is no table "gold.stocks"`},
		"no such column":   {"sql: sum(n)", "sql: sum(m)", "dashboards/sales.yaml:35: panel stock: Binder Error"},
		"query":            {"SELECT * FROM gold.sold", "SELECT * FROM gold.nosuch", "dashboards/sales.yaml:25: panel by_month: Catalog Error"},
		"not reading":      {"query: SELECT * FROM gold.sold", "query: DELETE FROM gold.sold", "only statements that read"},
		"chart":            {"chart: bar\n", "chart: pie\n", `dashboards/sales.yaml:25: panel by_month: unknown chart type "pie"`},
		"role":             {"encode: {x: month, y: pieces, color: shop}", "encode: {x: month, y: piece}", `y is "piece"`},
		"missing role":     {"encode: {x: month, y: pieces, color: shop}", "encode: {x: month}", "a bar chart needs its y"},
		"format":           {"format: badge", "format: bold", `dashboards/sales.yaml:3: unknown format "bold"`},
		"width":            {"width: 12", "width: 13", "width 13"},
		"row width":        {"width: 6\n        query", "width: 7\n        query", "of width 13 together"},
		"twice":            {"name: by_month", "name: by_shop", "two panels named by_shop"},
		"filter kind":      {"kind: range", "kind: slider", `unknown kind "slider"`},
		"filter column":    {"{name: thing, table: gold.sold}", "{name: things, table: gold.sold}", `its source has no column "things"`},
		"drill":            {"drill: [shop, thing]", "drill: [shop, month_]", `no column "month_"`},
		"sort":             {"sort: [pieces desc]", "sort: [amount desc]", `cannot be sorted by "amount desc"`},
		"yaml":             {"title: Sales\n", "title: [Sales\n", "dashboards/sales.yaml:"},
		"wrong type":       {"width: 12", "width: wide", "dashboards/sales.yaml:35: "},
	} {
		t.Run(name, func(t *testing.T) {
			if !strings.Contains(good, c.old) {
				t.Fatalf("the good file has no %q", c.old)
			}
			fsys, program := projectWith(t, map[string]string{"sales": strings.Replace(good, c.old, c.new, 1), "other": good})
			list, err := Check(t.Context(), fsys, program)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the fault is %v, want %q", err, c.want)
			}
			if len(list) != 1 || list[0].Name != "other" {
				t.Errorf("the other dashboard does not live on: %v", list)
			}
		})
	}
}

// TestSetSeesChanges reads a file again only when it changed.
func TestSetSeesChanges(t *testing.T) {
	fsys, program := projectWith(t, map[string]string{"sales": good})
	program.Project.FS = fsys
	s := NewSet(program)
	first, problems, err := s.List(t.Context())
	if err != nil || len(problems) > 0 || len(first) != 1 {
		t.Fatal(first, problems, err)
	}
	if again, _, _ := s.List(t.Context()); again[0] != first[0] {
		t.Error("an unchanged file was read again")
	}
	fsys.(fstest.MapFS)["dashboards/sales.yaml"] = &fstest.MapFile{Data: []byte(strings.Replace(good, "title: Stock", "title: Store", 1))}
	changed, _, err := s.List(t.Context())
	if err != nil || changed[0].Panel("stock").Title != "Store" {
		t.Errorf("the change is not seen: %v", err)
	}
}

// TestPage holds what a browser is told of reach and looks.
func TestPage(t *testing.T) {
	d := checked(t, good)
	page := d.Page()
	byShop, stock := page.Rows[0].Panels[0], page.Rows[1].Panels[0]
	if want := []string{"shop", "thing", "month", "sale"}; !slices.Equal(byShop.Filters, want) {
		t.Errorf("filters %q, want %q", byShop.Filters, want)
	}
	if want := []string{"shop", "thing"}; !slices.Equal(stock.Filters, want) {
		t.Errorf("filters of stock %q, want %q", stock.Filters, want)
	}
	c := byShop.Columns[0]
	if c.Label != "Shop" || c.Format != "badge" || !maps.Equal(c.Colors, map[string]string{"north": "blue"}) || c.Filter != "shop" {
		t.Errorf("column %+v", c)
	}
	if f := byShop.Columns[1].Format; f != "integer" {
		t.Errorf("a sum of whole numbers is shown as %q", f)
	}
	if byShop.Page != 10 || !byShop.Summary || !byShop.Search {
		t.Errorf("panel %+v", byShop)
	}
}
