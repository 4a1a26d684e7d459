package dashboard

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"

	"lockstep/engine/duckdb"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// TestLiteral has DuckDB read literals back: nothing of a value may become SQL.
func TestLiteral(t *testing.T) {
	s, err := duckdb.OpenMemory(t.Context(), duckdb.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	values := []string{"", "plain", "'", "''", `\`, `\'`, "'; DROP TABLE t; --", "a'b\\c\"d", "über €", "line\nbreak\ttab", "%_", "$$", "/* */", "chr(39)", "\x7f"}
	alphabet := []rune(`ab'\"-;/*$%` + "\n\t\x01é€🙂`")
	for range 300 {
		var b strings.Builder
		for range r.IntN(12) {
			b.WriteRune(alphabet[r.IntN(len(alphabet))])
		}
		values = append(values, b.String())
	}
	for _, v := range values {
		if got := readBack(t, s, Literal(v)); got != v {
			t.Errorf("%q is written %s and read %q", v, Literal(v), got)
		}
	}
	if got := readBack(t, s, Literal("a\x00b")); got != "ab" {
		t.Errorf("NUL: %q", got)
	}
}

// TestLiteralInSpark holds what Spark needs: between quotes stands neither a
// quote nor a backslash.
func TestLiteralInSpark(t *testing.T) {
	for value, want := range map[string]string{
		"a":    "'a'",
		"":     "''",
		"it's": "concat('it', chr(39), 's')",
		`a\'`:  `concat('a', chr(92), chr(39))`,
		`'`:    "chr(39)",
	} {
		if got := Literal(value); got != want {
			t.Errorf("%q is written %s, want %s", value, got, want)
		}
	}
}

func readBack(t *testing.T, s *duckdb.Session, literal string) string {
	t.Helper()
	var out string
	err := s.Each(context.Background(), "SELECT "+literal, func(rec arrow.RecordBatch) error {
		out = strings.Clone(rec.Column(0).(*array.String).Value(0))
		return nil
	})
	if err != nil {
		t.Fatalf("%s: %v", literal, err)
	}
	return out
}
