// Package figures asks for the figures that are expected of a tenth of the public
// data, in any environment.
package figures

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
)

// Queries give the values of the expected file, by entry. A query of one row
// gives one figure per column; one of two columns named key and value gives one
// per row.
var Queries = map[string][]string{
	"order_status": {`SELECT status AS key, count(*) AS value FROM bronze.order_status GROUP BY status`},
	"fact_order_detail": {`SELECT count(*) AS "rows", sum(quantity) AS quantity, sum(quantity * unit_price) AS amount,
		count(*) FILTER (WHERE customer_id IS NULL) AS null_customer, count(*) FILTER (WHERE category = 'uncategorized') AS uncategorized
		FROM gold.fact_order_detail`},
	"fact_order_lead_days": {
		`SELECT count(*) AS "rows", count(*) FILTER (WHERE customer_delivery_delay_days > 0) AS late, count(delivered_customer) AS delivered
			FROM gold.fact_order_lead_days`,
		leadDays("purchase_to_approval_days"), leadDays("approval_to_carrier_days"), leadDays("carrier_to_customer_days"),
		leadDays("carrier_delivery_delay_days"), leadDays("customer_delivery_delay_days")},
	"fact_review_answer_lead_days": {`SELECT count(*) AS "rows", count(until_answer_lead_days) AS days_n, sum(until_answer_lead_days) AS days_sum,
		sum(review_score) AS score_sum FROM gold.fact_review_answer_lead_days`},
	"fact_monthly_sales_by_product": {
		`SELECT count(*) AS "rows", sum(total_sales_quantity) AS quantity, sum(total_sales_amount) AS amount FROM gold.fact_monthly_sales_by_product`,
		`SELECT 'groups.' || portfolio_group AS key, count(*) AS value FROM gold.fact_monthly_sales_by_product GROUP BY portfolio_group`,
		`SELECT 'group_amount_2017_09.' || portfolio_group AS key, sum(total_sales_amount) AS value FROM gold.fact_monthly_sales_by_product
			WHERE sales_period = '2017-09' GROUP BY portfolio_group`,
		`SELECT 'top_categories.' || category AS key, sum(total_sales_amount) AS value FROM gold.fact_monthly_sales_by_product
			GROUP BY category ORDER BY 2 DESC LIMIT 5`},
	"product_review": {`SELECT count(*) AS "rows" FROM gold.product_review`,
		`SELECT 'by.' || portfolio_group || '|' || review_score AS key, count(*) AS value FROM gold.product_review GROUP BY portfolio_group, review_score`},
	"order_product_lead_days": {`SELECT count(*) AS "rows", avg(carrier_to_customer_days) FILTER (WHERE sales_period = '2017-09') AS avg_carrier_to_customer_2017_09
		FROM gold.order_product_lead_days`},
	"order_delivery_status": {`SELECT state AS key, count(*) AS value FROM gold.order_delivery_status GROUP BY state`},
	"latest_group":          {`SELECT coalesce(portfolio_group, '') AS key, count(*) AS value FROM gold.order_product_latest_group GROUP BY portfolio_group`},
	"pareto_categories_80":  {`SELECT '' AS key, count(*) AS value FROM gold.sales_pareto WHERE level = 'category' AND cumulative_share - share < 0.8`},
	"geo_coord":             {countOf("silver.geo_coord")}, "olist_user": {countOf("silver.olist_user")}, "order_event": {countOf("silver.order_event")},
	"customer_order": {countOf("silver.customer_order")}, "product_metadata": {countOf("silver.product_metadata")},
	"dim_user_location": {countOf("gold.dim_user_location")}, "delivered_order_product": {countOf("gold.delivered_order_product")},
	"order_location": {countOf("gold.order_location")}, "quarterly_portfolio": {countOf("gold.quarterly_portfolio")},
}

func countOf(table string) string { return "SELECT '' AS key, count(*) AS value FROM " + table }

func leadDays(column string) string {
	return fmt.Sprintf(`SELECT count(%[1]s) AS "%[1]s.n", sum(%[1]s) AS "%[1]s.sum" FROM gold.fact_order_lead_days`, column)
}

// Read flattens the expected file: by entry, then by path in it. An entry that no
// query asks for is an error.
func Read(path string) (map[string]map[string]float64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var entries map[string]any
	if err := json.Unmarshal(text, &entries); err != nil {
		return nil, fmt.Errorf("cannot read %s: %w", path, err)
	}
	out := map[string]map[string]float64{}
	for entry, v := range entries {
		if Queries[entry] == nil {
			return nil, fmt.Errorf("nothing asks for the expected figure %s", entry)
		}
		out[entry] = map[string]float64{}
		flatten(out[entry], "", v)
	}
	return out, nil
}

func flatten(into map[string]float64, path string, v any) {
	join := func(key string) string {
		if path == "" {
			return key
		}
		return path + "." + key
	}
	switch v := v.(type) {
	case float64:
		into[path] = v
	case map[string]any:
		for k, child := range v {
			flatten(into, join(k), child)
		}
	case []any: // of [name, value]
		for _, pair := range v {
			p := pair.([]any)
			into[join(p[0].(string))] = p[1].(float64)
		}
	}
}

// Result is what a query gave, as `lockstep query --json` prints it.
type Result struct {
	Columns []struct{ Name, Type string }
	Rows    [][]any `json:"rows"`
}

// Actual asks for the figures of an entry.
func Actual(entry string, query func(sql string) Result) map[string]float64 {
	out := map[string]float64{}
	for _, sql := range Queries[entry] {
		q := query(sql)
		if q.Columns[0].Name == "key" {
			for _, row := range q.Rows {
				out[row[0].(string)] = row[1].(float64)
			}
			continue
		}
		for i, c := range q.Columns {
			out[c.Name], _ = q.Rows[0][i].(float64)
		}
	}
	return out
}

// Compare names every figure of an entry that is not as expected.
func Compare(entry string, want, got map[string]float64) (faults []string) {
	for path, w := range want {
		if g, ok := got[path]; !ok || math.Abs(g-w) > 5e-7 {
			faults = append(faults, fmt.Sprintf("%s %s: %v, want %v", entry, path, g, w))
		}
	}
	for path, g := range got {
		if _, ok := want[path]; !ok {
			faults = append(faults, fmt.Sprintf("%s %s: %v, which is not expected at all", entry, path, g))
		}
	}
	return faults
}
