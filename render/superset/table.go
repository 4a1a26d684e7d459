package superset

import "encoding/json"

// table is a table with pages made by the server, bars in cells, badges, and
// the measures over all rows as summary.
func table(v view) drawn {
	params := dict{
		"server_pagination": true, "server_page_length": v.page.Page, "page_length": v.page.Page, "include_search": v.page.Search,
		"table_timestamp_format": timeFormat(""), "show_cell_bars": true, "color_pn": false, "align_pn": false, "allow_render_html": false,
		"column_config": v.columnConfig(), "conditional_formatting": badges(v.page.Columns), "row_limit": maxRows, "order_desc": true,
	}
	if len(v.measures) == 0 {
		return v.rows(params)
	}
	params["query_mode"], params["groupby"], params["metrics"], params["show_totals"] = "aggregate", v.names(), v.measures, v.p.Summary
	q := ask(v.names(), v.measures, maxRows)
	if m, descending := v.measureSort(); m != nil {
		params["timeseries_limit_metric"], params["order_desc"] = m, descending
		q["orderby"] = [][]any{{m, !descending}}
	}
	return drawn{"table", params, []dict{q}}
}

// maxRows is what Superset gives at most as it is installed.
const maxRows = 50_000

// rows is a table of rows as they are.
func (v view) rows(params dict) drawn {
	params["query_mode"], params["all_columns"] = "raw", v.names()
	order, orderby := []string{}, [][]any{}
	for _, s := range v.source.sort {
		orderby = append(orderby, []any{s.column, !s.descending})
		text, err := json.Marshal([]any{s.column, !s.descending})
		if err != nil {
			panic(err) // a string and a bool
		}
		order = append(order, string(text))
	}
	params["order_by_cols"] = order
	q := ask(v.names(), nil, maxRows)
	q["orderby"] = orderby
	return drawn{"table", params, []dict{q}}
}

// columnConfig says how each column of a table is shown. Columns of measures go
// by their label.
func (v view) columnConfig() dict {
	out := dict{}
	for _, c := range v.page.Columns {
		name := c.Name
		if m := v.metric(name); m != nil {
			name = m["label"].(string)
		}
		config := dict{"showCellBars": c.Bar}
		if f := numberFormat(c.Format); f != "" {
			config["d3NumberFormat"] = f
		}
		if m := currency(v.d, c.Format); m != nil {
			config["currencyFormat"] = m
		}
		switch c.Format {
		case "date":
			config["d3TimeFormat"] = timeFormat("date")
		case "id": // long ones; the whole stands in the cell's hint
			config["truncateLongCells"], config["columnWidth"] = true, 110
		case "badge":
			config["columnWidth"] = 110
		case "money":
			config["columnWidth"] = 90
		}
		out[name] = config
	}
	return out
}
