package batch

import (
	"context"
	"testing"

	"lockstep/compile"
	"lockstep/engine/duckdb"
	"lockstep/project"
)

// TestDataTests counts the rows that do not pass each kind of data test, and a
// unique key that is not one.
func TestDataTests(t *testing.T) {
	ctx := context.Background()
	d, err := duckdb.OpenMemory(ctx, duckdb.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, q := range []string{
		"CREATE SCHEMA gold", "CREATE TABLE gold.color (name VARCHAR)", "INSERT INTO gold.color VALUES ('red'), ('blue')",
		"CREATE TABLE gold.box (id INTEGER, lid INTEGER, color VARCHAR)",
		"INSERT INTO gold.box VALUES (1, 1, 'red'), (1, 1, 'it''s'), (2, NULL, NULL), (3, 2, 'green'), (3, 2, 'red')",
	} {
		if err := d.Exec(ctx, q); err != nil {
			t.Fatal(err)
		}
	}
	m := &compile.Model{Model: &project.Model{Name: "gold.box", UniqueKey: []string{"id", "lid"}, Columns: []project.Column{
		{Name: "id", Tests: []project.DataTest{{Kind: "not_null"}, {Kind: "unique"}}},
		{Name: "lid", Tests: []project.DataTest{{Kind: "not_null"}, {Kind: "unique"}}},
		{Name: "color", Tests: []project.DataTest{{Kind: "accepted_values", Values: []string{"red", "it's"}}, {Kind: "relationships", To: "gold.color", Field: "name"}}},
	}}}
	want := map[string]int64{"unique_key (id, lid)": 2, "id not_null": 0, "id unique": 2, "lid not_null": 1, "lid unique": 2, "color accepted_values": 1, "color relationships": 2}
	tests := Tests(m)
	if len(tests) != len(want) {
		t.Fatalf("%d data tests, want %d", len(tests), len(want))
	}
	for _, dt := range tests {
		n, err := d.Int(ctx, dt.Query)
		if err != nil {
			t.Fatalf("%s: %v", dt.Name, err)
		}
		if n != want[dt.Name] {
			t.Errorf("%s: %d rows do not pass, want %d", dt.Name, n, want[dt.Name])
		}
	}
}
