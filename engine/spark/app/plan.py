"""The compiled program: the JSON document that Lockstep's plan.go writes.

Nothing here decides anything: relations, keys and operations are as the
document says.
"""

import json
from dataclasses import dataclass, field

import cells

VERSION = 1


@dataclass
class Column:
    name: str
    type: str


@dataclass
class Table:
    """A table that rows belong to. A row is a tuple of cells (cells.py): those
    of the columns, then those of the computed expressions."""

    name: str
    columns: list
    computed: list  # Column: its name is the SQL

    def __post_init__(self):
        self.types = [c.type for c in self.columns + self.computed]
        self.width = len(self.columns)
        names = [c.name for c in self.columns]
        self.log = [names.index(n) for n in ("_partition", "_offset")] if "_offset" in names else None


@dataclass
class Relation:
    id: int
    name: str
    kind: str  # raw, fold, model
    table: Table
    scope: list
    indexes: list  # of keys; the first one of a fold or model is its scope
    fold: dict
    inputs: list
    step: list
    added: str = ""
    removed: str = ""

    def __post_init__(self):
        self.added, self.removed = self.name + ".added", self.name + ".removed"


class Key:
    """How a tuple is taken from a row: parts are cells of it, or texts."""

    def __init__(self, parts):
        self.parts = [(p.get("cell"), p.get("literal")) for p in parts]
        if all(at is not None for at, _ in self.parts):
            at = [at for at, _ in self.parts]
            self.of = (lambda row, i=at[0]: (row[i],)) if len(at) == 1 else (lambda row: tuple([row[i] for i in at]))
        else:
            self.of = lambda row: tuple([text if at is None else row[at] for at, text in self.parts])


@dataclass
class Model:
    name: str
    materialized: str
    fingerprint: str
    columns: list
    reads: list
    select: list  # text, table, text, ..., text

    def sql(self, name_of):
        """The SELECT with the tables under other names."""
        return "".join(name_of(part) if i % 2 else part for i, part in enumerate(self.select))


@dataclass
class Topic:
    topic: str
    table: str
    key: str
    event_time: str
    tombstone: str
    partitions: int
    schema: str
    fields: list


LOG_COLUMNS = [Column("_partition", "int"), Column("_offset", "bigint"), Column("_timestamp", "timestamp"), Column("_deleted", "boolean")]


@dataclass
class Plan:
    project: str
    fingerprint: str
    fingerprints: dict
    topics: dict = field(default_factory=dict)
    seeds: list = field(default_factory=list)
    tables: dict = field(default_factory=dict)
    relations: list = field(default_factory=list)
    models: dict = field(default_factory=dict)

    def relation(self, name):
        return next((r for r in self.relations if r.name == name), None)


def columns(items):
    return [Column(c["name"], c["type"]) for c in items]


def parse(document):
    """Reads the document; another version than ours is refused."""
    d = json.loads(document) if isinstance(document, (str, bytes)) else document
    if d["version"] != VERSION:
        raise ValueError(f"cannot run a plan of version {d['version']}: this application runs version {VERSION}; install both from the same release")
    p = Plan(d["project"], d["fingerprint"], d["fingerprints"])
    for t in d["topics"]:
        p.topics[t["topic"]] = Topic(**{**t, "fields": columns(t["fields"])})
    p.seeds = [(s["table"], columns(s["columns"]), s["rows"] or []) for s in d["seeds"] or []]
    for t in d["tables"]:
        p.tables[t["name"]] = Table(t["name"], columns(t["columns"]), [Column(c["sql"], c["type"]) for c in t["computed"]])
    for r in d["relations"]:
        p.relations.append(Relation(r["id"], r["name"], r["kind"], p.tables[r["table"]], columns(r["scope"]),
                                    [Key(x) for x in r["indexes"]], r.get("fold"), r["inputs"], r["step"]))
    for r in p.relations:
        for op in r.step:
            if op["op"] == "keys":
                op["key"] = Key(op["key"])
    for m in d["models"]:
        p.models[m["name"]] = Model(m["name"], m["materialized"], m["fingerprint"], columns(m["columns"]), m["reads"] or [], m["select"])
    for t in p.tables.values():
        for type in t.types:
            cells.check(type)
    return p
