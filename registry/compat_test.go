package registry

import (
	"strings"
	"testing"

	"github.com/twmb/avro"
)

// TestReadable is the table of what may change, by Avro's rules and by ours.
func TestReadable(t *testing.T) {
	dec := func(p, s string) string {
		return `{"type":"bytes","logicalType":"decimal","precision":` + p + `,"scale":` + s + `}`
	}
	logical := func(typ, name string) string { return `{"type":"` + typ + `","logicalType":"` + name + `"}` }
	enum := func(rest string) string { return `{"type":"enum","name":"E",` + rest + `}` }
	inner := func(fields string) string { return `{"type":"record","name":"I","fields":[` + fields + `]}` }
	x := func(typ string) string { return record(field("x", typ)) }
	for _, c := range []struct {
		name           string
		writer, reader string
		want           string // part of why not; empty: readable
	}{
		{"same", one, one, ""},
		{"reader has one more with a default", one, two, ""},
		{"reader has one more without a default", one, bad, "c"},
		{"reader has one less", bad, one, ""},
		{"renamed", one, record(field("z", `"int"`)), "z"},
		{"renamed with an alias", one, record(field("z", `"int"`, `,"aliases":["a"]`)), ""},
		{"record renamed", one, strings.Replace(one, `"R"`, `"S"`, 1), "names do not match"},
		{"record renamed with an alias", one, strings.Replace(one, `"R"`, `"S","aliases":["R"]`, 1), ""},
		{"record moved to a namespace", one, strings.Replace(one, `"R"`, `"R","namespace":"n"`, 1), ""},
		{"int to long", x(`"int"`), x(`"long"`), ""},
		{"int to double", x(`"int"`), x(`"double"`), ""},
		{"long to float", x(`"long"`), x(`"float"`), ""},
		{"float to double", x(`"float"`), x(`"double"`), ""},
		{"long to int", x(`"long"`), x(`"int"`), "incompatible types"},
		{"double to float", x(`"double"`), x(`"float"`), "incompatible types"},
		{"string to bytes and back", x(`"string"`), x(`"bytes"`), ""},
		{"bytes to string", x(`"bytes"`), x(`"string"`), ""},
		{"int to string", x(`"int"`), x(`"string"`), "incompatible types"},
		{"made optional", x(`"int"`), x(`["null","int"]`), ""},
		{"made optional and wider", x(`"int"`), x(`["null","long"]`), ""},
		{"made required", x(`["null","int"]`), x(`"int"`), "null"},
		{"a branch more", x(`["null","int"]`), x(`["null","int","string"]`), ""},
		{"a branch less", x(`["null","int","string"]`), x(`["null","int"]`), "union"},
		{"branches in another order", x(`["null","int"]`), x(`["int","null"]`), ""},
		{"enum with a symbol more", x(enum(`"symbols":["A"]`)), x(enum(`"symbols":["A","B"]`)), ""},
		{"enum with a symbol less", x(enum(`"symbols":["A","B"]`)), x(enum(`"symbols":["A"]`)), `"B"`},
		{"enum with a symbol less and a default", x(enum(`"symbols":["A","B"]`)), x(enum(`"symbols":["A"],"default":"A"`)), ""},
		{"fixed of another size", x(`{"type":"fixed","name":"F","size":4}`), x(`{"type":"fixed","name":"F","size":8}`), "sizes differ"},
		{"array of wider", x(`{"type":"array","items":"int"}`), x(`{"type":"array","items":"long"}`), ""},
		{"map of narrower", x(`{"type":"map","values":"long"}`), x(`{"type":"map","values":"int"}`), "values"},
		{"deep in a record", x(inner(field("y", `"long"`))), x(inner(field("y", `"int"`))), "x.y"},
		{"recursive", record(field("n", `["null","R"]`)), record(field("n", `["null","R"]`) + "," + field("m", `"int"`, `,"default":0`)), ""},

		{"decimal the same", x(dec("9", "2")), x(dec("9", "2")), ""},
		{"decimal with more digits", x(dec("9", "2")), x(dec("12", "2")), "decimal(9,2)"},
		{"decimal of another scale", x(dec("9", "2")), x(dec("9", "3")), "decimal(9,2)"},
		{"decimal to bytes", x(dec("9", "2")), x(`"bytes"`), "data in decimal(9,2) would be read as bytes"},
		{"decimal to string", x(dec("9", "2")), x(`"string"`), "decimal(9,2)"},
		{"bytes to decimal", x(`"bytes"`), x(dec("9", "2")), "decimal(9,2)"},
		{"decimal in an optional", x(`["null",` + dec("9", "2") + `]`), x(`["null",` + dec("9", "4") + `]`), "decimal"},
		{"decimal made optional", x(dec("9", "2")), x(`["null",` + dec("9", "2") + `]`), ""},
		{"millis to micros", x(logical("long", "timestamp-millis")), x(logical("long", "timestamp-micros")), "x: data in timestamp in milliseconds would be read as timestamp in microseconds"},
		{"millis to local millis", x(logical("long", "timestamp-millis")), x(logical("long", "local-timestamp-millis")), ""},
		{"date to timestamp", x(logical("int", "date")), x(logical("long", "timestamp-micros")), "days"},
		{"date to optional timestamp", x(logical("int", "date")), x(`["null",` + logical("long", "timestamp-micros") + `]`), "days"},
		{"optional millis to optional micros", x(`["null",` + logical("long", "timestamp-millis") + `]`), x(`["null",` + logical("long", "timestamp-micros") + `]`), "microseconds"},
		{"millis to micros in an array", x(`{"type":"array","items":` + logical("long", "timestamp-millis") + `}`), x(`{"type":"array","items":` + logical("long", "timestamp-micros") + `}`), "x.items"},
		{"plain long to timestamp", x(`"long"`), x(logical("long", "timestamp-micros")), ""},
		{"string to uuid", x(`"string"`), x(logical("string", "uuid")), ""},
	} {
		w, err := avro.Parse(c.writer)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		r, err := avro.Parse(c.reader)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		err = readable(w, r)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

// TestLevels registers a history of three versions and asks under every level
// whether a fourth may follow.
func TestLevels(t *testing.T) {
	f := newFixture(t)
	f.do("PUT", "/config/h", `{"compatibility":"NONE"}`)
	a, opt := field("a", `"int"`), field("o", `["null","int"]`, `,"default":null`)
	f.register("h", record(a+","+field("b", `"int"`))) // 1
	f.register("h", record(a+","+opt))                 // 2: b gone, o new
	f.register("h", record(a))                         // 3
	for _, c := range []struct {
		name, schema string
		allowed      []string
	}{
		{"an optional field", record(a + "," + opt), []string{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FULL"}},
		{"a required field", record(a + "," + field("b", `"int"`)), []string{"NONE", "FORWARD", "FORWARD_TRANSITIVE"}},
		{"the last field gone", record(""), []string{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE"}},
		{"both kept", record(a + "," + field("b", `"int"`, `,"default":0`)), []string{"NONE", "BACKWARD", "BACKWARD_TRANSITIVE", "FORWARD", "FORWARD_TRANSITIVE", "FULL", "FULL_TRANSITIVE"}},
		{"another type", record(field("a", `"string"`)), []string{"NONE"}},
	} {
		allowed := strings.Join(c.allowed, " ") + " "
		for name := range levels {
			f.do("PUT", "/config/h", `{"compatibility":"`+name+`"}`)
			body := `{"schema":` + quote(c.schema) + `}`
			want := strings.Contains(allowed, name+" ")
			_, got := f.do("POST", "/compatibility/subjects/h/versions?verbose=true", body)
			if strings.Contains(got, `"is_compatible":true`) != want {
				t.Errorf("%s under %s: %s, want %v", c.name, name, got, want)
			}
			if !want && !strings.Contains(got, name[:strings.IndexByte(name+"_", '_')]) && !strings.Contains(name, "FULL") {
				t.Errorf("%s under %s: the reason names no direction: %s", c.name, name, got)
			}
		}
	}

	// Against one version, by the subject's level.
	f.do("PUT", "/config/h", `{"compatibility":"FORWARD"}`)
	next := `{"schema":` + quote(record(a)) + `}`
	for path, want := range map[string]string{
		"/compatibility/subjects/h/versions/latest":         `{"is_compatible":true}`,
		"/compatibility/subjects/h/versions/1":              `{"is_compatible":false}`,
		"/compatibility/subjects/none/versions/latest":      `{"is_compatible":true}`,
		"/compatibility/subjects/none/versions":             `{"is_compatible":true}`,
		"/compatibility/subjects/h/versions/1?verbose=true": `FORWARD: version 1 cannot read data of the new schema`,
	} {
		if _, got := f.do("POST", path, next); !strings.Contains(got, want) {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
}

func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `\"`) + `"` }
