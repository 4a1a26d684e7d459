"""A server for a caller that gives steps itself: the suite that every engine
passes, a project's unit tests, random histories. Many programs share one Spark.

Requests are lines of JSON on standard input, answers lines on standard output:
{"ok": ...} or {"error": text}. Rows are Arrow IPC files in folders that the
request names, one for each table.
"""

import concurrent.futures
import json
import os
import shutil
import sys
import traceback

import pyarrow as pa

import cells
import plan as plans
from session import SQL, columns_sql, open_session
from state import Base, Overlay
from step import Step


def read(dir, tables):
    """The rows of a folder, by table."""
    out = {}
    for table in tables:
        with pa.ipc.open_file(os.path.join(dir, table + ".arrow")) as f:
            out[table] = f.read_all()
    return out


def write(dir, table, arrow):
    os.makedirs(dir, exist_ok=True)
    with pa.ipc.new_file(os.path.join(dir, table + ".arrow"), arrow.schema) as f:
        f.write_table(arrow)


class Whole:
    """Every table of a program in full, as a recompute sees them: views."""

    def __init__(self, spark, plan, given):
        self.plan, self.sql, self.names = plan, SQL(spark, plan.seeds), {}
        self.names.update(self.sql.seeds)
        self.tables = given
        for topic in plan.topics.values():
            if topic.table not in given:
                columns = topic.fields + plans.LOG_COLUMNS
                self.tables[topic.table] = cells.arrow_table([], columns)
        for table, arrow in self.tables.items():
            self.names[table] = self.sql.view(table, arrow)

    def evaluate(self, models):
        """Evaluates models and all that they read, but for what was given."""
        need = set(models)
        for m in reversed(self.plan.models.values()):
            if m.name in need and m.name not in self.tables:
                need.update(m.reads)
        for m in self.plan.models.values():
            if m.name in need and m.name not in self.tables:
                types = [c.type for c in m.columns]
                rows = self.sql.rows(m.sql(self.names.__getitem__), types)
                self.tables[m.name] = cells.arrow_table(rows, m.columns)
                self.names[m.name] = self.sql.view(m.name, self.tables[m.name])

    def close(self):
        for view in self.names.values():
            self.sql.drop(view)


class Stream:
    """The state of one program in a folder."""

    def __init__(self, spark, plan, dir, pool):
        self.spark, self.plan, self.dir, self.pool = spark, plan, dir, pool
        os.makedirs(dir, exist_ok=True)
        self.overlay = Overlay(os.path.join(dir, "overlay.db"), durable=True)
        made_by = self.overlay.meta("fingerprint")
        if made_by not in (None, plan.fingerprint):
            raise ValueError("the stream's state was made by other models: it must be rebuilt from bronze")
        self.overlay.set_meta("fingerprint", plan.fingerprint)
        self.last = int(self.overlay.meta("last") or 0)
        self.sql = SQL(spark, plan.seeds)
        self.open_base()

    def open_base(self):
        """The base of a rebuild: tables in the folder."""
        dir, sources = os.path.join(self.dir, f"base-{self.overlay.meta('base') or 0}"), {}
        if os.path.isdir(dir):
            for table, arrow in read(dir, [n[:-len(".arrow")] for n in os.listdir(dir)]).items():
                sources[table] = self.sql.view("base__" + table, arrow)
        self.base = Base(self.sql, 0, sources)

    def step(self, number, arrived):
        if number <= self.last:
            raise ValueError(f"cannot take step {number}: step {self.last} was already committed")
        rows = {}
        for table, arrow in arrived.items():
            t = self.plan.tables.get(table)
            if t and t.computed:
                from session import row_sql

                view = self.sql.view("arrived__" + table, arrow)
                rows[table] = self.sql.rows(row_sql(t, view), t.types)
                self.sql.drop(view)
            elif t:
                rows[table] = cells.rows_of(arrow, t.types)
        step = Step(self.plan, self.sql, self.overlay, self.base, rows, self.pool)
        step.run()
        self.overlay.begin()
        try:
            step.store(number)
            self.overlay.set_meta("last", number)
            self.overlay.commit()
        except BaseException:
            self.overlay.rollback()
            raise
        self.last = number

    def rows(self, model):
        """All rows of a model: those of the base that no step touched, and the
        overlay's."""
        relation = self.plan.relation(model)
        if relation is None or relation.kind != "model":
            raise ValueError(f"cannot read the stream's rows of {model}: it is not an incremental model")
        rows = self.overlay.rows(relation)
        if self.base.has(relation):
            types = [c.type for c in relation.table.columns]
            scope, have = relation.indexes[0].of, self.overlay.scopes(relation)
            whole = self.sql.rows(f"SELECT {columns_sql(relation.table.columns)} FROM {self.base.sources[relation.table.name]}", types)
            rows += [r for r in whole if scope(r) not in have]
        return cells.arrow_table(rows, relation.table.columns)

    def rebuild(self, number, bronze):
        whole = Whole(self.spark, self.plan, bronze)
        try:
            whole.evaluate([r.table.name for r in self.plan.relations if r.kind == "model"])
            at = int(self.overlay.meta("base") or 0) + 1
            for name in self.plan.tables:
                if name in whole.tables:
                    write(os.path.join(self.dir, f"base-{at}"), name, whole.tables[name])
        finally:
            whole.close()
        self.overlay.begin()
        self.overlay.clear()
        self.overlay.set_meta("base", at)
        self.overlay.set_meta("last", number)
        self.overlay.commit()
        shutil.rmtree(os.path.join(self.dir, f"base-{at - 1}"), ignore_errors=True)
        self.last = number
        self.open_base()

    def close(self):
        for view in list(self.base.sources.values()) + list(self.sql.seeds.values()):
            self.sql.drop(view)
        self.overlay.close()


class Server:
    def __init__(self):
        self.spark = open_session("lockstep-steps", {"spark.ui.enabled": "false"})
        self.pool = concurrent.futures.ThreadPoolExecutor(3)
        self.plans, self.streams, self.number = {}, {}, 0

    def plan(self, q):
        self.plans[q["id"]] = plans.parse(q["plan"])

    def open(self, q):
        self.number += 1
        stream = Stream(self.spark, self.plans[q["id"]], q["dir"], self.pool)
        self.streams[self.number] = stream
        return {"stream": self.number, "last": stream.last}

    def step(self, q):
        self.streams[q["stream"]].step(q["number"], read(q["rows"], q["tables"]))

    def rows(self, q):
        write(q["into"], q["model"], self.streams[q["stream"]].rows(q["model"]))

    def rebuild(self, q):
        self.streams[q["stream"]].rebuild(q["number"], read(q["rows"], q["tables"]))

    def close(self, q):
        self.streams.pop(q["stream"]).close()

    def recompute(self, q):
        whole = Whole(self.spark, self.plans[q["id"]], read(q["rows"], q["tables"]))
        try:
            whole.evaluate(q["models"])
            for name in q["models"]:
                write(q["into"], name, whole.tables[name])
        finally:
            whole.close()

    def serve(self, out):
        print(json.dumps({"ok": "ready"}), file=out, flush=True)
        for line in sys.stdin:
            q = json.loads(line)
            try:
                answer = {"ok": getattr(self, q["do"])(q)}
            except Exception as e:
                answer = {"error": message(e)}
                if os.environ.get("LOCKSTEP_TRACE"):
                    traceback.print_exc()
            print(json.dumps(answer), file=out, flush=True)


def message(e):
    """An error without the trace that Spark adds to it."""
    return str(e).split("\n\nJVM stacktrace")[0].split("\n\tat ")[0]


if __name__ == "__main__":
    # Only answers go to standard output, whatever a library prints.
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    Server().serve(out)
