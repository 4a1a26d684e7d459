"""Drives the log and the registry with confluent-kafka (librdkafka), a client that is not ours.

Usage: confluent_client.py BOOTSTRAP REGISTRY_URL
Needs: pip install "confluent-kafka[avro,schemaregistry]"
Prints a line per check and "N passed, N failed"; exits 1 when one failed. Its topics
and subjects have names of their own, so that it can run on a log in use.
"""

import datetime
import decimal
import sys
import time
import traceback
import uuid

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer, AvroSerializer
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.serialization import MessageField, SerializationContext

BOOTSTRAP, REGISTRY = sys.argv[1], sys.argv[2]
CLIENT = {"bootstrap.servers": BOOTSTRAP, "enable.metrics.push": False}
RUN = uuid.uuid4().hex[:8]
DEADLINE_S = 60

V1 = """{"type":"record","name":"Reading","namespace":"foreign","fields":[
  {"name":"id","type":"string"},
  {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":12,"scale":2}},
  {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
  {"name":"note","type":["null","string"],"default":null}]}"""
V2 = V1[:-2] + ',{"name":"grade","type":"int","default":7}]}'
BAD = V1[:-2] + ',{"name":"must","type":"int"}]}'

registry = SchemaRegistryClient({"url": REGISTRY})
admin = AdminClient(CLIENT)
checks = []


def check(fn):
    checks.append(fn)
    return fn


def name(what):
    return f"foreign-{RUN}-{what}"


def equal(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


def refused(code, fn, *args):
    try:
        fn(*args)
    except SchemaRegistryError as e:
        equal(e.error_code, code)
        return
    raise AssertionError(f"was taken, want error {code}")


def make_topic(what, partitions=1):
    topic = name(what)
    for future in admin.create_topics([NewTopic(topic, partitions, 1)]).values():
        future.result(DEADLINE_S)
    return topic


def producer(**more):
    return Producer({**CLIENT, "enable.idempotence": True, **more})


def consumer(group, **more):
    return Consumer({
        **CLIENT,
        "group.id": name(group),
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        **more,
    })


def send(p, topic, values, key=None):
    failed = []

    def report(err, _msg):
        if err is not None:
            failed.append(err)

    for v in values:
        p.produce(topic, value=v, key=key, on_delivery=report)
        p.poll(0)
    equal(p.flush(DEADLINE_S), 0)
    equal(failed, [])


def read(consumers, count):
    """Reads until count messages came, in the order of their arrival."""
    messages, until = [], time.monotonic() + DEADLINE_S
    while len(messages) < count:
        assert time.monotonic() < until, f"{len(messages)} of {count} messages came"
        for c in consumers:
            m = c.poll(0.1)
            if m is None:
                continue
            assert m.error() is None, m.error()
            messages.append(m)
    return messages


def reading(i):
    return {
        "id": f"r{i}",
        "amount": decimal.Decimal(i) / 100,
        "at": datetime.datetime(2017, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(microseconds=i),
        "note": None if i % 2 else f"note {i}",
    }


@check
def schemas_are_registered_and_read():
    subject = name("schemas-value")
    first = registry.register_schema(subject, Schema(V1, "AVRO"))
    equal(registry.register_schema(subject, Schema(V1, "AVRO")), first)
    second = registry.register_schema(subject, Schema(V2, "AVRO"))
    assert second != first
    fresh = SchemaRegistryClient({"url": REGISTRY})  # without a cache
    equal(fresh.get_versions(subject), [1, 2])
    equal(fresh.get_latest_version(subject).schema_id, second)
    equal(fresh.get_version(subject, 1).schema_id, first)
    equal(fresh.lookup_schema(subject, Schema(V1, "AVRO")).version, 1)
    assert subject in fresh.get_subjects()
    assert '"grade"' in fresh.get_schema(second).schema_str


@check
def incompatible_schemas_are_refused():
    subject = name("compatibility-value")
    registry.register_schema(subject, Schema(V1, "AVRO"))
    equal(registry.test_compatibility(subject, Schema(V2, "AVRO")), True)
    equal(registry.test_compatibility(subject, Schema(BAD, "AVRO")), False)
    refused(409, registry.register_schema, subject, Schema(BAD, "AVRO"))
    refused(42201, registry.register_schema, subject, Schema('{"type":"nothing"}', "AVRO"))
    refused(42201, registry.register_schema, subject, Schema("{}", "JSON"))
    registry.set_compatibility(subject_name=subject, level="NONE")
    equal(registry.get_compatibility(subject), "NONE")
    registry.register_schema(subject, Schema(BAD, "AVRO"))


@check
def references_are_resolved():
    inner, outer = name("inner"), name("outer-value")
    registry.register_schema(inner, Schema(
        '{"type":"record","name":"Inner","namespace":"foreign","fields":[{"name":"n","type":"int"}]}', "AVRO"))
    schema = Schema(
        '{"type":"record","name":"Outer","namespace":"foreign","fields":[{"name":"inner","type":"foreign.Inner"}]}',
        "AVRO", [SchemaReference("foreign.Inner", inner, 1)])
    context = SerializationContext(name("outer"), MessageField.VALUE)
    raw = AvroSerializer(registry, schema)({"inner": {"n": 3}}, context)
    equal(AvroDeserializer(registry)(raw, context), {"inner": {"n": 3}})
    refused(42206, registry.delete_subject, inner)
    registry.delete_subject(outer)
    registry.delete_subject(inner)


@check
def subjects_are_deleted_softly_and_for_good():
    subject = name("deleted-value")
    first = registry.register_schema(subject, Schema('"int"', "AVRO"))
    equal(registry.delete_subject(subject), [1])
    assert subject not in registry.get_subjects()
    fresh = SchemaRegistryClient({"url": REGISTRY})
    refused(40401, fresh.get_latest_version, subject)
    equal(fresh.get_schema(first).schema_str, '"int"')
    refused(40403, fresh.get_schema, 2_000_000_000)


@check
def avro_messages_go_round_and_evolve():
    topic = make_topic("avro", 3)
    to_bytes = AvroSerializer(registry, V1)
    context = SerializationContext(topic, MessageField.VALUE)
    p = producer()
    for i in range(200):
        p.produce(topic, value=to_bytes(reading(i), context), key=f"k{i}")
    equal(p.flush(DEADLINE_S), 0)
    c = consumer("avro")
    c.subscribe([topic])
    from_bytes = AvroDeserializer(registry, V2)  # a newer reader
    got = {}
    for m in read([c], 200):
        v = from_bytes(m.value(), context)
        equal(m.key().decode(), "k" + v["id"][1:])
        got[v["id"]] = v
    c.close()
    equal(got, {f"r{i}": {**reading(i), "grade": 7} for i in range(200)})


@check
def compressions_are_taken():
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
        topic = make_topic("compressed-" + codec)
        send(producer(**{"compression.type": codec, "linger.ms": 20}), topic, [b"x" * 500] * 100)
        c = consumer("compressed")
        c.subscribe([topic])
        equal({m.value() for m in read([c], 100)}, {b"x" * 500})
        c.close()


@check
def a_group_goes_on_where_it_was():
    topic = make_topic("group", 4)
    p = producer()
    for i in range(40):
        send(p, topic, [str(i).encode()], key=str(i))
    c = consumer("resume")
    c.subscribe([topic])
    first = read([c], 25)
    c.commit(asynchronous=False)
    c.close()
    c = consumer("resume")
    c.subscribe([topic])
    second = read([c], 15)
    c.close()
    equal(sorted(int(m.value()) for m in first + second), list(range(40)))


@check
def two_members_share_a_group():
    topic = make_topic("shared", 4)
    members = [consumer("shared"), consumer("shared")]
    for c in members:
        c.subscribe([topic])
    until = time.monotonic() + DEADLINE_S
    while sorted(len(c.assignment()) for c in members) != [2, 2]:
        assert time.monotonic() < until, [c.assignment() for c in members]
        for c in members:
            c.poll(0.1)
    send(producer(), topic, [str(i).encode() for i in range(100)])
    equal(sorted(int(m.value()) for m in read(members, 100)), list(range(100)))
    for c in members:
        c.close()


@check
def the_new_group_protocol_works():
    topic = make_topic("kip848", 2)
    send(producer(), topic, [b"a", b"b", b"c"])
    c = consumer("kip848", **{"group.protocol": "consumer"})
    c.subscribe([topic])
    equal(sorted(m.value() for m in read([c], 3)), [b"a", b"b", b"c"])
    c.commit(asynchronous=False)
    c.close()


@check
def transactions_are_all_or_nothing():
    topic = make_topic("transactions")
    p = Producer({**CLIENT, "transactional.id": name("tx")})
    p.init_transactions(DEADLINE_S)
    for value, end in [(b"kept", p.commit_transaction), (b"dropped", p.abort_transaction), (b"kept too", p.commit_transaction)]:
        p.begin_transaction()
        p.produce(topic, value)
        equal(p.flush(DEADLINE_S), 0)
        end(DEADLINE_S)
    c = consumer("committed", **{"isolation.level": "read_committed"})
    c.subscribe([topic])
    equal([m.value() for m in read([c], 2)], [b"kept", b"kept too"])
    c.close()


@check
def consume_transform_produce_is_exactly_once():
    source, target = make_topic("eos-in"), make_topic("eos-out")
    send(producer(), source, [str(i).encode() for i in range(20)])
    c = consumer("eos", **{"isolation.level": "read_committed"})
    c.subscribe([source])
    p = Producer({**CLIENT, "transactional.id": name("eos-tx")})
    p.init_transactions(DEADLINE_S)
    for attempt in range(2):  # the first is given up
        p.begin_transaction()
        for m in read([c], 20):
            p.produce(target, b"seen " + m.value())
        p.send_offsets_to_transaction(c.position(c.assignment()), c.consumer_group_metadata(), DEADLINE_S)
        if attempt == 1:
            p.commit_transaction(DEADLINE_S)
        else:
            p.abort_transaction(DEADLINE_S)
            c.seek(TopicPartition(source, 0, 0))
    equal(c.committed([TopicPartition(source, 0)], DEADLINE_S)[0].offset, 20)
    c.close()
    out = consumer("eos-check", **{"isolation.level": "read_committed"})
    out.subscribe([target])
    equal([m.value() for m in read([out], 20)], [b"seen %d" % i for i in range(20)])
    out.close()


@check
def a_zombie_producer_is_fenced():
    topic = make_topic("fenced")
    old, new = (Producer({**CLIENT, "transactional.id": name("fence")}) for _ in range(2))
    old.init_transactions(DEADLINE_S)
    old.begin_transaction()
    old.produce(topic, b"zombie")
    old.flush(DEADLINE_S)
    new.init_transactions(DEADLINE_S)
    try:
        old.commit_transaction(DEADLINE_S)
    except KafkaException:
        return
    raise AssertionError("the older producer could commit")


@check
def admin_requests_work():
    topic = make_topic("admin", 2)
    send(producer(), topic, [b"x"] * 10)
    equal(len(admin.list_topics(timeout=DEADLINE_S).topics[topic].partitions), 2)
    resource = ConfigResource(ResourceType.TOPIC, topic)
    configs = admin.describe_configs([resource])[resource].result(DEADLINE_S)
    assert "retention.ms" in configs and "cleanup.policy" in configs
    c = consumer("admin")
    low, high = zip(*(c.get_watermark_offsets(TopicPartition(topic, p), DEADLINE_S) for p in range(2)))
    equal((sum(low), sum(high)), (0, 10))
    c.close()
    assert any(g.group_id == name("resume") for g in admin.list_consumer_groups().result(DEADLINE_S).valid)
    for future in admin.delete_topics([topic]).values():
        future.result(DEADLINE_S)


@check
def a_misspelt_topic_fails_at_its_producer():
    p = producer(**{"message.timeout.ms": 3000, "topic.metadata.propagation.max.ms": 1000})
    failed = []
    p.produce(name("misspelt"), b"x", on_delivery=lambda err, _: failed.append(err))
    p.flush(DEADLINE_S)
    assert failed and failed[0] is not None, failed


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
    for future in admin.delete_topics([t for t in admin.list_topics(timeout=DEADLINE_S).topics if RUN in t]).values():
        future.result(DEADLINE_S)
    print(f"{len(checks) - failures} passed, {failures} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
