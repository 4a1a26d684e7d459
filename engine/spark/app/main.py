"""The speed layer: Structured Streaming over the topics of a project.

A micro-batch is judged, its dead letters are written, its rows appended to
bronze, and the step plan is executed; one commit to the speed table ends it.
Nothing depends on Spark's checkpoint: how far bronze and speed have come stands
in their own commits, and each start reads from there.

Configuration comes as JSON in the environment variable LOCKSTEP_SPEED, as it
holds credentials; the plan in a file that it names. Progress goes to standard
output, one JSON object a line; logs go to standard error.
"""

import collections
import concurrent.futures
import datetime
import json
import os
import signal
import sys
import threading
import time
import traceback
import uuid

import cells
import plan as plans
from judge import ACCEPTED, WAIT, Judge, Registry, Schemas, Target
from kafka import Fenced, Kafka, client_settings
from lake import POSITION, SPEED, SPEED_COLUMNS, STEP, Conflict, Lake, UnknownOutcome, catalog_settings
from session import SQL, open_session, row_sql
from state import Base, Overlay
from step import Step

# What the process exits with, for its supervisor.
FAILED, AGAIN, FENCED = 1, 4, 5

MAX_WAITING = 200_000  # records that wait for the registry before everything does
CATCH_UP = 50_000  # rows of bronze in one step


class App:
    def __init__(self, config):
        self.config = config
        with open(config["plan"], encoding="utf-8") as f:
            self.plan = plans.parse(f.read())
        self.id = f"{int(time.time())}-{uuid.uuid4().hex[:8]}"
        self.lock = threading.Lock()  # one batch at a time
        self.out = threading.Lock()
        self.stopping, self.query, self.parent = False, None, os.getppid()
        self.pending = collections.defaultdict(collections.deque)  # by (topic, partition), until they are judged
        self.started = False
        self.waiting, self.stopped = {}, {}  # by topic: why
        self.kills = {}  # for tests, point:count,...: by point, how often it is passed before
        for point in filter(None, os.environ.get("LOCKSTEP_KILL", "").split(",")):
            name, _, times = point.partition(":")
            self.kills[name] = int(times or 1)
        self.pool = concurrent.futures.ThreadPoolExecutor(4)
        self.checked = 0.0  # when manifests were looked for

    def tell(self, event, **more):
        with self.out:
            print(json.dumps({"event": event, **more}, separators=(",", ":")), flush=True)

    def hook(self, point):
        """A named point at which a test ends the process and its JVM, once."""
        if point not in self.kills:
            return
        with self.out:
            self.kills[point] -= 1
            mark = os.path.join(self.config["dir"], "killed-" + point)
            if self.kills[point] == 0 and not os.path.exists(mark):
                open(mark, "w").close()
                os.kill(os.getppid(), signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

    def supervised(self):
        """Ends the process where whoever started it is gone: another one may be
        at work already."""
        if os.getppid() != self.parent or self.config.get("supervisor") and not alive(self.config["supervisor"]):
            os._exit(AGAIN)

    # Start: what is there.

    def start(self):
        threading.Thread(target=self.watch, daemon=True).start()
        self.spark = open_session(f"lockstep-{self.plan.project}", catalog_settings(self.config))
        self.sql = SQL(self.spark, self.plan.seeds)
        self.lake = Lake(self.sql, self.config["warehouse"], self.id)
        self.kafka = Kafka(self.spark, self.config, self.plan.project)
        self.kafka.open_letters()
        self.lake.create(SPEED, SPEED_COLUMNS)
        self.registry = Registry(self.config["registry"], self.config.get("registry_user", ""), self.config.get("registry_password", ""), self.config.get("registry_ca", ""))
        self.record = self.lake.last_step()
        self.step = self.record["step"] if self.record else 0
        self.ends = offsets_from(self.record["ends"]) if self.record else {}
        self.totals = {k: dict(self.record[k]) if self.record else {} for k in ("accepted", "dead")}
        self.read_positions()
        self.open_targets()
        self.open_base()
        self.check_topics()
        self.letters = self.read_letters()
        self.catch_up()

    def watch(self):
        """Ends the process when that is asked for before the stream runs."""
        while self.query is None and not self.started:
            if os.path.exists(self.config["stop"]) and self.lock.acquire(timeout=1):
                self.tell("ended", step=0)
                os._exit(0)
            self.supervised()
            time.sleep(0.5)

    def read_positions(self):
        self.position, self.ids = {}, dict(self.record["topic_ids"]) if self.record else {}
        self.loaded = dict(self.pool.map(lambda t: (t.topic, self.lake.load(t.table)), self.plan.topics.values()))
        for topic, loaded in self.loaded.items():
            p = self.lake.position(self.plan.topics[topic].table, loaded)
            self.position[topic] = {int(k): v for k, v in p["offsets"].items()} if p else {}
            if p and p["topic_id"]:
                self.ids[topic] = p["topic_id"]

    def open_targets(self):
        """The bronze tables with what later schemas added to them, and filters
        in their files on the columns that keys are made of."""
        targets = {}
        for topic in self.plan.topics.values():
            known, loaded = {c.name for c in topic.fields + plans.LOG_COLUMNS}, self.loaded.pop(topic.topic)
            targets[topic.topic] = Target(topic, [c for c in self.lake.columns(loaded) if c.name not in known])
            table, wanted = self.plan.tables.get(topic.table), set()
            for r in self.plan.relations:
                if r.table is table and r.kind != "model":
                    wanted.update(table.columns[at].name for key in r.indexes for at, _ in key.parts if at is not None and at < table.width)
            self.lake.bloom(topic.table, loaded, sorted(wanted))
        self.judge = Judge(targets, Schemas(self.registry), self.widen)

    def widen(self, topic, columns):
        self.lake.add_columns(self.plan.topics[topic].table, columns)

    def open_base(self):
        self.manifest_id, self.manifest = 0, None
        for id in reversed(self.lake.manifest_ids()):
            m = self.lake.manifest(id)
            self.manifest_id = max(self.manifest_id, id)
            self.step = max(self.step, m["step"] if m else 0)
            if m and self.fits(m):
                self.manifest = m
                break
        self.overlay = Overlay(os.path.join(self.config["dir"], f"overlay-{self.id}.db"))
        self.base = self.base_of(self.manifest)

    def fits(self, manifest):
        """Whether a manifest's tables are of this program's models; one that is
        not named is empty."""
        prints = manifest.get("fingerprints") or {}
        return all(prints.get(m) == f for m, f in self.plan.fingerprints.items())

    def base_of(self, manifest):
        if manifest is None:
            return Base(self.sql)
        return Base(self.sql, manifest["step"], self.lake.base_sources(self.plan, manifest))

    def check_topics(self):
        """Finds what must not be passed over in silence: such a topic stops,
        the others go on."""
        states, self.next = self.kafka.topics(list(self.plan.topics)), {}
        for topic in self.plan.topics:
            known = {p: max(self.position[topic].get(p, 0), self.ends.get(topic, {}).get(p, 0)) for p in {**self.position[topic], **self.ends.get(topic, {})}}
            self.next[topic] = known
            if topic not in states:
                self.stop_topic(topic, "the topic is gone: restore the log, or begin anew with another warehouse")
                continue
            id, starts, ends = states[topic]
            if self.ids.setdefault(topic, id) != id:
                self.stop_topic(topic, f"the topic was made anew: its id was {self.ids[topic]} and is {id}, so its offsets mean other records: restore the log, or begin anew with another warehouse")
                continue
            self.next[topic] = {p: known.get(p, start) for p, start in starts.items()}
            for p, next in known.items():
                if starts.get(p, 0) > next:
                    self.stop_topic(topic, f"partition {p}: records from offset {next} to {starts[p] - 1} were removed from the log before they were read: raise the log's retention; restore the log, or begin anew with another warehouse")
                elif ends.get(p, -1) < next:
                    self.stop_topic(topic, f"partition {p}: the log ends at offset {ends.get(p, 0)}, but records up to {next} were read from it: it was restored from an older copy: restore the newer one, or begin anew with another warehouse")

    def stop_topic(self, topic, message):
        self.stopped[topic] = message
        self.tell("stopped", topic=topic, message=message)

    def read_letters(self):
        """Records that have a letter but are not in bronze's or speed's past:
        their letters are not written again, and they stay dead."""
        found = self.kafka.read_letters(list(self.plan.topics))
        return {t: {(p, o) for p, o in at if o >= self.next[t].get(p, 0)} for t, at in found.items()}

    def catch_up(self):
        """Brings the overlay to the last step, and takes what bronze holds
        beyond it as a step."""
        ours = self.record is not None and self.record["program"] == self.plan.fingerprint
        low = offsets_from(self.manifest.get("offsets") or {}) if self.manifest else {}
        if ours:
            self.load_overlay(low)
            low = self.ends
        stale = [] if ours or not self.record else self.recorded_scopes()
        high = {t: {p: max(self.position[t].get(p, 0), self.ends.get(t, {}).get(p, 0)) for p in {**self.position[t], **self.ends.get(t, {})}} for t in self.plan.topics}
        begun = ours
        for ends, rows in self.slices(low, high):
            if any(rows.values()) or not begun and (stale or self.record):
                with self.lock:
                    self.take_step(rows, ends, {}, {}, None if begun else stale)
                begun = True
        self.ends = high
        self.tell("caught up", step=self.step, manifest=self.manifest_id)

    def slices(self, low, high):
        """Bronze rows between offsets in pieces: (ends, rows by table)."""
        ends = {t: dict(low.get(t, {})) for t in high}
        while True:
            left, rows, done = CATCH_UP, {}, True
            for topic, parts in high.items():
                until = {}
                for p, end in parts.items():
                    at = ends[topic].get(p, 0)
                    until[p] = min(end, at + max(left, 0))
                    left -= until[p] - at
                    done = done and until[p] == end
                table = self.plan.tables.get(self.plan.topics[topic].table)
                if table:
                    rows[table.name] = self.lake.bronze_rows(table, ends[topic], until)
                ends[topic] = {**ends[topic], **until}
            yield {t: dict(p) for t, p in ends.items()}, rows
            if done:
                return

    def load_overlay(self, low):
        """What steps after the manifest changed: models as the speed table has
        them, bronze and its folds from bronze's rows."""
        self.overlay.begin()
        for model, step, scope, rows in self.lake.speed_rows(self.plan, self.base.step):
            r = self.plan.relation(model)
            self.overlay.replace(r, step, [cells.from_json(scope, r.scope)], self.rows_from_json(r.table, rows))
        self.overlay.commit()
        for _, rows in self.slices(low, self.ends):
            part = Step(self.plan, self.sql, self.overlay, self.base, rows, self.pool)
            part.run(only=("raw", "fold"))
            self.overlay.begin()
            part.store(self.step)
            self.overlay.commit()

    def rows_from_json(self, table, texts):
        rows = [cells.from_json(t, table.columns) for t in texts]
        return self.computed(table, rows) if table.computed and rows else rows

    def computed(self, table, rows):
        """Rows with their computed cells."""
        view = self.sql.view("computed__" + table.name, cells.arrow_table(rows, table.columns))
        return self.sql.rows(row_sql(table, view), table.types)

    def recorded_scopes(self):
        """Scopes that steps of another program's time left in the speed table
        under fingerprints that are ours: what they are now must be said again,
        as the last word there may be older than the base."""
        out = collections.defaultdict(list)
        for model, _, scope, _ in self.lake.speed_rows(self.plan, self.base.step):
            r = self.plan.relation(model)
            out[r.id].append(cells.from_json(scope, r.scope))
        return out

    # A batch.

    def batch(self, df, number):
        """What foreachBatch calls. Any error ends the process: what was done is
        in the lake, and the next start goes on from there."""
        try:
            with self.lock:
                if self.stopping:
                    return
                began = time.monotonic()
                found = df.selectExpr("topic", "partition", "offset", "unix_millis(timestamp) AS millis", "key", "value", "headers").coalesce(2).toArrow()  # few records do not pay for a task each topic partition
                polled = time.time()
                records = sorted(zip(*[found.column(i).to_pylist() for i in range(7)]), key=lambda r: r[:3])
                self.process(records, polled, {"read": time.monotonic() - began})
        except BaseException as e:
            self.fail(e)

    def fail(self, e):
        code = {Fenced: FENCED, Conflict: FENCED, UnknownOutcome: AGAIN}.get(type(e), FAILED)
        if code == FAILED:
            traceback.print_exc()
        self.tell("failed", code=code, message=brief(e))
        sys.stderr.flush()
        os._exit(code)

    def process(self, records, polled, seconds):
        for r in records:
            topic, p, offset = r[:3]
            if offset >= self.next[topic].get(p, 0):  # below: a repeated batch
                self.pending[topic, p].append(r)
                self.next[topic][p] = offset + 1
        self.follow_manifest()
        began = time.monotonic()
        rows, letters, counts, dead, ends, newest = self.judge_pending(polled)
        seconds["judge"] = time.monotonic() - began
        self.write_letters(letters, seconds)
        if any(rows.values()) or any(dead.values()):
            self.write_bronze(rows, ends, seconds)
            tables = {self.plan.topics[t].table: self.arrived(t, list_) for t, list_ in rows.items() if list_}
            self.take_step({t: r for t, r in tables.items() if r is not None}, ends, counts, dead, None, seconds, newest, rows)
        self.ends = ends
        if sum(map(len, self.pending.values())) > MAX_WAITING:
            raise RuntimeError(f"{MAX_WAITING} records wait for the registry: it does not answer at {self.config['registry']}")

    def judge_pending(self, polled):
        rows, letters = collections.defaultdict(list), []
        counts, dead, newest = collections.Counter(), collections.Counter(), -1
        ends = {t: dict(p) for t, p in self.ends.items()}
        self.waiting = {}
        for (topic, p), queue in self.pending.items():
            while queue:
                _, _, offset, millis, key, value, headers = queue[0]
                if (p, offset) in self.letters.get(topic, ()):
                    dead[topic] += 1
                else:
                    verdict = self.judge.judge(topic, p, offset, millis, key, value, polled)
                    if verdict[0] == WAIT:
                        why = self.judge.schemas.failed.get(verdict[1], "")
                        self.waiting[topic] = f"the registry does not answer for schema {verdict[1]}: {why}"
                        break
                    if verdict[0] == ACCEPTED:
                        rows[topic].append(verdict[1])
                        counts[topic] += 1
                        newest = max(newest, millis)
                    else:
                        dead[topic] += 1
                        letters.append((topic, p, offset, millis, key, value, headers, verdict[1], verdict[2]))
                queue.popleft()
                ends.setdefault(topic, {})[p] = offset + 1
            if not queue:
                ends.setdefault(topic, {})[p] = max(self.next[topic][p], ends.get(topic, {}).get(p, 0))
        return rows, letters, counts, dead, ends, newest

    def write_letters(self, letters, seconds):
        if letters:
            began = time.monotonic()
            self.kafka.write_letters(letters, lambda point: self.hook("in-" + point))
            self.hook("letters")
            seconds["letters"] = time.monotonic() - began

    def write_bronze(self, rows, ends, seconds):
        began = time.monotonic()
        jobs = [self.pool.submit(self.append_bronze, topic, list_, ends[topic]) for topic, list_ in rows.items() if list_]
        for n, job in enumerate(jobs):
            job.result()
        seconds["bronze"] = time.monotonic() - began

    def append_bronze(self, topic, rows, ends):
        self.supervised()
        table, known = self.plan.topics[topic].table, self.position[topic]
        target = self.judge.targets[topic]
        width = len(target.columns)
        full = [r if len(r) == width else r + (None,) * (width - len(r)) for r in rows]

        def check(loaded):
            p = self.lake.position(table, loaded)
            have = {int(k): v for k, v in p["offsets"].items()} if p else {}
            if have != known or p and p["topic_id"] != self.ids[topic]:
                raise Conflict(f"{table} stands at {have}, not at {known}: another driver of this project writes to it")
        position = {"topic_id": self.ids[topic], "offsets": {str(p): o for p, o in sorted(ends.items())}, "step": self.step + 1}
        self.lake.append(table, cells.arrow_table(full, target.columns), {POSITION: json.dumps(position, separators=(",", ":"))}, check)
        self.position[topic] = dict(ends)
        self.hook("bronze")

    def arrived(self, topic, rows):
        """The rows of a topic as models see them; None: no model does."""
        table = self.plan.tables.get(self.plan.topics[topic].table)
        if table is None:
            return None
        rows = [r[:table.width] for r in rows]
        return self.computed(table, rows) if table.computed else rows

    def take_step(self, arrived, ends, counts, dead, stale, seconds=None, newest=-1, log_rows=None):
        seconds = {} if seconds is None else seconds
        began = time.monotonic()
        step = Step(self.plan, self.sql, self.overlay, self.base, arrived, self.pool)
        step.run()
        if stale:
            step.restate(stale)
        seconds["step"] = time.monotonic() - began
        for name, n in step.seconds.items():
            seconds["step." + name] = n
        self.hook("before-speed")
        self.commit_step(step, ends, counts, dead, newest, seconds)
        self.hook("after-speed")
        at = time.monotonic()
        self.overlay.begin()
        step.store(self.step)
        self.overlay.commit()
        seconds["overlay"] = time.monotonic() - at
        seconds["total"] = time.monotonic() - began + sum(seconds.get(k, 0) for k in ("read", "judge", "letters", "bronze"))
        self.report(step, counts, dead, newest, seconds, log_rows or {})

    def commit_step(self, step, ends, counts, dead, newest, seconds):
        self.supervised()
        began, number = time.monotonic(), self.step + 1
        for name, more in (("accepted", counts), ("dead", dead)):
            for topic, n in more.items():
                self.totals[name][topic] = self.totals[name].get(topic, 0) + n
        now = datetime.datetime.now(datetime.timezone.utc)
        record = {"step": number, "program": self.plan.fingerprint, "ends": {t: {str(p): o for p, o in sorted(parts.items())} for t, parts in ends.items() if parts},
                  "topic_ids": self.ids, **self.totals, "time": rfc3339(now)}
        if newest >= 0:
            record["newest"] = rfc3339(datetime.datetime.fromtimestamp(newest / 1000, datetime.timezone.utc))
        text, before = json.dumps(record, separators=(",", ":")), self.record

        def check(loaded):
            if self.lake.last_step(loaded) != before:
                raise Conflict("the speed table has a step that this driver did not take: another driver of this project writes to it")
        self.lake.append(SPEED, self.speed_rows(step, number), {STEP: text}, check)
        self.record, self.step, self.ends = json.loads(text), number, ends  # totals go on to change
        seconds["speed"] = time.monotonic() - began

    def speed_rows(self, step, number):
        """The step's rows of the speed table, JSON made by Spark. A step that
        changes nothing has one row of no model: so every step adds a file, by
        which another driver's commit is noticed."""
        parts = [f"SELECT CAST({number} AS bigint) AS step, '' AS model, '' AS fingerprint, '' AS scope, true AS empty, CAST(NULL AS string) AS row"]
        for relation, scopes, rows in step.changes:
            if relation.kind != "model":
                continue
            take, names = relation.indexes[0].of, ", ".join(c.name for c in relation.scope)
            begin = f"SELECT CAST({number} AS bigint), '{relation.name}', '{self.plan.fingerprints[relation.name]}', to_json(struct({names}), {cells.JSON_OPTIONS})"
            full = {take(r) for r in rows}
            gone = [s for s in scopes if s not in full]
            if rows:
                view = self.sql.view("speed__" + relation.name, cells.arrow_table(rows, relation.table.columns))
                all = ", ".join(c.name for c in relation.table.columns)
                parts.append(f"{begin}, false, to_json(struct({all}), {cells.JSON_OPTIONS}) FROM {view}")
            if gone:
                view = self.sql.view("gone__" + relation.name, cells.arrow_table(gone, relation.scope))
                parts.append(f"{begin}, true, CAST(NULL AS string) FROM {view}")
        if len(parts) > 1:
            parts[0] += " WHERE false"
        return self.spark.sql(" UNION ALL ".join(parts))

    def follow_manifest(self, every=2.0):
        """Takes a manifest over that was published since: the base moves up."""
        if time.monotonic() - self.checked < every:
            return
        self.checked = time.monotonic()
        newest = None
        for id in self.lake.manifest_ids():
            if id > self.manifest_id and (m := self.lake.manifest(id)) is not None:
                self.manifest_id = id
                newest = m if self.fits(m) and m["step"] >= self.base.step else newest
        if newest is None:
            return
        self.manifest, self.base = newest, self.base_of(newest)
        self.overlay.begin()
        self.overlay.drop(newest["step"])
        ends = offsets_from(newest.get("offsets") or {})
        for r in self.plan.relations:
            if r.kind == "raw" and r.table.log:
                topic = r.table.name.split(".", 1)[1]
                if self.base.has(r):
                    self.overlay.drop_below(r, ends.get(topic, {}))
        self.overlay.commit()
        self.tell("manifest", manifest=newest["id"], base=newest["step"])

    # What others are told.

    def report(self, step, counts, dead, newest, seconds, log_rows):
        now, ages = time.time(), collections.Counter()
        for topic, rows in log_rows.items():
            at = len(self.plan.topics[topic].fields) + 2
            ages.update(round(max(now - r[at] / 1e6, 0), 2) for r in rows if r[at] is not None)
        changed = {r.name: [len(scopes), len(rows)] for r, scopes, rows in step.changes if r.kind == "model"}
        self.tell("step", step=self.step, time=now, rows=sum(counts.values()), accepted=dict(counts), dead=dict(dead), changed=changed,
                  models={m: round(s, 4) for m, s in step.model_seconds.items()}, queries=dict(step.queries), newest=newest / 1000 if newest >= 0 else 0,
                  ages=list(ages.items()), seconds={k: round(v, 3) for k, v in seconds.items()})

    def status(self):
        """How far the log is ahead, by topic."""
        states = self.kafka.topics([t for t in self.plan.topics if t not in self.stopped])
        spark = self.spark_ends()
        lag = {}
        for topic, (_, _, ends) in states.items():
            lag[topic] = 0
            for p, end in ends.items():
                at = self.ends.get(topic, {}).get(p, self.next[topic].get(p, 0))
                if not self.pending.get((topic, p)):  # Spark knows of places in the log that no record has
                    at = max(at, self.next[topic].get(p, 0), spark.get(topic, {}).get(str(p), 0))
                lag[topic] += max(end - at, 0)
        self.tell("status", step=self.step, manifest=self.manifest_id, base=self.base.step, lag=lag, waiting=dict(self.waiting), stopped=dict(self.stopped),
                  totals={k: dict(v) for k, v in self.totals.items()})
        return sum(lag.values()) + sum(map(len, self.pending.values()))

    def spark_ends(self):
        progress = self.query.lastProgress if self.query else None
        if progress is None:
            return {}
        return json.loads(progress.json)["sources"][0]["endOffset"] or {}

    # The stream.

    def stream(self):
        topics = [t for t in self.plan.topics if t not in self.stopped]
        if not topics:
            return
        reader = self.spark.readStream.format("kafka").option("subscribe", ",".join(topics))
        for k, v in client_settings(self.config).items():
            reader = reader.option("kafka." + k, v)
        # Spark's consumer asks for each partition's ends before it reads. A node
        # answers a connection in order, so that the answer would stand behind a
        # fetch that waits for records which are not there yet.
        reader = reader.option("kafka.fetch.max.wait.ms", "10")
        starts = {t: {str(p): o for p, o in self.next[t].items()} for t in topics}
        reader = reader.option("kafka.isolation.level", "read_committed").option("startingOffsets", json.dumps(starts))
        reader = reader.option("maxOffsetsPerTrigger", self.config["max_rows"]).option("includeHeaders", "true").option("failOnDataLoss", "true")
        checkpoint = self.config["warehouse"].replace("s3://", "s3a://", 1) + f"/lockstep/checkpoints/{self.id}"
        self.query = (reader.load().writeStream.foreachBatch(self.batch).trigger(processingTime=self.config["trigger"])
                      .option("checkpointLocation", checkpoint).start())
        threading.Thread(target=self.remove_checkpoints, daemon=True).start()

    def remove_checkpoints(self):
        """Removes the checkpoints of earlier starts; nothing reads them."""
        try:
            prefix = f"{self.config['warehouse']}/lockstep/checkpoints/"
            found, old = self.lake.io().listPrefix(prefix).iterator(), set()
            while found.hasNext():
                id = found.next().location()[len(prefix):].split("/")[0]
                if id != self.id:
                    old.add(id)
            for id in old:
                self.lake.remove_prefix(prefix + id + "/")
        except Exception as e:  # the next start removes them
            print(f"cannot remove old checkpoints: {brief(e)}", file=sys.stderr)

    def run(self):
        self.start()
        self.stream()
        self.started = True
        self.tell("running", step=self.step, manifest=self.manifest_id)
        quiet, told = 0, 0.0
        every = 0.5 if self.config.get("until_idle") else 2.0
        while not os.path.exists(self.config["stop"]):
            time.sleep(0.2)
            self.supervised()
            if self.query and not self.query.isActive:
                e = self.query.exception()
                raise RuntimeError(f"the stream has ended: {brief(e)}")
            if time.monotonic() - told < every:
                continue
            told = time.monotonic()
            quiet = quiet + 1 if self.status() == 0 and not self.lock.locked() else 0
            if self.config.get("until_idle") and quiet >= 2:
                break
            self.between()
        self.stop()

    def between(self):
        """What is due when no batch runs: records that waited, a manifest."""
        if self.lock.acquire(blocking=False):
            try:
                if any(self.pending.values()):
                    self.process([], time.time(), {})
                else:
                    self.follow_manifest()
            finally:
                self.lock.release()

    def stop(self):
        """Ends between two batches."""
        with self.lock:
            self.stopping = True
        if self.query:
            self.query.stop()
        self.kafka.close_letters()
        self.tell("ended", step=self.step)
        sys.stdout.flush()
        os._exit(0)  # Spark's own shutdown has nothing to save


def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def offsets_from(d):
    return {t: {int(p): o for p, o in parts.items()} for t, parts in d.items()}


def rfc3339(at):
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def brief(e):
    return str(e).split("\n\tat ")[0].split("\n\nJVM stacktrace")[0][:2000]


if __name__ == "__main__":
    application = App(json.loads(os.environ.pop("LOCKSTEP_SPEED")))
    try:
        application.run()
    except BaseException as e:
        application.fail(e)
