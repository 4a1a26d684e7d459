package web

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
)

// CellText gives a value as text: times as YYYY-MM-DD HH:MM:SS[.fff] (six
// digits where microseconds matter), decimals with their scale, null as "".
func CellText(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return ""
	}
	switch a := a.(type) {
	case *array.String:
		return strings.Clone(a.Value(i)) // the bytes go with the record batch
	case *array.Timestamp:
		unit := a.DataType().(*arrow.TimestampType).Unit
		return TimeText(a.Value(i).ToTime(unit))
	case *array.Date32:
		return a.Value(i).ToTime().Format(time.DateOnly)
	case *array.Float64:
		return floatText(a.Value(i), 64)
	case *array.Float32:
		return floatText(float64(a.Value(i)), 32)
	case *array.Decimal128:
		return decimalText(a.Value(i).BigInt(), a.DataType())
	case *array.Decimal256:
		return decimalText(a.Value(i).BigInt(), a.DataType())
	}
	return a.ValueStr(i)
}

// decimalText writes all digits of the scale: 13440.00.
func decimalText(unscaled *big.Int, t arrow.DataType) string {
	scale := int(t.(arrow.DecimalType).GetScale())
	digits := new(big.Int).Abs(unscaled).String()
	if pad := scale + 1 - len(digits); pad > 0 {
		digits = strings.Repeat("0", pad) + digits
	}
	if scale > 0 {
		digits = digits[:len(digits)-scale] + "." + digits[len(digits)-scale:]
	}
	if unscaled.Sign() < 0 {
		return "-" + digits
	}
	return digits
}

// TimeText writes a time as query results do.
func TimeText(t time.Time) string {
	text := t.UTC().Format("2006-01-02 15:04:05.000000")
	switch micros := t.Nanosecond() / 1000; {
	case micros == 0:
		return text[:19]
	case micros%1000 == 0:
		return text[:23]
	}
	return text
}

func floatText(v float64, bits int) string {
	if m := math.Abs(v); m != 0 && (m < 1e-6 || m >= 1e21) {
		return strconv.FormatFloat(v, 'g', -1, bits)
	}
	return strconv.FormatFloat(v, 'f', -1, bits)
}

// cellJSON gives a value for JSON: numbers as numbers with all their digits,
// what is neither number nor truth value as text or structure.
func cellJSON(a arrow.Array, i int) any {
	if a.IsNull(i) {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		return a.Value(i)
	case *array.Float64:
		return floatJSON(a.Value(i), 64)
	case *array.Float32:
		return floatJSON(float64(a.Value(i)), 32)
	case *array.List, *array.LargeList, *array.Struct, *array.Map, *array.FixedSizeList:
		return a.GetOneForMarshal(i)
	}
	if text := CellText(a, i); isNumber(a.DataType()) {
		return json.Number(text)
	} else {
		return text
	}
}

func floatJSON(v float64, bits int) any {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil // JSON has no such numbers
	}
	return json.Number(floatText(v, bits))
}

func isNumber(t arrow.DataType) bool {
	return arrow.IsInteger(t.ID()) || arrow.IsDecimal(t.ID())
}

// typeName is an Arrow type as model headers write it.
func typeName(t arrow.DataType) string {
	switch t := t.(type) {
	case *arrow.StringType:
		return "string"
	case *arrow.BooleanType:
		return "boolean"
	case *arrow.Int32Type:
		return "int"
	case *arrow.Int64Type:
		return "bigint"
	case *arrow.Float64Type:
		return "double"
	case *arrow.Date32Type:
		return "date"
	case *arrow.TimestampType:
		return "timestamp"
	case arrow.DecimalType:
		return fmt.Sprintf("decimal(%d,%d)", t.GetPrecision(), t.GetScale())
	}
	return t.String()
}

type columnJSON struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// WriteJSON streams a result as one object: step, manifest, frozen (where it
// is), columns of name and type, rows as arrays, and truncated: whether there
// are more than limit rows (0: no limit). It does not release the rows.
func WriteJSON(w io.Writer, r *Result, limit int) error {
	out := bufio.NewWriter(w)
	columns := []columnJSON{}
	for _, f := range r.Rows.Schema().Fields() {
		columns = append(columns, columnJSON{f.Name, typeName(f.Type)})
	}
	head, err := json.Marshal(columns)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `{"step":%d,"manifest":%d`, r.Step, r.Manifest)
	if r.Frozen != "" {
		frozen, _ := json.Marshal(r.Frozen)
		fmt.Fprintf(out, `,"frozen":%s`, frozen)
	}
	fmt.Fprintf(out, `,"columns":%s,"rows":[`, head)
	n, truncated, err := writeRows(out, r.Rows, limit)
	if err != nil {
		return err
	}
	if n > 0 {
		out.WriteString("\n")
	}
	fmt.Fprintf(out, "],\"truncated\":%t}\n", truncated)
	return out.Flush()
}

func writeRows(out *bufio.Writer, rows array.RecordReader, limit int) (n int, truncated bool, err error) {
	for rows.Next() {
		batch := rows.RecordBatch()
		for i := range int(batch.NumRows()) {
			if limit > 0 && n == limit {
				return n, true, nil
			}
			row := make([]any, batch.NumCols())
			for c := range row {
				row[c] = cellJSON(batch.Column(c), i)
			}
			line, err := json.Marshal(row)
			if err != nil {
				return n, false, fmt.Errorf("cannot write a row as JSON: %w", err)
			}
			if n > 0 {
				out.WriteByte(',')
			}
			out.WriteByte('\n')
			out.Write(line)
			n++
		}
	}
	return n, false, rows.Err()
}
