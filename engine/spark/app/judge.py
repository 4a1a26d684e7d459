"""Decides on records: accepted, with the row that they become, or dead, with
the reason. The verdicts, reasons and rows are those of Lockstep's ingest in Go;
a test sends the same poison through both.
"""

import base64
import datetime
import decimal
import json
import re
import ssl
import struct
import threading
import time
import urllib.error
import urllib.request

import avro
import cells
from avro import Fault
from plan import LOG_COLUMNS, Column

MAX_RECORD = 4 << 20
REFERENCE_DEPTH = 64

ACCEPTED, DEAD, WAIT = "accepted", "dead", "wait"


class NotFound(Exception):
    pass


class Unavailable(Exception):
    pass


class Registry:
    """A Confluent-compatible registry over HTTP."""

    def __init__(self, url, user="", password="", ca="", timeout=10):
        self.url, self.timeout, self.headers = url.rstrip("/"), timeout, {"Accept": "application/vnd.schemaregistry.v1+json"}
        if user:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        handlers = [urllib.request.ProxyHandler({})] if re.match(r"https?://(127\.|localhost)", self.url) else []
        if ca:
            handlers.append(urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=ca)))
        self.open = urllib.request.build_opener(*handlers).open

    def get(self, path, body=None):
        request = urllib.request.Request(self.url + path, headers=dict(self.headers))
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        try:
            with self.open(request, timeout=self.timeout) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as e:
            text = e.read().decode("utf-8", "replace")
            try:
                code = json.loads(text).get("error_code", 0)
            except (ValueError, AttributeError):
                code = 0
            # A 404 without a code is a proxy's, or not a registry's at all.
            if e.code == 404 and code > 40400:
                raise NotFound(text) from None
            raise Unavailable(f"{e.code}: {text[:200]}") from None
        except (OSError, ValueError) as e:
            raise Unavailable(str(e)) from None

    def schema(self, id):
        """The root of a schema and its text."""
        answer = self.get(f"/schemas/ids/{id}")
        names = {}
        self.references(answer, names, 0)
        return self.parsed(answer, names), answer["schema"]

    def references(self, answer, names, depth):
        if depth > REFERENCE_DEPTH:
            raise avro.Unusable(f"references are more than {REFERENCE_DEPTH} deep")
        for r in answer.get("references") or []:
            other = self.get(f"/subjects/{r['subject']}/versions/{r['version']}")
            self.references(other, names, depth + 1)
            self.parsed(other, names)

    @staticmethod
    def parsed(answer, names):
        if answer.get("schemaType", "AVRO") != "AVRO":
            raise avro.Unusable(f"it is {answer['schemaType']}")
        return avro.parse(answer["schema"], names)

    def register(self, subject, schema):
        self.get(f"/subjects/{subject}/versions", {"schema": schema})


class Schemas:
    """Finds writer schemas by id. A registry that does not answer is asked
    again in the background, and the records that need it wait."""

    FIRST, MOST = 0.1, 5.0
    PATIENCE = 2.0  # for the first answer; it mostly takes milliseconds

    def __init__(self, registry):
        self.registry, self.lock = registry, threading.Condition()
        self.found, self.missing, self.asking, self.failed = {}, {}, {}, {}

    def find(self, id, polled):
        """(node, None), (None, fault), or (None, None): wait. "Not found" holds
        for records that were read before the question was put: whoever
        registers a schema does so before producing with it."""
        with self.lock:
            answer = self.settled(id, polled)
            if answer:
                return answer
            if id not in self.asking:
                self.asking[id] = True
                threading.Thread(target=self.ask, args=(id,), daemon=True).start()
                self.lock.wait_for(lambda: self.settled(id, polled) or id in self.failed, self.PATIENCE)
            return self.settled(id, polled) or (None, None)

    def settled(self, id, polled):
        if id in self.found:
            return self.found[id]
        if id in self.missing and self.missing[id] >= polled:
            return None, Fault(avro.UNKNOWN, f"the registry has no schema with id {id}")
        return None

    def ask(self, id):
        pause = self.FIRST
        while True:
            asked = time.time()
            try:
                node, _ = self.registry.schema(id)
                answer = (node, None)
            except NotFound:
                answer = None
            except avro.Unusable as e:
                answer = (None, Fault(avro.UNUSABLE, str(e)))
            except Exception as e:  # whatever it is, the records wait
                with self.lock:
                    self.failed[id] = str(e)
                    self.lock.notify_all()
                time.sleep(pause)
                pause = min(2 * pause, self.MOST)
                continue
            with self.lock:
                if answer:
                    self.found[id] = answer
                else:
                    self.missing[id] = asked
                self.asking.pop(id, None)
                self.failed.pop(id, None)
                self.lock.notify_all()
            return


class Decoder:
    """Bodies of one writer schema to rows of one table."""

    def __init__(self, target, writer):
        if writer.type != "record":
            raise avro.Incompatible(f"the schema is a {writer.type}, not a record")
        if not target.same_name(writer):
            raise avro.Incompatible(f"the schema is of record {writer.name}, the topic's is {target.root.name}")
        self.width, self.fields, self.missing, has = len(target.columns), [], [], set()
        for f in writer.fields:
            at = target.column(target.reader_name(f.name))
            if at is None:
                self.fields.append((f.name, None, avro.skipper(f.node)))
                continue
            if at in has:
                raise avro.Incompatible(f"field {f.name}: another field already is column {target.columns[at].name}")
            has.add(at)
            try:
                self.fields.append((f.name, at, target.reader(at).compile(f.node)))
            except avro.Incompatible as e:
                raise avro.Incompatible(f"field {f.name}: {e}") from None
        for at, c in enumerate(target.columns):
            if at not in has and not target.is_log(at):
                self.missing.append((at, target.default(at)))
        self.missing = [(at, v) for at, v in self.missing if v is not None]

    def decode(self, body):
        row, c = [None] * self.width, avro.Cursor(body)
        for name, at, read in self.fields:
            try:
                if at is None:
                    read(c, 0)
                else:
                    row[at] = read(c)
            except Fault as f:
                raise Fault(f.reason, f"field {name}: {f.detail}") from None
        if c.i != len(body):
            raise Fault(avro.TRAILING, f"{len(body) - c.i} bytes follow the body of {c.i}")
        for at, value in self.missing:
            row[at] = value
        return row


class Target:
    """The bronze table of a topic: what records become rows of. Its columns are
    the contract's fields, where the record stood, then extras: fields that
    later schemas of the topic have, which no model sees."""

    PLAIN = re.compile(r"[a-z][a-z0-9_]*")

    def __init__(self, topic, extras=()):
        self.topic, self.root = topic, avro.parse(topic.schema)
        self.contract = {f.name: f for f in self.root.fields}
        self.fixed = len(topic.fields) + len(LOG_COLUMNS)
        self.columns = topic.fields + LOG_COLUMNS + list(extras)
        self.decoders = {}

    def is_log(self, at):
        return len(self.topic.fields) <= at < self.fixed

    def column(self, name):
        return next((i for i, c in enumerate(self.columns) if c.name == name and not self.is_log(i)), None)

    def same_name(self, writer):
        return any(n.rsplit(".", 1)[-1] == writer.name for n in [self.root.name] + self.root.aliases)

    def reader_name(self, name):
        if name not in self.contract:
            for f in self.root.fields:
                if name in f.aliases:
                    return f.name
        return name

    def reader(self, at):
        """How values become cells of a column: nulls and symbols as the
        contract allows, all of them where it has no such field."""
        own = self.contract.get(self.columns[at].name)
        enum, nullable = allowed(own.node) if own else (None, True)
        return avro.Reader(self.columns[at].type, nullable, enum)

    def default(self, at):
        """The cell of a column that a writer does not have."""
        f = self.contract.get(self.columns[at].name)
        if f is None:
            return None
        _, nullable = allowed(f.node)
        if not f.has_default:
            if not nullable:
                raise avro.Incompatible(f"field {f.name}: the schema does not have it, and the topic's has no default for it")
            return None
        if f.default is None:
            return None
        try:
            return self.reader(at).compile(f.node)(avro.Cursor(avro.encode(f.default, f.node)))
        except (Fault, ValueError) as e:
            raise avro.Incompatible(f"field {f.name}: its default cannot be used: {e}") from None

    def new_columns(self, writer):
        """The columns that the table lacks for the fields of a schema."""
        added = []
        if writer.type != "record" or not self.same_name(writer):
            return added
        for f in writer.fields:
            name = self.reader_name(f.name)
            if self.PLAIN.fullmatch(name) and self.column(name) is None and all(c.name != name for c in self.columns):
                type = extra_type(f.node)
                if type:
                    added.append(Column(name, type))
        if added:  # nothing is added for a schema whose records cannot be rows anyway
            trial = Target.__new__(Target)
            trial.__dict__.update(self.__dict__, columns=self.columns + added)
            Decoder(trial, writer)
        return added

    def decoder(self, id, writer):
        """(decoder, None) or (None, fault); and the columns that are new."""
        if id in self.decoders:
            return self.decoders[id], []
        added = []
        try:
            added = self.new_columns(writer)
            if added:
                self.columns = self.columns + added
                self.decoders.clear()  # they leave the new columns out
            made = (Decoder(self, writer), None)
        except avro.Incompatible as e:
            made = (None, Fault(avro.INCOMPATIBLE, f"schema {id}: {e}"))
        self.decoders[id] = made
        return made, added


def allowed(n):
    """What the contract allows in a field: an enum's node, and nulls."""
    if n.type == "enum":
        return n, False
    if n.type == "null":
        return None, True
    if n.type == "union":
        each = [allowed(b) for b in n.branches]
        return next((e for e, _ in reversed(each) if e is not None), None), any(null for _, null in each)
    return None, False


def extra_type(n):
    """The column type of a new field: of its only type besides null."""
    if n.type != "union":
        return avro.column_type(n)
    types = [extra_type(b) for b in n.branches if b.type != "null"]
    return types[0] if len(types) == 1 else None


class Judge:
    """Judges records in order. widen(topic, columns) is called when a table
    must get further columns, before a row has them."""

    def __init__(self, targets, schemas, widen=lambda topic, columns: None):
        self.targets, self.schemas, self.widen = targets, schemas, widen

    def judge(self, topic, partition, offset, millis, key, value, polled):
        """(ACCEPTED, row), (DEAD, fault, schema id) or (WAIT, schema id)."""
        target, schema = self.targets[topic], 0
        try:
            size = len(key or b"") + len(value or b"")
            if size > MAX_RECORD:
                raise Fault(avro.TOO_LARGE, f"the record has {size} bytes, {MAX_RECORD} are allowed")
            if value is None:
                row = tombstone(target, key, millis)
            else:
                schema, body = wire_format(value)
                entry = target.decoders.get(schema)
                if entry is None:
                    node, fault = self.schemas.find(schema, polled)
                    if fault:
                        raise fault
                    if node is None:
                        return WAIT, schema
                    entry, added = target.decoder(schema, node)
                    if added:
                        self.widen(topic, added)
                decoder, fault = entry
                if fault:
                    raise fault
                row = decoder.decode(body)
            at = len(target.topic.fields)
            row[at:at + 4] = partition, offset, record_time(millis), value is None
            return ACCEPTED, tuple(row)
        except Fault as f:
            return DEAD, f, schema if f.reason not in (avro.MAGIC, avro.SHORT) else 0


def wire_format(value):
    """Takes Confluent's header off: a zero byte, a schema id."""
    if value and value[0] != 0:
        raise Fault(avro.MAGIC, f"the first byte is {value[0]}, not 0: the value is not in the registry's wire format")
    if len(value) < 5:
        raise Fault(avro.SHORT, f"the value has {len(value)} bytes; its header alone has 5")
    return struct.unpack(">i", value[1:5])[0], value[5:]


def record_time(millis):
    """A record's time in microseconds; None: it has none, or one that no column
    can hold."""
    micros = millis * 1000
    return micros if millis != -1 and avro.MIN_MICROS <= micros <= avro.MAX_MICROS else None


def tombstone(target, key, millis):
    """The row of a deletion: the key, the record's time as event time."""
    if target.topic.tombstone != "delete":
        raise Fault(avro.TOMBSTONE, "the record has no value, and the topic's rule in sources.yaml does not allow deletions")
    if key is None:
        raise Fault(avro.KEY, "a deletion must have a key")
    row = [None] * len(target.columns)
    for at, c in enumerate(target.topic.fields):
        if c.name == target.topic.key:
            try:
                row[at] = key_cell(key, c.type)
            except (ValueError, ArithmeticError) as e:
                raise Fault(avro.KEY, f"the key cannot be column {c.name}: {e}") from None
        elif c.name == target.topic.event_time and c.type == "timestamp":
            row[at] = record_time(millis)
    return row


INTEGER = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?[0-9]{1,38}(\.[0-9]{1,38})?")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) ([0-9]{2}:[0-9]{2}:[0-9]{2})([.,][0-9]+)?")


def key_cell(key, type):
    """A key's text as a cell of a column's type."""
    try:
        s = key.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    if type == "string":
        return s
    if type in ("int", "bigint"):
        v = int(s) if INTEGER.fullmatch(s) else None
        half = 1 << (31 if type == "int" else 63)
        if v is None or not -half <= v < half:
            raise ValueError(f"{s!r} is no {type}")
        return v
    if type == "boolean":
        for word, v in (("1 t T TRUE true True", True), ("0 f F FALSE false False", False)):
            if s in word.split():
                return v
        raise ValueError(f"{s!r} is neither true nor false")
    if type == "date":
        if not DAY.fullmatch(s):
            raise ValueError(f"{s!r} is no date")
        return (datetime.date.fromisoformat(s) - datetime.date(1970, 1, 1)).days
    if type == "timestamp":
        m = TIME.fullmatch(s.replace("T", " ", 1))
        if not m:
            raise ValueError(f"{s!r} is no time")
        at = datetime.datetime.fromisoformat(f"{m[1]} {m[2]}")
        return (at - cells.EPOCH) // cells.MICRO + int(((m[3] or ".")[1:] + "000000")[:6])
    d = cells.decimal_of(type)
    if d:
        if not DECIMAL.fullmatch(s):
            raise ValueError(f"{s!r} is not a plain decimal")
        context = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_UP)
        v = int(context.to_integral_value(decimal.Decimal(s).scaleb(d[1], context)))
        if abs(v) >= 10 ** d[0]:
            raise ValueError(f"{s!r} has more than {d[0]} digits")
        return v
    raise ValueError(f"a key cannot be a {type}")
