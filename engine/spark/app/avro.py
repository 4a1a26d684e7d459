"""Avro bodies to cells: the same verdicts as Lockstep's ingest in Go.

A general decoder would be shorter and less exact: every fault here has the
reason that the Go judge gives it, values are checked against their column, and
decimals stay exact.
"""

import json
import struct

import cells

# Reasons for which a record is a dead letter.
MAGIC, SHORT, UNKNOWN, UNUSABLE = "wrong_magic_byte", "short_header", "unknown_schema", "unusable_schema"
INCOMPATIBLE, TRUNCATED, TRAILING, MALFORMED = "incompatible_schema", "truncated", "trailing_bytes", "malformed"
RANGE, TEXT, NULL, TOMBSTONE, KEY, TOO_LARGE = "value_out_of_range", "invalid_utf8", "null_not_allowed", "tombstone", "unusable_key", "too_large"

# The years 1 to 9999.
MIN_DAY, MAX_DAY = -719162, 2932896
MIN_MICROS, MAX_MICROS = MIN_DAY * 86_400_000_000, (MAX_DAY + 1) * 86_400_000_000 - 1

MAX_DEPTH, IDLE_WORK = 256, 4096


class Fault(Exception):
    """Why a record is not accepted."""

    def __init__(self, reason, detail):
        super().__init__(detail)
        self.reason, self.detail = reason, detail


class Unusable(Exception):
    """The text is no Avro schema."""


PRIMITIVES = {"null", "boolean", "int", "long", "float", "double", "string", "bytes"}


class Node:
    """A type of a schema, names resolved."""

    def __init__(self, type, name=""):
        self.type, self.name, self.logical = type, name, ""
        self.fields, self.branches, self.symbols = [], [], []
        self.items = self.values = self.enum_default = None
        self.size = self.precision = self.scale = 0
        self.aliases = []

    def __str__(self):
        return f"{self.type} ({self.logical})" if self.logical else self.type


class Field:
    def __init__(self, name, node, has_default, default, aliases):
        self.name, self.node, self.has_default, self.default, self.aliases = name, node, has_default, default, aliases


def parse(text, names=None):
    """The root of a schema. names holds named types of other schemas, and gets
    those of this one."""
    try:
        document = json.loads(text)
    except ValueError as e:
        raise Unusable(f"it is no JSON: {e}") from None
    return _node(document, "", {} if names is None else names)


def _full(name, namespace):
    return name if "." in name or not namespace else f"{namespace}.{name}"


def _node(d, namespace, names):
    if isinstance(d, str):
        if d in PRIMITIVES:
            return Node(d)
        found = names.get(_full(d, namespace)) or names.get(d)
        if found is None:
            raise Unusable(f"type {d} is not defined")
        return found
    if isinstance(d, list):
        n = Node("union")
        n.branches = [_node(b, namespace, names) for b in d]
        return n
    if not isinstance(d, dict) or "type" not in d:
        raise Unusable("a type is neither a name, a list nor an object with a type")
    type = d["type"]
    if not isinstance(type, str):
        return _node(type, namespace, names)
    if type in ("record", "error", "enum", "fixed"):
        return _named(d, type, namespace, names)
    if type == "array":
        n = Node(type)
        n.items = _node(_need(d, "items"), namespace, names)
        return n
    if type == "map":
        n = Node(type)
        n.values = _node(_need(d, "values"), namespace, names)
        return n
    if type not in PRIMITIVES:
        return _node(type, namespace, names)
    n = Node(type)
    _logical(n, d)
    return n


def _need(d, key):
    if key not in d:
        raise Unusable(f"type {d.get('type')} has no {key}")
    return d[key]


def _logical(n, d):
    logical = d.get("logicalType", "")
    if logical == "decimal":
        n.precision, n.scale = d.get("precision", 0), d.get("scale", 0)
        if not isinstance(n.precision, int) or not isinstance(n.scale, int) or n.precision < 1 or not 0 <= n.scale <= n.precision:
            return
    n.logical = logical if isinstance(logical, str) else ""


def _named(d, type, namespace, names):
    name = _need(d, "name")
    if "." in name:
        namespace = name.rsplit(".", 1)[0]
    elif "namespace" in d:
        namespace = d["namespace"] or ""
    n = Node(type, name.rsplit(".", 1)[-1])
    n.aliases = d.get("aliases") or []
    names[_full(n.name, namespace)] = n
    if type == "enum":
        n.symbols, n.enum_default = _need(d, "symbols"), d.get("default")
    elif type == "fixed":
        n.size = _need(d, "size")
        _logical(n, d)
    else:
        for f in _need(d, "fields"):
            n.fields.append(Field(_need(f, "name"), _node(_need(f, "type"), namespace, names), "default" in f, f.get("default"), f.get("aliases") or []))
    return n


def column_type(n):
    """The type of the column that a field becomes, or None."""
    if n.logical == "decimal" and n.type in ("bytes", "fixed"):
        return f"decimal({n.precision},{n.scale})" if n.precision <= 38 else None
    if (n.type, n.logical) == ("int", "date"):
        return "date"
    if n.type == "long" and n.logical in TIMES:
        return "timestamp"
    return {"string": "string", "enum": "string", "boolean": "boolean", "int": "int", "long": "bigint", "float": "double", "double": "double"}.get(n.type)


TIMES = {"timestamp-millis": 1000, "local-timestamp-millis": 1000, "timestamp-micros": 1, "local-timestamp-micros": 1}


class Cursor:
    """Reads an Avro body."""

    __slots__ = ("b", "i", "work")

    def __init__(self, body):
        self.b, self.i, self.work = body, 0, IDLE_WORK

    def take(self, n):
        left = len(self.b) - self.i
        if n < 0:
            raise Fault(MALFORMED, f"a length is {n}")
        if n > left:
            raise Fault(TRUNCATED, f"{n - left} bytes are missing")
        at = self.i
        self.i = at + n
        return self.b[at:at + n]

    def long(self):
        u, shift, b, i = 0, 0, self.b, self.i
        for n in range(len(b) - i):
            x = b[i + n]
            if n == 10 or n == 9 and x > 1 and x < 0x80:
                raise Fault(MALFORMED, "a number has more than 64 bits")
            u |= (x & 0x7F) << shift
            if x < 0x80:
                self.i = i + n + 1
                return (u >> 1) ^ -(u & 1)
            shift += 7
        raise Fault(TRUNCATED, "the body ends within a number")

    def int(self):
        v = self.long()
        if not -2147483648 <= v <= 2147483647:
            raise Fault(MALFORMED, f"{v} is no 32-bit number")
        return v

    def bool(self):
        v = self.take(1)[0]
        if v > 1:
            raise Fault(MALFORMED, f"a boolean is {v}")
        return v == 1

    def bytes(self):
        return self.take(self.long())

    def float(self):
        return cells.normal(struct.unpack("<f", self.take(4))[0])

    def double(self):
        return cells.normal(struct.unpack("<d", self.take(8))[0])

    def branch(self, n):
        v = self.long()
        if not 0 <= v < n:
            raise Fault(MALFORMED, f"branch {v} of a union of {n}")
        return v

    def idle(self, at):
        """Counts a value that took no byte."""
        if self.i == at:
            self.work -= 1
            if self.work < 0:
                raise Fault(MALFORMED, f"more than {IDLE_WORK} values without a byte")


class Incompatible(Exception):
    """Values of this type cannot become the column's."""


class Reader:
    """Compiles how a value becomes a cell of one column."""

    def __init__(self, type, nullable=True, enum=None):
        self.type, self.nullable, self.enum = type, nullable, enum

    def compile(self, n):
        if n.type == "null":
            return self.null
        if n.type == "union":
            return self.union(n)
        read = self.primitive(n)
        if read is None:
            raise Incompatible(f"type {n} cannot become the column's {self.type}")
        return read

    def null(self, _):
        if not self.nullable:
            raise Fault(NULL, "it is null, and the topic's schema does not allow that")
        return None

    def union(self, n):
        branches, fit, first = [], 0, None
        for b in n.branches:
            try:
                branches.append(self.compile(b))
                fit += b.type != "null" or self.nullable
            except Incompatible as e:
                first = first or e
                branches.append(_raises(str(e)))
        if not fit and first:
            raise first
        if len(branches) == 2 and n.branches[0].type == "null" and self.nullable:
            value = branches[1]
            return lambda c: value(c) if c.branch(2) else None
        return lambda c: branches[c.branch(len(branches))](c)

    def primitive(self, n):
        t = self.type
        if t == "string":
            return self.text(n)
        if t == "boolean":
            return Cursor.bool if n.type == "boolean" else None
        if t in ("int", "bigint"):
            return self.integer(n)
        if t == "double":
            return self.double(n)
        if t == "date":
            return _date if (n.type, n.logical) == ("int", "date") else None
        if t == "timestamp":
            return _time(TIMES[n.logical]) if n.type == "long" and n.logical in TIMES else None
        return self.decimal(n) if n.logical == "decimal" and n.type in ("bytes", "fixed") else None

    def text(self, n):
        if n.type == "enum":
            return self.symbol(n)
        if self.enum is not None:
            return None
        return _text if n.type == "string" or n.type == "bytes" and n.logical != "decimal" else None

    def symbol(self, n):
        texts = [s if self.enum is None or s in self.enum.symbols else self.enum.enum_default for s in n.symbols]

        def read(c):
            i = c.int()
            if not 0 <= i < len(texts):
                raise Fault(MALFORMED, f"symbol {i} of an enum of {len(texts)}")
            if texts[i] is None:
                raise Fault(RANGE, f"symbol {n.symbols[i]} is not in the topic's schema")
            return texts[i]
        return read

    def integer(self, n):
        if column_type(n) not in ("int", "bigint"):
            return None
        if n.type == "int":
            return Cursor.int
        if self.type == "bigint":
            return Cursor.long

        def read(c):
            v = c.long()
            if not -2147483648 <= v <= 2147483647:
                raise Fault(RANGE, f"{v} does not fit a column of type int")
            return v
        return read

    def double(self, n):
        if n.type in ("double", "float"):
            return Cursor.double if n.type == "double" else Cursor.float
        if column_type(n) not in ("int", "bigint"):
            return None
        read = Cursor.int if n.type == "int" else Cursor.long
        return lambda c: float(read(c))

    def decimal(self, n):
        precision, to = cells.decimal_of(self.type)
        limit, up, down = 10 ** precision, 10 ** max(to - n.scale, 0), 10 ** max(n.scale - to, 0)

        def read(c):
            v = int.from_bytes(c.take(n.size) if n.size > 0 else c.bytes(), "big", signed=True)
            v, rest = divmod(v * up, down)
            if rest or not -limit < v < limit:
                raise Fault(RANGE, f"a decimal does not fit a column of type {self.type}")
            return v
        return read


def _raises(text):
    def read(_):
        raise Fault(INCOMPATIBLE, text)
    return read


def _text(c):
    try:
        return c.bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise Fault(TEXT, "the string is not UTF-8") from None


def _date(c):
    v = c.int()
    if not MIN_DAY <= v <= MAX_DAY:
        raise Fault(RANGE, f"day {v} is not within the years 1 to 9999")
    return v


def _time(micros):
    def read(c):
        v = c.long()
        if not MIN_MICROS <= v * micros <= MAX_MICROS:
            raise Fault(RANGE, f"time {v} is not within the years 1 to 9999")
        return v * micros
    return read


def skipper(n, made=None):
    """Compiles how a value is passed over: a function of cursor and depth."""
    made = {} if made is None else made
    if n.type == "null":
        return lambda c, _: None
    if n.type == "boolean":
        return lambda c, _: c.bool()
    if n.type in ("int", "long", "enum"):
        return lambda c, _: c.long()
    if n.type in ("float", "double", "fixed"):
        size = {"float": 4, "double": 8}.get(n.type, n.size)
        return lambda c, _: c.take(size)
    if n.type in ("string", "bytes"):
        return lambda c, _: c.bytes()
    if n.type == "union":
        branches = [skipper(b, made) for b in n.branches]
        return lambda c, depth: branches[c.branch(len(branches))](c, depth)
    if n.type == "array":
        return _blocks(skipper(n.items, made))
    if n.type == "map":
        value = skipper(n.values, made)
        return _blocks(lambda c, depth: (c.bytes(), value(c, depth)))
    if id(n) in made:
        return lambda c, depth: made[id(n)](c, depth)
    made[id(n)] = None
    fields = [skipper(f.node, made) for f in n.fields]

    def record(c, depth):
        if depth > MAX_DEPTH:
            raise Fault(MALFORMED, f"values are nested more than {MAX_DEPTH} deep")
        at = c.i
        for f in fields:
            f(c, depth + 1)
        c.idle(at)
    made[id(n)] = record
    return record


def _blocks(item):
    def skip(c, depth):
        if depth > MAX_DEPTH:
            raise Fault(MALFORMED, f"values are nested more than {MAX_DEPTH} deep")
        while True:
            count = c.long()
            if count == 0:
                return
            end = None
            if count < 0:  # the block says how many bytes it has
                size, count, left = c.long(), -count, len(c.b) - c.i
                if size < 0 or size > left:
                    raise Fault(MALFORMED, f"a block of {size} bytes where {left} are left")
                end = c.i + size
            for _ in range(count):
                at = c.i
                item(c, depth + 1)
                c.idle(at)
            if end is not None and c.i != end:
                raise Fault(MALFORMED, f"a block ends {c.i - end} bytes from where it says")
    return skip


def encode(value, n):
    """A default of a schema as Avro."""
    t = n.type
    if t == "union":
        for i, b in enumerate(n.branches):
            try:
                return _long(i) + encode(value, b)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
        raise ValueError("its default fits no branch")
    if t == "null":
        if value is not None:
            raise ValueError("it is not null")
        return b""
    if t == "boolean":
        if not isinstance(value, bool):
            raise ValueError("it is no boolean")
        return bytes([value])
    if t in ("int", "long"):
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError("it is no whole number")
        return _long(value)
    if t in ("float", "double"):
        if isinstance(value, (bool, str)):
            raise ValueError("it is no number")
        return struct.pack("<f" if t == "float" else "<d", value)
    if t == "enum":
        return _long(n.symbols.index(value))
    if t == "string":
        data = value.encode("utf-8")
        return _long(len(data)) + data
    if t in ("bytes", "fixed"):
        data = value.encode("latin-1")
        return data if t == "fixed" else _long(len(data)) + data
    raise ValueError(f"no default of type {t}")


def _long(v):
    u, out = (v << 1) ^ (v >> 63), bytearray()
    u &= (1 << 64) - 1
    while u >= 0x80:
        out.append(u & 0x7F | 0x80)
        u >>= 7
    out.append(u)
    return bytes(out)
