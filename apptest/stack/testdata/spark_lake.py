"""A Spark session that does what it is told: one JSON request per line of the
pipe LAKE_REQUESTS, one JSON answer per line on the pipe LAKE_ANSWERS.

{"sql": text}: its rows as lists of text.
{"append": table, "rows": query, "position": text, "from": snapshot id or null}:
a compare-and-swap append: it fails if a data file was added since that snapshot.
"""
import json
import os

from pyspark.sql import SparkSession
from pyspark.sql.functions import lit

spark = SparkSession.builder.getOrCreate()


def sql(text):
    return [[None if v is None else str(v) for v in row] for row in spark.sql(text).collect()]


def append(table, rows, position, since):
    writer = (spark.sql(rows).coalesce(1).writeTo(table).option("isolation-level", "serializable")
              .option("snapshot-property.lockstep.position", position))
    if since is not None:
        writer = writer.option("validate-from-snapshot-id", str(since))
    writer.overwrite(lit(False))


with open(os.environ["LAKE_REQUESTS"]) as requests, open(os.environ["LAKE_ANSWERS"], "w") as answers:
    for line in requests:
        request = json.loads(line)
        try:
            if "sql" in request:
                answer = {"rows": sql(request["sql"])}
            else:
                append(request["append"], request["rows"], request["position"], request["from"])
                answer = {"rows": []}
        except Exception as e:
            answer = {"error": str(e)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
