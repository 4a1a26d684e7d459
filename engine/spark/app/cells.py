"""Cells: the values of rows between Spark and this process.

A cell is None, str, bool, int or float. Decimals are their unscaled number,
dates days and timestamps microseconds since 1970: so two cells of a column are
equal in Python if and only if the values are, and sort as the values do. -0.0
is 0.0, and there is one NaN.
"""

import datetime
import decimal
import json
import re

import pyarrow as pa

NAN = float("nan")
EPOCH = datetime.datetime(1970, 1, 1)
MICRO = datetime.timedelta(microseconds=1)
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_WIDE = decimal.Context(prec=100)

ARROW = {
    "string": pa.string(), "boolean": pa.bool_(), "int": pa.int32(), "bigint": pa.int64(), "double": pa.float64(),
    "date": pa.date32(), "timestamp": pa.timestamp("us"),
}


def decimal_of(type):
    """(precision, scale) of a decimal type, or None."""
    m = _DECIMAL.fullmatch(type)
    return (int(m[1]), int(m[2])) if m else None


def check(type):
    if type not in ARROW and not decimal_of(type):
        raise ValueError(f"cannot hold values of type {type}")


def arrow_type(type):
    return ARROW[type] if type in ARROW else pa.decimal128(*decimal_of(type))


def normal(x):
    """A double as a cell."""
    if x is None:
        return None
    return NAN if x != x else x + 0.0


def from_arrow(column, type):
    """The cells of an Arrow column."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if type == "double":
        return [normal(x) for x in column.to_pylist()]
    if type == "timestamp":
        if column.type != ARROW[type]:
            column = column.cast(ARROW[type])
        return column.cast(pa.int64()).to_pylist()
    if type == "date":
        return column.cast(pa.int32()).to_pylist()
    if decimal_of(type):
        return _unscaled(column)
    return column.to_pylist()


def _unscaled(column):
    data, out = column.buffers()[1], []
    view, valid = memoryview(data) if data else b"", column.is_valid().to_pylist()
    for i in range(len(column)):
        at = (column.offset + i) * 16
        out.append(int.from_bytes(view[at:at + 16], "little", signed=True) if valid[i] else None)
    return out


def to_arrow(values, type):
    """An Arrow array of cells."""
    if type in ("timestamp", "date"):
        return pa.array(values, pa.int64() if type == "timestamp" else pa.int32()).cast(ARROW[type])
    if decimal_of(type):
        data = b"".join((v or 0).to_bytes(16, "little", signed=True) for v in values)
        valid = pa.array([v is not None for v in values], pa.bool_()).buffers()[1]
        return pa.Array.from_buffers(arrow_type(type), len(values), [valid, pa.py_buffer(data)])
    return pa.array(values, ARROW[type])


def rows_of(table, types):
    """The rows of an Arrow table whose columns are of these types, in order."""
    if table.num_rows == 0:
        return []
    return list(zip(*[from_arrow(table.column(i), t) for i, t in enumerate(types)]))


def arrow_table(rows, columns):
    """An Arrow table of rows; cells beyond the columns are left out."""
    arrays = [to_arrow([r[i] for r in rows], c.type) for i, c in enumerate(columns)]
    return pa.table(arrays, schema=pa.schema([pa.field(c.name, arrow_type(c.type)) for c in columns]))


def from_json(text, columns):
    """The cells of a row that Spark's to_json wrote with JSON_OPTIONS."""
    d = json.loads(text, parse_float=str)
    return tuple([_from_json(d.get(c.name), c.type) for c in columns])


JSON_OPTIONS = ("map('ignoreNullFields','false','timestampNTZFormat','yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSS',"
                "'timestampFormat','yyyy-MM-dd\\'T\\'HH:mm:ss.SSSSSSXXX')")


def _from_json(v, type):
    if v is None:
        return None
    if type == "double":
        return normal(float(v))
    if type == "timestamp":
        return (datetime.datetime.fromisoformat(v) - EPOCH) // MICRO
    if type == "date":
        return (datetime.datetime.fromisoformat(v) - EPOCH).days
    d = decimal_of(type)
    return int(decimal.Decimal(v).scaleb(d[1], _WIDE)) if d else v


def key_text(key):
    """A tuple as text: equal if and only if the tuples are."""
    return json.dumps(key, ensure_ascii=False, separators=(",", ":"))


def literal(v, type):
    """A cell as a constant of Spark SQL."""
    if v is None:
        return f"CAST(NULL AS {type})"
    if type == "string":
        return "'" + v.replace("\\", "\\\\").replace("'", "\\'") + "'"
    if type == "double":
        return f"CAST('{v!r}' AS double)"
    if type == "bigint":
        return f"CAST('{v}' AS bigint)"
    if type == "date":
        return f"date_from_unix_date({v})"
    if type == "timestamp":
        return f"TIMESTAMP_NTZ '{(EPOCH + v * MICRO).isoformat(sep=' ', timespec='microseconds')}'"
    d = decimal_of(type)
    if d:
        return f"CAST('{decimal.Decimal(v).scaleb(-d[1], _WIDE):f}' AS {type})"
    return str(v).lower()
