package browser

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"image/png"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const chips = `document.querySelector(".chips")`

// TestCrossFilter chooses in a table: the other panels narrow, this one keeps
// its rows, the address tells it, a new tab shows it, and undo takes it back.
func TestCrossFilter(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	first := p.rows("rank_by_category")[0][0]
	p.click(panel("rank_by_category") + `.querySelector("tbody button.pick")`)
	p.wait("a chip names the filter", chips+`?.textContent.includes(`+quoted(first)+`)`)
	p.wait("the products are of the category", `[...`+panel("rank_by_product")+`.querySelectorAll("tbody tr td:nth-child(2)")].every((d) => d.dataset.value === `+quoted(first)+`)`)
	want := shared.query(t, fmt.Sprintf(`SELECT product_id, category, sum(total_sales_amount), sum(total_sales_quantity), sum(mean_sales) / count(*)
		FROM gold.fact_monthly_sales_by_product WHERE category = '%s' GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 10`, first))
	compare(t, p.rows("rank_by_product"), want, figure{ordered: true})
	if n := len(p.rows("rank_by_category")); n != 10 {
		t.Errorf("the panel that was clicked shows %d rows, want all 10 with the chosen one marked", n)
	}
	if eval[int](p, panel("rank_by_category")+`.querySelectorAll("tr.on").length`) != 1 {
		t.Error("the chosen row is not marked")
	}
	address := p.query()
	if !strings.Contains(address, "category="+first) {
		t.Errorf("the address does not tell the filter: %q", address)
	}
	other := open(t, shared, "/dash/sales_detail"+eval[string](p, "location.search"))
	compare(t, other.rows("rank_by_product"), want, figure{ordered: true})
	p.click(button(chips, "Undo"))
	p.wait("the filter is gone", `!location.search.includes("category")`)
	all := shared.query(t, figures["sales_detail"]["rank_by_product"].sql)
	p.wait("all products are back", panel("rank_by_product")+`.querySelector("tbody td").dataset.value === `+quoted(all[0][0]))
}

func quoted(s string) string { return fmt.Sprintf("%q", s) }

// TestClickChart clicks on a bar of a chart: month and group become filters.
func TestClickChart(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("quantity_by_month")
	canvas := panel("quantity_by_month") + `.querySelector(".canvas")`
	p.wait("the chart is drawn", canvas+`?.chart?.getOption().series?.length`)
	type mark struct {
		Month, Group string
		X, Y         float64
	}
	find := `(() => { const c = ` + canvas + `.chart, s = c.getOption().series; let best, at;
		s[0].data.forEach((d, i) => { if (!best || d.value > best.value) { best = d; at = i; } });
		const [x, y] = c.convertToPixel({seriesIndex: 0}, [at, best.value / 2]), r = ` + canvas + `.getBoundingClientRect();
		return {Month: best.row.sales_period, Group: best.row.portfolio_group, X: r.x + x, Y: r.y + y}; })()`
	time.Sleep(500 * time.Millisecond) // the bars grow for 300 ms
	m := eval[mark](p, find)
	p.do(chromedp.MouseClickXY(m.X, m.Y))
	p.wait("both filters are set", `new URLSearchParams(location.search).get("group") === `+quoted(m.Group)+` && new URLSearchParams(location.search).get("period") === `+quoted(m.Month+".."+m.Month))
	want := shared.query(t, fmt.Sprintf(`SELECT category, sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product
		WHERE portfolio_group = '%s' AND sales_period = '%s' GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 10`, m.Group, m.Month))
	p.loaded("rank_by_category")
	p.wait("the ranking narrows", panel("rank_by_category")+`.querySelector("tbody td:nth-child(2)")?.dataset.value == `+want[0][1])
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
}

// TestDrill goes from categories over products to orders, and up again.
func TestDrill(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	category := p.rows("rank_by_category")[0][0]
	down := panel("rank_by_category") + `.querySelector("tbody td.end button")`
	p.click(down)
	p.wait("the products are shown", panel("rank_by_category")+`.querySelector("[aria-current]")?.textContent === "Product" && `+panel("rank_by_category")+`.querySelector("tbody code")`)
	want := shared.query(t, fmt.Sprintf(`SELECT product_id, sum(amount) FROM gold.delivered_order_product WHERE category = '%s' GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10`, category))
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
	p.click(down)
	p.wait("the orders are shown", panel("rank_by_category")+`.querySelector("[aria-current]")?.textContent === "Orders" && `+panel("rank_by_category")+`.querySelector("tbody td:nth-child(8)")`)
	want = shared.query(t, fmt.Sprintf(`SELECT order_id, amount FROM gold.delivered_order_product WHERE category = '%s' AND product_id = '%s'
		ORDER BY sales_period DESC, amount DESC, order_id LIMIT 10`, category, want[0][0]))
	var got [][]string
	for _, r := range p.rows("rank_by_category") {
		got = append(got, []string{r[0], r[7]})
	}
	compare(t, got, want, figure{})
	eval[bool](p, `(location.reload(), true)`)
	p.wait("the level is there after a reload", panel("rank_by_category")+`?.querySelector("[aria-current]")?.textContent === "Orders"`)
	p.click(panel("rank_by_category") + `.querySelector(".path button")`)
	p.wait("the categories are back", panel("rank_by_category")+`.querySelector("[aria-current]")?.textContent === "Category"`)
	p.wait("their filters are gone", `!location.search.includes("category=") && !location.search.includes("product=")`)
}

// TestSearchSortPages uses what a ranked table offers.
func TestSearchSortPages(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("rank_by_category")
	p.click(button(panel("rank_by_category"), "Next page"))
	want := shared.query(t, `SELECT category, sum(amount) FROM gold.delivered_order_product GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10 OFFSET 10`)
	p.wait("the second page is there", panel("rank_by_category")+`.querySelector("tbody td").dataset.value === `+quoted(want[0][0]))
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
	p.click(panel("rank_by_category") + `.querySelector("th button")`)
	want = shared.query(t, `SELECT category, sum(amount) FROM gold.delivered_order_product GROUP BY 1 ORDER BY 1 LIMIT 10`)
	p.wait("it is sorted by name", panel("rank_by_category")+`.querySelector("tbody td").dataset.value === `+quoted(want[0][0]))
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
	p.click(panel("rank_by_category") + `.querySelector("input[type=search]")`)
	p.do(chromedp.KeyEvent("BED_'%"))
	p.wait("nothing is found, and it says so", panel("rank_by_category")+`.textContent.includes("No rows")`)
	p.do(chromedp.KeyEvent("\b\b"))
	want = shared.query(t, `SELECT category, sum(amount) FROM gold.delivered_order_product WHERE contains(category, 'bed_') GROUP BY 1 ORDER BY 1 LIMIT 10`)
	p.wait("the search narrows", panel("rank_by_category")+`.querySelector("tbody td")?.dataset.value === `+quoted(want[0][0]))
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
}

// TestOrderEverywhere chooses an order on the Delivery Monitor: the other two
// panels follow.
func TestOrderEverywhere(t *testing.T) {
	p := open(t, shared, "/dash/delivery_monitor")
	order := p.rows("order_detail")[0][5]
	p.click(panel("order_detail") + `.querySelector("tbody button.pick")`)
	p.wait("the order stands alone in the status", `[...`+panel("delivery_status")+`.querySelectorAll("tbody td:first-child")].map((d) => d.dataset.value).join() === `+quoted(order))
	p.click(button(panel("order_location"), "Data"))
	p.wait("the map shows its places", `[...`+panel("order_location")+`.querySelectorAll("tbody td:nth-child(4)")].every((d) => d.dataset.value === `+quoted(order)+`)`)
	want := shared.query(t, `SELECT lng, lat, user_type, order_id FROM gold.order_location WHERE order_id = '`+order+`'`)
	got := p.rows("order_location")
	if len(want) > 0 {
		compare(t, got, want, figure{})
	}
}

// TestStates shows delivered orders at a click.
func TestStates(t *testing.T) {
	p := open(t, shared, "/dash/delivery_monitor")
	p.loaded("delivery_status")
	for _, off := range []string{"late", "at risk", "on time"} {
		p.click(button(`document.querySelector(".filters")`, off))
	}
	p.click(button(`document.querySelector(".filters")`, "delivered"))
	p.wait("only delivered orders are shown", `(() => { const d = [...`+panel("delivery_status")+`.querySelectorAll("tbody td:nth-child(2)")]; return d.length && d.every((e) => e.dataset.value === "delivered"); })()`)
	n := shared.query(t, `SELECT count(*) FROM gold.order_delivery_status WHERE state = 'delivered'`)[0][0]
	p.wait("their number is right", panel("delivery_status")+`.querySelector(".pages span").textContent.replace(/\D/g, "") === "110`+n+`"`)
}

// TestFilterBar uses a filter's list.
func TestFilterBar(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("rank_by_category")
	p.click(`[...document.querySelectorAll(".filter > button")].find((b) => b.textContent.startsWith("Seller"))`)
	p.click(`document.querySelector(".popup .list input")`)
	p.wait("the seller is in the address", `new URLSearchParams(location.search).get("seller")`)
	seller := eval[string](p, `new URLSearchParams(location.search).get("seller")`)
	p.do(chromedp.KeyEvent("\x1b"))
	p.wait("Escape closes the list", `!document.querySelector(".popup")`)
	want := shared.query(t, fmt.Sprintf(`SELECT category, sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product
		WHERE product_id IN (SELECT product_id FROM silver.product_metadata WHERE seller_id = '%s') GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT 10`, seller))
	if len(want) == 0 {
		p.wait("nothing was delivered, and it says so", panel("rank_by_category")+`.textContent.includes("No rows for these filters")`)
		return
	}
	p.loaded("rank_by_category")
	p.wait("the ranking narrows", panel("rank_by_category")+`.querySelector("tbody td:nth-child(2)")?.dataset.value == `+want[0][1])
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
}

// TestExport takes CSV and PNG of panels, with the filters named.
func TestExport(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail?group=Niche+Gems")
	p.loaded("rank_by_category")
	name, text := p.download(button(panel("rank_by_category"), "CSV"))
	if !strings.Contains(name, "Niche Gems") || !strings.HasSuffix(name, ".csv") {
		t.Errorf("the file is called %q", name)
	}
	lines, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	for _, l := range lines[1:] {
		if l[2] != "Group: Niche Gems" {
			t.Errorf("the filters are not named: %q", l)
		}
		got = append(got, l[:2])
	}
	compare(t, got, shared.query(t, `SELECT category, sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product WHERE portfolio_group = 'Niche Gems' GROUP BY 1 ORDER BY 2 DESC, 1`), figure{ordered: true})
	for _, of := range []string{"portfolio_matrix", "rank_by_product"} {
		p.loaded(of)
		name, text = p.download(button(panel(of), "PNG"))
		picture, err := png.Decode(bytes.NewReader(text))
		if err != nil || !strings.Contains(name, "Niche Gems") || picture.Bounds().Dx() < 600 || picture.Bounds().Dy() < 400 {
			t.Errorf("%s: %q is no picture of it: %v", of, name, err)
		}
	}
}

// TestKeyboard goes through the page by Tab alone, and chooses by Enter.
func TestKeyboard(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("rank_by_category")
	reached := map[string]bool{}
	chosen := false
	for range 120 {
		p.do(chromedp.KeyEvent("\t"))
		at := eval[string](p, `document.activeElement.className + "|" + (document.activeElement.getAttribute("aria-label") || document.activeElement.textContent).trim()`)
		reached[at] = true
		if !chosen && strings.HasPrefix(at, "pick|") {
			p.do(chromedp.KeyEvent("\r"))
			p.wait("Enter chooses", chips)
			chosen = true
		}
	}
	if !chosen {
		t.Fatalf("no row can be reached by Tab: %v", reached)
	}
	for _, want := range []string{"Data", "CSV", "PNG", "Pause"} {
		found := false
		for at := range reached {
			found = found || strings.HasSuffix(at, "|"+want)
		}
		if !found {
			t.Errorf("%s cannot be reached by Tab", want)
		}
	}
}

// TestKeyboardChart chooses a mark of a chart without a mouse: in the table
// behind it. The focus stays, so that one can go on from there.
func TestKeyboardChart(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("quantity_by_month")
	eval[bool](p, "("+button(panel("quantity_by_month"), "Data")+".focus(), true)")
	p.do(chromedp.KeyEvent("\r"))
	p.wait("the table is there", panel("quantity_by_month")+`.querySelector("tbody button.pick")`)
	inside := panel("quantity_by_month") + `.querySelector("tbody").contains(document.activeElement)`
	for n := 0; !eval[bool](p, inside); n++ {
		if n == 40 {
			t.Fatal("no row of the table can be reached by Tab")
		}
		p.do(chromedp.KeyEvent("\t"))
	}
	row := eval[[]string](p, `[...document.activeElement.closest("tr").querySelectorAll("td[data-value]")].map((d) => d.dataset.value)`)
	p.do(chromedp.KeyEvent("\r"))
	p.wait("both filters are set", `new URLSearchParams(location.search).get("group") === `+quoted(row[1])+` && new URLSearchParams(location.search).get("period") === `+quoted(row[0]+".."+row[0]))
	if !eval[bool](p, inside+` && document.activeElement.getAttribute("aria-pressed") === "true"`) {
		t.Error("the focus has left the row that was chosen, or the row is not marked")
	}
	want := shared.query(t, fmt.Sprintf(`SELECT category, sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product
		WHERE portfolio_group = '%s' AND sales_period = '%s' GROUP BY ALL ORDER BY 2 DESC, 1 LIMIT 10`, row[1], row[0]))
	p.loaded("rank_by_category")
	p.wait("the ranking narrows", panel("rank_by_category")+`.querySelector("tbody td:nth-child(2)")?.dataset.value == `+want[0][1])
	compare(t, p.rows("rank_by_category"), want, figure{ordered: true})
}
