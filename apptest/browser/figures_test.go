package browser

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// figure is what a panel must show: a query of our own, and, for a chart, how
// its series are drawn.
type figure struct {
	sql     string
	rows    int  // compared, from the first; 0: all
	ordered bool // the order counts
}

// figures of the panels, by dashboard and panel, written apart from the
// dashboards' files.
var figures = map[string]map[string]figure{
	"sales_detail": {
		"rank_by_category": {`SELECT category, sum(amount) FROM gold.delivered_order_product GROUP BY category ORDER BY 2 DESC, 1 LIMIT 10`, 10, true},
		"rank_by_product": {`SELECT product_id, category, sum(total_sales_amount), sum(total_sales_quantity), sum(mean_sales) / count(*)
			FROM gold.fact_monthly_sales_by_product GROUP BY ALL ORDER BY 3 DESC, 1 LIMIT 10`, 10, true},
		"portfolio_matrix": {`SELECT product_id, category, portfolio_group, sum(total_sales_quantity), cast(sum(total_sales_amount) AS double) / sum(total_sales_quantity), sum(total_sales_amount)
			FROM gold.fact_monthly_sales_by_product GROUP BY ALL ORDER BY 6 DESC, 1, 2, 3 LIMIT 50`, 50, true},
		"review_distribution": {`SELECT portfolio_group, review_score, count(*) FROM gold.product_review WHERE review_score IS NOT NULL GROUP BY ALL`, 0, false},
		"quantity_by_month":   {`SELECT sales_period, portfolio_group, sum(total_sales_quantity) FROM gold.fact_monthly_sales_by_product GROUP BY ALL ORDER BY 1, 2 LIMIT 50`, 50, true},
		"sales_by_month":      {`SELECT sales_period, portfolio_group, sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product GROUP BY ALL ORDER BY 1, 2 LIMIT 50`, 50, true},
		"lead_days_by_month": {`SELECT sales_period, avg(purchase_to_approval_days), avg(approval_to_carrier_days), avg(carrier_to_customer_days), avg(customer_delivery_delay_days)
			FROM gold.order_product_lead_days GROUP BY ALL`, 0, false},
	},
	"delivery_monitor": {
		"delivery_status": {`SELECT order_id, state, days_late, days_in_stage, purchase, approve, delivered_carrier, delivered_customer, estimated_delivery, carrier_to_customer_days
			FROM gold.order_delivery_status WHERE state NOT IN ('delivered', 'closed')
			ORDER BY array_position(['late', 'at_risk', 'on_time'], state), days_late DESC NULLS LAST, purchase, order_id LIMIT 10`, 10, true},
		"order_detail": {`SELECT d.portfolio_group, d.category, d.product_id, d.quantity, d.unit_price, d.order_id FROM gold.order_product_latest_group d
			JOIN gold.order_delivery_status s USING (order_id) WHERE s.state NOT IN ('delivered', 'closed')
			ORDER BY d.order_id, 1 NULLS LAST, 2, 3, 4, 5 LIMIT 10`, 10, true},
		"order_location": {`SELECT l.lng, l.lat, l.user_type, l.order_id FROM gold.order_location l
			JOIN gold.order_delivery_status s USING (order_id) WHERE s.state NOT IN ('delivered', 'closed') ORDER BY 3, 1, 2, 4 LIMIT 50`, 50, true},
	},
	"why_sales_differ": {
		"pareto":           {`SELECT item, amount, cumulative_share FROM gold.sales_pareto WHERE level = 'category' ORDER BY amount DESC, item LIMIT 40`, 40, true},
		"quarterly_sales":  {`SELECT quarter, portfolio_group, sum(total_sales_amount) FROM gold.quarterly_portfolio GROUP BY ALL`, 0, false},
		"quarterly_matrix": {`SELECT product_id, category, quarter, portfolio_group, order_count, mean_sale, total_sales_amount FROM gold.quarterly_portfolio ORDER BY 7 DESC, 1, 2, 3, 4 LIMIT 50`, 50, true},
		"low_reviews":      {`SELECT term, review_count, late_ratio FROM gold.review_terms WHERE side = 'low' ORDER BY 2 DESC, 1 LIMIT 50`, 50, true},
		"high_reviews":     {`SELECT term, review_count, late_ratio FROM gold.review_terms WHERE side = 'high' ORDER BY 2 DESC, 1 LIMIT 50`, 50, true},
		"score_by_delay": {`SELECT greatest(-30, least(30, l.customer_delivery_delay_days)), count(*), avg(r.review_score) FROM silver.review_metadata r
			JOIN gold.fact_order_lead_days l USING (order_id) WHERE l.delivered_customer IS NOT NULL AND l.estimated_delivery IS NOT NULL GROUP BY ALL ORDER BY 1 LIMIT 50`, 50, true},
	},
}

type listed struct {
	Dashboards []struct {
		Name string
		Rows []struct {
			Panels []struct{ Name, Chart string }
		}
	}
	Problems []any
}

// TestFigures compares what each panel of each dashboard shows with a query.
func TestFigures(t *testing.T) {
	if browser == nil {
		t.Skip("no browser")
	}
	var list listed
	if err := shared.get("/api/dashboards", &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Problems) > 0 {
		t.Fatalf("faults: %v", list.Problems)
	}
	for _, d := range list.Dashboards {
		if d.Name == "states" {
			continue
		}
		var views []string
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				if p.Chart != "table" {
					views = append(views, "view."+p.Name+"=data")
				}
			}
		}
		page := open(t, shared, "/dash/"+d.Name+"?"+strings.Join(views, "&"))
		for _, r := range d.Rows {
			for _, p := range r.Panels {
				t.Run(d.Name+"/"+p.Name, func(t *testing.T) {
					want, ok := figures[d.Name][p.Name]
					if !ok {
						t.Fatal("no figure is expected of this panel: add its query")
					}
					page.t = t
					compare(t, page.rows(p.Name), shared.query(t, want.sql), want)
				})
			}
		}
	}
}

func compare(t *testing.T, got, want [][]string, f figure) {
	t.Helper()
	if len(want) == 0 {
		t.Fatal("the query gives no rows: there is nothing to compare")
	}
	if f.rows > 0 {
		got, want = got[:min(len(got), f.rows)], want[:min(len(want), f.rows)]
	}
	if !f.ordered {
		slices.SortFunc(got, slices.Compare)
		slices.SortFunc(want, slices.Compare)
	}
	if len(got) != len(want) {
		t.Fatalf("%d rows on the page, %d of the query\n%v\n%v", len(got), len(want), got, want)
	}
	for i := range want {
		if !sameRow(got[i], want[i]) {
			t.Errorf("row %d: on the page %q, of the query %q", i, got[i], want[i])
		}
	}
}

func sameRow(a, b []string) bool {
	return slices.EqualFunc(a, b, func(x, y string) bool {
		if x == y {
			return true
		}
		u, err1 := strconv.ParseFloat(x, 64)
		v, err2 := strconv.ParseFloat(y, 64)
		return err1 == nil && err2 == nil && math.Abs(u-v) <= 1e-9*math.Max(1, math.Abs(v))
	})
}

// TestDrawn looks at what ECharts was given to draw, not at the table beside.
func TestDrawn(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	for name, sql := range map[string]string{
		"quantity_by_month":   `SELECT sum(total_sales_quantity) FROM gold.fact_monthly_sales_by_product`,
		"sales_by_month":      `SELECT sum(total_sales_amount) FROM gold.fact_monthly_sales_by_product`,
		"review_distribution": `SELECT count(*) FROM gold.product_review WHERE review_score IS NOT NULL`,
	} {
		p.loaded(name)
		p.wait(name+" is drawn", panel(name)+`.querySelector(".canvas").chart.getOption().series?.length`)
		sum := eval[float64](p, panel(name)+`.querySelector(".canvas").chart.getOption().series.filter((s) => s.name !== "total")
			.flatMap((s) => s.links || s.data).reduce((n, d) => n + Number(d.value), 0)`)
		want, _ := strconv.ParseFloat(shared.query(t, sql)[0][0], 64)
		if math.Abs(sum-want) > 1e-6*want {
			t.Errorf("%s draws %v in all, want %v", name, sum, want)
		}
	}
}

// TestSummary compares the summary row and the count of a ranked table.
func TestSummary(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("rank_by_product")
	got := eval[[]string](p, `[...`+panel("rank_by_product")+`.querySelectorAll("tfoot td[data-value]")].map((d) => d.dataset.value)`)
	want := shared.query(t, `SELECT '', '', sum(total_sales_amount), sum(total_sales_quantity), sum(mean_sales) / count(*) FROM gold.fact_monthly_sales_by_product`)[0]
	if !sameRow(got, want) {
		t.Errorf("summary %q, want %q", got, want)
	}
	n := shared.query(t, `SELECT count(DISTINCT product_id) FROM gold.fact_monthly_sales_by_product`)[0][0]
	pages := eval[string](p, panel("rank_by_product")+`.querySelector(".pages span").textContent`)
	if digits(pages) != "110"+n {
		t.Errorf("the pages say %q, want 1–10 of %s", pages, n)
	}
}

func digits(s string) string {
	return strings.Map(func(r rune) rune {
		if r < '0' || r > '9' {
			return -1
		}
		return r
	}, s)
}

// TestReaderFormat checks that figures are written in the reader's way.
func TestReaderFormat(t *testing.T) {
	p := open(t, shared, "/dash/sales_detail")
	p.loaded("rank_by_category")
	type shown struct{ Text, Value string }
	got := eval[shown](p, `(() => { const d = `+panel("rank_by_category")+`.querySelector("tbody tr td:nth-child(2)"); return {Text: d.innerText.trim(), Value: d.dataset.value}; })()`)
	want := eval[string](p, fmt.Sprintf(`new Intl.NumberFormat(navigator.languages, {style: "currency", currency: "BRL", minimumFractionDigits: 2}).format(%s)`, got.Value))
	if got.Text != want {
		t.Errorf("the amount %s is written %q, want %q", got.Value, got.Text, want)
	}
}
