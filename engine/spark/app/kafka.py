"""Kafka by its own Java client, which Spark's jars hold: what the topics are,
where they end, and dead letters."""

import base64
import struct
import time

LETTER_BYTES = 64 << 20


class Fenced(Exception):
    """Another driver of this project has taken over."""


def client_settings(config):
    """Properties of every client, also of Spark's source."""
    out = {"bootstrap.servers": ",".join(config["kafka"])}
    tls, sasl = config.get("kafka_tls"), config.get("kafka_sasl")
    if tls or sasl:
        out["security.protocol"] = ("SASL_" if sasl else "") + ("SSL" if tls else "PLAINTEXT")
    if tls and config.get("kafka_ca"):
        # The certificates themselves: executors may be where the file is not.
        with open(config["kafka_ca"]) as f:
            out.update({"ssl.truststore.type": "PEM", "ssl.truststore.certificates": f.read()})
    if sasl:
        plain = sasl == "plain"
        out["sasl.mechanism"] = sasl.upper()
        module = "plain.PlainLoginModule" if plain else "scram.ScramLoginModule"
        quote = lambda s: '"' + s.replace("\\", "\\\\").replace('"', '\\"') + '"'
        out["sasl.jaas.config"] = (f"org.apache.kafka.common.security.{module} required username={quote(config['kafka_user'])} "
                                   f"password={quote(config['kafka_password'])};")
    return out


class Kafka:
    def __init__(self, spark, config, project):
        self.jvm, self.config, self.project = spark._jvm, config, project
        self.clients = self.jvm.org.apache.kafka.clients
        self.admin = self.clients.admin.AdminClient.create(self.properties())
        self.producer, self.made = None, set()

    def properties(self, **more):
        p = self.jvm.java.util.Properties()
        for k, v in {**client_settings(self.config), **{k.replace("_", "."): v for k, v in more.items()}}.items():
            p.setProperty(k, str(v))
        return p

    def partition(self, topic, p):
        return self.jvm.org.apache.kafka.common.TopicPartition(topic, p)

    def topics(self, names):
        """{topic: (id, {partition: start}, {partition: end})} of those that
        exist; end is that of what is committed."""
        existing = set(self.admin.listTopics().names().get())
        names, out = [n for n in names if n in existing], {}
        if not names:
            return out
        described = self.admin.describeTopics(self.java_list(names)).allTopicNames().get()
        specs = self.clients.admin.OffsetSpec
        asked = {n: [p.partition() for p in described.get(n).partitions()] for n in names}
        starts, ends = self.offsets(asked, specs.earliest()), self.offsets(asked, specs.latest(), committed=True)
        for n in names:
            out[n] = (topic_id(described.get(n).topicId()), starts.get(n, {}), ends.get(n, {}))
        return out

    def offsets(self, asked, spec, committed=False):
        wanted = self.jvm.java.util.HashMap()
        for topic, partitions in asked.items():
            for p in partitions:
                wanted.put(self.partition(topic, p), spec)
        if committed:
            level = self.jvm.org.apache.kafka.common.IsolationLevel.READ_COMMITTED
            answer = self.admin.listOffsets(wanted, self.clients.admin.ListOffsetsOptions(level)).all().get()
        else:
            answer = self.admin.listOffsets(wanted).all().get()
        out = {}
        for e in answer.entrySet():
            out.setdefault(e.getKey().topic(), {})[e.getKey().partition()] = e.getValue().offset()
        return out

    def java_list(self, items):
        out = self.jvm.java.util.ArrayList()
        for i in items:
            out.add(i)
        return out

    # Dead letters.

    def open_letters(self):
        """Fences whoever wrote dead letters of this project before."""
        byte_arrays = "org.apache.kafka.common.serialization.ByteArraySerializer"
        self.close_letters()
        self.producer = self.clients.producer.KafkaProducer(self.properties(
            transactional_id=f"lockstep.{self.project}.dead-letters", transaction_timeout_ms=30000, acks="all", linger_ms=0,
            max_request_size=LETTER_BYTES, buffer_memory=2 * LETTER_BYTES, key_serializer=byte_arrays, value_serializer=byte_arrays))
        self.producer.initTransactions()

    def close_letters(self):
        if self.producer is not None:
            self.producer.close(self.jvm.java.time.Duration.ofSeconds(1))
            self.producer = None

    def read_letters(self, topics):
        """Where the records of all dead letters stood: {topic: {(partition, offset)}}."""
        out = {t: set() for t in topics}
        states = self.topics([letter_topic(t) for t in topics])
        starts = {n: s for n, (_, s, e) in states.items() if e.get(0, 0) > s.get(0, 0)}
        self.made.update(states)
        if not starts:
            return out
        byte_arrays = "org.apache.kafka.common.serialization.ByteArrayDeserializer"
        consumer = self.clients.consumer.KafkaConsumer(self.properties(
            isolation_level="read_committed", enable_auto_commit="false", key_deserializer=byte_arrays, value_deserializer=byte_arrays))
        try:
            partitions = {n: self.partition(n, 0) for n in starts}
            consumer.assign(self.java_list(partitions.values()))
            consumer.seekToBeginning(self.java_list(partitions.values()))
            while any(consumer.position(p) < states[n][2][0] for n, p in partitions.items()):
                found = consumer.poll(self.jvm.java.time.Duration.ofMillis(200)).iterator()
                while found.hasNext():
                    r = found.next()
                    at = {h.key(): bytes(h.value()) for h in r.headers().toArray() if h.key() in (PARTITION, OFFSET)}
                    if len(at) == 2:
                        out[r.topic()[len("dlq."):]].add((int(at[PARTITION]), int(at[OFFSET])))
        finally:
            consumer.close()
        return out

    def write_letters(self, letters, hook=lambda point: None):
        """Writes dead letters as one transaction. A letter: topic, partition,
        offset, millis, key, value, headers, fault, schema id."""
        if not letters:
            return
        for topic in {l[0] for l in letters}:
            self.make_letter_topic(letter_topic(topic))
        try:
            omit = self.send_letters(letters, set())
            if omit:  # the log finds them too large: they go without their values
                self.producer.abortTransaction()
                if self.send_letters(letters, omit):
                    raise RuntimeError("the log takes no dead letter of this size, even without its value")
            hook("letters")
            self.producer.commitTransaction()
        except Exception as e:
            if any(s in str(e) for s in ("ProducerFenced", "InvalidProducerEpoch", "FencedInstance")):
                raise Fenced("another driver of this project writes dead letters") from None
            raise

    def send_letters(self, letters, omit):
        """Begins a transaction with the letters, and names those that are too
        large."""
        self.producer.beginTransaction()
        sent = [(n, self.producer.send(self.letter(l, n in omit))) for n, l in enumerate(letters)]
        self.producer.flush()
        too_large, other = set(), None
        for n, future in sent:
            try:
                future.get()
            except Exception as e:
                if "RecordTooLarge" in str(e):
                    too_large.add(n)
                else:
                    other = e
        if other is not None and not too_large:
            raise other
        return too_large

    def make_letter_topic(self, name):
        """Makes a topic that keeps its records for ever, larger ones than the
        log's default where it allows that."""
        if name in self.made:
            return
        new = self.clients.admin.NewTopic(name, self.jvm.java.util.Optional.of(1), self.jvm.java.util.Optional.empty())
        configs = self.jvm.java.util.HashMap()
        configs.put("retention.ms", "-1")
        configs.put("max.message.bytes", str(LETTER_BYTES))
        try:
            self.admin.createTopics(self.java_list([new.configs(configs)])).all().get()
        except Exception as e:
            if "TopicExists" not in str(e):
                raise
        deadline = time.monotonic() + 30
        while name not in set(self.admin.listTopics().names().get()) and time.monotonic() < deadline:
            time.sleep(0.1)
        self.made.add(name)

    def letter(self, l, omit):
        """The record of a dead letter topic, as ingest/letters.go makes it."""
        topic, partition, offset, millis, key, value, headers, fault, schema = l
        added = [(REASON, fault.reason), (DETAIL, fault.detail), (TOPIC, topic), (PARTITION, str(partition)), (OFFSET, str(offset))]
        if schema:
            added.append((SCHEMA, str(schema)))
        if omit:
            added.append((OMITTED, "true"))
            value, headers = None, []
        header = self.jvm.org.apache.kafka.common.header.internals.RecordHeader
        listed = self.java_list([])
        for k, v in added + [(h["key"], h["value"]) for h in headers or []]:
            listed.add(header(k, v.encode("utf-8", "replace") if isinstance(v, str) else v))
        # Numbers below 2^31 would go to Java as Integer, which is no time.
        at = millis if millis > 0x7FFFFFFF else None
        return self.clients.producer.ProducerRecord(letter_topic(topic), 0, at, key, value, listed)


def topic_id(uuid):
    """A topic's id as every part of Lockstep writes it."""
    raw = struct.pack(">qq", uuid.getMostSignificantBits(), uuid.getLeastSignificantBits())
    return base64.b64encode(raw).decode()


def letter_topic(topic):
    return "dlq." + topic


REASON, DETAIL, TOPIC, PARTITION = "lockstep.dlq.reason", "lockstep.dlq.detail", "lockstep.dlq.topic", "lockstep.dlq.partition"
OFFSET, SCHEMA, OMITTED = "lockstep.dlq.offset", "lockstep.dlq.schema_id", "lockstep.dlq.value_omitted"
