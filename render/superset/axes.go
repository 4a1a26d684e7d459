package superset

import "slices"

// bars are bars, areas or lines over an axis; stacked by color.
func bars(v view) drawn {
	x, y, color := v.role("x"), v.metric(v.p.Encode["y"]), v.role("color")
	params := dict{
		"x_axis": x, "metrics": []dict{y}, "groupby": []string{}, "row_limit": v.limit(maxRows), "x_axis_sort_asc": true, "order_desc": true,
		"truncate_metric": true, "show_empty_columns": true, "comparison_type": "values", "rich_tooltip": true, "showTooltipTotal": true, "show_legend": color != "",
		"legendType": "scroll", "legendOrientation": "top", "color_scheme": colorScheme, "y_axis_title_margin": 15, "x_axis_title_margin": 15,
		"xAxisForceCategorical": true, "sort_series_type": "name", "sort_series_ascending": true, "truncateXAxis": true, "y_axis_bounds": []any{nil, nil},
	}
	v.axis(params, "", v.p.Encode["y"])
	columns := []string{x}
	if color != "" {
		columns = append(columns, color)
		params["groupby"] = []string{color}
		if v.by != "" && v.p.Builtin.Top > 0 {
			params["limit"], params["series_limit_metric"], params["group_others_when_limit_reached"] = v.p.Builtin.Top, y, true
		}
	}
	kind := map[string]string{"bar": "echarts_timeseries_bar", "area": "echarts_area", "line": "echarts_timeseries_line"}[v.p.Chart]
	if v.p.Chart != "line" {
		params["stack"] = "Stack"
	}
	if v.p.Stack == "percent" {
		params["contributionMode"], params["y_axis_format"] = "row", ".0%"
	}
	if v.p.Chart == "area" {
		params["seriesType"], params["opacity"], params["markerEnabled"] = "middle", 0.7, false
	}
	if v.p.Totals {
		params["show_value"], params["only_total"] = true, true
	}
	if slices.Contains(v.p.Log, "y") {
		params["logAxis"] = true
	}
	if slices.Contains(v.p.Log, "x") {
		v.note("its x axis is not logarithmic")
	}
	q := ask(columns, []dict{y}, params["row_limit"].(int))
	if n, limited := params["limit"].(int); limited {
		q["series_columns"], q["series_limit"], q["series_limit_metric"], q["group_others_when_limit_reached"] = []string{color}, n, y, true
	}
	return drawn{kind, params, []dict{q}}
}

// colorScheme is Superset's own; values that have a color get it by the dashboard.
const colorScheme = "supersetColors"

// axis sets the format of a measure's axis, the second one by a suffix.
func (v view) axis(params dict, suffix, measure string) {
	format := v.shown(measure).Format
	params["y_axis_format"+suffix] = axisFormat(format)
	if suffix == "" {
		params["tooltipValuesFormat"] = exactFormat(format)
	}
	if m := currency(v.d, format); m != nil {
		params["currency_format"+suffix] = m
	}
}

// combo is bars and a line that has an axis of its own.
func combo(v view) drawn {
	x, y, line := v.role("x"), v.metric(v.p.Encode["y"]), v.metric(v.p.Encode["line"])
	limit := v.limit(maxRows)
	params := dict{
		"x_axis": x, "metrics": []dict{y}, "groupby": []string{}, "metrics_b": []dict{line}, "groupby_b": []string{}, "row_limit": limit, "row_limit_b": limit,
		"seriesType": "bar", "seriesTypeB": "line", "yAxisIndex": 0, "yAxisIndexB": 1, "markerEnabledB": true, "markerSizeB": 4, "order_desc": true, "order_desc_b": true,
		"truncate_metric": true, "truncate_metric_b": true, "rich_tooltip": true, "show_legend": true, "legendType": "scroll", "legendOrientation": "top",
		"color_scheme": colorScheme, "xAxisForceCategorical": true, "y_axis_bounds": []any{nil, nil}, "y_axis_bounds_secondary": []any{nil, nil},
		"show_query_identifiers": false,
	}
	v.axis(params, "", v.p.Encode["y"])
	v.axis(params, "_secondary", v.p.Encode["line"])
	a, b := ask([]string{x}, []dict{y}, limit), ask([]string{x}, []dict{line}, limit)
	if m, descending := v.measureSort(); m != nil {
		params["timeseries_limit_metric"], params["timeseries_limit_metric_b"], params["order_desc"], params["order_desc_b"] = m, m, descending, descending
		a["orderby"], b["orderby"] = [][]any{{m, !descending}}, [][]any{{m, !descending}}
	}
	return drawn{"mixed_timeseries", params, []dict{a, b}}
}

// pareto is the curve alone: where Superset draws bars and a line, it sorts what
// is under them by name.
func pareto(v view) drawn {
	x, line := v.role("x"), v.metric(v.p.Encode["line"])
	limit := v.limit(maxRows)
	params := dict{
		"x_axis": x, "metrics": []dict{line}, "groupby": []string{}, "row_limit": limit, "x_axis_sort": line["label"], "x_axis_sort_asc": true, "order_desc": true,
		"truncate_metric": true, "show_empty_columns": true, "comparison_type": "values", "rich_tooltip": true, "show_legend": false, "color_scheme": colorScheme,
		"xAxisForceCategorical": true, "markerEnabled": true, "markerSize": 4, "area": true, "opacity": 0.2, "truncateYAxis": true, "y_axis_bounds": []any{0, nil},
	}
	v.axis(params, "", v.p.Encode["line"])
	if v.shown(v.p.Encode["line"]).Format == "percent" {
		params["y_axis_bounds"] = []any{0, 1}
	}
	v.note("the bars of %s are not drawn, only the curve", v.shown(v.p.Encode["y"]).Label)
	q := ask([]string{x}, []dict{line}, limit)
	if m, descending := v.measureSort(); m != nil {
		params["timeseries_limit_metric"], params["order_desc"] = m, descending
		q["orderby"] = [][]any{{m, !descending}}
	}
	return drawn{"echarts_timeseries_line", params, []dict{q}}
}
