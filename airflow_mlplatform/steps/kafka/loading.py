"""Publishing what was read of Kafka, together with how far that came."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.kafka.progress import Progress
from airflow_mlplatform.steps.manifest import MANIFEST
from airflow_mlplatform.steps.publish import Held, held
from airflow_mlplatform.steps.staged_files import delete

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from airflow_mlplatform.specs.etl import Load
    from airflow_mlplatform.steps.workbench import Workbench

__all__ = ["loading", "marked"]


def marked(bench: Workbench) -> Workbench:
    """Return a bench on which everything written names what this run has read of topics.

    :raises ConfigurationError: if this run has read nothing, or another one has taken over what it had read.
    """
    if not bench.progress:
        return bench
    found = {one.topic: one.reach() for one in Progress.of_run(bench)}
    if not found:
        raise ConfigurationError(
            f"{Progress.folder(bench).uri}: tells nothing that this run has read; give all tasks of the pipeline the "
            "same progress=, and clear this run from the extract task on, with all downstream tasks"
        )
    return replace(bench, reads={topic: reach.to_dict() for topic, reach in found.items() if reach is not None})


@contextmanager
def loading(load: Load, bench: Workbench) -> Iterator[Workbench]:
    """Publish a load in the block; what it read of topics counts as soon as it appears.

    On a disk nobody can take over what this run has read while it is being published. S3 has no locks: there a run that
    was taken over in just this time finds out when it has published, and takes back its load.

    :raises ConfigurationError: if the load of another run lies there, whose records would be lost, or another run has
        taken over what this one had read.
    :raises ServiceUnavailable: if another run is publishing, or reads what it shall load.
    """
    if not bench.progress:
        yield bench
        return
    topics = Progress.of_run(bench)
    with ExitStack() as stack:
        for topic in topics:
            stack.enter_context(topic.alone())
        bench = marked(bench)
        _demand_own_place(load, bench)
        for topic in topics:
            topic.aim(load)
        yield bench
        _demand_still_ours(topics, load, bench)
        for topic in topics:
            topic.settle()
            # A run that was loaded before has no claim to settle.
            topic.aside(bench.run).publish(bench)


def _demand_still_ours(topics: list[Progress], load: Load, bench: Workbench) -> None:
    try:
        for topic in topics:
            topic.reach()
    except ConfigurationError:
        if held(load, bench) == Held(bench.run.key, bench.reads):
            place = bench.storage.locate(load.uri, load.connection)
            delete(place / MANIFEST)
            delete(place)
        raise


def _demand_own_place(load: Load, bench: Workbench) -> None:
    there = held(load, bench)
    if there is not None and there.run != bench.run.key and any(_holds(reads) for reads in there.reads.values()):
        raise ConfigurationError(
            f"load {load.uri}: holds what run {there.run} read of Kafka, which no other run will read again; nothing "
            "was touched; give each run a place of its own, by {{ run_id }} or {{ ts_nodash }} in uri"
        )


def _holds(reads: Mapping[str, Any]) -> bool:
    return any(start < stop for start, stop in reads["spans"].values())
