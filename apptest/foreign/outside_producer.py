"""Produces into a topic of the bundled project with confluent-kafka, as a team next door would.

Usage: outside_producer.py BOOTSTRAP REGISTRY_URL send | fix
send: a good record, garbage, a tombstone where none is allowed, and a record whose
schema is not registered yet. fix: registers that schema. Exits 1 when something failed.
"""

import datetime
import io
import json
import struct
import sys

import fastavro
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

BOOTSTRAP, REGISTRY, WHAT = sys.argv[1:]
registry = SchemaRegistryClient({"url": REGISTRY})
TOPIC, NOW = "seller", datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
sent = []


def newer():
    """The topic's schema with one more optional field."""
    schema = json.loads(registry.get_version(f"{TOPIC}-value", 1).schema.schema_str)
    schema["fields"].append({"name": "rating", "type": ["null", "int"], "default": None})
    return schema


def send(producer, topic, key, value):
    producer.produce(topic, key=key, value=value, on_delivery=lambda err, msg: sent.append(err))


def main():
    if WHAT == "fix":
        print(registry.register_schema(f"{TOPIC}-value", Schema(json.dumps(newer()), "AVRO")))
        return 0
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True, "enable.metrics.push": False})
    to_bytes = AvroSerializer(registry, registry.get_latest_version(f"{TOPIC}-value").schema, conf={"auto.register.schemas": False, "use.latest.version": True})
    good = {"seller_id": "outside-1", "zip_code": "01001", "ingest_time": NOW}
    send(producer, TOPIC, "outside-1", to_bytes(good, SerializationContext(TOPIC, MessageField.VALUE)))
    send(producer, TOPIC, "outside-2", b"garbage")
    send(producer, "review", "outside-3", None)
    # The next schema will have the next id.
    last = registry.register_schema("outside-mark", Schema('"int"', "AVRO"))
    body = io.BytesIO(struct.pack(">bI", 0, last + 1))
    body.seek(5)
    fastavro.schemaless_writer(body, newer(), {**good, "seller_id": "outside-4", "rating": 5})
    send(producer, TOPIC, "outside-4", body.getvalue())
    left = producer.flush(30)
    print(last + 1)
    return 1 if left or sent != [None] * 4 else 0


if __name__ == "__main__":
    sys.exit(main())
