"""A Kafka topic as a batch source, on a real broker: each record once, whatever the topic and the process do."""

from __future__ import annotations

import io
import json
import struct
from typing import TYPE_CHECKING, Any

import fastavro
import pytest

from airflow_mlplatform.exceptions import (
    CheckFailed,
    ConfigurationError,
    NotFound,
    ServiceRefused,
    ServiceUnavailable,
)
from airflow_mlplatform.steps.kafka import config, reader, topic
from airflow_mlplatform.steps.kafka.ranges import Reach
from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import bucket, minio, s3_site, site
from tests.services.kafka_parts import Clicks, schema_registry_server
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.etl_parts import Site
    from tests.services.kafka_broker import KafkaBroker
    from tests.services.kafka_parts import SchemaRegistryServer

__all__ = ["bucket", "minio", "s3_site", "site"]

ID = {"columns": {"id": "BIGINT"}}


@pytest.fixture
def clicks(kafka: KafkaBroker, site: Site) -> Clicks:
    return Clicks(kafka, site)


def numbers(start: int, stop: int) -> list[dict[str, int]]:
    return [{"id": number} for number in range(start, stop)]


@pytest.mark.parametrize("place", ["site", "s3_site"])
@pytest.mark.parametrize("ending", ["", ".parquet"])
def test_each_run_loads_what_came_since_the_last(
    kafka: KafkaBroker, request: pytest.FixtureRequest, place: str, ending: str
) -> None:
    clicks = Clicks(kafka, request.getfixturevalue(place))
    clicks.create()
    clicks.send(numbers(0, 10))
    assert clicks.load("r1", f"pond://clicks/r1{ending}", **ID).rows == 10
    assert clicks.load("r2", f"pond://clicks/r2{ending}", **ID).rows == 0
    clicks.send(numbers(10, 15))
    assert clicks.load("r3", f"pond://clicks/r3{ending}", **ID).rows == 5
    assert clicks.rows("select id from input order by id") == [(number,) for number in range(15)]


def test_what_each_record_brings(clicks: Clicks) -> None:
    clicks.create(1)
    headers = [("trace", b"\x01\x02"), ("trace", b"again"), ("none", None)]
    clicks.send([{"id": 1}], key="ada", headers=headers, timestamp=1_700_000_000_123)
    clicks.send([None], key="ada")
    clicks.load("r1", **ID)
    first, second = clicks.rows()
    assert [first[0], first[1], first[2].timestamp(), first[3]] == [0, 0, 1_700_000_000.123, "ada"]
    assert first[4] == [
        {"name": "trace", "value": b"\x01\x02"}, {"name": "trace", "value": b"again"}, {"name": "none", "value": None},
    ]  # fmt: skip
    assert first[5:] == (False, 1)
    assert second[1] == 1
    assert second[4:] == (None, True, None)


def test_raw_values_and_keys_are_bytes(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send([b"\xff\x00", b"", None], key=b"\xfe")
    clicks.load("r1", format="raw", key="raw")
    sql = "select kafka_key, value, kafka_tombstone from input order by kafka_offset"
    assert clicks.rows(sql) == [(b"\xfe", b"\xff\x00", False), (b"\xfe", b"", False), (b"\xfe", None, True)]


def test_a_cleared_run_loads_the_same_records_again(clicks: Clicks) -> None:
    clicks.create()
    clicks.send(numbers(0, 10))
    clicks.load("r1", **ID)
    before = sorted(clicks.rows())
    clicks.send(numbers(10, 20))
    clicks.load("r2", **ID)
    clicks.send(numbers(20, 30))
    assert clicks.load("r1", **ID).rows == 10
    assert sorted(clicks.site.rows("pond://clicks/r1")) == before
    assert clicks.load("r3", **ID).rows == 10
    assert clicks.loaded() == (30, 30)


def test_a_run_that_did_not_load_is_taken_over_by_the_next(clicks: Clicks) -> None:
    clicks.create()
    clicks.send(numbers(0, 10))
    with pytest.raises(CheckFailed):
        clicks.load("r1", checks={"rows": {"max": 5}}, **ID)
    clicks.send(numbers(10, 20))
    assert clicks.load("r2", **ID).rows == 20
    assert clicks.load("r1", **ID).rows == 0
    assert clicks.loaded() == (20, 20)


def test_a_retry_reads_what_the_first_try_was_to_read(clicks: Clicks) -> None:
    clicks.create()
    clicks.send(numbers(0, 10))
    with pytest.raises(CheckFailed):
        clicks.load("r1", checks={"rows": {"max": 5}}, **ID)
    clicks.send(numbers(10, 20))
    assert clicks.load("r1", **ID).rows == 10
    assert clicks.load("r2", **ID).rows == 10


def test_a_load_never_drops_what_another_run_has_read(clicks: Clicks) -> None:
    clicks.create()
    for uri in ("pond://clicks/day", "pond://clicks/day.parquet"):
        clicks.send(numbers(0, 10))
        clicks.load(f"first-{uri[-3:]}", uri, **ID)
        clicks.send(numbers(10, 20))
        with pytest.raises(ConfigurationError, match=r"holds what run dag/first-.* read of Kafka.*run_id"):
            clicks.load("r2", uri, **ID)
        assert clicks.load(f"r3-{uri[-3:]}", **ID).rows == 10
    assert clicks.loaded() == (40, 40)


def test_an_empty_topic(clicks: Clicks) -> None:
    clicks.create()
    assert clicks.load("r1").rows == 0
    assert clicks.load("r2", **ID).rows == 0
    assert clicks.site.rows("pond://clicks/r2", "select id from input") == []
    clicks.send(numbers(0, 3))
    assert clicks.load("r3", **ID).rows == 3


def test_the_first_run_may_begin_at_the_end(clicks: Clicks) -> None:
    clicks.create()
    clicks.send(numbers(0, 10))
    with pytest.raises(CheckFailed):
        clicks.load("r1", start="latest", checks={"rows": {"min": 1}}, **ID)
    clicks.send(numbers(10, 12))
    assert clicks.load("r2", start="latest", **ID).rows == 2, "begins where the first run, which failed, would have"


def test_new_partitions_are_read_from_their_beginning(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send(numbers(0, 5))
    clicks.load("r1", **ID)
    clicks.grow(3)
    clicks.send(numbers(5, 14))
    assert clicks.load("r2", **ID).rows == 9
    assert clicks.loaded() == (14, 14)


def test_transactions(clicks: Clicks) -> None:
    clicks.create(2)
    producer = clicks.producer(**{"transactional.id": clicks.topic})
    producer.init_transactions(30)
    for start, commit in ((0, True), (100, False), (10, True), (200, False)):
        producer.begin_transaction()
        clicks.send(numbers(start, start + 10), producer=producer)
        producer.flush()
        producer.commit_transaction(30) if commit else producer.abort_transaction(30)
    # The last thing in each partition is the end of an aborted transaction: nothing will ever be delivered there.
    assert clicks.load("r1", **ID).rows == 20
    assert clicks.load("r2", **ID).rows == 0
    producer.begin_transaction()
    clicks.send(numbers(20, 30), producer=producer)
    producer.flush()
    clicks.send(numbers(30, 40))
    assert clicks.load("r3", **ID).rows == 0, "behind the beginning of an open transaction"
    producer.commit_transaction(30)
    assert clicks.load("r4", **ID).rows == 20
    assert clicks.rows("select id from input order by id") == [(number,) for number in range(40)]


def test_compacted_topics(clicks: Clicks) -> None:
    settings = {"cleanup_policy": "compact", "segment_ms": "100", "min_cleanable_dirty_ratio": "0.01"}
    clicks.create(1, **settings)
    for number in range(30):
        clicks.send([{"id": number}], key=f"k{number % 3}")
    place = topic.Topic(clicks.topic, clicks.site.logins["events"])

    def left() -> int:
        bounds = place.bounds()
        return sum(map(len, reader.read_records(place, Reach(bounds.topic_id, bounds.spans))))

    wait_for(lambda: clicks.send([{"id": -1}], key="other") or left() < 25, timeout=60)
    assert clicks.load("r1", **ID).rows < 25 + 60
    assert clicks.load("r2", **ID).rows == 0
    clicks.send(numbers(90, 91), key="k0")
    assert clicks.load("r3", **ID).rows == 1


def remove_records(clicks: Clicks, offset: int) -> None:
    from confluent_kafka import TopicPartition

    for done in clicks.admin.delete_records([TopicPartition(clicks.topic, 0, offset)]).values():
        done.result(30)


def test_records_that_retention_removed_unread(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send(numbers(0, 10))
    clicks.load("r1", **ID)
    clicks.send(numbers(10, 20))
    remove_records(clicks, 15)
    with pytest.raises(ConfigurationError, match=r"partition 0: offsets 10 to 14 are gone.*on_gap: skip"):
        clicks.load("r2", **ID)
    assert clicks.load("r2", on_gap="skip", **ID).rows == 5
    with pytest.raises(ConfigurationError, match="cannot be read again: partition 0 holds offsets 15 to 19"):
        clicks.load("r1", on_gap="skip", **ID)
    assert clicks.loaded() == (15, 15), "what r1 had loaded is still there"


def test_a_topic_that_was_made_anew(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send(numbers(0, 3))
    clicks.load("r1", **ID)
    clicks.delete()
    clicks.create(1)
    clicks.send(numbers(10, 15))
    with pytest.raises(ConfigurationError, match="another one than the last run read"):
        clicks.load("r2", **ID)
    assert clicks.load("r2", on_gap="skip", **ID).rows == 5
    assert clicks.load("r3", **ID).rows == 0


BAD = [b'{"id": 1}', b"nope", b'{"id": "x"}', b"[1]", b"5", b"null", b"\xff", b'{"id": 2', b"{}", b'{"id": null}', b""]
REASONS = {
    1: "is no JSON", 2: "id: a value of type VARCHAR is no BIGINT", 3: "is no JSON object but ARRAY",
    4: "is no JSON object but UBIGINT", 5: "is no JSON object but NULL",
    6: "is no UTF-8 text: invalid start byte at byte 0",
    7: "is no JSON", 10: "is no JSON",
}  # fmt: skip


@pytest.mark.parametrize("options", [ID, {}], ids=["declared", "guessed"])
def test_records_that_do_not_parse(clicks: Clicks, options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    clicks.create(1)
    clicks.send(BAD, key="k")
    if not options:
        options, reasons = {}, {number: why for number, why in REASONS.items() if number != 2}
    else:
        reasons = REASONS
    with pytest.raises(ConfigurationError, match=rf"{len(reasons)} of 11 records.*partition 0 offset 1: is no JSON;"):
        clicks.load("r1", **options)
    aside = "pond://aside/r1.parquet"
    assert clicks.load("r1", on_error={"set_aside": aside}, **options).rows == 11 - len(reasons)
    found = clicks.site.rows(aside, "select kafka_offset, kafka_timestamp, key, value, reason from input")
    assert {row[0]: row[4] for row in found} == reasons
    assert {row[0]: row[3] for row in found} == {number: BAD[number] for number in reasons}
    assert {row[2] for row in found} == {b"k"}
    with caplog.at_level("WARNING"):
        assert clicks.load("r1", on_error="skip", **options).rows == 11 - len(reasons)
    assert f"{len(reasons)} of 11 records do not parse" in caplog.text
    assert clicks.load("r2", **options).rows == 0


def test_keys_that_are_no_text(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send([{"id": 1}], key=b"\xff")
    clicks.send([{"id": 2}])
    with pytest.raises(ConfigurationError, match="offset 0: key is no UTF-8 text"):
        clicks.load("r1", **ID)
    clicks.load("r1", on_error={"set_aside": "pond://aside/r1"}, **ID)
    assert clicks.site.rows("pond://aside/r1", "select key, value from input") == [(b"\xff", b'{"id": 1}')]


def test_guessed_columns_grow_with_the_runs(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send([{"n": 1, "void": None}] * 3000 + [{"n": 1.5, "late": {"a": [1]}, 'who\'s "it"': True}])
    clicks.load("r1")
    first = clicks.site.rows(
        "pond://clicks/r1", "select typeof(n), typeof(late), typeof(void), late from input order by late"
    )
    assert first[0] == ("DOUBLE", "VARCHAR", "VARCHAR", '{"a":[1]}')
    clicks.load("r2")
    clicks.send([{"void": 1}])
    clicks.load("r3")
    assert clicks.site.rows("pond://clicks/r3", 'select late, "who\'s ""it""" from input') == [(None, None)]
    assert clicks.site.rows("pond://clicks/r3", "select typeof(void), n from input") == [("BIGINT", None)]
    clicks.send([{"N": 1}])
    with pytest.raises(ConfigurationError, match="'n' and 'N' cannot be columns of one table"):
        clicks.load("r4")


def test_nested_columns(clicks: Clicks) -> None:
    clicks.create(1)
    clicks.send(
        [{"user": {"name": "ada", "tags": ["x", "y"]}, "at": "2026-01-02T03:04:05Z", "reason": "why", "a/b~c": 1}]
    )
    columns = {
        "user": "STRUCT(name VARCHAR, tags VARCHAR[])",
        "at": "TIMESTAMP",
        "reason": "VARCHAR",
        "a/b~c": "TINYINT",
    }
    clicks.load("r1", columns=columns)
    sql = 'select "user".tags[2], "at"::varchar, reason, "a/b~c" from input'
    assert clicks.rows(sql) == [("y", "2026-01-02 03:04:05", "why", 1)]


def test_names_and_logins_that_are_wrong(clicks: Clicks, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotFound, match=rf"topic {clicks.topic} \(connection 'events'\)"):
        clicks.load("r1", **ID)
    extra = {"bootstrap.servers": clicks.broker.bootstrap}
    cases: list[tuple[Login, type[Exception], str]] = [
        (Login("events", "kafka", extra={}), ConfigurationError, "names no brokers"),
        (Login("events", "http", extra=extra), ConfigurationError, "is of type 'http'"),
        (Login("events", "kafka", extra={**extra, "no.such.key": 1}), ConfigurationError, "no.such.key"),
        (Login("events", "kafka", extra={"bootstrap.servers": "127.0.0.1:1"}), ServiceUnavailable, "127.0.0.1:1"),
    ]
    monkeypatch.setattr(topic, "TIMEOUT", 3.0)
    for login, error, words in cases:
        clicks.site.logins["events"] = login
        with pytest.raises(error, match=words):
            clicks.load("r1", **ID)


def test_a_broker_that_falls_silent(clicks: Clicks, monkeypatch: pytest.MonkeyPatch) -> None:
    clicks.create(1)
    clicks.send(numbers(0, 10))
    monkeypatch.setattr(reader, "PATIENCE", 2.0)
    # One offset more than there are records, and no word of the end: as if the broker had stopped to answer.
    monkeypatch.setitem(config.OURS, "enable.partition.eof", False)
    place = topic.Topic(clicks.topic, clicks.site.logins["events"])
    with pytest.raises(ServiceUnavailable, match="do not answer"):
        list(reader.read_records(place, Reach("", {0: (0, 11)})))


@pytest.fixture
def registry(clicks: Clicks) -> Iterator[SchemaRegistryServer]:
    with schema_registry_server() as server:
        host, port = server.url.removeprefix("http://").split(":")
        clicks.site.logins["schemas"] = Login("schemas", "http", host, int(port), "reader", "s3cret")
        yield server


AVRO = {"format": "avro", "schema_registry": {"connection": "schemas"}}
CLICK = {
    "type": "record", "name": "Click",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "who", "type": ["null", "string"], "default": None},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "kind", "type": {"type": "enum", "name": "Kind", "symbols": ["BUY", "LOOK"]}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "more", "type": {"type": "map", "values": "int"}},
        {"name": "uuid", "type": {"type": "string", "logicalType": "uuid"}},
    ],
}  # fmt: skip


def framed(number: int, schema: Any, record: Any) -> bytes:
    data = io.BytesIO()
    fastavro.schemaless_writer(data, fastavro.parse_schema(json.loads(json.dumps(schema))), record)
    return struct.pack(">bI", 0, number) + data.getvalue()


def click(number: int, **more: Any) -> dict[str, Any]:
    from decimal import Decimal

    record = {"id": number, "at": 1_700_000_000_000, "price": Decimal("1.25"), "kind": "BUY", "tags": ["a"]}
    return {**record, "more": {"n": 1}, "uuid": "8f14e45f-ceea-467f-a9d1-2f0f3b0f0d5c", **more}


def test_avro(clicks: Clicks, registry: SchemaRegistryServer) -> None:
    clicks.create(1)
    number = registry.register(f"{clicks.topic}-value", CLICK)
    clicks.send([framed(number, CLICK, click(one, who="ada")) for one in range(500)] + [None])
    assert clicks.load("r1", **AVRO).rows == 501
    columns = """id, who, epoch_ms("at"), price::varchar, kind, tags, more['n'], uuid, typeof("at"), typeof(price)"""
    assert clicks.rows(f"select {columns} from input where id = 7")[0] == (
        7, "ada", 1_700_000_000_000, "1.25", "BUY", ["a"], 1, "8f14e45f-ceea-467f-a9d1-2f0f3b0f0d5c",
        "TIMESTAMP WITH TIME ZONE", "DECIMAL(9,2)",
    )  # fmt: skip
    assert clicks.rows("select id, kafka_tombstone from input where id is null") == [(None, True)]
    assert registry.asked.count(f"/schemas/ids/{number}") == 1


def test_avro_schemas_that_change(clicks: Clicks, registry: SchemaRegistryServer) -> None:
    clicks.create(1)
    subject = f"{clicks.topic}-value"
    old = {
        "type": "record",
        "name": "Click",
        "fields": [{"name": "id", "type": "int"}, {"name": "gone", "type": "int"}],
    }
    shared = {"type": "record", "name": "Address", "fields": [{"name": "city", "type": "string"}]}
    new = {
        "type": "record", "name": "Click",
        "fields": [{"name": "id", "type": "long"}, {"name": "address", "type": ["null", "Address"], "default": None}],
    }  # fmt: skip
    first = registry.register(subject, old)
    registry.register("address", shared)
    second = registry.register(subject, new, references=[{"name": "Address", "subject": "address", "version": 1}])
    whole = json.loads(json.dumps(new))
    whole["fields"][1]["type"][1] = shared
    clicks.send(
        [framed(first, old, {"id": 1, "gone": 9}), framed(second, whole, {"id": 2, "address": {"city": "Bonn"}})]
    )
    clicks.load("r1", **AVRO)
    assert clicks.rows("select id, address.city from input order by id") == [(1, None), (2, "Bonn")]


def test_avro_that_does_not_parse(clicks: Clicks, registry: SchemaRegistryServer) -> None:
    clicks.create(1)
    number = registry.register(f"{clicks.topic}-value", CLICK)
    good = framed(number, CLICK, click(1))
    clicks.send([good, b"", b"\x01abcdef", b"\x00\x00\x00\x00\x63abc", good[:-3], good + b"x", b"{}"])
    with pytest.raises(ConfigurationError, match="6 of 7 records.*offset 1: is not in a registry's wire format"):
        clicks.load("r1", **AVRO)
    clicks.load("r1", on_error={"set_aside": "pond://aside/r1"}, **AVRO)
    reasons = dict(clicks.site.rows("pond://aside/r1", "select kafka_offset, reason from input"))
    assert reasons[3] == "names schema 99, which the registry does not know"
    assert reasons[5] == "is longer than its Avro schema says"
    assert sorted(reasons) == [1, 2, 3, 4, 5, 6]


def test_a_registry_that_fails(clicks: Clicks, registry: SchemaRegistryServer) -> None:
    clicks.create(1)
    with pytest.raises(NotFound, match="subject"):
        clicks.load("r1", **AVRO)
    registry.register(f"{clicks.topic}-value", CLICK)
    registry.down = True
    with pytest.raises(ServiceUnavailable, match="answers 503"):
        clicks.load("r1", **AVRO)
    clicks.site.logins["schemas"] = Login("schemas", "http", registry.url, user="reader", password="wrong")
    registry.down = False
    with pytest.raises(ServiceRefused, match="answers 401") as refused:
        clicks.load("r1", **AVRO)
    assert "wrong" not in str(refused.value)
    registry.register("other", {"type": "object"}, schemaType="JSON")
    clicks.site.logins["schemas"] = Login("schemas", "http", registry.url, user="reader", password="s3cret")
    with pytest.raises(ConfigurationError, match="is JSON, not Avro"):
        clicks.load("r1", format="avro", schema_registry={"connection": "schemas", "subject": "other"})
