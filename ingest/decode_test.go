package ingest

import (
	"bytes"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/project"
)

// allTypes is a contract with every type that a column can have.
const allTypes = `{"type":"record","name":"r","fields":[
	{"name":"s","type":"string"},
	{"name":"b","type":["null","boolean"],"default":null},
	{"name":"i","type":["null","int"],"default":null},
	{"name":"l","type":["long","null"],"default":7},
	{"name":"d","type":["null","double"],"default":null},
	{"name":"dec","type":["null",{"type":"bytes","logicalType":"decimal","precision":38,"scale":10}],"default":null},
	{"name":"day","type":["null",{"type":"int","logicalType":"date"}],"default":null},
	{"name":"at","type":["null",{"type":"long","logicalType":"timestamp-micros"}],"default":null},
	{"name":"e","type":{"type":"enum","name":"e","symbols":["A","B","Z"],"default":"Z"},"default":"B"}]}`

// writers are schemas whose records become rows of allTypes.
var writers = []string{
	allTypes,
	`{"type":"record","name":"r","fields":[{"name":"s","type":"bytes"},{"name":"d","type":["int","float","long","null"]},{"name":"l","type":"int"}]}`,
	`{"type":"record","name":"r","fields":[{"name":"skipped","type":{"type":"array","items":{"type":"map","values":["null","string","r"]}}},{"name":"s","type":"string"},{"name":"more","type":{"type":"fixed","name":"f","size":3}}]}`,
	`{"type":"record","name":"r","fields":[{"name":"s","type":"string"},{"name":"nulls","type":{"type":"array","items":"null"}},{"name":"empty","type":{"type":"array","items":{"type":"record","name":"none","fields":[]}}}]}`,
	`{"type":"record","name":"r","fields":[{"name":"s","type":"string"},{"name":"dec","type":{"type":"fixed","name":"f16","size":20,"logicalType":"decimal","precision":40,"scale":12}},{"name":"at","type":{"type":"long","logicalType":"local-timestamp-millis"}},{"name":"e","type":{"type":"enum","name":"e","symbols":["B","NEW","A"]}}]}`,
}

func source(t testing.TB, schema, key string) *project.Source {
	t.Helper()
	fields, err := project.AvroColumns([]byte(schema))
	if err != nil {
		t.Fatal(err)
	}
	return &project.Source{Topic: "r", Key: key, EventTime: "at", Tombstone: project.TombstoneDelete, Schema: []byte(schema), Fields: fields}
}

func newTestTopic(t testing.TB, schema, key string) *topic {
	t.Helper()
	s := source(t, schema, key)
	target, err := newTarget(s)
	if err != nil {
		t.Fatal(err)
	}
	return &topic{name: s.Topic, table: s.Table(), source: s, target: target, decoders: map[int]*compiled{}, taken: map[string]project.Column{}, state: Running}
}

func compileWriter(t testing.TB, to *topic, writer string) *decoder {
	t.Helper()
	d, err := to.target.compile(avro.MustParse(writer).Root())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestDecode compares rows with what was encoded.
func TestDecode(t *testing.T) {
	at := time.Date(2024, 2, 29, 23, 59, 59, 123456000, time.UTC)
	dec := big.NewRat(-123456789012345, 10000000000)
	for _, c := range []struct {
		name   string
		writer string
		value  map[string]any
		want   string
	}{
		{"all", allTypes, map[string]any{"s": "é", "b": true, "i": int32(math.MinInt32), "l": int64(math.MaxInt64), "d": -0.5, "dec": dec, "day": at, "at": at, "e": "A"},
			"s=é b=true i=-2147483648 l=9223372036854775807 d=-0.5 dec=-12345.6789012345 day=2024-02-29 at=2024-02-29T23:59:59.123456 e=A"},
		{"nulls", allTypes, map[string]any{"s": "", "b": nil, "i": nil, "l": nil, "d": nil, "dec": nil, "day": nil, "at": nil, "e": "Z"},
			"s= b=∅ i=∅ l=∅ d=∅ dec=∅ day=∅ at=∅ e=Z"},
		{"promotions and defaults", writers[1], map[string]any{"s": []byte("x"), "d": int64(1 << 40), "l": int32(5)},
			"s=x b=∅ i=∅ l=5 d=1.099511627776e+12 dec=∅ day=∅ at=∅ e=B"},
		{"float", writers[1], map[string]any{"s": []byte("x"), "d": float32(1.5), "l": int32(-5)},
			"s=x b=∅ i=∅ l=-5 d=1.5 dec=∅ day=∅ at=∅ e=B"},
		{"skipped", writers[2], map[string]any{"skipped": []any{map[string]any{"k": "v", "n": nil, "r": map[string]any{"skipped": []any{}, "s": "inner", "more": []byte("abc")}}, map[string]any{}}, "s": "y", "more": []byte("abc")},
			"s=y b=∅ i=∅ l=7 d=∅ dec=∅ day=∅ at=∅ e=B"},
		{"no bytes", writers[3], map[string]any{"s": "y", "nulls": []any{nil, nil, nil}, "empty": []any{map[string]any{}}},
			"s=y b=∅ i=∅ l=7 d=∅ dec=∅ day=∅ at=∅ e=B"},
		{"fixed decimal, millis, unknown symbol", writers[4], map[string]any{"s": "y", "dec": big.NewRat(-5, 4), "at": at, "e": "NEW"},
			"s=y b=∅ i=∅ l=7 d=∅ dec=-1.25 day=∅ at=2024-02-29T23:59:59.123 e=Z"},
	} {
		to := newTestTopic(t, allTypes, "s")
		body, err := avro.MustParse(c.writer).Encode(c.value)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		d := newDraft()
		for range 3 {
			if f := to.append(compileWriter(t, to, c.writer), body, &kgo.Record{Offset: 9, Timestamp: at}, d.of(to)); f != nil {
				t.Errorf("%s: %+v", c.name, f)
			}
		}
		want := c.want + " _partition=0 _offset=9 _timestamp=2024-02-29T23:59:59.123 _deleted=false"
		for _, row := range texts(d.step(1, nil).Rows["bronze.r"][0]) {
			if row != want {
				t.Errorf("%s:\n got %s\nwant %s", c.name, row, want)
			}
		}
	}
}

// TestCompileRefuses names writers whose records cannot become rows.
func TestCompileRefuses(t *testing.T) {
	field := func(f string) string {
		return `{"type":"record","name":"r","fields":[{"name":"s","type":"string"},` + f + `]}`
	}
	for _, writer := range []string{
		`"string"`,
		`{"type":"record","name":"other","fields":[{"name":"s","type":"string"}]}`,
		`{"type":"record","name":"r","fields":[]}`,
		`{"type":"record","name":"r","fields":[{"name":"s","type":"int"}]}`,
		`{"type":"record","name":"r","fields":[{"name":"s","type":"null"}]}`,
		field(`{"name":"i","type":"string"}`),
		field(`{"name":"i","type":"double"}`),
		field(`{"name":"i","type":{"type":"int","logicalType":"date"}}`),
		field(`{"name":"l","type":{"type":"long","logicalType":"timestamp-millis"}}`),
		field(`{"name":"at","type":"long"}`),
		field(`{"name":"at","type":{"type":"int","logicalType":"date"}}`),
		field(`{"name":"dec","type":"bytes"}`),
		field(`{"name":"e","type":"string"}`),
		field(`{"name":"d","type":{"type":"array","items":"double"}}`),
	} {
		to := newTestTopic(t, allTypes, "s")
		if d, err := to.target.compile(avro.MustParse(writer).Root()); err == nil {
			if d.decode([]byte{2, 'a', 0}, newRows(to.target.columns, nil)) == nil {
				t.Errorf("accepted: %s", writer)
			}
		} else {
			t.Logf("%v", err)
		}
	}
}

// TestHostileRepetition: few bytes must not cost much time.
func TestHostileRepetition(t *testing.T) {
	to := newTestTopic(t, allTypes, "s")
	deep := `"null"`
	for i := range 40 {
		deep = fmt.Sprintf(`{"type":"record","name":"d%d","fields":[{"name":"a","type":%s},{"name":"b","type":"%s"}]}`, i, deep, map[bool]string{true: "null", false: fmt.Sprint("d", i-1)}[i == 0])
	}
	for _, c := range []struct {
		writer string
		body   []byte
	}{
		{writers[3], appendLong([]byte{2, 'a'}, 1<<60)},
		{writers[3], append(appendLong([]byte{2, 'a', 0}, 1<<60), 0, 0)},
		{`{"type":"record","name":"r","fields":[{"name":"s","type":"string"},{"name":"deep","type":` + deep + `}]}`, []byte{2, 'a'}},
		{writers[2], bytes.Repeat([]byte{2, 2, 2, 'k', 4}, 100_000)},
	} {
		begun := time.Now()
		f := compileWriter(t, to, c.writer).decode(c.body, newRows(to.target.columns, nil))
		if f == nil || time.Since(begun) > time.Second {
			t.Errorf("%v after %v", f, time.Since(begun))
		}
	}
}

// TestUndo: rows around records that fail in any field are as if those had not
// been.
func TestUndo(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	to := newTestTopic(t, allTypes, "s")
	dec := compileWriter(t, to, allTypes)
	schema := avro.MustParse(allTypes)
	d, clean := newDraft(), newDraft()
	for range 3000 {
		v := map[string]any{"s": fmt.Sprint(r.Uint32()), "e": "A"}
		for _, f := range []struct {
			name  string
			value any
		}{{"b", r.IntN(2) == 0}, {"i", int32(r.Uint32())}, {"l", r.Int64()}, {"d", r.NormFloat64()}, {"dec", big.NewRat(r.Int64N(1e12), 1e10)}, {"day", time.Unix(r.Int64N(1e9), 0)}, {"at", time.UnixMicro(r.Int64N(1e15))}} {
			v[f.name] = f.value
			if r.IntN(3) == 0 {
				v[f.name] = nil
			}
		}
		body, err := schema.Encode(v)
		if err != nil {
			t.Fatal(err)
		}
		rec := &kgo.Record{Offset: r.Int64(), Timestamp: time.UnixMilli(r.Int64N(1e12))}
		if r.IntN(2) == 0 {
			if f := to.append(dec, body[:r.IntN(len(body))], rec, d.of(to)); f == nil {
				t.Fatal("a cut body is accepted")
			}
		}
		for _, into := range []*draft{d, clean} {
			if f := to.append(dec, body, rec, into.of(to)); f != nil {
				t.Fatal(f)
			}
		}
	}
	same(t, "rows", texts(d.step(1, nil).Rows["bronze.r"][0]), texts(clean.step(1, nil).Rows["bronze.r"][0]))
}

// FuzzDecode: no bytes make a decoder panic; what it accepts, the Avro library
// accepts too; and rows stay whole.
func FuzzDecode(f *testing.F) {
	for i := range writers {
		f.Add(i, []byte{2, 'a', 0, 0, 0, 0, 0, 0, 0, 0})
	}
	body, err := avro.MustParse(allTypes).Encode(map[string]any{"s": "é", "b": true, "i": int32(3), "l": int64(4), "d": 0.5, "dec": big.NewRat(5, 2), "day": time.Unix(0, 0), "at": time.Unix(0, 0), "e": "A"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(0, body)
	f.Add(2, []byte{1, 2, 0, 2, 2, 'k', 2, 2, 'v', 0, 0, 2, 'a', 1, 2, 3})
	f.Add(4, append(append([]byte{2, 'a'}, make([]byte, 20)...), 0, 0))
	to := newTestTopic(f, allTypes, "s")
	decoders := make([]*decoder, len(writers))
	schemas := make([]*avro.Schema, len(writers))
	for i, w := range writers {
		decoders[i], schemas[i] = compileWriter(f, to, w), avro.MustParse(w)
	}
	f.Fuzz(func(t *testing.T, writer int, body []byte) {
		if writer < 0 || writer >= len(writers) {
			return
		}
		decodesWhole(t, to, decoders[writer], schemas[writer], body)
	})
}

// decodesWhole is what must hold for any bytes.
func decodesWhole(t *testing.T, to *topic, dec *decoder, schema *avro.Schema, body []byte) {
	t.Helper()
	d := newDraft()
	fault := to.append(dec, body, &kgo.Record{}, d.of(to))
	for i, c := range d.of(to).columns {
		if c.n != d.of(to).n {
			t.Fatalf("column %d has %d values, there are %d rows", i, c.n, d.of(to).n)
		}
	}
	to.tombstone(&kgo.Record{Key: body}, d.of(to))
	wireFormat(body)
	if fault != nil {
		return
	}
	var v any
	rest, err := schema.Decode(body, &v)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes are left", len(rest))
	}
	if err != nil {
		t.Fatalf("accepted, but the Avro library says: %v", err)
	}
}

// TestMutatedBodies is FuzzDecode without its engine, which builds everything
// anew: good bodies with a few random changes.
func TestMutatedBodies(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	to := newTestTopic(t, allTypes, "s")
	seeds := [][]byte{
		{2, 'a', 0, 0, 0, 0, 0, 0, 0, 0},
		{4, 'a', 'b', 2, 1, 2, 8, 0, 10, 2, 0, 0, 0, 0, 0, 0, 0xe0, 0x3f, 2, 2, 25, 2, 0, 2, 0, 0},
		{1, 2, 0, 2, 2, 'k', 2, 2, 'v', 0, 0, 2, 'a', 1, 2, 3},
		{2, 'a', 4, 0, 2, 0},
		append(append([]byte{2, 'a'}, make([]byte, 20)...), 0, 0),
	}
	for i, w := range writers {
		dec, schema := compileWriter(t, to, w), avro.MustParse(w)
		accepted := 0
		for range 10_000 {
			body := slices.Clone(seeds[i])
			if r.IntN(4) == 0 {
				body = slices.Clone(seeds[r.IntN(len(seeds))])
			}
			for range 1 + r.IntN(4) {
				at := r.IntN(len(body) + 1)
				switch r.IntN(4) {
				case 0:
					body = slices.Insert(body, at, byte(r.Uint32()))
				case 1:
					body = slices.Delete(body, at, min(at+1+r.IntN(3), len(body)))
				case 2:
					body = slices.Insert(body, at, 0xff, 0xff, byte(r.Uint32()))
				default:
					if at < len(body) {
						body[at] ^= 1 << r.IntN(8)
					}
				}
			}
			decodesWhole(t, to, dec, schema, body)
			if dec.decode(body, newRows(to.target.columns, nil)) == nil {
				accepted++
			}
		}
		t.Logf("writer %d: %d of 10000 accepted", i, accepted)
	}
}

// FuzzKey: no key of a deletion makes a panic, whatever its column's type.
func FuzzKey(f *testing.F) {
	for _, s := range []string{"", "1", "-1.5", "1e99999999", "2024-02-29", "2024-02-29 12:00:00", "true", "\xff"} {
		f.Add(s)
	}
	var topics []*topic
	for _, key := range []string{"s", "b", "i", "l", "d", "dec", "day", "at"} {
		topics = append(topics, newTestTopic(f, allTypes, key))
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, to := range topics {
			d := newDraft()
			f := to.tombstone(&kgo.Record{Key: []byte(key)}, d.of(to))
			if n := d.of(to).n; (f == nil) != (n == 1) {
				t.Fatalf("%d rows, %v", n, f)
			}
			d.step(1, nil)
		}
	})
}
