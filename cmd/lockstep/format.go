package main

import (
	"bufio"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"lockstep/web"
)

// formatTable writes rows for people.
func formatTable(w io.Writer, r *web.Result) error {
	var header []string
	var right []bool
	for _, f := range r.Rows.Schema().Fields() {
		header = append(header, f.Name)
		right = append(right, isNumeric(f.Type))
	}
	var rows [][]string
	for r.Rows.Next() {
		batch := r.Rows.RecordBatch()
		for i := range int(batch.NumRows()) {
			row := make([]string, batch.NumCols())
			for c := range row {
				row[c] = tableCell(batch.Column(c), i)
			}
			rows = append(rows, row)
		}
	}
	if err := r.Rows.Err(); err != nil {
		return err
	}
	if err := writeTable(w, header, right, rows); err != nil {
		return err
	}
	plural := "s"
	if len(rows) == 1 {
		plural = ""
	}
	_, err := fmt.Fprintf(w, "(%s row%s, step %s, manifest %d)\n", number(int64(len(rows))), plural, number(r.Step), r.Manifest)
	return err
}

func isNumeric(t arrow.DataType) bool {
	return arrow.IsInteger(t.ID()) || arrow.IsDecimal(t.ID()) || arrow.IsFloating(t.ID())
}

// tableCell keeps a row on its line.
func tableCell(a arrow.Array, i int) string {
	if a.IsNull(i) {
		return "null"
	}
	return strings.NewReplacer("\n", `\n`, "\r", `\r`, "\t", `\t`).Replace(web.CellText(a, i))
}

// formatCSV writes rows by RFC 4180. Null is an empty field, an empty text is
// a quoted one, so that the two can be told apart.
func formatCSV(w io.Writer, r *web.Result) error {
	out := bufio.NewWriter(w)
	for i, f := range r.Rows.Schema().Fields() {
		if i > 0 {
			out.WriteByte(',')
		}
		writeField(out, f.Name)
	}
	out.WriteString("\r\n")
	for r.Rows.Next() {
		batch := r.Rows.RecordBatch()
		for i := range int(batch.NumRows()) {
			for c := range int(batch.NumCols()) {
				if c > 0 {
					out.WriteByte(',')
				}
				if column := batch.Column(c); !column.IsNull(i) {
					writeField(out, web.CellText(column, i))
				}
			}
			out.WriteString("\r\n")
		}
	}
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return out.Flush()
}

func writeField(out *bufio.Writer, s string) {
	if s != "" && !strings.ContainsAny(s, ",\"\r\n") {
		out.WriteString(s)
		return
	}
	out.WriteByte('"')
	out.WriteString(strings.ReplaceAll(s, `"`, `""`))
	out.WriteByte('"')
}
