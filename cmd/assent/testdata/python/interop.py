"""Publishes to consent.intake and reads events, changes and state, with the
.avsc files alone: no code of Assent. Prints one JSON document of what it saw.

Usage: interop.py BROKERS SCHEMA_FOLDER
"""

import io
import json
import pathlib
import sys
import time
import uuid

import fastavro
from confluent_kafka import Consumer, Producer, TopicPartition
from fastavro.schema import fingerprint, parse_schema, to_parsing_canonical_form

brokers, folder = sys.argv[1], pathlib.Path(sys.argv[2])


def without_logical_types(node):
    if isinstance(node, dict):
        return {k: without_logical_types(v) for k, v in node.items() if k != "logicalType"}
    if isinstance(node, list):
        return [without_logical_types(v) for v in node]
    return node


class Schema:
    """A schema and the ten bytes that stand before its records."""

    def __init__(self, name):
        raw = json.loads((folder / f"{name}.avsc").read_text())
        self.parsed = parse_schema(raw)
        canonical = to_parsing_canonical_form(without_logical_types(raw))
        self.prefix = b"\xc3\x01" + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))

    def encode(self, record):
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self.parsed, record, strict_allow_default=True)
        return self.prefix + out.getvalue()

    def decode(self, data):
        assert data[:10] == self.prefix, "another fingerprint: " + data[:10].hex()
        rest = io.BytesIO(data[10:])
        record = fastavro.schemaless_reader(rest, self.parsed)
        assert rest.read() == b"", "bytes are left over"
        return record


event_schema, change_schema, state_schema = Schema("ConsentEvent"), Schema("ConsentChange"), Schema("ConsentState")

# Publish with librdkafka; murmur2_random is Java's partitioner.
partitions = {}
producer = Producer({"bootstrap.servers": brokers, "partitioner": "murmur2_random", "acks": "all"})


def delivered(error, message):
    assert error is None, error
    partitions[message.key().decode()] = message.partition()


now = int(time.time() * 1000)
subject, event_id = "user:python", uuid.uuid4()
grant = {
    "event_id": event_id.bytes,
    "tenant": "default",
    "subject": subject,
    "purpose": "marketing.email",
    "action": "GRANT",
    "channel": "PARTNER",
    "source": "interop.py/1",
    "jurisdiction": "IE",
    "occurred_at": now,
    "sent_at": now,
    "notice": {"id": "newsletter", "version": sys.argv[3], "language": "en", "sha256": None},
    "evidence": {"method": "CHECKBOX", "control_default": "OFF"},
}
withdrawal = {"tenant": "default", "subject": subject, "purpose": "ads", "action": "WITHDRAW"}
refused = dict(grant, event_id=uuid.uuid4().bytes, subject="user:nobody", notice=None)
for record in (grant, withdrawal, refused):
    producer.produce("consent.intake", key="default|" + record["subject"], value=event_schema.encode(record), on_delivery=delivered)
for i in range(50):  # partitions of many keys, without records that count
    producer.produce("consent.intake", key=f"default|user:{i}", value=event_schema.encode(
        {"tenant": "default", "subject": f"user:{i}", "purpose": "analytics", "action": "REQUEST"}), on_delivery=delivered)
assert producer.flush(30) == 0


def read(topic, key_prefix, wanted, decode, seconds=30):
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": "interop-" + uuid.uuid4().hex, "isolation.level": "read_committed",
                         "auto.offset.reset": "earliest", "enable.auto.commit": False, "check.crcs": True})
    count = len(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
    consumer.assign([TopicPartition(topic, p, 0) for p in range(count)])
    found, until = [], time.time() + seconds
    while len(found) < wanted and time.time() < until:
        message = consumer.poll(0.2)
        if message is None:
            continue
        assert message.error() is None, message.error()
        if message.key().decode().startswith(key_prefix):
            found.append({"partition": message.partition(), "key": message.key().decode(), "value": decode(message.value()),
                          "headers": {k: v.decode() for k, v in (message.headers() or [])}})
    consumer.close()
    return found, count


def plain(value):
    if isinstance(value, bytes):
        return str(uuid.UUID(bytes=value)) if len(value) == 16 else value.hex()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "timestamp"):
        return int(round(value.timestamp() * 1000))
    if isinstance(value, uuid.UUID):
        return str(value)
    return value


key = "default|" + subject
events, count = read("consent.events", key, 2, event_schema.decode)
changes, _ = read("consent.changes", key, 3, change_schema.decode)
state, _ = read("consent.state", key + "|", 4, state_schema.decode)
json.dump(plain({"event_id": str(event_id), "partitions": partitions, "partition_count": count,
                 "events": events, "changes": changes, "state": state}), sys.stdout)
