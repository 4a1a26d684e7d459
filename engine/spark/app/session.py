"""Spark as this application uses it: small queries over few rows, many of them.

All Python runs in the driver: there is no user-defined function, so that
executors need no Python. Rows go in as Arrow, which Spark keeps as a local
relation, and come back as Arrow or as JSON text.
"""

import itertools
import os
import threading

import cells

# What makes a query over a few hundred rows cost tens of milliseconds: one
# partition, no adaptive planning, and generated code that is kept.
SETTINGS = {
    "spark.sql.session.timeZone": "UTC",
    "spark.sql.timestampType": "TIMESTAMP_NTZ",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.variable.substitute": "false",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.leafNodeDefaultParallelism": "1",
    "spark.sql.codegen.cache.maxEntries": "2000",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.sql.execution.arrow.localRelationThreshold": "512MB",
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "2",
    "spark.sql.iceberg.locality.enabled": "false",
    "spark.scheduler.mode": "FAIR",
    "spark.sql.streaming.pollingDelay": "100",  # ms between two looks at the log's ends when nothing is new
    "spark.ui.showConsoleProgress": "false",
}


def open_session(name, more=None):
    """Starts Spark, or takes the application that spark-submit started."""
    from pyspark.sql import SparkSession

    builder = SparkSession.builder.appName(name)
    for key, value in {**SETTINGS, **(more or {})}.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel(os.environ.get("LOCKSTEP_SPARK_LOG", "ERROR"))
    return spark


class SQL:
    """Queries over rows of this process. Safe for several threads, as every
    call names its views itself."""

    def __init__(self, spark, seeds=()):
        self.spark = spark
        self.number = itertools.count()
        self.lock = threading.Lock()
        self.prefix = f"lockstep_{id(self)}_"
        self.seeds = {table: self.view(table, cells.arrow_table(rows, columns)) for table, columns, rows in seeds}

    def view(self, table, arrow, view=None):
        """Makes a temporary view of an Arrow table and gives its name."""
        view = view or self.prefix + table.replace(".", "__").replace("/", "_")
        self.spark.createDataFrame(arrow).coalesce(1).createOrReplaceTempView(view)
        return view

    def rows(self, query, types):
        """The rows of a query whose columns are of these types."""
        return cells.rows_of(self.spark.sql(query).toArrow(), types)

    def drop(self, view):
        self.spark.catalog.dropTempView(view)


def columns_sql(columns, prefix=""):
    return ", ".join(prefix + c.name for c in columns)


def row_sql(table, source):
    """SELECT of a table's rows, computed cells included, from a FROM item."""
    plain = ", ".join(f"{c.name} + 0.0D AS {c.name}" if c.type == "double" else c.name for c in table.columns)
    if not table.computed:
        return f"SELECT {plain} FROM {source}"
    computed = ", ".join(f"{c.name} AS _c{i}" for i, c in enumerate(table.computed))
    return f"SELECT *, {computed} FROM (SELECT {plain} FROM {source})"
