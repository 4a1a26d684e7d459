"""Reads the lake with PyIceberg and DuckDB's Python package, which are not ours.

Usage: lake_client.py STATE LOCKSTEP
Needs: pip install -r requirements.txt
STATE is the state folder of a running instance that takes records in, LOCKSTEP
the path of its binary. Prints a line per check and "N passed, N failed"; exits 1
when one failed.
"""

import json
import pathlib
import subprocess
import sys
import time
import traceback

import duckdb
from pyiceberg.catalog.sql import SqlCatalog

STATE, LOCKSTEP = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
WATCH_S = 8

# How anyone opens it: the catalog is a SQLite file in PyIceberg's own layout.
catalog = SqlCatalog("lockstep", uri=f"sqlite:///{STATE}/lake/catalog.db", warehouse=f"file://{STATE}/lake/warehouse")
duck = duckdb.connect()
checks = []


def check(fn):
    checks.append(fn)
    return fn


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def tables(namespace):
    found = sorted(".".join(t) for t in catalog.list_tables(namespace))
    assert found, f"there is no table in {namespace}"
    return found


def files(table):
    return [task.file.file_path.removeprefix("file://") for task in catalog.load_table(table).scan().plan_files()]


def answer(sql, *args):
    """What Lockstep itself answers."""
    out = subprocess.run([LOCKSTEP, "query", sql, "--state", str(STATE), "--json", *args], capture_output=True, text=True, check=True)
    return json.loads(out.stdout)["rows"]


def watched(count):
    """Counts again and again while records come in: never less than before, and no record twice."""
    names, before, grown, until = tables("bronze"), {}, set(), time.monotonic() + WATCH_S
    equal(len(names), 9)
    while time.monotonic() < until:
        for name in names:
            rows, records = count(name)
            equal(rows, records)
            assert rows >= before.get(name, 0), f"{name}: {rows} rows after {before[name]}"
            if rows > before.get(name, rows):
                grown.add(name)
            before[name] = rows
    assert sum(before.values()) > 0 and grown, f"nothing was written meanwhile: {before}"


@check
def pyiceberg_reads_bronze_while_it_is_written():
    def count(name):
        rows = catalog.load_table(name).scan(selected_fields=("_partition", "_offset")).to_arrow()
        return rows.num_rows, rows.group_by(["_partition", "_offset"]).aggregate([]).num_rows

    watched(count)


@check
def duckdb_reads_bronze_while_it_is_written():
    def count(name):
        found = files(name)
        if not found:
            return 0, 0
        return duck.execute("SELECT count(*), count(DISTINCT (_partition, _offset)) FROM read_parquet(?, union_by_name = true)", [found]).fetchone()

    watched(count)


@check
def bronze_types_are_those_of_the_contract():
    fields = {f.name: str(f.field_type) for f in catalog.load_table("bronze.order_item").schema().fields}
    for name, kind in {"order_id": "string", "price": "decimal(12, 2)", "ingest_time": "timestamp", "_partition": "int", "_offset": "long", "_deleted": "boolean"}.items():
        equal(fields.get(name), kind)


@check
def columns_are_documented():
    for name in tables("silver") + tables("gold"):
        for field in catalog.load_table(name).schema().fields:
            assert field.doc, f"{name}.{field.name} says nothing of itself"


@check
def published_tables_are_what_lockstep_answers():
    names = tables("silver") + tables("gold")
    equal(len(names), 15)
    digest = "SELECT CAST(count(*) AS VARCHAR), CAST(sum(hash(t)) AS VARCHAR) FROM %s AS t"
    for name in names:
        want = answer(digest % name, "--layer", "batch")[0]
        rows = catalog.load_table(name).scan().to_arrow()
        assert rows.num_rows > 0, f"{name} is empty"
        equal((name, list(duck.execute(digest % "rows").fetchone())), (name, want))
        found = files(name)
        equal((name, list(duck.execute(digest % "read_parquet($1, hive_partitioning = false)", [found]).fetchone())), (name, want))


@check
def partitions_are_found_by_their_values():
    table = catalog.load_table("gold.fact_monthly_sales_by_product")
    counts = {r["sales_period"]: r["n"] for r in duck.from_arrow(table.scan().to_arrow()).aggregate("sales_period, count(*) AS n").to_arrow_table().to_pylist()}
    assert len(counts) > 1, counts
    for period, n in counts.items():
        scan = table.scan(row_filter=f"sales_period == '{period}'")
        equal((period, scan.to_arrow().num_rows, len(list(scan.plan_files()))), (period, n, 1))


@check
def an_earlier_snapshot_can_be_read():
    table = catalog.load_table("bronze.order_item")
    older = table.scan(snapshot_id=table.history()[0].snapshot_id).to_arrow().num_rows
    assert older <= table.scan().to_arrow().num_rows


def main():
    failures = 0
    for fn in checks:
        what = fn.__name__.replace("_", " ")
        try:
            fn()
            print("ok  ", what)
        except Exception:
            failures += 1
            print("FAIL", what)
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
