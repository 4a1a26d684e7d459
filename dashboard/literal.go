package dashboard

import (
	"strconv"
	"strings"
)

// Literal writes text as a SQL string that both engines read the same and
// that cannot end early: no quote or backslash of the text stands between
// quotes (Spark takes a backslash there for an escape, DuckDB does not), nor a
// control character. NUL, which no column can hold, is left out.
func Literal(text string) string {
	var parts []string
	var plain strings.Builder
	flush := func() {
		if plain.Len() > 0 {
			parts = append(parts, "'"+plain.String()+"'")
			plain.Reset()
		}
	}
	for _, r := range text {
		switch {
		case r == 0:
		case r == '\'', r == '\\', r < ' ', r == 0x7f:
			flush()
			parts = append(parts, "chr("+strconv.Itoa(int(r))+")")
		default:
			plain.WriteRune(r)
		}
	}
	flush()
	switch len(parts) {
	case 0:
		return "''"
	case 1:
		return parts[0]
	}
	return "concat(" + strings.Join(parts, ", ") + ")"
}

// literals writes several, for IN.
func literals(values []string) string {
	out := make([]string, len(values))
	for i, v := range values {
		out[i] = Literal(v)
	}
	return strings.Join(out, ", ")
}
