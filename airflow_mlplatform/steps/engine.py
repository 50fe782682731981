"""DuckDB, tamed: a memory limit, spilling to scratch, no extensions from the network, errors that say what to do."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from airflow_mlplatform.exceptions import ConfigurationError, MlplatformError
from airflow_mlplatform.steps.scratch import scratch_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import duckdb

__all__ = ["Engine", "Stopped", "identifier", "literal", "memory_limit", "without_semicolon"]

UNITS = {
    "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
MIB = 2**20
# Measured (docs/decisions/0003-etl-engine.md): Python with Airflow, Arrow and DuckDB before the first row.
OUTSIDE_ENGINE = 256 * MIB
SHARE = 0.7
LEAST = 96 * MIB
# Each thread of a partitioned write holds row groups of all partitions it meets, outside of DuckDB's own limit.
PARTITIONING_THREAD = 256 * MIB


class Stopped(MlplatformError):
    """The step was told to stop."""


def memory_limit(memory: str | None) -> int:
    """Tell how many bytes of a task's memory the engine may use; the rest is for Python and Arrow.

    :param memory: the task's memory as Kubernetes writes it (``512Mi``); ``None``: what the machine or container has.
    """
    if memory is None:
        total = _machine_memory()
    else:
        match = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", memory)
        if match is None or match[2] not in UNITS:
            raise ConfigurationError(f"memory {memory!r} is no quantity; write 512Mi or 2Gi")
        total = int(float(match[1]) * UNITS[match[2]])
    return max(LEAST, min(int(total * SHARE), total - OUTSIDE_ENGINE))


def _machine_memory() -> int:
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    text = limit.read_text().strip() if limit.exists() else "max"
    return machine if text == "max" else min(machine, int(text))


def identifier(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """Write a value as SQL: text, numbers, lists and maps of them."""
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(literal(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{literal(key)}: {literal(item)}" for key, item in value.items()) + "}"
    return str(value).lower()


def without_semicolon(sql: str) -> str:
    """Cut a query off at the semicolons at its end, also where a comment follows them."""
    import duckdb

    tokens = [offset for offset, kind in duckdb.tokenize(sql) if kind != duckdb.token_type.comment]
    while tokens and sql[tokens[-1]] == ";":
        sql = sql[: tokens.pop()]
    return sql


class Engine:
    """One DuckDB in memory, with its scratch folder; a context manager.

    :param memory: the task's memory (``512Mi``), or ``None`` for the machine's.
    :param scratch_root: where the scratch folder is made; the system's temporary folder if left out.
    """

    def __init__(self, memory: str | None = None, scratch_root: Path | None = None) -> None:
        self._limit = memory_limit(memory)
        self._scratch_root = scratch_root
        self._stack = ExitStack()
        self._stoppers: list[Callable[[], Any]] = []
        self._stopped = False

    def __enter__(self) -> Engine:
        import duckdb

        self.scratch = self._stack.enter_context(scratch_folder(self._scratch_root))
        self.connection: duckdb.DuckDBPyConnection = duckdb.connect(
            config={
                "memory_limit": f"{self._limit}B",
                "temp_directory": str(self.scratch / "spill"),
                # An extension would be downloaded at run time: slow, not reproducible, and not there without internet.
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                # Costs memory, and pays with files that are the same on each run of the same data.
                "preserve_insertion_order": True,
            }
        )
        self._stack.callback(self.connection.close)
        self.connection.execute("SET TimeZone = 'UTC'")
        self._stoppers.append(self.connection.interrupt)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def keep(self, release: Callable[[], object]) -> None:
        """Call ``release`` when the engine closes."""
        self._stack.callback(release)

    def interrupt(self) -> None:
        """Stop what runs now and everything after it; may be called from a signal handler or another thread."""
        self._stopped = True
        for stop in self._stoppers:
            stop()

    def go_on(self) -> None:
        """Be called between two pieces of work outside DuckDB.

        :raises Stopped: if the engine was interrupted.
        """
        if self._stopped:
            raise Stopped("stopped before the end; nothing was published by this try")

    @contextmanager
    def partitioning(self) -> Iterator[None]:
        """Use no more threads during the block than a partitioned write has memory for."""
        ((threads,),) = self.rows("SELECT current_setting('threads')")
        self.rows(f"SET threads = {max(1, min(threads, self._limit // PARTITIONING_THREAD))}")
        try:
            yield
        finally:
            self.connection.execute(f"SET threads = {threads}")

    @contextmanager
    def stoppable(self, stop: Callable[[], Any]) -> Iterator[None]:
        """Call ``stop`` too when the engine is interrupted during the block."""
        self._stoppers.append(stop)
        try:
            yield
        finally:
            self._stoppers.remove(stop)
            self.go_on()

    def cursor(self) -> duckdb.DuckDBPyConnection:
        """Open a second connection to the same tables, to read from while the first one writes."""
        cursor = self.connection.cursor()
        cursor.execute("SET TimeZone = 'UTC'")
        self._stack.callback(cursor.close)
        self._stoppers.append(cursor.interrupt)
        return cursor

    def fresh(self, name: str) -> Path:
        """Return a new path in the scratch folder that ends in ``name``; its folder exists."""
        folder = self.scratch / uuid4().hex[:12]
        folder.mkdir()
        return folder / name

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Run a statement and return all its rows; for small answers."""
        self.go_on()
        return self.connection.execute(sql).fetchall()

    def columns(self, query: str) -> tuple[tuple[str, str], ...]:
        """Return names and types of a query's columns, without running it."""
        return tuple((row[0], row[1]) for row in self.rows(f"DESCRIBE {query}"))

    @contextmanager
    def explaining(self, where: str, advice: str = "") -> Iterator[None]:
        """Turn DuckDB's errors into ours.

        :param where: the part of the spec that runs, for the message.
        :param advice: what to do about a mistake in it.
        :raises ConfigurationError: for mistakes in SQL, types or data, and for too little memory.
        :raises Stopped: if the engine was interrupted.
        """
        import duckdb

        try:
            yield
        except duckdb.InterruptException:
            self._stopped = True
            self.go_on()
        except duckdb.OutOfMemoryException as error:
            reason = str(error).partition("\n")[0]
            raise ConfigurationError(
                f"{where}: does not fit into {self._limit // MIB} MiB even by spilling to disk: {reason}; "
                "raise resources.memory"
            ) from error
        except (duckdb.IOException, duckdb.InternalException, duckdb.FatalException):
            raise
        except duckdb.Error as error:
            raise ConfigurationError(f"{where}: {str(error).strip()}{'; ' + advice if advice else ''}") from error
