"""The lake: positions, appends that compare and swap, step records, manifests.

Everything is asked of Iceberg's own Java API or of Spark's Iceberg writer.
"""

import json
import threading

import cells
from plan import Column

POSITION, STEP, DRIVER = "lockstep.position", "lockstep.step", "lockstep.driver"
SPEED = "lockstep.speed"
SPEED_COLUMNS = [Column("step", "bigint"), Column("model", "string"), Column("fingerprint", "string"), Column("scope", "string"),
                 Column("empty", "boolean"), Column("row", "string")]

# As lake/write.go makes tables, for those that are made here.
PROPERTIES = {
    "format-version": "2", "commit.retry.num-retries": "0", "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20", "commit.manifest-merge.enabled": "true", "commit.manifest.min-count-to-merge": "20",
    "write.parquet.compression-codec": "zstd", "write.parquet.compression-level": "1", "write.delete.mode": "copy-on-write",
    "write.metadata.metrics.default": "truncate(16)", "history.expire.min-snapshots-to-keep": "1", "lockstep.format": "1",
}


class Conflict(Exception):
    """Somebody else committed since the state was read that a commit builds on."""


class UnknownOutcome(Exception):
    """A commit was sent and its answer lost."""


def catalog_settings(config, name="lake", pinned="pinned"):
    """Spark's settings for the catalog, twice: one that always asks, for what
    others write to as well, and one that remembers, for snapshots that are
    named and never change."""
    out = {"spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"}
    for catalog, cached in ((name, "false"), (pinned, "true")):
        at = f"spark.sql.catalog.{catalog}"
        out[at] = "org.apache.iceberg.spark.SparkCatalog"
        settings = {
            "type": "rest", "uri": config["catalog"], "cache-enabled": cached, "cache.expiration-interval-ms": "-1",
            "token": config.get("catalog_token"), "credential": config.get("catalog_credential"),
            "warehouse": config.get("catalog_warehouse"), "io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            "io.manifest.cache-enabled": "true", "s3.endpoint": config.get("s3_endpoint"), "s3.path-style-access": "true",
            "s3.access-key-id": config.get("s3_access_key"), "s3.secret-access-key": config.get("s3_secret_key"),
            "client.region": config.get("s3_region"),
        }
        out.update({f"{at}.{k}": v for k, v in settings.items() if v})
    s3a = {
        "endpoint": config.get("s3_endpoint"), "access.key": config.get("s3_access_key"), "secret.key": config.get("s3_secret_key"),
        "path.style.access": "true", "endpoint.region": config.get("s3_region"), "change.detection.mode": "none",
        "connection.ssl.enabled": "false" if (config.get("s3_endpoint") or "").startswith("http:") else "true",
    }
    out.update({f"spark.hadoop.fs.s3a.{k}": v for k, v in s3a.items() if v})
    return out


class Lake:
    def __init__(self, sql, warehouse, driver, catalog="lake", pinned="pinned"):
        self.sql, self.spark, self.warehouse, self.driver = sql, sql.spark, warehouse.rstrip("/"), driver
        self.catalog, self.pinned, self.jvm = catalog, pinned, sql.spark._jvm
        self.lock = threading.Lock()

    def name(self, table):
        return f"{self.catalog}.{table}"

    def load(self, table):
        """The table as it is now; None: there is none."""
        try:
            return self.jvm.org.apache.iceberg.spark.Spark3Util.loadIcebergTable(self.spark._jsparkSession, self.name(table))
        except Exception as e:
            if "NoSuchTable" in str(e) or "NoSuchNamespace" in str(e) or "TABLE_OR_VIEW_NOT_FOUND" in str(e) or "SCHEMA_NOT_FOUND" in str(e):
                return None
            raise

    def create(self, table, columns):
        """Makes a table where there is none."""
        namespace = table.split(".")[0]
        self.spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {self.catalog}.{namespace}")
        listed = ", ".join(f"{c.name} {'timestamp_ntz' if c.type == 'timestamp' else c.type}" for c in columns)
        properties = ", ".join(f"'{k}' = '{v}'" for k, v in PROPERTIES.items())
        self.spark.sql(f"CREATE TABLE IF NOT EXISTS {self.name(table)} ({listed}) USING iceberg TBLPROPERTIES ({properties})")

    def bloom(self, table, loaded, columns):
        """Has files written from now on hold filters by which look-ups pass
        over them."""
        have, wanted = loaded.properties(), {"write.parquet.bloom-filter-max-bytes": "65536"}
        wanted.update({f"write.parquet.bloom-filter-enabled.column.{STORED.get(c, c)}": "true" for c in columns})
        missing = {k: v for k, v in wanted.items() if have.get(k) is None}
        if columns and missing:
            change = loaded.updateProperties()
            for k, v in missing.items():
                change.set(k, v)
            change.commit()

    @staticmethod
    def columns(loaded):
        """The columns of a table, in order, by their own names."""
        own = {stored: name for name, stored in STORED.items()}
        types = {"long": "bigint"}
        return [Column(own.get(f.name(), f.name()), types.get(t := f.type().toString().replace(" ", ""), t)) for f in loaded.schema().columns()]

    def add_columns(self, table, columns):
        listed = ", ".join(f"{c.name} {'timestamp_ntz' if c.type == 'timestamp' else c.type} COMMENT 'added by a later schema of the topic'" for c in columns)
        self.spark.sql(f"ALTER TABLE {self.name(table)} ADD COLUMNS ({listed})")

    @staticmethod
    def property(loaded, key, through=None):
        """(value, snapshot id) of a property on the newest snapshot that has
        it; with through only past snapshots of that operation."""
        snapshot = loaded.currentSnapshot() if loaded else None
        while snapshot is not None:
            value = snapshot.summary().get(key)
            if value is not None:
                return value, snapshot.snapshotId()
            if through and snapshot.operation() != through:
                raise ValueError(f"snapshot {snapshot.snapshotId()} ({snapshot.operation()}) of {loaded.name()} has no property {key}: another program wrote to this table")
            parent = snapshot.parentId()
            if parent is None:
                return None, None
            snapshot = loaded.snapshot(parent)
        return None, None

    def position(self, table, loaded=None):
        """How far a bronze table has come: {"topic_id", "offsets", "step"}, or
        None where it has no rows yet."""
        value, _ = self.property(loaded or self.load(table), POSITION, "replace")
        return json.loads(value) if value else None

    def last_step(self, loaded=None):
        """The record of the last step; None: there was none."""
        value, _ = self.property(loaded or self.load(SPEED), STEP)
        return json.loads(value) if value else None

    def append(self, table, arrow, properties, check):
        """Commits rows and properties as one snapshot. check is given the table
        as it is now and raises Conflict where its state is not the one that the
        rows were made from. A data file that somebody adds in between makes the
        commit fail: it is an overwrite of nothing, which Iceberg validates
        against the snapshot, where an append would rebase itself silently."""
        from pyspark.sql.functions import lit

        loaded = self.load(table)
        check(loaded)
        writer = self.spark.createDataFrame(arrow) if not hasattr(arrow, "writeTo") else arrow
        writer = writer.withColumnsRenamed({own: stored for own, stored in STORED.items() if own in writer.columns})
        writer = writer.coalesce(1).writeTo(self.name(table)).option("isolation-level", "serializable")
        current = loaded.currentSnapshot()
        if current is not None:
            writer = writer.option("validate-from-snapshot-id", str(current.snapshotId()))
        for key, value in {**properties, DRIVER: self.driver}.items():
            writer = writer.option(f"snapshot-property.{key}", value)
        try:
            writer.overwrite(lit(False))
        except Exception as e:
            text = str(e)
            if "CommitStateUnknown" in text:
                raise UnknownOutcome(f"the outcome of a commit to {table} is not known: {text[:300]}") from None
            if "ValidationException" in text or "CommitFailedException" in text or "conflicting" in text:
                raise Conflict(f"somebody else committed to {table} in between: {text[:300]}") from None
            raise

    # Objects beside the tables.

    def io(self):
        loaded = self.load(SPEED)
        if loaded is None:
            raise ValueError(f"the table {SPEED} is gone: was the project reset while this ran?")
        return loaded.io()

    def read(self, path):
        """The bytes of an object; None: there is none."""
        file = self.io().newInputFile(path)
        if not file.exists():
            return None
        stream = file.newStream()
        try:
            return bytes(stream.readAllBytes())
        finally:
            stream.close()

    def manifest_path(self, id):
        return f"{self.warehouse}/lockstep/manifests/{id:012d}.json"

    def manifest_ids(self):
        prefix = f"{self.warehouse}/lockstep/manifests/"
        found = self.io().listPrefix(prefix).iterator()
        ids = []
        while found.hasNext():
            name = found.next().location().rsplit("/", 1)[-1]
            if name.endswith(".json") and name[:-5].isdigit():
                ids.append(int(name[:-5]))
        return sorted(ids)

    def manifest(self, id):
        """A manifest; None: there is no such one. See lake/manifest.go."""
        data = self.read(self.manifest_path(id))
        if data is None:
            return None
        envelope = json.loads(data)
        if envelope["format"] > 1:
            raise ValueError(f"manifest {id} has format {envelope['format']}: use a newer release")
        body = data[data.index(b'"manifest":') + len(b'"manifest":'):data.rindex(b"}")]
        crc = self.jvm.java.util.zip.CRC32C()
        crc.update(body)
        if f"{crc.getValue():08x}" != envelope["crc32c"]:
            raise ValueError(f"manifest {self.manifest_path(id)} is damaged: its checksum does not fit")
        return envelope["manifest"]

    def remove_prefix(self, prefix):
        self.io().deletePrefix(prefix)

    def base_sources(self, plan, manifest):
        """FROM items of the tables of a manifest, by table."""
        out = {}
        for topic in plan.topics.values():
            snapshot = (manifest.get("bronze") or {}).get(topic.table)
            ends = (manifest.get("offsets") or {}).get(topic.topic)
            if snapshot and ends:
                out[topic.table] = f"(SELECT * FROM {bronze_from(f'{self.pinned}.{topic.table} VERSION AS OF {snapshot}')} WHERE {below(ends)})"
        for name in plan.fingerprints:
            snapshot = (manifest.get("tables") or {}).get(name)
            if snapshot:
                out[name] = f"(SELECT * FROM {self.pinned}.{name} VERSION AS OF {snapshot})"
        for table in out:
            self.spark.sql(f"REFRESH TABLE {self.pinned}.{table}")
        return out

    def bronze_rows(self, table, low, high):
        """The rows of a bronze table with offsets from low on and below high,
        by topic partition, as cells of the table's own columns."""
        if not high:
            return []
        where = " OR ".join(f"(_partition = {int(p)} AND _offset >= {(low or {}).get(p, 0)} AND _offset < {end})" for p, end in high.items()
                            if end > (low or {}).get(p, 0))
        if not where:
            return []
        from session import row_sql

        return self.sql.rows(row_sql(table, f"(SELECT * FROM {bronze_from(self.name(table.name))} WHERE {where})") + " ORDER BY _partition, _offset", table.types)

    def speed_rows(self, plan, after):
        """What the speed table holds of each scope after a step: yields
        (model, step, scope, rows) of the models as they are in the plan."""
        prints = ", ".join(f"({cells.literal(m, 'string')}, {cells.literal(f, 'string')})" for m, f in plan.fingerprints.items())
        if not prints:
            return
        found = self.spark.sql(
            f"SELECT model, scope, step, row FROM (SELECT *, rank() OVER (PARTITION BY model, scope ORDER BY step DESC) AS _rank "
            f"FROM {self.name(SPEED)} WHERE step > {after} AND (model, fingerprint) IN ({prints})) WHERE _rank = 1 ORDER BY model, scope").toArrow()
        columns = [found.column(i).to_pylist() for i in range(4)]
        scopes = {}
        for model, scope, step, row in zip(*columns):
            scopes.setdefault((model, scope), (step, []))[1].append(row)
        for (model, scope), (step, rows) in scopes.items():
            yield model, step, scope, [r for r in rows if r is not None]


# Spark refuses to read a table's own columns of names that Iceberg keeps for
# itself: the lake has others for them. See StoredName in lake/schema.go.
STORED = {"_partition": "_log_partition", "_deleted": "_log_deleted"}


def bronze_from(table):
    """A FROM item of a bronze table whose columns have their own names."""
    back = ", ".join(f"{stored} AS {own}" for own, stored in STORED.items())
    return f"(SELECT * EXCEPT ({', '.join(STORED.values())}), {back} FROM {table})"


def below(ends):
    """Rows of a bronze table below end offsets."""
    return "(" + " OR ".join(f"_partition = {int(p)} AND _offset < {int(o)}" for p, o in sorted(ends.items())) + ")"
