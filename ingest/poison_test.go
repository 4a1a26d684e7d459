package ingest

import (
	"bytes"
	"context"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/registry"
)

const (
	thingLong  = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"count","type":"long"}]}`
	thingScale = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":20,"scale":3}}]}`
	thingMicro = `{"type":"record","name":"thing","fields":[{"name":"id","type":["null","string"]},{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}}]}`
	thingMore  = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"colour","type":["null","string"],"default":null},{"name":"tags","type":{"type":"array","items":"string"}},{"name":"count","type":["null","int"],"default":null}]}`
	thingText  = `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"count","type":"string"}]}`
	thingNoKey = `{"type":"record","name":"thing","fields":[{"name":"count","type":"int"}]}`
	other      = `{"type":"record","name":"other","fields":[{"name":"id","type":"string"}]}`
)

// TestVerdicts sends each kind of poison between good records: the right
// verdict each, once, and the good ones flow.
func TestVerdicts(t *testing.T) {
	w := newWorld(t)
	good := w.encoder("thing", thingSchema)
	long, scale, micro := w.encoder("thing", thingLong), w.encoder("thing", thingScale), w.encoder("thing", thingMicro)
	text, noKey, alien := w.encoder("thing", thingText), w.encoder("thing", thingNoKey), w.encoder("other", other)
	note := w.encoder("note", noteSchema)
	row := func(id string) []byte { return good.value(t, map[string]any{"id": id, "count": 1}) }
	day := int64(86_400_000)
	cases := []struct {
		name   string
		value  []byte
		reason string // empty: accepted
		row    string // part of the accepted row
	}{
		{"plain", good.value(t, map[string]any{"id": "é", "count": -5, "price": big.NewRat(-1999, 100), "at": time.UnixMilli(1_600_000_000_123)}), "", "id=é count=-5 price=-19.99 at=2020-09-13T12:26:40.123"},
		{"magic", []byte("{\"id\":1}"), ReasonMagic, ""},
		{"empty", []byte{}, ReasonShort, ""},
		{"header", []byte{0, 0, 0, 1}, ReasonShort, ""},
		{"unknown id", wire(987654, []byte{2, 'a'}), ReasonUnknown, ""},
		{"negative id", wire(-3, []byte{2, 'a'}), ReasonUnknown, ""},
		{"truncated", row("abc")[:7], ReasonTruncated, ""},
		{"no body", wire(good.id, nil), ReasonTruncated, ""},
		{"trailing", append(row("abc"), 0), ReasonTrailing, ""},
		{"branch", wire(good.id, []byte{2, 'a', 9, 0, 0}), ReasonMalformed, ""},
		{"negative length", wire(good.id, []byte{1, 'a', 0, 0, 0}), ReasonMalformed, ""},
		{"huge number", wire(good.id, append([]byte{2, 'a', 2}, bytes.Repeat([]byte{0xff}, 11)...)), ReasonMalformed, ""},
		{"not UTF-8", wire(good.id, []byte{4, 0xc3, 0x28, 0, 0, 0}), ReasonText, ""},
		{"decimal", scale.value(t, map[string]any{"id": "d", "price": big.NewRat(12_345_678_901, 100)}), ReasonRange, ""},
		{"decimal of 40 bytes", wire(good.id, append(append([]byte{2, 'd', 0, 2, 80, 1}, make([]byte, 39)...), 0)), ReasonRange, ""},
		{"zero of 40 bytes", wire(good.id, append(append([]byte{2, 'd', 0, 2, 80}, make([]byte, 40)...), 0)), "", "price=0 "},
		{"last day", wire(good.id, appendLong([]byte{2, 'd', 0, 0, 2}, (maxDay+1)*day-1)), "", "at=9999-12-31T23:59:59.999"},
		{"year 10000", wire(good.id, appendLong([]byte{2, 'd', 0, 0, 2}, (maxDay+1)*day)), ReasonRange, ""},
		{"overflowing time", wire(good.id, appendLong([]byte{2, 'd', 0, 0, 2}, 1<<62)), ReasonRange, ""},
		{"long that fits", long.value(t, map[string]any{"id": "l", "count": int64(-1 << 31)}), "", "count=-2147483648"},
		{"long that does not", long.value(t, map[string]any{"id": "l", "count": int64(1 << 31)}), ReasonRange, ""},
		{"scale that fits", scale.value(t, map[string]any{"id": "s", "price": big.NewRat(1250, 1000)}), "", "price=1.25"},
		{"scale that does not", scale.value(t, map[string]any{"id": "s", "price": big.NewRat(1255, 1000)}), ReasonRange, ""},
		{"micros", micro.value(t, map[string]any{"id": "m", "at": time.UnixMicro(1)}), "", "at=1970-01-01T00:00:00.000001"},
		{"null key field", micro.value(t, map[string]any{"id": nil, "at": time.UnixMicro(1)}), ReasonNull, ""},
		{"another type", text.value(t, map[string]any{"id": "t", "count": "1"}), ReasonIncompatible, ""},
		{"no key field", noKey.value(t, map[string]any{"count": 1}), ReasonIncompatible, ""},
		{"schema of another record", alien.value(t, map[string]any{"id": "x"}), ReasonIncompatible, ""},
		{"deleted", nil, "", "id=key count=∅ price=∅ at=2023-11-14T22:13:20 _partition=0"},
		{"10 MB", wire(good.id, make([]byte, 10<<20)), ReasonTooLarge, ""},
		{"last", row("last"), "", "id=last"},
	}
	var want, reasons []string
	for i, c := range cases {
		w.produce(record("thing", 0, "key", c.value))
		if c.reason == "" {
			want = append(want, fmt.Sprintf("%d: %s", i, c.row))
		} else {
			reasons = append(reasons, fmt.Sprintf("%d %s", i, c.reason))
		}
	}
	w.produce(record("note", 0, "1", note.value(t, map[string]any{"n": 1, "text": "x"})), record("note", 0, "2", nil), record("note", 0, "3", []byte{}))
	w.produce(&kgo.Record{Topic: "thing", Partition: 1}) // a deletion of nothing

	speed := &collector{}
	r := w.run(speed)
	r.caughtUp()
	rows := speed.rows["bronze.thing"]
	if len(rows) != len(want) {
		t.Errorf("%d rows are accepted, want %d", len(rows), len(want))
	}
	for _, x := range want {
		offset, part, _ := strings.Cut(x, ": ")
		if !slices.ContainsFunc(rows, func(row string) bool {
			return strings.Contains(row, part) && strings.Contains(row, "_offset="+offset+" ")
		}) {
			t.Errorf("%s: no row has %q in\n%s", cases[atoi(offset)].name, part, strings.Join(rows, "\n"))
		}
	}
	same(t, "bronze", w.bronzeRows(r.lake, "bronze.thing"), speed.sorted("bronze.thing"))

	letters, err := r.DeadLetters(context.Background(), LetterFilter{Topic: "thing"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range letters {
		if l.Partition == 0 {
			got = append(got, fmt.Sprintf("%d %s", l.Offset, l.Reason))
			if v := cases[l.Offset].value; !bytes.Equal(l.record.Value, v) || string(l.record.Key) != "key" {
				t.Errorf("letter %s lost its value or key", l.ID)
			}
		} else if l.Reason != ReasonKey {
			t.Errorf("a deletion without a key: %s", l.Reason)
		}
	}
	same(t, "letters", got, reasons)
	notes, err := r.DeadLetters(context.Background(), LetterFilter{Topic: "note"})
	if err != nil || len(notes) != 2 || notes[0].Reason != ReasonTombstone || notes[1].Reason != ReasonShort {
		t.Errorf("letters of note: %+v, %v", notes, err)
	}
	m := r.Metrics().Topics["thing"]
	if m.Accepted != int64(len(want)) || m.DeadLetters[ReasonUnknown] != 2 || m.Lag != 0 {
		t.Errorf("metrics: %+v", m)
	}
}

func atoi(s string) (n int) { fmt.Sscan(s, &n); return n }

func appendLong(b []byte, v int64) []byte {
	u := uint64(v<<1) ^ uint64(v>>63)
	for ; u >= 0x80; u >>= 7 {
		b = append(b, byte(u)|0x80)
	}
	return append(b, byte(u))
}

// flaky is a registry that can be down.
type flaky struct {
	*registry.Client
	down  atomic.Bool
	asked atomic.Int64
}

func (f *flaky) SchemaByID(ctx context.Context, id int) (*avro.Schema, error) {
	f.asked.Add(1)
	if f.down.Load() {
		return nil, fmt.Errorf("connection refused: %w", registry.ErrUnavailable)
	}
	return f.Client.SchemaByID(ctx, id)
}

func TestRegistryDown(t *testing.T) {
	w := newWorld(t)
	thing, note := w.encoder("thing", thingSchema), w.encoder("note", noteSchema)
	f := &flaky{Client: w.client}
	w.produce(record("note", 0, "1", note.value(t, map[string]any{"n": 1})))
	r := w.run(nil, func(c *Config) { c.Registry = f })
	r.caughtUp()
	f.down.Store(true)
	w.things(thing, 0, 10)
	w.produce(record("note", 0, "2", note.value(t, map[string]any{"n": 2})))
	eventually(t, func() (bool, string) {
		m := r.Metrics().Topics
		return m["thing"].State == Waiting && m["note"].Accepted == 2 && m["thing"].Lag == 10, fmt.Sprintf("%+v", m)
	})
	// It is restarted meanwhile: what was accepted needs no registry.
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	speed := &collector{}
	r = w.run(speed, func(c *Config) { c.Registry = f })
	eventually(t, func() (bool, string) {
		return r.Metrics().Topics["thing"].State == Waiting && len(speed.sorted("bronze.note")) == 2, fmt.Sprintf("%+v", r.Metrics())
	})
	f.down.Store(false)
	r.caughtUp()
	m := r.Metrics().Topics["thing"]
	if m.Accepted != 10 || len(m.DeadLetters) != 0 || m.State != Running {
		t.Errorf("after the registry came back: %+v", m)
	}
}

// TestSchemaRegisteredLate: a verdict stands, and a letter comes back by
// replay, once.
func TestSchemaRegisteredLate(t *testing.T) {
	w := newWorld(t)
	first := w.encoder("thing", thingSchema)
	w.things(first, 0, 3)
	late := encoder{w.encoder("note", noteSchema).id + 1, avro.MustParse(thingMore)}
	poison := late.value(t, map[string]any{"id": "late", "colour": "red", "tags": []string{"a", "b"}, "count": 7})
	w.produce(record("thing", 1, "late", poison), record("thing", 1, "late", poison))
	r := w.run(nil)
	r.caughtUp()
	if n := r.Metrics().Topics["thing"].DeadLetters[ReasonUnknown]; n != 2 {
		t.Fatalf("%d dead letters, want 2", n)
	}
	// The next records of that id come after it was registered.
	if got := w.encoder("thing", thingMore); got.id != late.id {
		t.Fatalf("registered as %d", got.id)
	}
	w.produce(record("thing", 1, "late", poison))
	r.caughtUp()
	if m := r.Metrics().Topics["thing"]; m.Accepted != 4 || m.DeadLetters[ReasonUnknown] != 2 {
		t.Errorf("after the schema was registered: %+v", m)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	speed := &collector{}
	r = w.run(speed)
	r.caughtUp()
	if n := len(speed.sorted("bronze.thing")); n != 4 {
		t.Errorf("formed again: %d rows, want 4", n)
	}
	letters, err := r.DeadLetters(context.Background(), LetterFilter{})
	if err != nil || len(letters) != 2 {
		t.Fatalf("letters: %v, %v", letters, err)
	}
	if n, err := r.ReplayLetters(context.Background(), LetterFilter{IDs: []string{letters[1].ID}}); n != 1 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	for _, want := range []int{1, 0} {
		if n, err := r.ReplayLetters(context.Background(), LetterFilter{}); n != want || err != nil {
			t.Fatalf("replayed %d, %v; want %d", n, err, want)
		}
	}
	r.caughtUp()
	rows := w.bronzeRows(r.lake, "bronze.thing")
	if n := len(rows); n != 6 {
		t.Errorf("after the replay: %d rows, want 6", n)
	}
	if !strings.Contains(rows[len(rows)-1], "id=late") || !strings.Contains(rows[len(rows)-1], "colour=red") {
		t.Errorf("the new field is no column: %s", rows[len(rows)-1])
	}
	if strings.Contains(speed.rows["bronze.thing"][0], "colour") {
		t.Errorf("models see a column that the project does not have")
	}
	done, err := r.DeadLetters(context.Background(), LetterFilter{Done: true})
	if err != nil || len(done) != 2 || !done[0].Done || !done[1].Done {
		t.Errorf("letters after the replay: %+v, %v", done, err)
	}
}

// TestColumnTypeConflict: a field that the table has with another type makes
// dead letters of the records that do not fit, also after a restart.
func TestColumnTypeConflict(t *testing.T) {
	w := newWorld(t)
	more := w.encoder("thing", thingMore)
	clash := w.encoder("thing", `{"type":"record","name":"thing","fields":[{"name":"id","type":"string"},{"name":"colour","type":["null","int"],"default":null}]}`)
	w.produce(record("thing", 0, "a", more.value(t, map[string]any{"id": "a", "colour": "red", "tags": []string{}, "count": nil})))
	for restart := range 2 {
		r := w.run(nil)
		r.caughtUp()
		w.produce(record("thing", 0, "b", clash.value(t, map[string]any{"id": "b", "colour": 3})))
		w.produce(record("thing", 0, "b", clash.value(t, map[string]any{"id": "c", "colour": nil})))
		r.caughtUp()
		letters, err := r.DeadLetters(context.Background(), LetterFilter{})
		if err != nil || len(letters) != restart+1 || letters[0].Reason != ReasonIncompatible {
			t.Fatalf("letters: %+v, %v", letters, err)
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
	}
}
