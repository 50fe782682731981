"""``extract.kafka``: what came into a topic since the last run, as a table."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import Load
from airflow_mlplatform.specs.kafka import SetAside
from airflow_mlplatform.steps.kafka.avro import avro_values
from airflow_mlplatform.steps.kafka.columns import BAD, demand_names, json_columns, plain_columns
from airflow_mlplatform.steps.kafka.guess import guess_columns, sql_types
from airflow_mlplatform.steps.kafka.progress import Progress
from airflow_mlplatform.steps.kafka.ranges import Reach, missing, plan
from airflow_mlplatform.steps.kafka.reader import read_messages
from airflow_mlplatform.steps.kafka.records import ValueDecoder, bytes_of, record_batch, stream_schema, text_of
from airflow_mlplatform.steps.kafka.topic import Topic
from airflow_mlplatform.steps.parquet import write_parquet
from airflow_mlplatform.steps.publish import held, publish
from airflow_mlplatform.steps.stream import spool
from airflow_mlplatform.steps.workbench import Table, scan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from airflow_mlplatform.specs.kafka import KafkaSource
    from airflow_mlplatform.steps.workbench import Workbench

__all__ = ["read_kafka"]

log = logging.getLogger(__name__)

ADVICE = "check the types under columns"


def read_kafka(source: KafkaSource, bench: Workbench) -> Table:
    """Read what came into a topic since the last run; the same again in a retry, or if the run was loaded before.

    :raises ConfigurationError: for a source that cannot be read as it is described, or records that do not parse.
    :raises ServiceRefused: if the brokers or the registry do not let us in, or there is no such topic.
    :raises ServiceUnavailable: if they do not answer.
    """
    topic = Topic.of(source, bench.storage.logins(source.connection))
    progress = Progress(source.topic, bench)
    reach = _reach(source, topic, progress)
    log.info("%s: %s offsets of %s partitions: %s", topic.where, reach.offsets, len(reach.spans), dict(reach.spans))
    with bench.engine.explaining(topic.where, ADVICE):
        file = _READERS[source.format](source, topic, reach, progress)
        return _sifted(file, source, bench, topic.where)


def _reach(source: KafkaSource, topic: Topic, progress: Progress) -> Reach:
    bounds = topic.bounds()
    ledger = progress.ledger()
    loaded = progress.loaded()
    if loaded is not None:
        if gone := missing(loaded, bounds):
            raise ConfigurationError(
                f"{topic.where}: this run has loaded records that cannot be read again: {gone}; what it loaded stays "
                "as it is"
            )
        return loaded
    mine = ledger.claim is not None and ledger.claim.run == progress.bench.run
    if ledger.claim is not None and mine and not missing(ledger.claim.reach, bounds):
        return ledger.claim.reach
    reach = plan(ledger.position, bounds, source)
    progress.claim(reach)
    return reach


def _stream(
    source: KafkaSource,
    topic: Topic,
    reach: Reach,
    bench: Workbench,
    values: ValueDecoder,
    query: Callable[[str], str] | None = None,
) -> Path:
    schema = stream_schema(source, values)

    def batches() -> Iterator[Any]:
        for messages in read_messages(topic, reach):
            yield record_batch(messages, source, values, schema)

    file = spool(schema, batches(), bench, topic.where, query).file
    assert file is not None
    return file


def _read_raw(source: KafkaSource, topic: Topic, reach: Reach, progress: Progress) -> Path:
    import pyarrow as pa

    return _stream(source, topic, reach, progress.bench, ValueDecoder(pa.binary(), bytes_of))


def _read_json(source: KafkaSource, topic: Topic, reach: Reach, progress: Progress) -> Path:
    import pyarrow as pa

    bench, text = progress.bench, ValueDecoder(pa.string(), text_of)
    if source.columns:
        return _stream(source, topic, reach, bench, text, lambda stream: json_columns(source.columns, source, stream))
    file = _stream(source, topic, reach, bench, text)
    ledger = progress.ledger()
    columns = guess_columns(file, ledger.columns, bench.engine)
    demand_names(columns, topic.where)
    if tuple(columns.items()) != ledger.columns:
        progress.write(replace(ledger, columns=tuple(columns.items())))
    query = json_columns(sql_types(columns), source, scan([str(file)]))
    parsed = write_parquet(bench, query, bench.engine.fresh("records.parquet")).file
    assert parsed is not None
    file.unlink()
    return parsed


def _read_avro(source: KafkaSource, topic: Topic, reach: Reach, progress: Progress) -> Path:
    bench = progress.bench
    with avro_values(source, bench.storage.logins) as (values, fields):
        demand_names(fields, topic.where)
        return _stream(source, topic, reach, bench, values, lambda stream: plain_columns(fields, stream))


_READERS = {"raw": _read_raw, "json": _read_json, "avro": _read_avro}


def _sifted(file: Path, source: KafkaSource, bench: Workbench, where: str) -> Table:
    """Return the records that parse; do with the others what the source says."""
    records = scan([str(file)])
    bad = f"SELECT kafka_partition, kafka_offset, kafka_reason FROM {records} WHERE kafka_reason IS NOT NULL"
    ((count, total),) = bench.engine.rows(f"SELECT count(kafka_reason), count(*) FROM {records}")
    if count:
        partition, offset, reason = bench.engine.rows(f"{bad} ORDER BY ALL LIMIT 1")[0]
        told = f"{count} of {total} records do not parse; the first, partition {partition} offset {offset}: {reason}"
        if source.on_error == "fail":
            raise ConfigurationError(
                f"{where}: {told}; nothing was loaded; correct format, columns or what writes there, or go on without "
                "them by on_error: skip or {set_aside: URI}"
            )
        log.warning("%s: %s (on_error: %s)", where, told, source.on_error)
    if isinstance(source.on_error, SetAside):
        _set_aside(source.on_error, records, bench, any_bad=bool(count))
    return Table(f"SELECT * EXCLUDE ({', '.join(BAD)}) FROM {records} WHERE kafka_reason IS NULL")


def _set_aside(aside: SetAside, records: str, bench: Workbench, *, any_bad: bool) -> None:
    load = Load(uri=aside.set_aside, connection=aside.connection, asset=aside.set_aside)
    if not any_bad and held(load, bench) is None:
        return
    query = (
        "SELECT kafka_partition, kafka_offset, kafka_timestamp, kafka_bad_key AS key, kafka_bad_value AS value, "
        f"kafka_reason AS reason FROM {records} WHERE kafka_reason IS NOT NULL ORDER BY ALL"
    )
    publish(load, Table(query), bench)
