package spark

import (
	"errors"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/beltran/gohive/hiveserver"

	"lockstep/web"
)

func TestSQLError(t *testing.T) {
	for _, c := range []struct{ full, class, message string }{
		{"org.apache.hive.service.cli.HiveSQLException: Error running query: [TABLE_OR_VIEW_NOT_FOUND] org.apache.spark.sql.catalyst.ExtendedAnalysisException: [TABLE_OR_VIEW_NOT_FOUND] The table or view `a`.`b` cannot be found. SQLSTATE: 42P01; line 1 pos 14;\n'Project [*]\n+- 'UnresolvedRelation [a, b], [], false\n\n\tat org.apache.spark.sql.hive.thriftserver.HiveThriftServerErrors$.runningQueryError(HiveThriftServerErrors.scala:46)",
			"TABLE_OR_VIEW_NOT_FOUND", "[TABLE_OR_VIEW_NOT_FOUND] The table or view `a`.`b` cannot be found. SQLSTATE: 42P01; line 1 pos 14"},
		{"org.apache.hive.service.cli.HiveSQLException: Error running query: org.apache.iceberg.exceptions.ValidationException: Found conflicting files\n\tat org.apache.iceberg.X.y(X.java:1)",
			"", "Found conflicting files"},
		{"[CAST_INVALID_INPUT] The value 'a' cannot be cast. SQLSTATE: 22018\n== SQL (line 1, position 8) ==\nSELECT CAST('a' AS int)", "CAST_INVALID_INPUT", "[CAST_INVALID_INPUT] The value 'a' cannot be cast. SQLSTATE: 22018"},
	} {
		var e *SQLError
		if err := sqlError(c.full); !errors.As(err, &e) || e.Class != c.class || e.Message != c.message {
			t.Errorf("it reads %q as %q, %q", c.full, e.Class, e.Message)
		}
	}
}

func TestConflict(t *testing.T) {
	if !Conflict(sqlError("Error running query: org.apache.iceberg.exceptions.CommitFailedException: Requirement failed")) {
		t.Error("a lost race is no conflict")
	}
	if Conflict(sqlError("[DIVIDE_BY_ZERO] Division by zero")) || Conflict(ErrLost) {
		t.Error("everything is a conflict")
	}
}

// TestRecord: columns of the protocol, with the nulls at its ends, as rows.
func TestRecord(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "s", Type: arrow.BinaryTypes.String}, {Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "d", Type: &arrow.Decimal128Type{Precision: 12, Scale: 2}},
		{Name: "t", Type: &arrow.TimestampType{Unit: arrow.Microsecond}}, {Name: "day", Type: arrow.FixedWidthTypes.Date32}, {Name: "b", Type: arrow.FixedWidthTypes.Boolean},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64},
	}, nil)
	texts := func(nulls byte, v ...string) *hiveserver.TColumn {
		return &hiveserver.TColumn{StringVal: &hiveserver.TStringColumn{Values: v, Nulls: []byte{nulls}}}
	}
	columns := []*hiveserver.TColumn{
		texts(0b10, "", ""),
		{I64Val: &hiveserver.TI64Column{Values: []int64{1 << 53, 0}, Nulls: []byte{0b10}}},
		texts(0, "1.5", "-1E-2"),
		texts(0, "2018-01-02 03:04:05.000001", "1969-12-31 23:59:59"),
		texts(0, "2018-02-28", "0001-01-01"),
		{BoolVal: &hiveserver.TBoolColumn{Values: []bool{true, false}}},
		{DoubleVal: &hiveserver.TDoubleColumn{Values: []float64{0.1, 1e21}}},
	}
	rec, err := record(schema, columns)
	if err != nil {
		t.Fatal(err)
	}
	defer rec.Release()
	for i, want := range []string{"|9007199254740992|1.50|2018-01-02 03:04:05.000001|2018-02-28|true|0.1", "||-0.01|1969-12-31 23:59:59|0001-01-01|false|1e+21"} {
		var cells []string
		for c := range int(rec.NumCols()) {
			cells = append(cells, web.CellText(rec.Column(c), i))
		}
		if got := strings.Join(cells, "|"); got != want {
			t.Errorf("row %d is %s, want %s", i, got, want)
		}
	}
	if s := rec.Column(0).(*array.String); s.IsNull(0) || !s.IsNull(1) {
		t.Error("an empty text and null are mixed up")
	}
	if _, err := record(schema, columns[:2]); err == nil {
		t.Error("columns are missing, and it says nothing")
	}
	if _, err := parseDecimal("1.005", 2); err == nil {
		t.Error("a decimal with too many digits is cut")
	}
}
