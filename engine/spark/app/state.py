"""The keyed state of a stream: the base, which is tables of the lake, and the
overlay, which is what steps changed since.

The overlay is a local SQLite file. On the cluster it is a cache, built again at
every start from what the lake holds; for a caller that gives steps itself
(steps.py) it is the state.
"""

import itertools
import json
import marshal
import sqlite3

import cells


class Overlay:
    """Rows by relation, found by their indexes, and the scopes that they are
    all of. A scope that became empty is there too.

    CROSS JOIN keeps SQLite from turning a join round: it takes a list of keys
    for long and would pass over it once for every row."""

    def __init__(self, path, durable=False):
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.db.execute("PRAGMA journal_mode = " + ("WAL" if durable else "OFF"))
        self.db.execute("PRAGMA synchronous = " + ("NORMAL" if durable else "OFF"))
        self.db.execute("PRAGMA cache_size = -65536")
        for sql in (
            "CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS scope (relation INT, key TEXT, step INT, PRIMARY KEY (relation, key)) WITHOUT ROWID",
            "CREATE TABLE IF NOT EXISTS row (id INTEGER PRIMARY KEY, relation INT, scope TEXT, step INT, data BLOB)",
            "CREATE INDEX IF NOT EXISTS row_scope ON row (relation, scope)",
            "CREATE TABLE IF NOT EXISTS entry (idx INT, key TEXT, row INT, PRIMARY KEY (idx, key, row)) WITHOUT ROWID",
            "CREATE INDEX IF NOT EXISTS entry_row ON entry (row)",
        ):
            self.db.execute(sql)
        self.next = (self.db.execute("SELECT max(id) FROM row").fetchone()[0] or 0) + 1

    def close(self):
        self.db.close()

    def meta(self, name):
        found = self.db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return found[0] if found else None

    def set_meta(self, name, value):
        self.db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, str(value)))

    def begin(self):
        self.db.execute("BEGIN")

    def commit(self):
        self.db.execute("COMMIT")

    def rollback(self):
        if self.db.in_transaction:
            self.db.execute("ROLLBACK")

    def lookup(self, relation, index, keys):
        """The rows whose key of that index is among keys."""
        found = self.db.execute(
            "SELECT r.data FROM json_each(?) k CROSS JOIN entry e ON e.idx = ? AND e.key = k.value CROSS JOIN row r ON r.id = e.row",
            (json.dumps([cells.key_text(k) for k in keys]), index_id(relation, index)))
        return [loaded(data) for data, in found]

    def covered(self, relation, scopes):
        """Those of the scopes that the overlay holds."""
        texts = {cells.key_text(s): s for s in scopes}
        found = self.db.execute("SELECT s.key FROM json_each(?) k CROSS JOIN scope s ON s.relation = ? AND s.key = k.value",
                                (json.dumps(list(texts)), relation.id))
        return {texts[key] for key, in found}

    def rows(self, relation):
        """All rows of a relation."""
        return [loaded(d) for d, in self.db.execute("SELECT data FROM row WHERE relation = ?", (relation.id,))]

    def scopes(self, relation):
        """All scopes of a relation."""
        return {tuple(json.loads(k)) for k, in self.db.execute("SELECT key FROM scope WHERE relation = ?", (relation.id,))}

    def replace(self, relation, step, scopes, rows):
        """These scopes now have these rows."""
        texts = [cells.key_text(s) for s in scopes]
        old = json.dumps(texts)
        self.db.execute("DELETE FROM entry WHERE row IN (SELECT r.id FROM json_each(?) k CROSS JOIN row r ON r.relation = ? AND r.scope = k.value)", (old, relation.id))
        self.db.execute("DELETE FROM row WHERE relation = ? AND scope IN (SELECT value FROM json_each(?))", (relation.id, old))
        self.db.executemany("INSERT OR REPLACE INTO scope VALUES (?, ?, ?)", [(relation.id, t, step) for t in texts])
        self.add(relation, step, rows, relation.indexes[0])

    def add(self, relation, step, rows, scope=None):
        """Further rows. Those of a relation that only grows have no scope: the
        place in the log stands there instead, partition and offset."""
        if scope:
            of = lambda r: (cells.key_text(scope.of(r)), step)
        else:
            at = relation.table.log
            of = (lambda r: (str(r[at[0]]), r[at[1]])) if at else (lambda r: (None, step))
        first = self.next
        self.next += len(rows)
        self.db.executemany("INSERT INTO row VALUES (?, ?, ?, ?, ?)", [
            (first + n, relation.id, *of(r), marshal.dumps(r, 2)) for n, r in enumerate(rows)])
        for at, key in enumerate(relation.indexes):
            idx, take = index_id(relation, at), key.of
            self.db.executemany("INSERT INTO entry VALUES (?, ?, ?)", [(idx, cells.key_text(take(r)), first + n) for n, r in enumerate(rows)])

    def drop(self, step):
        """Forgets the scopes that were changed last at or before a step: the
        base has them."""
        self.forget("scope IS NOT NULL AND relation IN (SELECT DISTINCT relation FROM scope) AND step <= ?", (step,))
        self.db.execute("DELETE FROM scope WHERE step <= ?", (step,))

    def drop_below(self, relation, ends):
        """Forgets rows of a relation that only grows: the base has them up to
        these offsets."""
        for p, end in ends.items():
            self.forget("relation = ? AND scope = ? AND step < ?", (relation.id, str(p), end))

    def forget(self, where, args):
        self.db.execute(f"DELETE FROM entry WHERE row IN (SELECT id FROM row WHERE {where})", args)
        self.db.execute(f"DELETE FROM row WHERE {where}", args)

    def clear(self):
        for table in ("entry", "row", "scope"):
            self.db.execute("DELETE FROM " + table)


def loaded(data):
    """A row as it was stored; NaN is the one NaN again."""
    row = marshal.loads(data)
    return tuple([cells.NAN if v != v else v for v in row]) if any(v != v for v in row) else row


def index_id(relation, at):
    return relation.id << 8 | at


class Base:
    """The tables of one manifest. sources maps a relation's table to the FROM
    item by which Spark reads it, bronze tables bounded by the manifest's
    offsets; a table that is left out is empty."""

    # Above so many keys they are joined instead of written into the query.
    LITERALS = 1000

    def __init__(self, sql, step=0, sources=None):
        self.sql, self.step, self.sources = sql, step, sources or {}
        self.number = itertools.count()

    def has(self, relation):
        return relation.table.name in self.sources

    def lookup(self, requests):
        """Answers several look-ups (relation, index, keys) by one query: a list
        of rows for each."""
        parts, views = [], []
        try:
            for n, (relation, index, keys) in enumerate(requests):
                inner = self.select(relation, relation.indexes[index], keys, views)
                names = columns_of(relation.table)
                parts.append(f"SELECT {n} AS n, to_json(struct({', '.join(names)}), {cells.JSON_OPTIONS}) AS j FROM ({inner})")
            found = self.sql.spark.sql(" UNION ALL ".join(parts)).toArrow()
        finally:
            for v in views:
                self.sql.drop(v)
        out = [[] for _ in requests]
        wanted = [set(keys) for _, _, keys in requests]
        for n, text in zip(found.column(0).to_pylist(), found.column(1).to_pylist()):
            relation, index, _ = requests[n]
            row = row_from_json(text, relation.table)
            if relation.indexes[index].of(row) in wanted[n]:
                out[n].append(row)
        return out

    def select(self, relation, key, keys, views):
        """SELECT of at least the rows with one of the keys."""
        from session import row_sql

        table, source = relation.table, self.sources[relation.table.name]
        where = self.where(table, key, keys, views)
        if relation.kind != "fold":
            return f"SELECT * FROM ({row_sql(table, source)}) WHERE {where}"
        fold = ", ".join(relation.fold["key"])
        own = [c.name for c in relation.scope] == [table.columns[at].name for at, _ in key.parts if at is not None and at < table.width] and len(key.parts) == len(relation.scope)
        if own:
            among = where
        else:  # the first rows of the keys that have such a row at all
            match = " AND ".join(f"a.{c} <=> b.{c}" for c in relation.fold["key"])
            among = f"EXISTS (SELECT 1 FROM (SELECT DISTINCT {fold} FROM ({row_sql(table, source)}) WHERE {where}) b WHERE {match})"
        return (f"SELECT * FROM (SELECT *, row_number() OVER (PARTITION BY {fold} ORDER BY {relation.fold['sql']}) AS _first "
                f"FROM ({row_sql(table, source)}) a WHERE {among}) WHERE _first = 1")

    def where(self, table, key, keys, views):
        """A condition that each row with one of the keys meets, and few others."""
        columns = table.columns + table.computed
        terms = []
        for n, (at, _) in enumerate(key.parts):
            if at is None:
                continue
            name, type = (columns[at].name, columns[at].type) if at < table.width else (f"_c{at - table.width}", columns[at].type)
            values = {k[n] for k in keys}
            some = sorted(v for v in values if v is not None)
            if len(some) > self.LITERALS:
                view = f"{self.sql.prefix}keys_{next(self.number)}"
                from plan import Column

                self.sql.view("", cells.arrow_table([(v,) for v in some], [Column("v", type)]), view)
                views.append(view)
                term = f"{name} IN (SELECT v FROM {view})"
            else:
                term = f"{name} IN ({', '.join(cells.literal(v, type) for v in some)})" if some else "FALSE"
            terms.append(f"({name} IS NULL OR {term})" if None in values else term)
        return " AND ".join(terms) or "TRUE"


def columns_of(table):
    return [c.name for c in table.columns] + [f"_c{i}" for i in range(len(table.computed))]


def row_from_json(text, table):
    from plan import Column

    return cells.from_json(text, [Column(n, t) for n, t in zip(columns_of(table), table.types)])
