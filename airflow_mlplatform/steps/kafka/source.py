"""``extract.kafka``: what came into a topic since the last run, as a table."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.etl import Load
from airflow_mlplatform.specs.kafka import SetAside
from airflow_mlplatform.steps.kafka.avro import avro_values
from airflow_mlplatform.steps.kafka.columns import BAD, demand_names, json_columns, plain_columns
from airflow_mlplatform.steps.kafka.config import demand_installed
from airflow_mlplatform.steps.kafka.guess import guess_columns, sql_types
from airflow_mlplatform.steps.kafka.progress import Progress
from airflow_mlplatform.steps.kafka.ranges import Bounds, Reach, missing, plan
from airflow_mlplatform.steps.kafka.reader import read_records
from airflow_mlplatform.steps.kafka.records import ValueDecoder, bytes_of, record_batch, stream_schema, text_of
from airflow_mlplatform.steps.kafka.topic import Topic
from airflow_mlplatform.steps.parquet import write_parquet
from airflow_mlplatform.steps.publish import held
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
    demand_installed(source)
    topic = Topic.of(source, bench.storage.logins(source.connection))
    progress = Progress(source.topic, bench)
    reach = _reach(source, topic, progress)
    log.info("%s: %s offsets of %s partitions: %s", topic.where, reach.offsets, len(reach.spans), dict(reach.spans))
    with bench.engine.explaining(topic.where, ADVICE):
        file = _READERS[source.format](source, topic, reach, progress)
        return _sifted(file, source, progress, topic.where)


def _reach(source: KafkaSource, topic: Topic, progress: Progress) -> Reach:
    bounds = topic.bounds()
    with progress.alone() as ledger:
        loaded = progress.loaded()
        if loaded is not None:
            _demand_there(loaded, bounds, topic)
            return loaded
        mine = ledger.claim is not None and ledger.claim.run == progress.bench.run
        if ledger.claim is not None and mine and not missing(ledger.claim.reach, bounds):
            return ledger.claim.reach
        reach = plan(ledger.position, bounds, source)
        progress.claim(reach, ledger)
        return reach


def _demand_there(loaded: Reach, bounds: Bounds, topic: Topic) -> None:
    if gone := missing(loaded, bounds):
        raise ConfigurationError(
            f"{topic.where}: this run has loaded records that cannot be read again: {gone}; what it loaded stays as it "
            "is"
        )


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
        for records in read_records(topic, reach):
            yield record_batch(records, source, values, schema)

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
    columns = guess_columns(file, progress.columns(), bench.engine)
    demand_names(columns, topic.where)
    progress.learn(tuple(columns.items()))
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


def _sifted(file: Path, source: KafkaSource, progress: Progress, where: str) -> Table:
    """Return the records that parse; do with the others what the source says."""
    records, rows = scan([str(file)]), progress.bench.engine.rows
    ((count, total),) = rows(f"SELECT count(kafka_reason), count(*) FROM {records}")
    if count:
        bad = f"SELECT kafka_partition, kafka_offset, kafka_reason FROM {records} WHERE kafka_reason IS NOT NULL"
        partition, offset, reason = rows(f"{bad} ORDER BY ALL LIMIT 1")[0]
        told = f"{count} of {total} records do not parse; the first, partition {partition} offset {offset}: {reason}"
        if source.on_error == "fail":
            raise ConfigurationError(
                f"{where}: {told}; nothing was loaded; correct format, columns or what writes there, or go on without "
                "them by on_error: skip or {set_aside: URI}"
            )
        fate = f"set aside at {source.on_error.set_aside}" if isinstance(source.on_error, SetAside) else "skipped"
        log.warning("%s: %s; they are %s", where, told, fate)
    _set_aside(source.on_error, records, progress, any_bad=bool(count))
    return Table(f"SELECT * EXCLUDE ({', '.join(BAD)}) FROM {records} WHERE kafka_reason IS NULL")


def _set_aside(wish: SetAside | str, records: str, progress: Progress, *, any_bad: bool) -> None:
    """Let records that do not parse wait for the load of their run."""
    bench = progress.bench
    aside = progress.aside(bench.run)
    if isinstance(wish, str):
        aside.drop()
        return
    load = Load(uri=wish.set_aside, connection=wish.connection, asset=wish.set_aside)
    there = held(load, bench)
    if any_bad and there is not None and there.run != bench.run.key:
        raise ConfigurationError(
            f"set_aside {load.uri}: holds what run {there.run} has set aside; nothing was touched; give each run a "
            "place of its own, by {{ run_id }} or {{ ts_nodash }}"
        )
    if not any_bad and (there is None or there.run != bench.run.key):
        aside.drop()
        return
    query = (
        "SELECT kafka_partition, kafka_offset, kafka_timestamp, kafka_bad_key AS key, kafka_bad_value AS value, "
        f"kafka_reason AS reason FROM {records} WHERE kafka_reason IS NOT NULL ORDER BY ALL"
    )
    file = write_parquet(bench, query, bench.engine.fresh("aside.parquet")).file
    assert file is not None
    aside.keep(file, load, bench)
