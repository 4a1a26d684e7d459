package compile

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// SelectParts is a model's Select, cut at the places that name a table of the
// project: text, table, text, table, ..., text. An engine that keeps the tables
// under other names puts those in. Where the table had no alias, the text
// behind it begins with one, so that columns are still found by its own name.
func (m *Model) SelectParts() (parts []string, err error) {
	var places []*Table
	tablesOf(m.Query, func(t *Table) {
		if strings.Contains(t.Name, ".") {
			places = append(places, t)
		}
	})
	slices.SortFunc(places, func(a, b *Table) int { return a.Pos - b.Pos })
	text := m.SQL
	end := len(strings.TrimRight(strings.TrimRight(text, " \t\r\n"), ";"))
	at, tail := 0, ""
	for _, t := range places {
		length := namedAt(text[min(t.Pos, len(text)):], t.Name)
		if length == 0 || t.Pos < at {
			return nil, fmt.Errorf("cannot find table %s at byte %d of %s", t.Name, t.Pos, m.File)
		}
		parts = append(parts, tail+text[at:t.Pos], t.Name)
		at, tail = t.Pos+length, ""
		if _, base, _ := strings.Cut(t.Name, "."); t.Alias == "" || t.Alias == t.Name || t.Alias == base && !aliasFollows(text[at:], base) {
			tail = " AS " + base
		}
	}
	parts = append(parts, tail+text[at:end])
	head, foot, _ := strings.Cut(selectCast(m, "\x00"), "\x00")
	parts[0] = head + parts[0]
	parts[len(parts)-1] += foot
	return parts, nil
}

// namedAt is the length of a qualified name at the start of a text; 0: it is
// not there.
func namedAt(text, name string) int {
	namespace, table, _ := strings.Cut(name, ".")
	return len(regexp.MustCompile(`(?i)^` + regexp.QuoteMeta(namespace) + `\s*\.\s*` + regexp.QuoteMeta(table) + `\b`).FindString(text))
}

// aliasFollows says whether a text begins with an alias.
func aliasFollows(text, alias string) bool {
	return regexp.MustCompile(`(?i)^\s+(as\s+)?` + regexp.QuoteMeta(alias) + `\b`).MatchString(text)
}
