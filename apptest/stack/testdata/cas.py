"""Appends that compare and swap, against a second writer. Run by
TestSpeedAppend with the application's folder on the path."""

import json
import os
import sys

import cells
from lake import POSITION, SPEED, SPEED_COLUMNS, Conflict, Lake, catalog_settings
from plan import Column
from session import SQL, open_session

config = json.loads(os.environ["LOCKSTEP_SPEED"])
spark = open_session("cas", catalog_settings(config))
lake = Lake(SQL(spark), config["warehouse"], "first")
COLUMNS = [Column("n", "bigint"), Column("at", "timestamp")]
TABLE = "cas.t"
spark.sql("CREATE NAMESPACE IF NOT EXISTS lake.cas")
spark.sql("DROP TABLE IF EXISTS lake.cas.t PURGE")
lake.create(TABLE, COLUMNS)


def rows(*n):
    return cells.arrow_table([(v, v * 1_000_001) for v in n], COLUMNS)


def append(n, between=lambda: None, properties=None):
    """Whether the rows were appended, when something happens between the look
    at the table and the commit."""
    try:
        lake.append(TABLE, rows(*n), properties or {POSITION: json.dumps({"topic_id": "t", "offsets": {"0": n[-1] + 1}, "step": 1})}, lambda loaded: between())
        return True
    except Conflict:
        return False


def foreign(*n):
    return lambda: spark.createDataFrame(rows(*n)).writeTo("lake.cas.t").append()


def held():
    return sorted(r[0] for r in spark.sql("SELECT n FROM lake.cas.t").collect())


def check(what, ok):
    print(("ok   " if ok else "FAIL ") + what, flush=True)
    if not ok:
        sys.exit(1)


check("a first append", append([1]))
check("its position is found", lake.position(TABLE)["offsets"] == {"0": 2})
check("a second one", append([2, 3]))
check("microseconds are kept", spark.sql("SELECT CAST(at AS string) FROM lake.cas.t WHERE n = 3").collect()[0][0] == "1970-01-01 00:00:03.000003")
check("a foreign append in between is noticed", not append([4], foreign(90)))
check("and nothing of ours was added", held() == [1, 2, 3, 90])
check("deleted rows are no conflict", append([5], lambda: spark.sql("DELETE FROM lake.cas.t WHERE n = 90")))
check("a compaction is no conflict", append([6], lambda: spark.sql("CALL lake.system.rewrite_data_files(table => 'cas.t', options => map('rewrite-all', 'true'))")))
check("the position is found behind it", lake.position(TABLE)["offsets"] == {"0": 7})
ids = [r[0] for r in spark.sql("SELECT snapshot_id FROM lake.cas.t.snapshots ORDER BY committed_at").collect()]
spark.sql(f"CALL lake.system.expire_snapshots(table => 'cas.t', snapshot_ids => ARRAY({', '.join(map(str, ids[:-1]))}))")
check("expired history is no conflict", append([7]))
check("all rows are there once", held() == [1, 2, 3, 5, 6, 7])


def writer(n):
    def go():
        other = Lake(SQL(spark), config["warehouse"], "second")
        other.append(TABLE, rows(n), {POSITION: json.dumps({"topic_id": "t", "offsets": {"0": n + 1}, "step": 2})}, lambda loaded: None)
    return go


check("a second writer of ours is noticed", not append([8], writer(8)))
check("its row is there once", held() == [1, 2, 3, 5, 6, 7, 8])
lake.create(SPEED, SPEED_COLUMNS)
check("an object that is not there", lake.read(f"{config['warehouse']}/lockstep/nothing") is None)
spark.sql("DROP TABLE lake.cas.t PURGE")
print("done", flush=True)
os._exit(0)
