package superset

import (
	"slices"
	"strings"
)

// bubbles are marks over two numbers.
func bubbles(v view) drawn {
	x, y, size := v.metric(v.p.Encode["x"]), v.metric(v.p.Encode["y"]), v.metric(v.p.Encode["size"])
	label, color := v.role("label"), v.role("color")
	if label == "" {
		label = v.dimensions[0].Name
	}
	if size == nil {
		size = y
	}
	limit := v.limit(maxBubbles)
	xFormat, yFormat := v.shown(v.p.Encode["x"]).Format, v.shown(v.p.Encode["y"]).Format
	params := dict{
		"entity": label, "x": x, "y": y, "size": size, "row_limit": limit, "order_desc": true, "max_bubble_size": "15", "opacity": 0.6, "color_scheme": colorScheme,
		"show_legend": true, "legendType": "scroll", "legendOrientation": "top", "x_axis_label": x["label"], "y_axis_label": y["label"],
		"x_axis_title_margin": 30, "y_axis_title_margin": 50, "xAxisFormat": axisFormat(xFormat), "y_axis_format": axisFormat(yFormat),
		"tooltipSizeFormat": exactFormat(v.shown(v.p.Encode["size"]).Format), "logXAxis": slices.Contains(v.p.Log, "x"), "logYAxis": slices.Contains(v.p.Log, "y"),
		"truncateXAxis": true, "truncateYAxis": false, "y_axis_bounds": []any{nil, nil},
	}
	columns := []string{label}
	if color != "" {
		params["series"] = color
		columns = append(columns, color)
	}
	var rest []string
	for _, c := range v.names() {
		if !slices.Contains(columns, c) {
			rest = append(rest, c)
		}
	}
	if len(rest) > 0 {
		v.note("a mark is one %s; %s is not told apart", strings.Join(columns, " and "), strings.Join(rest, ", "))
	}
	v.note("a click on a mark does not filter the others; a click in a table does")
	q := ask(columns, []dict{x, y, size}, limit)
	if m, descending := v.measureSort(); m != nil {
		params["orderby"], params["order_desc"] = m, descending
		q["orderby"] = [][]any{{m, !descending}}
	}
	return drawn{"bubble_v2", params, []dict{q}}
}

// maxBubbles keeps a page quick: each mark is a series of its own there.
const maxBubbles = 1000

// sankey flows from one dimension to another.
func sankey(v view) drawn {
	from, to, value := v.role("source"), v.role("target"), v.metric(v.p.Encode["value"])
	limit := v.limit(maxRows)
	params := dict{"source": from, "target": to, "metric": value, "row_limit": limit, "sort_by_metric": false, "color_scheme": colorScheme}
	return drawn{"sankey_v2", params, []dict{ask([]string{from, to}, []dict{value}, limit)}}
}

// parallel draws a line for each row over one axis per column.
func parallel(v view) drawn {
	limit := v.limit(maxRows)
	series := v.dimensions[0].Name
	// Lines come in the order of the rows, and so do the names on the first axis.
	order := dict{"expressionType": "SQL", "sqlExpression": "max(" + series + ")", "label": "order of " + series, "hasCustomLabel": true, "optionName": "metric_order"}
	params := dict{"series": series, "metrics": v.measures, "include_series": true, "show_datatable": false, "row_limit": limit,
		"linear_color_scheme": "superset_seq_1", "timeseries_limit_metric": order, "order_desc": true}
	if m := v.metric(v.p.Encode["color"]); m != nil {
		params["secondary_metric"] = m
	}
	if len(v.dimensions) > 1 {
		v.note("its lines are one per %s", series)
	}
	return drawn{"para", params, []dict{ask([]string{series}, v.measures, limit)}}
}

// tiles are the streets and borders under a map: free ones, without a key.
const tiles = "https://tile.openstreetmap.org/{z}/{x}/{y}.png"

// points is a map. It needs no key: without a way to the tiles the points stand on white.
func points(v view) drawn {
	lng, lat, color, label := v.role("lng"), v.role("lat"), v.role("color"), v.role("label")
	limit := v.limit(maxRows)
	params := dict{
		"spatial": dict{"type": "latlong", "lonCol": lng, "latCol": lat}, "row_limit": limit, "filter_nulls": true, "mapbox_style": tiles, "autozoom": true,
		"viewport": dict{"longitude": 0, "latitude": 0, "zoom": 1, "bearing": 0, "pitch": 0},
		// A number here makes Superset ask for a metric of that name; size stays out.
		"point_radius_fixed": dict{"type": "fix", "value": "2000"}, "point_unit": "radius_m", "multiplier": 1, "min_radius": 2, "max_radius": 12,
		"color_scheme_type": "categorical_palette", "color_scheme": colorScheme, "color_picker": dict{"r": 58, "g": 118, "b": 216, "a": 0.8},
		"legend_position": "tr",
	}
	columns := []string{lng, lat}
	if color != "" {
		params["dimension"] = color
		columns = append(columns, color)
	}
	if label != "" {
		params["tooltip_contents"] = []dict{{"item_type": "column", "column_name": label, "verbose_name": v.shown(label).Label}}
		columns = append(columns, label)
	}
	return drawn{"deck_scatter", params, []dict{ask(columns, nil, limit)}}
}

// words is a cloud of words.
func words(v view) drawn {
	size := v.metric(v.p.Encode["size"])
	limit := v.limit(500)
	params := dict{"series": v.role("word"), "metric": size, "row_limit": limit, "size_from": 12, "size_to": 60, "rotation": "flat",
		"color_scheme": colorScheme, "sort_by_metric": true}
	if c := v.role("color"); c != "" {
		v.note("color says nothing: %s cannot be shown by it", v.shown(c).Label)
	}
	q := ask([]string{v.role("word")}, []dict{size}, limit)
	q["orderby"] = [][]any{{size, false}}
	return drawn{"word_cloud", params, []dict{q}}
}
