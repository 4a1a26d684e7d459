package replay

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"lockstep/project"
)

func TestCheckFaults(t *testing.T) {
	raw := &project.RawFile{Name: "x", File: "x.csv", Columns: []project.Column{column("id", "string"), column("n", "int"), column("d", "timestamp"), column("m", "decimal(5,2)"), column("f", "double"), column("b", "boolean"), column("day", "date"), column("big", "bigint")}}
	const header = "id,n,d,m,f,b,day,big\n"
	const good = "a,1,2020-01-01 00:00:00,1.50,2.5,true,2020-02-29,-9\n"
	tests := []struct {
		name, text string
		line       int
		want       string // part of the message; empty: no fault
	}{
		{"good", header + good, 0, ""},
		{"nulls", header + ",,,,,,,\n", 0, ""},
		{"quoted nulls", header + `"","","","","","","",""` + "\n", 0, ""},
		{"no line end", header + strings.TrimSuffix(good, "\n"), 0, ""},
		{"CRLF and a mark", "\ufeff" + strings.ReplaceAll(header+good, "\n", "\r\n"), 0, ""},
		{"quoted header", strings.ReplaceAll(`"id","n","d","m","f","b","day","big"`, " ", "") + "\n" + good, 0, ""},
		{"other order, more columns", "more,n,id,d,m,f,b,day,big\n?,1,a,,,,,,\n", 0, ""},
		{"only a header", header, 0, ""},
		{"blank lines", header + "\n" + good + "\r\n\n", 0, ""},
		{"empty", "", 0, "empty"},
		{"only a mark", "\ufeff", 0, "empty"},
		{"missing column", strings.Replace(header, "day", "date", 1) + good, 1, "column day is missing"},
		{"wrong separator", strings.ReplaceAll(header+good, ",", ";"), 1, "column id is missing"},
		{"column twice", "id," + header + "x," + good, 1, "column id stands twice"},
		{"bad time", header + good + "b,1,2020-13-01 00:00:00,,,,,\n", 3, `column d: "2020-13-01 00:00:00" is not a time`},
		{"bad day", header + "b,1,,,,,2019-02-29,\n", 2, `column day: "2019-02-29" is not a date`},
		{"bad number", header + good + good + "b,1.0,,,,,,\n", 4, `column n: "1.0" is not a whole number of 32 bits`},
		{"number out of range", header + "b,2147483648,,,,,,\n", 2, "column n"},
		{"bad big number", header + "b,,,,,,,9223372036854775808\n", 2, "column big"},
		{"bad decimal", header + "b,,,1.505,,,,\n", 2, `column m: "1.505" is not a number that decimal(5,2) holds`},
		{"decimal out of range", header + "b,,,1000,,,,\n", 2, "column m"},
		{"bad double", header + "b,,,,0x1p4,,,\n", 2, "column f"},
		{"bad boolean", header + "b,,,,,yes,,\n", 2, "column b"},
		{"line behind a long field", header + "\"two\nlines\",1,,,,,,\nc,x,,,,,,\n", 4, "column n"},
		{"line of a long record", header + "\"two\nlines\",x,,,,,,\n", 2, "column n"},
		{"too few fields", header + good + "b,1\n", 3, "2 fields, the header names 8"},
		{"too many fields", header + "b,1,,,,,,,\n", 2, "9 fields"},
		{"quote not closed", header + good + "\"b,1,,,,,,\nmore\n", 3, "column id: the quoted field is not closed"},
		{"quote not closed at the end", header + "b,1,,,,,,\"", 2, "column big: the quoted field is not closed"},
		{"text behind a quote", header + "b,1,\"2020\"x,,,,,\n", 2, "column d: text follows the closing quote"},
		{"quote inside", header + "b\"c,1,,,,,,\n", 2, "column id: a quote stands inside"},
		{"quote inside, further down", header + "\"b\n\nc\",1\",,,,,,\n", 2, "column n: a quote stands inside a field that does not start with one (on line 4)"},
		{"not UTF-8", header + good + "caf\xe9,1,,,,,,\n", 3, `column id: "caf\xe9" is not UTF-8`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "x.csv"), test.text)
			err := Check(context.Background(), dir, []*project.RawFile{raw})
			if test.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var faults project.Problems
			if !errors.As(err, &faults) {
				t.Fatalf("error %v is no list of problems", err)
			}
			f := faults[0]
			if f.Line != test.line || !strings.Contains(f.What, test.want) || !strings.HasSuffix(f.File, "x.csv") || f.Do == "" {
				t.Errorf("fault %+v\nwant line %d and %q", f, test.line, test.want)
			}
		})
	}
}

// TestCheckTellsOfAllFiles wants several faults in one go, and not too many.
func TestCheckTellsOfAllFiles(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a.csv"), "n\n"+strings.Repeat("x\n", 100))
	files := []*project.RawFile{
		{Name: "a", File: "a.csv", Columns: []project.Column{column("n", "int")}},
		{Name: "b", File: "b.csv", Columns: []project.Column{column("n", "int")}},
	}
	var faults project.Problems
	if err := Check(context.Background(), dir, files); !errors.As(err, &faults) {
		t.Fatal(err)
	}
	if len(faults) != faultsPerFile+1 || faults[1].Line != 3 || !strings.Contains(faults[faultsPerFile].What, "missing") {
		t.Errorf("faults:\n%v", faults)
	}
	if err := Check(context.Background(), filepath.Join(dir, "none"), files); err == nil || !strings.Contains(err.Error(), "--data") {
		t.Errorf("a missing folder: %v", err)
	}
}

// TestLongRecord wants a quote that is never closed to be found without
// reading a whole large file into memory.
func TestLongRecord(t *testing.T) {
	endless := io.MultiReader(strings.NewReader("id\n\"open"), iotest.OneByteReader(strings.NewReader("x")), zeros{})
	s := newCSVScanner(endless)
	if err := s.scan(); err != nil {
		t.Fatal(err)
	}
	var at *csvError
	if err := s.scan(); !errors.As(err, &at) || at.line != 2 {
		t.Errorf("error %v", err)
	}
	if len(s.buf) > maxRecordBytes {
		t.Errorf("the buffer grew to %d bytes", len(s.buf))
	}
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = '0'
	}
	return len(b), nil
}

// TestScannerAgainstStandard writes random records with encoding/csv and reads
// them back through readers that cut anywhere.
func TestScannerAgainstStandard(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{"a", "é", ",", "\"", "\n", "x y", "", "\r\n", "0"}
	for range 300 {
		var want [][]string
		var text strings.Builder
		w := csv.NewWriter(&text)
		w.UseCRLF = rng.IntN(2) == 0
		for range 1 + rng.IntN(20) {
			record := []string{"k"}
			for range rng.IntN(4) {
				field := ""
				for range rng.IntN(6) {
					field += pieces[rng.IntN(len(pieces))]
				}
				record = append(record, field)
			}
			want = append(want, record)
			w.Write(record)
		}
		w.Flush()
		standard, err := csvRead(text.String())
		if err != nil {
			t.Fatal(err)
		}
		got := scanAll(t, iotest.HalfReader(strings.NewReader(text.String())))
		cut := scanAll(t, iotest.OneByteReader(strings.NewReader(text.String())))
		if !w.UseCRLF && !slices.EqualFunc(got, want, slices.Equal) {
			t.Fatalf("%q\n got %q\nwant %q", text.String(), got, want)
		}
		if !slices.EqualFunc(got, cut, slices.Equal) || len(got) != len(standard) {
			t.Fatalf("%q\n in halves %q\n by bytes %q\n standard %q", text.String(), got, cut, standard)
		}
	}
}

func csvRead(text string) ([][]string, error) {
	r := csv.NewReader(strings.NewReader(text))
	r.FieldsPerRecord = -1
	return r.ReadAll()
}

func scanAll(t *testing.T, in io.Reader) [][]string {
	t.Helper()
	s := newCSVScanner(in)
	s.buf = make([]byte, 16)
	var all [][]string
	for {
		err := s.scan()
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		var record []string
		for _, f := range s.fields {
			record = append(record, string(f))
		}
		all = append(all, record)
	}
}

func TestParse(t *testing.T) {
	times := []struct {
		text string
		want int64
		ok   bool
	}{
		{"1970-01-01 00:00:00", 0, true},
		{"1970-01-01T00:00:01.5", 1500000, true},
		{"1970-01-01 00:00:00.000001", 1, true},
		{"1969-12-31 23:59:59", -1000000, true},
		{"1970-01-02", 86400e6, true},
		{"2016-02-29 12:00:00", 1456747200e6, true},
		{"2017-02-29 12:00:00", 0, false},
		{"2017-01-01 24:00:00", 0, false},
		{"2017-01-01 00:00", 0, false},
		{"2017-01-01 00:00:00Z", 0, false},
		{"2017-01-01 00:00:00.", 0, false},
		{"17-01-01 00:00:00", 0, false},
	}
	for _, test := range times {
		if got, ok := parseTimestamp([]byte(test.text)); ok != test.ok || (ok && got != test.want) {
			t.Errorf("%s: %d %v, want %d %v", test.text, got, ok, test.want, test.ok)
		}
	}
	decimals := []struct {
		text string
		want string
		ok   bool
	}{
		{"0", "0", true}, {"-0.5", "-50", true}, {"+12.340", "1234", true}, {"999.99", "99999", true}, {".5", "50", true}, {"007", "700", true},
		{"5.", "500", true}, {"1000", "", false}, {"1.005", "", false}, {"", "", false}, {".", "", false}, {"-", "", false}, {"1e2", "", false}, {"1,5", "", false}, {"1.2.3", "", false},
	}
	for _, test := range decimals {
		got, ok := parseDecimal([]byte(test.text), 5, 2)
		if ok != test.ok || (ok && got.BigInt().String() != test.want) {
			t.Errorf("%s: %s %v, want %s %v", test.text, got.BigInt(), ok, test.want, test.ok)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	dir := b.TempDir()
	var text strings.Builder
	text.WriteString("id,d,m,f\n")
	for i := range 200_000 {
		fmt.Fprintf(&text, "\"%032x\",2018-01-02 03:04:05,%d.50,-23.%d\n", i, i%1000, i)
	}
	file := filepath.Join(dir, "x.csv")
	if err := writeFile(file, text.String()); err != nil {
		b.Fatal(err)
	}
	raw := []*project.RawFile{{Name: "x", File: "x.csv", Columns: []project.Column{column("id", "string"), column("d", "timestamp"), column("m", "decimal(12,2)"), column("f", "double")}}}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if err := Check(context.Background(), dir, raw); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(200_000*float64(b.N)/b.Elapsed().Seconds(), "lines/s")
}
