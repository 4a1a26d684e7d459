package compile

import (
	"regexp"
	"slices"
	"strings"
)

// function says what a portable function is. Each is tested for equal results
// on both engines (engine/enginetest).
type function struct {
	aggregate bool
	window    bool // may stand before OVER
	total     bool // as a window function its result depends on how ties are ordered
	view      bool // only in views
}

// functions is the closed list: what is not here is refused.
var functions = map[string]function{
	// operators
	"+": {}, "-": {}, "*": {}, "/": {}, "%": {}, "||": {}, "like": {},
	// numbers
	"abs": {}, "ceil": {}, "floor": {}, "round": {}, "sign": {}, "greatest": {}, "least": {},
	// nulls and choice
	"coalesce": {}, "nullif": {}, "ifnull": {}, "nvl": {}, "if": {},
	// text
	"lower": {}, "upper": {}, "trim": {}, "ltrim": {}, "rtrim": {}, "length": {}, "lpad": {}, "rpad": {}, "substring": {},
	"replace": {}, "translate": {}, "concat_ws": {}, "md5": {}, "regexp_extract": {}, "regexp_extract_all": {view: true}, "explode": {view: true},
	// time
	"year": {}, "month": {}, "day": {}, "hour": {}, "quarter": {}, "weekofyear": {}, "last_day": {}, "make_date": {},
	"datediff": {}, "date_add": {}, "add_months": {}, "date_trunc": {},
	// aggregates
	"count": {aggregate: true, window: true}, "sum": {aggregate: true, window: true}, "min": {aggregate: true, window: true}, "max": {aggregate: true, window: true},
	"count_if": {aggregate: true}, "bool_and": {aggregate: true}, "bool_or": {aggregate: true}, "every": {aggregate: true},
	"percentile_disc": {aggregate: true},
	// window functions
	"row_number": {window: true, total: true}, "ntile": {window: true, total: true}, "lag": {window: true, total: true}, "lead": {window: true, total: true},
	"first_value": {window: true, total: true}, "last_value": {window: true, total: true},
	"rank": {window: true}, "dense_rank": {window: true},
}

// refusals says why well-known functions are not on the list, and what to
// write instead.
var refusals = map[string]struct{ why, do string }{
	"now":                   {"its result depends on when it runs", "declare `materialized: view` and compare with the greatest time seen"},
	"current_date":          {"its result depends on when it runs", "compare with the greatest time seen, in a view"},
	"current_timestamp":     {"its result depends on when it runs", "compare with the greatest time seen, in a view"},
	"get_current_timestamp": {"its result depends on when it runs", "compare with the greatest time seen, in a view"},
	"today":                 {"its result depends on when it runs", "compare with the greatest time seen, in a view"},
	"random":                {"its result is random", "derive the value from md5() of a key"},
	"rand":                  {"its result is random", "derive the value from md5() of a key"},
	"uuid":                  {"its result is random", "derive the value from md5() of a key"},
	"any_value":             {"which value it takes depends on the order of arrival", "use min() or max()"},
	"first":                 {"which value it takes depends on the order of arrival", "use min(), max() or a row_number() with a total order"},
	"last":                  {"which value it takes depends on the order of arrival", "use min(), max() or a row_number() with a total order"},
	"max_by":                {"which of two rows that tie it takes depends on the order of arrival", "use a row_number() with a total order"},
	"min_by":                {"which of two rows that tie it takes depends on the order of arrival", "use a row_number() with a total order"},
	"arg_max":               {"which of two rows that tie it takes depends on the order of arrival", "use a row_number() with a total order"},
	"arg_min":               {"which of two rows that tie it takes depends on the order of arrival", "use a row_number() with a total order"},
	"array_agg":             {"the order of its elements depends on the order of arrival", "keep one row an element"},
	"list":                  {"the order of its elements depends on the order of arrival", "keep one row an element"},
	"collect_list":          {"the order of its elements depends on the order of arrival", "keep one row an element"},
	"string_agg":            {"the order of its elements depends on the order of arrival", "keep one row an element"},
	"avg":                   {"its type and rounding differ between the engines", "write CAST(sum(x) AS double) / nullif(count(x), 0)"},
	"mean":                  {"its type and rounding differ between the engines", "write CAST(sum(x) AS double) / nullif(count(x), 0)"},
	"median":                {"it interpolates between two values", "use percentile_disc(0.5) WITHIN GROUP (ORDER BY x)"},
	"concat":                {"a null argument means null in Spark and nothing in DuckDB", "use || or concat_ws"},
	"approx_count_distinct": {"its estimate depends on the engine", "use count(DISTINCT x)"},
	"dayofweek":             {"Sunday is 1 in Spark and 0 in DuckDB", "use datediff(CAST(x AS date), DATE '1970-01-04') % 7"},
}

func isFunction(name string) bool  { _, ok := functions[strings.ToLower(name)]; return ok }
func isAggregate(name string) bool { return functions[strings.ToLower(name)].aggregate }

// checkFunction refuses what is not on the closed list.
func checkFunction(c *Call, window bool) {
	name := strings.ToLower(c.Name)
	if r, ok := refusals[name]; ok {
		refuse(c.Pos, r.do, "%s(): %s", name, r.why)
	}
	f, ok := functions[name]
	if !ok {
		refuse(c.Pos, portableRemedy, "function %s() is not on the list of portable functions", name)
	}
	if window && !f.window {
		refuse(c.Pos, portableRemedy, "%s() is not on the list of portable window functions", name)
	}
	if !window && f.window && !f.aggregate {
		refuse(c.Pos, "write "+name+"() OVER (PARTITION BY ... ORDER BY ...)", "%s() without OVER", name)
	}
	if name == "date_trunc" {
		if l, ok := c.Args[0].(*Literal); !ok || l.Is != "string" {
			refuse(c.Pos, "write date_trunc('month', x)", "date_trunc of a part that is not a constant")
		}
	}
	if name == "substring" && len(c.Args) > 1 {
		if l, ok := c.Args[1].(*Literal); !ok || l.SQL == "0" || strings.HasPrefix(l.SQL, "-") {
			refuse(c.Pos, "count from a constant 1 or more", "substring from a place that may be below 1 differs between the engines")
		}
	}
}

var (
	comment   = regexp.MustCompile(`(?s)/\*.*?\*/|--[^\n]*`)
	quoted    = regexp.MustCompile(`'(?:[^']|'')*'`)
	called    = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)\s*\(`)
	aliased   = regexp.MustCompile(`(?i)\bas\s+$`)
	forbidden = regexp.MustCompile("[\"`$]|//|::|\\?|==|<=>|\\[|\\{")
)

// keywords may stand before a parenthesis without being functions.
var keywords = map[string]bool{}

func init() {
	for _, w := range strings.Fields(`as in and or not on over filter where when then else case select from join by union all
		between exists any values rollup cube sets using columns group order partition having distinct with decimal cast try_cast extract numeric interval is like within ilike`) {
		keywords[w] = true
	}
}

// checkTokens looks at the text itself: DuckDB's parser folds spellings that
// Spark does not know into the same tree.
func checkTokens(text string) *parseError {
	blank := func(s string) string { return strings.Repeat(" ", len(s)) }
	code := quoted.ReplaceAllStringFunc(comment.ReplaceAllStringFunc(text, blank), blank)
	if at := forbidden.FindStringIndex(code); at != nil {
		return &parseError{pos: at[0], what: "`" + code[at[0]:at[1]] + "` is not read alike by both engines", do: "use bare lower-case names, CAST, = and IS NOT DISTINCT FROM"}
	}
	for _, m := range called.FindAllStringSubmatchIndex(code, -1) {
		name := strings.ToLower(code[m[2]:m[3]])
		if keywords[name] || isFunction(name) {
			continue
		}
		if aliased.MatchString(code[:m[2]]) {
			continue // names behind a table's alias, which the tree refuses
		}
		if _, isRefusal := refusals[name]; isRefusal || isCTEName(code, name) {
			continue // the tree gives the better message
		}
		return &parseError{pos: m[2], what: "function " + name + "() is not on the list of portable functions", do: portableRemedy}
	}
	return nil
}

// isCTEName tells a CTE with parentheses behind its name from a function.
func isCTEName(code, name string) bool {
	return regexp.MustCompile(`(?i)\b` + name + `\s+as\s*\(`).MatchString(code)
}

// Prelude gives Spark's names their Spark meaning in DuckDB, and settings
// their Spark values. Run once a connection or database.
var Prelude = []string{
	"SET default_null_order = 'nulls_first_on_asc_last_on_desc'",
	"SET TimeZone = 'UTC'",
	"CREATE OR REPLACE TEMP MACRO nvl(a, b) AS coalesce(a, b)",
	"CREATE OR REPLACE TEMP MACRO datediff(e, s) AS CAST(date_diff('day', CAST(s AS DATE), CAST(e AS DATE)) AS INTEGER)",
	"CREATE OR REPLACE TEMP MACRO date_add(d, n) AS CAST(CAST(d AS DATE) + CAST(n AS INTEGER) AS DATE)",
	"CREATE OR REPLACE TEMP MACRO add_months(d, n) AS CAST(CAST(d AS DATE) + to_months(CAST(n AS INTEGER)) AS DATE)",
	"CREATE OR REPLACE TEMP MACRO every(x) AS bool_and(x)",
	"CREATE OR REPLACE TEMP MACRO explode(x) AS unnest(x)",
}

// Functions lists the portable functions, operators included, sorted: what
// every engine must give equal results for.
func Functions() []string {
	out := make([]string, 0, len(functions))
	for name := range functions {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
