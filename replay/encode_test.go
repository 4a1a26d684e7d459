package replay

import (
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/twmb/avro"
	"github.com/twmb/franz-go/pkg/kgo"

	"lockstep/project"
)

// TestEncoder decodes what the encoder wrote with another implementation.
func TestEncoder(t *testing.T) {
	schemaText := `{"type":"record","name":"all","fields":[
		{"name":"s","type":"string"},
		{"name":"b","type":["null","boolean"]},
		{"name":"i","type":["int","null"]},
		{"name":"l","type":["null","long"]},
		{"name":"f","type":["null","float"]},
		{"name":"d","type":["null","double"]},
		{"name":"m","type":["null",{"type":"bytes","logicalType":"decimal","precision":38,"scale":2}]},
		{"name":"x","type":{"type":"fixed","name":"x","size":17,"logicalType":"decimal","precision":38,"scale":2}},
		{"name":"day","type":["null",{"type":"int","logicalType":"date"}]},
		{"name":"ms","type":["null",{"type":"long","logicalType":"timestamp-millis"}]},
		{"name":"us","type":["null",{"type":"long","logicalType":"timestamp-micros"}]}]}`
	kinds := []string{"s string", "b boolean", "i int", "l bigint", "f double", "d double", "m decimal(38,2)", "x decimal(38,2)", "day date", "ms timestamp", "us timestamp"}
	source := &project.Source{Topic: "all", SchemaFile: "all.avsc", Schema: []byte(schemaText)}
	for _, k := range kinds {
		name, kind, _ := strings.Cut(k, " ")
		source.Fields = append(source.Fields, column(name, kind))
	}
	e, err := newEncoder(source)
	if err != nil {
		t.Fatal(err)
	}
	schema := avro.MustParse(schemaText)
	rows := []row{
		{},
		{s: "é\n", b: true, i: math.MinInt32, l: math.MinInt64, d: -0.5, m: "-129", day: -1, us: -1},
		{s: strings.Repeat("x", 300), b: true, i: math.MaxInt32, l: math.MaxInt64, d: math.MaxFloat32, m: "99999999999999999999999999999999999999", day: 20000, us: 1600000000123456},
		{null: true, s: "only this", m: "-99999999999999999999999999999999999999"},
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for bits := range 120 {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits))
		for _, delta := range []int64{-1, 0, 1} {
			m := new(big.Int).Add(n, big.NewInt(delta))
			if rng.IntN(2) == 0 {
				m.Neg(m)
			}
			rows = append(rows, row{m: m.String(), l: rng.Int64() >> rng.IntN(64), us: rng.Int64N(2e15) - 1e15})
		}
	}
	batch := buildRows(source, rows)
	defer batch.Release()
	if err := e.bindBatch(batch); err != nil {
		t.Fatal(err)
	}
	for i, r := range rows {
		body, err := e.appendRow(nil, i)
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if rest, err := schema.Decode(body, &got); err != nil || len(rest) > 0 {
			t.Fatalf("row %+v: %x: %v, %d bytes left", r, body, err, len(rest))
		}
		if text, want := fmt.Sprint(canonical(got)), fmt.Sprint(r.canonical()); text != want {
			t.Fatalf("row %d\n got %s\nwant %s", i, text, want)
		}
	}
}

type row struct {
	null bool // all that may be
	s    string
	b    bool
	i    int32
	l    int64
	d    float64
	m    string // unscaled
	day  int32
	us   int64
}

func (r row) unscaled() *big.Int {
	n, _ := new(big.Int).SetString("0"+strings.TrimPrefix(r.m, "-"), 10)
	if strings.HasPrefix(r.m, "-") {
		n.Neg(n)
	}
	return n
}

// canonical lists the values as canonical does with those decoded.
func (r row) canonical() []any {
	x := new(big.Rat).SetFrac(r.unscaled(), big.NewInt(100)).FloatString(2)
	if r.null {
		return []any{r.s, nil, nil, nil, nil, nil, nil, x, nil, nil, nil}
	}
	ms := r.us / 1000
	if r.us%1000 < 0 {
		ms--
	}
	return []any{r.s, r.b, r.i, r.l, float32(r.d), r.d, x, x, r.day, ms * 1000, r.us}
}

func canonical(got map[string]any) []any {
	var all []any
	for _, name := range []string{"s", "b", "i", "l", "f", "d", "m", "x", "day", "ms", "us"} {
		v := got[name]
		switch typed := v.(type) {
		case time.Time:
			if v = typed.UnixMicro(); name == "day" {
				v = typed.Unix() / 86400
			}
		case *big.Rat:
			v = typed.FloatString(2)
		case big.Rat:
			v = typed.FloatString(2)
		case avro.Duration:
			v = nil
		}
		all = append(all, v)
	}
	return all
}

func buildRows(s *project.Source, rows []row) arrow.RecordBatch {
	b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(s.Fields))
	defer b.Release()
	for _, r := range rows {
		x := decimal128.FromBigInt(r.unscaled())
		b.Field(0).(*array.StringBuilder).Append(r.s)
		b.Field(7).(*array.Decimal128Builder).Append(x)
		if r.null {
			for _, i := range []int{1, 2, 3, 4, 5, 6, 8, 9, 10} {
				b.Field(i).AppendNull()
			}
			continue
		}
		b.Field(1).(*array.BooleanBuilder).Append(r.b)
		b.Field(2).(*array.Int32Builder).Append(r.i)
		b.Field(3).(*array.Int64Builder).Append(r.l)
		b.Field(4).(*array.Float64Builder).Append(r.d)
		b.Field(5).(*array.Float64Builder).Append(r.d)
		b.Field(6).(*array.Decimal128Builder).Append(x)
		b.Field(8).(*array.Date32Builder).Append(arrow.Date32(r.day))
		b.Field(9).(*array.TimestampBuilder).Append(arrow.Timestamp(r.us))
		b.Field(10).(*array.TimestampBuilder).Append(arrow.Timestamp(r.us))
	}
	return b.NewRecordBatch()
}

func TestEncoderRefuses(t *testing.T) {
	tests := []struct{ kind, avro, want string }{
		{"string", `["null","string","int"]`, "union of 3"},
		{"string", `["string","int"]`, "without null"},
		{"string", `"null"`, "type null"},
		{"string", `"int"`, "does not fit"},
		{"timestamp", `"long"`, "does not fit"},
		{"decimal(5,2)", `"double"`, "does not fit"},
		{"bigint", `"int"`, "does not fit"},
	}
	for _, test := range tests {
		s := &project.Source{Topic: "t", SchemaFile: "t.avsc", Fields: []project.Column{column("c", test.kind)},
			Schema: fmt.Appendf(nil, `{"type":"record","name":"t","fields":[{"name":"c","type":%s}]}`, test.avro)}
		e, err := newEncoder(s)
		if err == nil {
			b := array.NewRecordBuilder(memory.DefaultAllocator, project.ArrowSchema(s.Fields))
			err = e.bindBatch(b.NewRecordBatch())
		}
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "c of") {
			t.Errorf("%s as %s: %v, want %q", test.kind, test.avro, err, test.want)
		}
	}
}

// TestPartition compares with the partitioner that Kafka's clients share.
func TestPartition(t *testing.T) {
	standard := kgo.StickyKeyPartitioner(nil).ForTopic("t")
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		key := make([]byte, rng.IntN(40))
		for i := range key {
			key[i] = byte(rng.IntN(256))
		}
		n := 1 + rng.IntN(50)
		if want, got := standard.Partition(&kgo.Record{Key: append([]byte{}, key...)}, n), partitionOf(string(key), int32(n)); int(got) != want {
			t.Fatalf("key %x of %d partitions: %d, want %d", key, n, got, want)
		}
	}
}

func TestPacer(t *testing.T) {
	now := time.Unix(1000, 0)
	var slept time.Duration
	p := newPacer(60, time.Second)
	p.now = func() time.Time { return now }
	p.sleep = func(_ context.Context, d time.Duration) error {
		slept += d
		now = now.Add(d)
		return nil
	}
	steps := []struct {
		name  string
		event time.Duration // of the event since the first
		work  time.Duration // wall time that passes before
		want  time.Duration
	}{
		{"the first comes at once", 0, 0, 0},
		{"a minute is a second", 30 * time.Second, 0, 500 * time.Millisecond},
		{"work counts", 60 * time.Second, 200 * time.Millisecond, 300 * time.Millisecond},
		{"a night is capped", 12 * time.Hour, 0, time.Second},
		{"a little behind is made good", 12*time.Hour + 6*time.Second, 300 * time.Millisecond, 0},
		{"and then on time", 12*time.Hour + 36*time.Second, 0, 300 * time.Millisecond},
		{"far behind is let go", 12*time.Hour + 42*time.Second, time.Minute, 0},
		{"and goes on from there", 12*time.Hour + 72*time.Second, 0, 500 * time.Millisecond},
		{"too short to sleep", 12*time.Hour + 72*time.Second + 20*time.Millisecond, 0, 0},
	}
	for _, s := range steps {
		slept = 0
		now = now.Add(s.work)
		if err := p.wait(context.Background(), int64(s.event/time.Microsecond)); err != nil {
			t.Fatal(err)
		}
		if slept != s.want {
			t.Errorf("%s: slept %v, want %v", s.name, slept, s.want)
		}
	}
}
