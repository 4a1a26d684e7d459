package superset

import (
	"cmp"
	"maps"
	"slices"

	"lockstep/dashboard"
)

// palette gives the names of colors in dashboards' files as Superset's pages,
// which are light, show them.
var palette = map[string]string{
	"gold": "#c99700", "violet": "#8250df", "lightblue": "#4aa8e0", "grey": "#8a94a3", "pink": "#e0559b", "slate": "#51647d",
	"red": "#cf3a32", "orange": "#dd7b16", "green": "#2d9a5f", "blue": "#3a76d8", "teal": "#1f9e9e", "brown": "#9a6a3c",
}

// numberFormat is a format in the words of D3; empty: Superset's own.
func numberFormat(format string) string {
	switch format {
	case "integer", "bar":
		return ",d"
	case "decimal", "money", "ratio":
		return ",.2f"
	case "days":
		return ",.1f"
	case "percent":
		return ".1%"
	}
	return ""
}

// timeFormat is a format of times in the words of D3.
func timeFormat(format string) string {
	if format == "date" {
		return "%Y-%m-%d"
	}
	return "%Y-%m-%d %H:%M"
}

// currency is how money is shown; nil: not money.
func currency(d *dashboard.Dashboard, format string) any {
	if format != "money" || d.Currency == "" {
		return nil
	}
	return dict{"symbol": d.Currency, "symbolPosition": "prefix"}
}

// axisFormat is a number's format on an axis, where amounts are shortened to fit.
func axisFormat(format string) string {
	if format == "money" {
		return "SMART_NUMBER"
	}
	return exactFormat(format)
}

// exactFormat is a number's format where there is room.
func exactFormat(format string) string { return cmp.Or(numberFormat(format), "SMART_NUMBER") }

// labelColors are the colors of values, for every chart of a dashboard.
func labelColors(d *dashboard.Dashboard) dict {
	out := dict{}
	for _, f := range d.Fields {
		for value, color := range f.Colors {
			out[value] = palette[color]
		}
	}
	return out
}

// badges color the cells of a table whose values have colors.
func badges(columns []dashboard.ColumnPage) []dict {
	out := []dict{}
	for _, c := range columns {
		for _, value := range slices.Sorted(maps.Keys(c.Colors)) {
			out = append(out, dict{"column": c.Name, "operator": "=", "targetValue": value, "colorScheme": palette[c.Colors[value]],
				"useGradient": false, "columnFormatting": c.Name, "objectFormatting": "BACKGROUND_COLOR"})
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
