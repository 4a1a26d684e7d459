package enginetest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"lockstep/compile"
	"lockstep/engine"
)

// value is an expression over one row of bronze.a, its type, and the value
// that Spark's documentation gives it (ANSI mode, UTC).
type value struct{ expr, typ, want string }

// The row: k 'k1', j null, x ' Hello ', n 7, m -2, amount 2.50, d 2.5, flag
// true, ts 2018-01-31 23:59:59.
const valueRow = "k1|NULL| Hello |7|-2|2.50|2.5|true|2018-01-31 23:59:59|0|0|NULL|false"

var values = []value{
	{"n + m", "bigint", "5"}, {"n - 10", "int", "-3"}, {"n * 2", "int", "14"}, {"m % 3", "bigint", "-2"}, {"n / 2", "double", "3.5"},
	{"n + NULL", "int", "NULL"}, {"amount * 3", "decimal(12,2)", "7.50"}, {"amount + 0.05", "decimal(12,2)", "2.55"},
	{"k || 'x'", "string", "k1x"}, {"k || j", "string", "NULL"}, {"k LIKE 'k_'", "boolean", "true"}, {"k NOT LIKE '%2'", "boolean", "true"},
	{"abs(m)", "bigint", "2"}, {"ceil(d)", "double", "3"}, {"ceil(-d)", "double", "-2"}, {"floor(d)", "double", "2"}, {"floor(-d)", "double", "-3"},
	{"cast(floor(-d) AS bigint)", "bigint", "-3"}, {"cast(ceil(amount) AS bigint)", "bigint", "3"},
	{"round(amount)", "decimal(12,0)", "3"}, {"round(-amount)", "decimal(12,0)", "-3"}, {"round(amount + 0.05, 1)", "decimal(12,1)", "2.6"}, {"round(d)", "double", "3"},
	{"sign(m)", "int", "-1"}, {"sign(0)", "int", "0"}, {"greatest(n, m, NULL)", "bigint", "7"}, {"least(NULL, n)", "int", "7"}, {"greatest(j, 'a', 'B')", "string", "a"},
	{"coalesce(j, k)", "string", "k1"}, {"coalesce(j, NULL)", "string", "NULL"}, {"nullif(n, 7)", "int", "NULL"}, {"nullif(n, 8)", "int", "7"},
	{"ifnull(j, 'none')", "string", "none"}, {"nvl(j, 'none')", "string", "none"}, {"if(n > 3, 'much', 'few')", "string", "much"}, {"if(NULL, 'much', 'few')", "string", "few"},
	{"lower('ÀB')", "string", "àb"}, {"upper(x)", "string", " HELLO "}, {"trim(x)", "string", "Hello"}, {"ltrim(x)", "string", "Hello "}, {"rtrim(x)", "string", " Hello"},
	{"length('áé')", "bigint", "2"}, {"length(j)", "bigint", "NULL"}, {"lpad('7', 3, '0')", "string", "007"}, {"lpad('12345', 3, '0')", "string", "123"}, {"rpad('7', 3, '0')", "string", "700"},
	{"substring('hello', 2, 3)", "string", "ell"}, {"substring('hello', 4)", "string", "lo"}, {"substring('hello', 9, 2)", "string", ""},
	{"replace('aXbX', 'X', '-')", "string", "a-b-"}, {"translate('abcba', 'abc', 'xy')", "string", "xyyx"}, {"concat_ws('-', 'a', j, 'b')", "string", "a-b"},
	{"md5('a')", "string", "0cc175b9c0f1b6a831c399e269772661"}, {"regexp_extract('ab12', '([a-z]+)([0-9]+)', 2)", "string", "12"}, {"regexp_extract('ab', '[0-9]+', 0)", "string", ""},
	{"year(ts)", "bigint", "2018"}, {"month(ts)", "bigint", "1"}, {"day(ts)", "bigint", "31"}, {"hour(ts)", "bigint", "23"}, {"quarter(ts)", "bigint", "1"},
	{"weekofyear(cast('2016-01-01' AS date))", "bigint", "53"}, {"last_day(cast('2020-02-05' AS date))", "date", "2020-02-29"}, {"make_date(2020, 2, 29)", "date", "2020-02-29"},
	{"datediff(cast('2018-02-01' AS date), cast(ts AS date))", "int", "1"}, {"datediff(cast(ts AS date), cast('2018-02-01' AS date))", "int", "-1"},
	{"date_add(cast(ts AS date), 1)", "date", "2018-02-01"}, {"add_months(cast(ts AS date), 1)", "date", "2018-02-28"}, {"date_trunc('month', ts)", "timestamp", "2018-01-01 00:00:00"},
	{"ts + INTERVAL 1 DAY", "timestamp", "2018-02-01 23:59:59"}, {"ts + INTERVAL 1 MONTH", "timestamp", "2018-02-28 23:59:59"}, {"extract(year FROM ts)", "bigint", "2018"},
	{"cast(ts AS string)", "string", "2018-01-31 23:59:59"}, {"cast(cast(ts AS date) AS string)", "string", "2018-01-31"}, {"cast(flag AS string)", "string", "true"},
	{"cast(amount AS string)", "string", "2.50"}, {"cast('12' AS int)", "int", "12"}, {"try_cast('x' AS int)", "int", "NULL"}, {"cast('2.345' AS decimal(12,2))", "decimal(12,2)", "2.35"},
	{"cast('2018-01-31 10:00:00' AS timestamp)", "timestamp", "2018-01-31 10:00:00"}, {"cast(n AS double) / 2", "double", "3.5"}, {"cast(amount AS double)", "double", "2.5"},
	{"j = 'x'", "boolean", "NULL"}, {"j IS DISTINCT FROM 'x'", "boolean", "true"}, {"j IS NOT DISTINCT FROM NULL", "boolean", "true"}, {"n IN (1, 7)", "boolean", "true"}, {"n IN (1, NULL)", "boolean", "NULL"},
	{"n NOT IN (1, 2)", "boolean", "true"}, {"n BETWEEN 7 AND 8", "boolean", "true"}, {"NOT flag OR NULL", "boolean", "NULL"}, {"flag OR NULL", "boolean", "true"}, {"NOT flag AND NULL", "boolean", "false"},
	{"CASE WHEN j = 'x' THEN 1 WHEN n > 5 THEN 2 END", "int", "2"}, {"CASE k WHEN 'k2' THEN 1 END", "int", "NULL"}, {"k < 'ka'", "boolean", "true"}, {"'B' < 'a'", "boolean", "true"},
}

// group is an aggregate over five rows: n of 3, 1, null, 4, 1.
var groups = []value{
	{"count(*)", "bigint", "5"}, {"count(n)", "bigint", "4"}, {"count(DISTINCT n)", "bigint", "3"}, {"cast(sum(n) AS bigint)", "bigint", "9"}, {"cast(sum(DISTINCT n) AS bigint)", "bigint", "8"},
	{"cast(sum(amount) AS decimal(20,2))", "decimal(20,2)", "0.50"}, {"min(n)", "int", "1"}, {"max(j)", "string", "NULL"}, {"min(x)", "string", "B"}, {"max(x)", "string", "b"},
	{"count_if(n > 1)", "bigint", "2"}, {"bool_and(n > 0)", "boolean", "true"}, {"bool_or(n > 4)", "boolean", "false"}, {"every(n > 1)", "boolean", "false"},
	{"percentile_disc(0.5) WITHIN GROUP (ORDER BY n)", "int", "1"}, {"percentile_disc(0.75) WITHIN GROUP (ORDER BY n)", "int", "3"},
	{"cast(sum(n) FILTER (WHERE n > 1) AS bigint)", "bigint", "7"}, {"cast(sum(n) FILTER (WHERE n > 9) AS bigint)", "bigint", "NULL"}, {"count(*) FILTER (WHERE n > 9)", "bigint", "0"},
}

var groupRows = []string{
	"k2|NULL|a|3|NULL|0.10|NULL|true|2018-01-01|0|1|NULL|false", "k2|NULL|b|1|NULL|0.10|NULL|true|2018-01-01|0|2|NULL|false",
	"k2|NULL|B|NULL|NULL|0.10|NULL|true|2018-01-01|0|3|NULL|false", "k2|NULL|NULL|4|NULL|0.10|NULL|true|2018-01-01|0|4|NULL|false",
	"k2|NULL|a|1|NULL|0.10|NULL|true|2018-01-01|0|5|NULL|false",
}

// window is a window function over the same rows, ordered by n (nulls first
// where nothing is said) and _offset: offsets 3, 2, 5, 1, 4. want is given in
// the order of offsets 1 to 5.
var windows = []value{
	{"row_number() OVER (PARTITION BY k ORDER BY n, _offset, _partition)", "bigint", "4 2 1 5 3"},
	{"row_number() OVER (PARTITION BY k ORDER BY n DESC, _offset, _partition)", "bigint", "2 3 5 1 4"},
	{"rank() OVER (PARTITION BY k ORDER BY n)", "bigint", "4 2 1 5 2"},
	{"dense_rank() OVER (PARTITION BY k ORDER BY n)", "bigint", "3 2 1 4 2"},
	{"ntile(2) OVER (PARTITION BY k ORDER BY n, _offset, _partition)", "bigint", "2 1 1 2 1"},
	{"lag(n, 1) OVER (PARTITION BY k ORDER BY n, _offset, _partition)", "int", "1 NULL NULL 3 1"},
	{"lead(n, 1, 0) OVER (PARTITION BY k ORDER BY n, _offset, _partition)", "int", "4 1 1 0 3"},
	{"first_value(n) OVER (PARTITION BY k ORDER BY n NULLS LAST, _offset, _partition)", "int", "1 1 1 1 1"},
	{"last_value(n) OVER (PARTITION BY k ORDER BY n, _offset, _partition)", "int", "3 1 NULL 4 1"},
	{"last_value(n) OVER (PARTITION BY k ORDER BY n, _offset, _partition ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)", "int", "4 4 4 4 4"},
	{"cast(sum(n) OVER (PARTITION BY k ORDER BY n) AS bigint)", "bigint", "5 2 NULL 9 2"},
	{"count(n) OVER (PARTITION BY k)", "bigint", "4 4 4 4 4"},
	{"max(n) OVER (PARTITION BY k ORDER BY n, _offset, _partition ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)", "int", "3 1 NULL 4 1"},
	{"min(n) OVER (PARTITION BY k)", "int", "1 1 1 1 1"},
}

// exploded makes rows of the matches in a text.
const exploded = "explode(regexp_extract_all('ab, c, de', '[a-z]+', 0))"

func testValues(t *testing.T, eng engine.Engine) {
	var text strings.Builder
	add := func(kind string, i int, key, typ, sql string) {
		fmt.Fprintf(&text, "-- gold.%s%d (%s; view): %s, v %s --\n%s\n", kind, i, key, map[string]string{"k": "k string", "o": "o bigint"}[key], typ, sql)
	}
	for i, v := range values {
		add("value", i, "k", v.typ, "SELECT k, "+v.expr+" AS v FROM bronze.a WHERE k = 'k1'")
	}
	for i, v := range groups {
		add("grouped", i, "k", v.typ, "SELECT k, "+v.expr+" AS v FROM bronze.a WHERE k = 'k2' GROUP BY k")
	}
	for i, v := range windows {
		add("windowed", i, "o", v.typ, "SELECT _offset AS o, "+v.expr+" AS v FROM bronze.a WHERE k = 'k2'")
	}
	add("exploded", 0, "k", "string", "SELECT k, "+exploded+" AS v FROM bronze.a WHERE k = 'k1'")
	p := compileText(t, text.String())
	var names []string
	for _, m := range p.Models {
		names = append(names, m.Name)
	}
	in := engine.Tables{"bronze.a": rows(t, bronze(p, "bronze.a"), append([]string{valueRow}, groupRows...)...)}
	got, err := eng.Recompute(context.Background(), p, in, names)
	if err != nil {
		t.Fatal(err)
	}
	check := func(name, expr string, want ...string) {
		t.Helper()
		expect(t, expr, p.Model(name).Columns, got[name], want...)
	}
	for i, v := range values {
		check(fmt.Sprintf("gold.value%d", i), v.expr, "k1|"+v.want)
	}
	for i, v := range groups {
		check(fmt.Sprintf("gold.grouped%d", i), v.expr, "k2|"+v.want)
	}
	for i, v := range windows {
		var want []string
		for at, x := range strings.Fields(v.want) {
			want = append(want, fmt.Sprintf("%d|%s", at+1, x))
		}
		check(fmt.Sprintf("gold.windowed%d", i), v.expr, want...)
	}
	check("gold.exploded0", exploded, "k1|ab", "k1|c", "k1|de")
	everyFunction(t)
}

// everyFunction finds portable functions that no value above names.
func everyFunction(t *testing.T) {
	var all strings.Builder
	for _, v := range slices.Concat(values, groups, windows) {
		all.WriteString(strings.ToLower(v.expr) + "\n")
	}
	all.WriteString(exploded)
	for _, f := range compile.Functions() {
		if !strings.Contains(all.String(), f) {
			t.Errorf("no value tests %s", f)
		}
	}
}
