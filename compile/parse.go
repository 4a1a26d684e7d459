package compile

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// parseError is a refusal at a byte offset of the model's file.
type parseError struct {
	pos      int
	what, do string
}

func (e *parseError) Error() string { return e.what }

const portableRemedy = "models use the portable subset that both engines run alike; see the list in ARCHITECTURE.md"

type jsonNode = map[string]any

// parse reads one SELECT with DuckDB's parser and converts its tree. allow
// widens the subset for views, which no stream runs.
func parse(db *sql.DB, text string, view bool) (*Query, error) {
	var out string
	if err := db.QueryRow("SELECT CAST(json_serialize_sql(CAST(? AS VARCHAR), skip_null := true, skip_empty := true) AS VARCHAR)", text).Scan(&out); err != nil {
		return nil, fmt.Errorf("cannot parse SQL: %w", err)
	}
	var tree struct {
		Error      bool            `json:"error"`
		Message    string          `json:"error_message"`
		Position   json.RawMessage `json:"position"`
		Statements []struct {
			Node jsonNode `json:"node"`
		} `json:"statements"`
	}
	dec := json.NewDecoder(strings.NewReader(out))
	dec.UseNumber()
	if err := dec.Decode(&tree); err != nil {
		return nil, fmt.Errorf("cannot read the syntax tree: %w", err)
	}
	if tree.Error {
		pos, _ := strconv.Atoi(strings.Trim(string(tree.Position), `"`))
		do := ""
		if strings.Contains(tree.Message, "SELECT") {
			do = "a model is one SELECT"
		}
		return nil, &parseError{pos: pos, what: tree.Message, do: do}
	}
	if len(tree.Statements) != 1 {
		return nil, &parseError{what: fmt.Sprintf("%d statements in one model", len(tree.Statements)), do: "a model is one SELECT: split them into files"}
	}
	p := &parser{view: view}
	var q *Query
	err := catch(func() { q = p.query(tree.Statements[0].Node) })
	return q, err
}

// parser converts DuckDB's tree. It panics with *parseError, which catch turns
// into an error: a refusal can come from any depth.
type parser struct {
	view   bool
	scalar int // depth of scalar subqueries, whose column needs no name
}

func catch(f func()) (err error) {
	defer func() {
		switch r := recover().(type) {
		case nil:
		case *parseError:
			err = r
		default:
			panic(r)
		}
	}()
	f()
	return nil
}

func refuse(pos int, do, format string, args ...any) {
	panic(&parseError{pos: pos, what: fmt.Sprintf(format, args...), do: do})
}

func text(n jsonNode, key string) string { s, _ := n[key].(string); return s }
func flag(n jsonNode, key string) bool   { b, _ := n[key].(bool); return b }
func node(n jsonNode, key string) jsonNode {
	m, _ := n[key].(jsonNode)
	return m
}
func list(n jsonNode, key string) []any { l, _ := n[key].([]any); return l }
func offset(n jsonNode) int {
	v, _ := n["query_location"].(json.Number)
	i, err := v.Int64()
	if err != nil || i > 1<<40 {
		return 0
	}
	return int(i)
}

func (p *parser) query(n jsonNode) *Query {
	q := &Query{}
	for _, entry := range list(node(n, "cte_map"), "map") {
		e := entry.(jsonNode)
		inner := node(node(node(e, "value"), "query"), "node")
		q.CTEs = append(q.CTEs, CTE{Name: text(e, "key"), Query: p.query(inner)})
	}
	switch text(n, "type") {
	case "SELECT_NODE":
		q.Body = p.selectNode(n)
	case "SET_OPERATION_NODE":
		q.Body = p.union(n)
	case "RECURSIVE_CTE_NODE":
		refuse(offset(n), "write the levels as models that follow each other", "a recursive query")
	default:
		refuse(offset(n), portableRemedy, "query node %s", text(n, "type"))
	}
	return q
}

func (p *parser) union(n jsonNode) Body {
	if text(n, "setop_type") != "UNION" {
		refuse(offset(n), "write a join or an ANTI JOIN", "%s", text(n, "setop_type"))
	}
	for _, m := range list(n, "modifiers") {
		kind := text(m.(jsonNode), "type")
		if kind == "LIMIT_MODIFIER" || kind == "LIMIT_PERCENT_MODIFIER" {
			refuse(offset(n), limitRemedy, "LIMIT")
		}
		if kind == "ORDER_MODIFIER" && !p.view {
			refuse(offset(n), "remove it: the rows of a table have no order", "ORDER BY over the rows of a model")
		}
	}
	return &Union{Pos: offset(n), All: flag(n, "setop_all"), Left: p.query(node(n, "left")), Right: p.query(node(n, "right"))}
}

const limitRemedy = "which rows are first depends on all rows: write a row_number() with a filter inside each key, or let the reader of the table limit"

func (p *parser) selectNode(n jsonNode) Body {
	s := &Select{Pos: firstOffset(n)}
	for _, m := range list(n, "modifiers") {
		p.modifier(s, m.(jsonNode))
	}
	if n["sample"] != nil {
		refuse(s.Pos, "", "SAMPLE: its rows are random")
	}
	if n["qualify"] != nil {
		refuse(s.Pos, "put the window function into a subquery and filter it with WHERE", "QUALIFY, which Spark does not know")
	}
	if text(n, "aggregate_handling") == "FORCE_AGGREGATES" {
		refuse(s.Pos, "list the grouping expressions", "GROUP BY ALL")
	}
	if len(list(n, "group_sets")) > 1 {
		refuse(s.Pos, "write one GROUP BY a branch and UNION ALL them", "ROLLUP, CUBE or GROUPING SETS")
	}
	for i, item := range list(n, "select_list") {
		s.Items = append(s.Items, p.item(i, item.(jsonNode)))
	}
	s.From = p.from(node(n, "from_table"))
	s.Where = p.optional(n, "where_clause")
	s.Having = p.optional(n, "having")
	for _, g := range list(n, "group_expressions") {
		s.GroupBy = append(s.GroupBy, p.groupExpr(s, p.expr(g.(jsonNode))))
	}
	if sets := list(n, "group_sets"); len(sets) == 1 && len(sets[0].([]any)) != len(s.GroupBy) {
		refuse(s.Pos, "write one GROUP BY a branch and UNION ALL them", "ROLLUP, CUBE or GROUPING SETS")
	}
	return s
}

// firstOffset is where a SELECT's own text begins, as near as the tree says.
func firstOffset(n jsonNode) int {
	for _, item := range list(n, "select_list") {
		if at := offset(item.(jsonNode)); at > 0 {
			return at
		}
	}
	return offset(node(n, "from_table"))
}

func (p *parser) modifier(s *Select, m jsonNode) {
	switch kind := text(m, "type"); kind {
	case "DISTINCT_MODIFIER":
		if len(list(m, "distinct_on_targets")) > 0 {
			refuse(s.Pos, "write a row_number() with a total order in a subquery", "DISTINCT ON, which Spark does not know")
		}
		s.Distinct = true
	case "ORDER_MODIFIER":
		if !p.view {
			refuse(s.Pos, "remove it: the rows of a table have no order", "ORDER BY over the rows of a model")
		}
		s.OrderBy = p.orders(list(m, "orders"))
	case "LIMIT_MODIFIER", "LIMIT_PERCENT_MODIFIER":
		refuse(s.Pos, limitRemedy, "LIMIT")
	default:
		refuse(s.Pos, portableRemedy, "%s", kind)
	}
}

// groupExpr resolves GROUP BY 1 and GROUP BY alias to the selected expression.
func (p *parser) groupExpr(s *Select, e Expr) Expr {
	if l, ok := e.(*Literal); ok && l.Is == "number" {
		if i, err := strconv.Atoi(l.SQL); err == nil && i >= 1 && i <= len(s.Items) {
			return s.Items[i-1].Expr
		}
	}
	return e
}

func (p *parser) item(i int, n jsonNode) Item {
	e := p.expr(n)
	name := text(n, "alias")
	if c, ok := e.(*Column); ok && name == "" {
		name = c.Name
	}
	if name == "" && p.scalar > 0 {
		name = fmt.Sprintf("c%d", i)
	}
	if name == "" {
		refuse(e.pos(), "name it with AS", "output column %d has no name", i+1)
	}
	return Item{Name: strings.ToLower(name), Expr: e}
}

func (p *parser) from(n jsonNode) From {
	if n == nil {
		return nil
	}
	if n["sample"] != nil {
		refuse(offset(n), "", "TABLESAMPLE: its rows are random")
	}
	if len(list(n, "column_name_alias")) > 0 {
		refuse(offset(n), "name the columns inside the subquery", "column names behind a table alias")
	}
	switch kind := text(n, "type"); kind {
	case "EMPTY":
		return nil
	case "BASE_TABLE":
		return p.table(n)
	case "SUBQUERY":
		alias := text(n, "alias")
		if alias == "" {
			refuse(offset(n), "write (SELECT ...) AS name", "a subquery without a name")
		}
		return &Subquery{Query: p.query(node(node(n, "subquery"), "node")), Alias: strings.ToLower(alias)}
	case "JOIN":
		return p.join(n)
	case "TABLE_FUNCTION":
		refuse(offset(n), portableRemedy, "table function %s", text(node(n, "function"), "function_name"))
	default:
		refuse(offset(n), portableRemedy, "%s in FROM", kind)
	}
	return nil
}

func (p *parser) table(n jsonNode) From {
	name := strings.ToLower(text(n, "table_name"))
	if schema := text(n, "schema_name"); schema != "" {
		name = strings.ToLower(schema) + "." + name
	}
	if text(n, "catalog_name") != "" {
		refuse(offset(n), "write namespace.table", "a table name of three parts")
	}
	if n["at_clause"] != nil {
		refuse(offset(n), "", "a table AT a version: every model sees one step")
	}
	alias := strings.ToLower(text(n, "alias"))
	if alias == "" {
		alias = name[strings.LastIndex(name, ".")+1:]
	}
	return &Table{Pos: offset(n), Name: name, Alias: alias}
}

func (p *parser) join(n jsonNode) From {
	j := &Join{Pos: offset(n), Kind: text(n, "join_type"), Left: p.from(node(n, "left")), Right: p.from(node(n, "right"))}
	switch ref := text(n, "ref_type"); ref {
	case "REGULAR":
	case "CROSS":
		j.Kind = "CROSS"
		return j
	default:
		refuse(j.Pos, "write JOIN ... ON with equalities", "%s join", ref)
	}
	if len(list(n, "using_columns")) > 0 {
		refuse(j.Pos, "write ON a.x = b.x", "JOIN ... USING")
	}
	switch j.Kind {
	case "INNER", "LEFT", "RIGHT", "SEMI", "ANTI":
	case "OUTER", "FULL":
		j.Kind = "FULL"
	default:
		refuse(j.Pos, portableRemedy, "%s JOIN", j.Kind)
	}
	j.On = p.expr(node(n, "condition"))
	return j
}

func (p *parser) optional(n jsonNode, key string) Expr {
	if m := node(n, key); m != nil {
		return p.expr(m)
	}
	return nil
}

func (p *parser) exprs(list []any) []Expr {
	var out []Expr
	for _, x := range list {
		out = append(out, p.expr(x.(jsonNode)))
	}
	return out
}

func (p *parser) orders(list []any) []Order {
	var out []Order
	for _, x := range list {
		n := x.(jsonNode)
		o := Order{Expr: p.expr(node(n, "expression")), Desc: text(n, "type") == "DESCENDING"}
		switch text(n, "null_order") {
		case "NULLS FIRST", "NULLS_FIRST":
			o.NullsFirst = true
		case "NULLS LAST", "NULLS_LAST":
		default: // Spark's default; the text is always rendered with it
			o.NullsFirst = !o.Desc
		}
		out = append(out, o)
	}
	return out
}

func (p *parser) expr(n jsonNode) Expr {
	pos := offset(n)
	switch class := text(n, "class"); class {
	case "COLUMN_REF":
		return p.column(n)
	case "CONSTANT":
		return p.literal(pos, node(n, "value"))
	case "FUNCTION":
		return p.call(n)
	case "CAST":
		return p.cast(n)
	case "CASE":
		return p.caseExpr(n)
	case "COMPARISON":
		return p.comparison(n)
	case "CONJUNCTION":
		return &Logic{Pos: pos, Kind: strings.TrimPrefix(text(n, "type"), "CONJUNCTION_"), Args: p.exprs(list(n, "children"))}
	case "BETWEEN":
		return &Logic{Pos: pos, Kind: "BETWEEN", Args: []Expr{p.expr(node(n, "input")), p.expr(node(n, "lower")), p.expr(node(n, "upper"))}}
	case "OPERATOR":
		return p.operator(n)
	case "WINDOW":
		return p.window(n)
	case "SUBQUERY":
		return p.subquery(n)
	case "STAR":
		refuse(pos, "list the columns", "SELECT *")
	default:
		refuse(pos, portableRemedy, "%s", strings.ToLower(class))
	}
	return nil
}

func (p *parser) subquery(n jsonNode) Expr {
	pos := offset(n)
	if text(n, "subquery_type") != "SCALAR" {
		refuse(pos, "write a SEMI JOIN, an ANTI JOIN or a join", "a subquery with EXISTS, IN or ANY")
	}
	if !p.view {
		refuse(pos, "join a model whose rows carry the key, or declare `materialized: view`", "a scalar subquery: its value depends on rows of every scope")
	}
	p.scalar++
	defer func() { p.scalar-- }()
	return &Scalar{Pos: pos, Query: p.query(node(node(n, "subquery"), "node"))}
}

func (p *parser) column(n jsonNode) Expr {
	names := list(n, "column_names")
	c := &Column{Pos: offset(n)}
	switch len(names) {
	case 1:
		c.Name = strings.ToLower(names[0].(string))
	case 2:
		c.Table, c.Name = strings.ToLower(names[0].(string)), strings.ToLower(names[1].(string))
	default:
		refuse(c.Pos, "give the table an alias and write alias.column", "a column name of %d parts", len(names))
	}
	return c
}

func (p *parser) literal(pos int, v jsonNode) Expr {
	t := node(v, "type")
	if flag(v, "is_null") {
		return &Literal{Pos: pos, SQL: "NULL", Is: "null"}
	}
	value := v["value"]
	if value == nil && text(t, "id") == "VARCHAR" {
		value = "" // the serializer leaves out what is empty
	}
	switch value := value.(type) {
	case string:
		if text(t, "id") != "VARCHAR" {
			refuse(pos, portableRemedy, "a constant of type %s", text(t, "id"))
		}
		if strings.Contains(value, `\`) {
			refuse(pos, `write the pattern without it, for example [.] for a dot and [0-9] for a digit`, `a \ in a text: Spark reads it as an escape, DuckDB does not`)
		}
		return &Literal{Pos: pos, SQL: "'" + strings.ReplaceAll(value, "'", "''") + "'", Str: value, Is: "string"}
	case bool:
		return &Literal{Pos: pos, SQL: strings.ToUpper(strconv.FormatBool(value)), Is: "boolean"}
	case json.Number:
		return &Literal{Pos: pos, SQL: numberSQL(pos, t, value), Is: "number"}
	}
	refuse(pos, portableRemedy, "a constant of type %s", text(t, "id"))
	return nil
}

func numberSQL(pos int, t jsonNode, value json.Number) string {
	switch text(t, "id") {
	case "INTEGER", "BIGINT":
		return value.String()
	case "DECIMAL":
		scale, _ := node(t, "type_info")["scale"].(json.Number).Int64()
		s := value.String()
		sign := ""
		if strings.HasPrefix(s, "-") {
			sign, s = "-", s[1:]
		}
		for int64(len(s)) <= scale {
			s = "0" + s
		}
		return sign + s[:int64(len(s))-scale] + "." + s[int64(len(s))-scale:]
	case "BOOLEAN":
		return strings.ToUpper(value.String())
	}
	refuse(pos, "write it as a decimal or a whole number, and cast it", "a constant of type %s", text(t, "id"))
	return ""
}

func (p *parser) call(n jsonNode) Expr {
	pos := offset(n)
	name := strings.ToLower(text(n, "function_name"))
	if i, ok := p.interval(n, name); ok {
		return i
	}
	c := &Call{Pos: pos, Name: name, Args: p.exprs(list(n, "children")), Distinct: flag(n, "distinct"), Filter: p.optional(n, "filter")}
	within := p.orders(list(node(n, "order_bys"), "orders"))
	switch {
	case name == "count_star":
		c.Name = "count"
	case name == "quantile_disc" && len(within) == 1:
		c.Name, c.Within, within = "percentile_disc", within, nil
	case name == "date_part" && len(c.Args) == 2:
		l, _ := c.Args[0].(*Literal)
		if l == nil || !isFunction(l.Str) {
			refuse(pos, portableRemedy, "extract of an unknown part")
		}
		c.Name, c.Args = l.Str, c.Args[1:]
	case name == "~~":
		c.Name, c.Infix = "LIKE", true
	case name == "!~~":
		return &Logic{Pos: pos, Kind: "NOT", Args: []Expr{&Call{Pos: pos, Name: "LIKE", Infix: true, Args: c.Args}}}
	case name == "+" || name == "-" || name == "*" || name == "/" || name == "%" || name == "||":
		c.Infix = true
	}
	if len(within) > 0 {
		refuse(pos, "", "ORDER BY inside %s(), which Spark does not know", c.Name)
	}
	checkFunction(c, false)
	return c
}

var intervalUnits = map[string]string{"to_days": "DAY", "to_months": "MONTH", "to_years": "YEAR", "to_hours": "HOUR", "to_minutes": "MINUTE", "to_seconds": "SECOND", "to_weeks": "WEEK"}

// interval recognises what DuckDB's parser makes of INTERVAL 1 DAY.
func (p *parser) interval(n jsonNode, name string) (Expr, bool) {
	unit, ok := intervalUnits[name]
	if !ok {
		return nil, false
	}
	inner := n
	for i := 0; i < 6 && inner != nil; i++ {
		if text(inner, "class") == "CONSTANT" {
			count, err := strconv.ParseInt(fmt.Sprint(node(inner, "value")["value"]), 10, 64)
			if err != nil {
				break
			}
			return &Interval{Pos: offset(n), N: count, Unit: unit}, true
		}
		if kids := list(inner, "children"); len(kids) == 1 {
			inner = kids[0].(jsonNode)
		} else {
			inner = node(inner, "child")
		}
	}
	refuse(offset(n), "write INTERVAL 1 DAY with a whole number", "an interval that is not a constant")
	return nil, false
}

var castTypes = map[string]string{"VARCHAR": "string", "INTEGER": "int", "BIGINT": "bigint", "DOUBLE": "double", "BOOLEAN": "boolean", "DATE": "date", "TIMESTAMP": "timestamp"}

func (p *parser) cast(n jsonNode) Expr {
	t := node(n, "cast_type")
	name, ok := castTypes[text(t, "id")]
	if text(t, "id") == "DECIMAL" {
		info := node(t, "type_info")
		name, ok = fmt.Sprintf("decimal(%v,%v)", info["width"], info["scale"]), true
		if info["scale"] == nil {
			name = fmt.Sprintf("decimal(%v,0)", info["width"])
		}
	}
	if !ok {
		refuse(offset(n), "cast to string, int, bigint, double, boolean, decimal(p,s), date or timestamp", "a cast to %s", text(t, "id"))
	}
	return &Cast{Pos: offset(n), Arg: p.expr(node(n, "child")), Type: name, Try: flag(n, "try_cast")}
}

func (p *parser) caseExpr(n jsonNode) Expr {
	c := &Case{Pos: offset(n), Else: p.optional(n, "else_expr")}
	for _, w := range list(n, "case_checks") {
		check := w.(jsonNode)
		c.Whens = append(c.Whens, [2]Expr{p.expr(node(check, "when_expr")), p.expr(node(check, "then_expr"))})
	}
	if l, ok := c.Else.(*Literal); ok && l.Is == "null" {
		c.Else = nil
	}
	return c
}

var comparisons = map[string]string{
	"COMPARE_EQUAL": "=", "COMPARE_NOTEQUAL": "<>", "COMPARE_LESSTHAN": "<", "COMPARE_GREATERTHAN": ">",
	"COMPARE_LESSTHANOREQUALTO": "<=", "COMPARE_GREATERTHANOREQUALTO": ">=",
	"COMPARE_DISTINCT_FROM": "IS DISTINCT FROM", "COMPARE_NOT_DISTINCT_FROM": "IS NOT DISTINCT FROM",
}

func (p *parser) comparison(n jsonNode) Expr {
	kind, ok := comparisons[text(n, "type")]
	if !ok {
		refuse(offset(n), portableRemedy, "comparison %s", text(n, "type"))
	}
	return &Logic{Pos: offset(n), Kind: kind, Args: []Expr{p.expr(node(n, "left")), p.expr(node(n, "right"))}}
}

var operators = map[string]string{"OPERATOR_NOT": "NOT", "OPERATOR_IS_NULL": "IS NULL", "OPERATOR_IS_NOT_NULL": "IS NOT NULL", "COMPARE_IN": "IN", "COMPARE_NOT_IN": "NOT IN"}

func (p *parser) operator(n jsonNode) Expr {
	args := p.exprs(list(n, "children"))
	if kind, ok := operators[text(n, "type")]; ok {
		return &Logic{Pos: offset(n), Kind: kind, Args: args}
	}
	switch text(n, "type") {
	case "OPERATOR_COALESCE":
		return &Call{Pos: offset(n), Name: "coalesce", Args: args}
	case "OPERATOR_NULLIF":
		return &Call{Pos: offset(n), Name: "nullif", Args: args}
	}
	refuse(offset(n), portableRemedy, "operator %s", strings.ToLower(text(n, "type")))
	return nil
}

var frameBounds = map[string]string{"UNBOUNDED_PRECEDING": "UNBOUNDED PRECEDING", "UNBOUNDED_FOLLOWING": "UNBOUNDED FOLLOWING", "CURRENT_ROW_ROWS": "CURRENT ROW", "CURRENT_ROW_RANGE": "CURRENT ROW"}

func (p *parser) window(n jsonNode) Expr {
	w := &Window{Pos: offset(n), Name: strings.ToLower(text(n, "function_name")), Args: p.exprs(list(n, "children")),
		Partition: p.exprs(list(n, "partitions")), Order: p.orders(list(n, "orders"))}
	if w.Name == "count_star" {
		w.Name = "count"
	}
	if flag(n, "ignore_nulls") || flag(n, "distinct") || n["filter_expr"] != nil || text(n, "exclude_clause") != "NO_OTHER" || len(list(n, "arg_orders")) > 0 {
		refuse(w.Pos, portableRemedy, "IGNORE NULLS, DISTINCT, FILTER or EXCLUDE in a window function")
	}
	for _, extra := range []string{"offset_expr", "default_expr"} {
		if e := p.optional(n, extra); e != nil {
			w.Args = append(w.Args, e)
		}
	}
	start, end := text(n, "start"), text(n, "end")
	if !(start == "UNBOUNDED_PRECEDING" && end == "CURRENT_ROW_RANGE") {
		w.Rows = strings.HasSuffix(start, "_ROWS") || strings.HasSuffix(end, "_ROWS")
		from, to := frameBounds[start], frameBounds[end]
		if from == "" || to == "" {
			refuse(w.Pos, "use UNBOUNDED PRECEDING, CURRENT ROW, UNBOUNDED FOLLOWING", "a frame with a distance")
		}
		mode := "RANGE"
		if w.Rows {
			mode = "ROWS"
		}
		w.Frame = fmt.Sprintf("%s BETWEEN %s AND %s", mode, from, to)
	}
	checkFunction(&Call{Pos: w.Pos, Name: w.Name, Args: w.Args}, true)
	return w
}
