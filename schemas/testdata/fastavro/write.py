"""Writes the .hex files beside it with fastavro 1.13.1 and the .avsc files alone.

Run in a virtual environment that has fastavro, from this folder: python write.py
It also reads ../golden/*.hex and fails where a value comes out differently.
"""

import datetime
import io
import json
import pathlib
import uuid

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

here = pathlib.Path(__file__).parent
schemas = here.parent.parent


class Record:
    def __init__(self, name):
        self.source = json.loads((schemas / f"{name}.avsc").read_text())
        self.schema = fastavro.parse_schema(self.source)
        print_ = fingerprint(to_parsing_canonical_form(self.source), "CRC-64-AVRO")
        self.frame = b"\xc3\x01" + bytes.fromhex(print_)

    def encode(self, value):
        out = io.BytesIO(self.frame)
        out.seek(len(self.frame))
        fastavro.schemaless_writer(out, self.schema, value, strict=False)
        return out.getvalue()

    def decode(self, data):
        assert data[:10] == self.frame
        body = io.BytesIO(data[10:])
        value = fastavro.schemaless_reader(body, self.schema, None)
        assert not body.read(1)
        return value


def at(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def ms(n):
    return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=n)


def uid(text):
    return uuid.UUID(text).bytes


EVENT = uid("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b")
ACT = uid("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5c")
REQUEST = uid("0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5d")
T = at("2026-03-04T05:06:07.089Z")
RECEIVED = at("2026-03-04T05:06:07.200Z")


def plus(n):
    return T + datetime.timedelta(milliseconds=n)


minimal = {"tenant": "default", "subject": "user:42", "purpose": "analytics", "action": "WITHDRAW"}

typical = {
    "event_id": EVENT,
    "interaction_id": ACT,
    "tenant": "default",
    "subject": "user:a1b2c3d4e5f60718",
    "purpose": "marketing.email",
    "action": "GRANT",
    "property": "shop.example",
    "occurred_at": T,
    "sent_at": plus(40),
    "received_at": plus(95),
    "effective_at": T,
    "channel": "WEB",
    "source": "shop-web/3.2",
    "jurisdiction": "DE",
    "notice": {"id": "newsletter", "version": "2026-01", "language": "de", "sha256": b"\xab" * 32},
    "evidence": {
        "method": "CHECKBOX",
        "control": "SAVE",
        "control_default": "OFF",
        "page_url": "https://shop.example/preferences",
        "user_agent": "Mozilla/5.0 (X11; Linux x86_64) Gecko/20100101 Firefox/140.0",
        "ip": "192.0.2.17",
    },
    "policy": {
        "version": "3f9c2b7a61d0e845",
        "model": "OPT_IN",
        "legal_basis": "CONSENT",
        "scope": "PERSON",
        "expires_at": plus(63_072_000_000),
        "covers": ["marketing.email"],
    },
}

full = {
    **typical,
    "request_id": REQUEST,
    "action": "INVALIDATE",
    "evidence": {
        "method": "CONTINUED_USE",
        "control": "TOGGLE",
        "control_default": "ON",
        "bundled": True,
        "conditional": True,
        "gpc": True,
        "reference": "call/2026/17",
        "page_url": "https://shop.example/ü",
        "user_agent": "app",
        "ip": "2001:db8::1",
        "tc_string": "CP",
        "gpp_string": "DB",
        "token": "t",
    },
    "actor": {"type": "AGENT", "id": "agent:7"},
    "policy": {
        "version": "v",
        "model": "OPT_OUT",
        "legal_basis": "LEGITIMATE_INTERESTS",
        "scope": "DEVICE",
        "sale_or_share": True,
        "expires_at": ms(1),
        "double_opt_in": True,
        "confirm_by": ms(-1),
        "history_import": True,
        "covers": ["marketing", "marketing.email"],
    },
    "confirms": {"event_id": REQUEST, "effective_at": ms(2)},
    "invalidates": {"event_id": ACT, "effective_at": ms(3)},
    "link": {"to": "user:b"},
    "carried": {"subject": "device:9f", "event_id": EVENT, "effective_at": ms(4), "via": ["device:9f", "user:a"]},
    "test": True,
}


def kept(action):
    return {
        "action": action,
        "event_id": EVENT,
        "effective_at": T,
        "received_at": RECEIVED,
        "expressed": True,
        "order_at": T,
        "protective": True,
        "stage": 1,
        "expires_at": at("2028-03-04T05:06:07.089Z"),
        "digest": b"\xcd" * 32,
        "names": ACT,
        "carried": True,
        "channel": "API",
        "jurisdiction": "US-CA",
        "model": "OPT_OUT",
        "legal_basis": "CONSENT",
        "notice_id": "n",
        "notice_version": "1",
        "policy_version": "p",
    }


state_row = {
    "tenant": "shop-de",
    "subject": "user:a1b2c3",
    "purpose": "ads.personalisation",
    "test": True,
    "status": "INVALIDATED",
    "allowed": False,
    "version": 7,
    "input_offset": 1042,
    "no_event": full,
    "yes": kept("CONFIRM"),
    "pending": kept("GRANT"),
    "no": kept("REFUSE"),
    "ended": kept("INVALIDATE"),
    "named": [kept("INVALIDATE")],
}

state_root = {
    "tenant": "shop-de",
    "subject": "user:a1b2c3",
    "purpose": "*",
    "status": "UNKNOWN",
    "version": 0,
    "input_offset": 1 << 40,
    "whole": {
        "clock": RECEIVED,
        "jurisdictions": ["DE", "US-CA"],
        "links": [{"to": "user:b", "linked": kept("LINK"), "unlinked": kept("UNLINK")}, {"to": "user:c"}],
        "version_floor": 9,
        "erased": kept("ERASE"),
    },
}

change = {
    "change_id": uid("5b0d9a52-8f52-5a6e-9d0f-000000000001"),
    "type": "consent.withdrawn",
    "tenant": "default",
    "subject": "user:42",
    "purpose": "marketing.email",
    "from": "GRANTED",
    "to": "WITHDRAWN",
    "allowed_before": True,
    "allowed_after": False,
    "withdrawal": True,
    "effective_at": T,
    "event_id": EVENT,
    "version": 2,
    "timestamp": RECEIVED,
    "received_at": RECEIVED,
    "jurisdiction": "DE",
}

delivery = {
    "delivery_id": uid("5b0d9a52-8f52-5a6e-9d0f-000000000002"),
    "change_id": uid("5b0d9a52-8f52-5a6e-9d0f-000000000001"),
    "tenant": "default",
    "subject": "user:42",
    "purpose": "marketing.email",
    "version": 2,
    "withdrawal": True,
    "downstream": "crm",
    "webhook_id": "5b0d9a52-8f52-5a6e-9d0f-000000000001-crm",
    "attempt": 3,
    "started_at": at("2026-03-04T05:06:08.000Z"),
    "duration_millis": 15000,
    "outcome": "RETRYING",
    "http_status": 503,
    "reason": "unavailable",
    "next_attempt_at": at("2026-03-04T05:08:08.000Z"),
    "deadline_at": at("2026-03-18T05:06:07.200Z"),
    "change_received_at": RECEIVED,
}

deadletter = {
    "topic": "consent.intake",
    "partition": 3,
    "offset": 1042,
    "code": "affirmative,informed",
    "reason": "event breaks affirmative (evidence.method), informed (notice.id)",
    "role": "gateway",
    "downstream": "crm",
    "at": RECEIVED,
    "key": b"default|user:42",
    "value": b"\xc3\x01\x00",
    "headers": [{"key": "ce_id", "value": b"1"}, {"key": "empty", "value": b""}, {"key": "null"}],
    "partial": True,
}

event = Record("ConsentEvent")
cases = {
    "publisher_minimal": (event, minimal),
    "event_minimal": (event, minimal),
    "event_typical": (event, typical),
    "event_full": (event, full),
    "state_row": (Record("ConsentState"), state_row),
    "state_root": (Record("ConsentState"), state_root),
    "change": (Record("ConsentChange"), change),
    "delivery": (Record("DeliveryAttempt"), delivery),
    "deadletter": (Record("DeadLetter"), deadletter),
}


def holds(got, want, where=""):
    """Every value that was given is there, and what was not is absent."""
    if isinstance(want, dict):
        assert isinstance(got, dict), where
        for key, value in got.items():
            if key in want:
                holds(value, want[key], f"{where}.{key}")
            else:
                assert value in (None, False, 0, []), f"{where}.{key} = {value!r}"
        assert set(want) <= set(got), where
    elif isinstance(want, list):
        assert len(got) == len(want), where
        for i, pair in enumerate(zip(got, want)):
            holds(*pair, f"{where}[{i}]")
    else:
        assert got == want, f"{where}: {got!r}, want {want!r}"


for name, (record, value) in cases.items():
    data = record.encode(value)
    lines = [data[i : i + 32].hex() for i in range(0, len(data), 32)]
    (here / f"{name}.hex").write_text("\n".join(lines) + "\n")
    ours = here.parent / "golden" / f"{name}.hex"
    if ours.exists():
        holds(record.decode(bytes.fromhex(ours.read_text())), value)
        print(f"{name}: {len(data)} bytes, ours reads back")
