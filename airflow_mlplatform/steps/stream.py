"""Arrow batches from Python into a Parquet file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_mlplatform.steps.parquet import write_parquet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["spool"]


def spool(
    schema: Any, batches: Iterable[Any], bench: Workbench, where: str, query: Callable[[str], str] | None = None
) -> Table:
    """Write a stream of record batches into a scratch file, with no more than a few batches in memory.

    Errors of the producer come out as they were raised.

    :param schema: schema of all batches (``pyarrow.Schema``).
    :param where: who produces them, for messages.
    :param query: writes the SELECT over the stream's table name, to change types on the way.
    """
    import duckdb
    import pyarrow as pa

    watched = _Watched(batches, bench)
    engine = bench.engine
    name = f"stream_{id(watched)}"
    engine.connection.register(name, pa.RecordBatchReader.from_batches(schema, iter(watched)))
    try:
        with engine.explaining(where):
            try:
                select = query(name) if query else f"SELECT * FROM {name}"
                return write_parquet(bench, select, engine.fresh("stream.parquet"))
            except duckdb.Error:
                if watched.error is not None:
                    raise watched.error from None
                raise
    finally:
        engine.connection.unregister(name)


class _Watched:
    """An iterable that remembers the error that it ended with: C++ keeps only its text."""

    def __init__(self, batches: Iterable[Any], bench: Workbench) -> None:
        self._batches = batches
        self._bench = bench
        self.error: BaseException | None = None

    def __iter__(self) -> Iterator[Any]:
        try:
            for batch in self._batches:
                self._bench.engine.go_on()
                yield batch
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise
