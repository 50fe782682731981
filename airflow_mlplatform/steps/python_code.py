"""Calling a function that lies beside the spec, Arrow in and Arrow out."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.stream import spool

if TYPE_CHECKING:
    from airflow_mlplatform.steps.workbench import Table, Workbench

__all__ = ["beside", "run_python"]

BATCH = 8_192
WANTED = "return a pyarrow Table, RecordBatchReader or RecordBatch, a data frame, or an iterable of RecordBatches"


def run_python(target: str, table: Table, bench: Workbench, where: str) -> Table:
    """Call ``module:callable`` with the data so far and keep its result in scratch.

    The callable gets a ``pyarrow.Table``, or a ``RecordBatchReader`` if its first parameter is annotated so.

    :raises ConfigurationError: if there is no such callable, or it returns something else than Arrow data.
    """
    with beside(bench.search_path):
        function = _find(target, bench.search_path, where)
        with bench.engine.explaining(where):
            relation = bench.engine.cursor().sql(table.query)
            data = relation.to_arrow_reader(BATCH) if _wants_reader(function) else relation.to_arrow_table()
        schema, batches = _batches(function(data), where)
        return spool(schema, batches, bench, where)


@contextmanager
def beside(folder: str | None) -> Iterator[None]:
    """Import from a folder first, for the block; modules of that name from elsewhere are forgotten."""
    if folder is None:
        yield
        return
    root = Path(folder).resolve()
    for name, module in list(sys.modules.items()):
        if _stands_in(name, module, root):
            del sys.modules[name]
    importlib.invalidate_caches()
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))


def _stands_in(name: str, module: Any, root: Path) -> bool:
    """Whether a loaded module hides one of the folder."""
    top = root / name.partition(".")[0]
    if not top.with_suffix(".py").is_file() and not top.is_dir():
        return False
    file = getattr(module, "__file__", None)
    places = [file] if file else list(getattr(module, "__path__", []))
    return name not in sys.stdlib_module_names and not any(Path(place).is_relative_to(root) for place in places)


def _find(target: str, folder: str | None, where: str) -> Callable[[Any], Any]:
    module_name, _, name = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigurationError(
            f"{where}: cannot import {module_name}: {error}; it is looked for in {folder or 'the Python path'}"
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        there = ", ".join(key for key, value in vars(module).items() if inspect.isfunction(value)) or "none"
        raise ConfigurationError(f"{where}: {module_name} ({module.__file__}) has no function {name}; there: {there}")
    return function  # type: ignore[no-any-return]


def _wants_reader(function: Callable[[Any], Any]) -> bool:
    parameters = list(inspect.signature(function).parameters.values())
    annotation = parameters[0].annotation if parameters else None
    # Annotations are text under `from __future__ import annotations`, and need not be importable.
    return str(getattr(annotation, "__name__", annotation)).strip("'\"").endswith("RecordBatchReader")


def _batches(result: Any, where: str) -> tuple[Any, Iterable[Any]]:
    import pyarrow as pa

    if isinstance(result, pa.RecordBatch):
        return result.schema, [result]
    if hasattr(result, "__arrow_c_stream__"):
        reader = pa.RecordBatchReader.from_stream(result)
        return reader.schema, result if isinstance(result, pa.RecordBatchReader) else reader
    if not isinstance(result, Iterable) or isinstance(result, (str, bytes, dict)):
        raise ConfigurationError(f"{where}: returned {type(result).__name__}; {WANTED}")
    batches = (_demand_batch(batch, where) for batch in result)
    first = next(batches, None)
    if first is None:
        raise ConfigurationError(
            f"{where}: gave no batch, so its columns are not known; return schema.empty_table() instead"
        )
    return first.schema, chain([first], batches)


def _demand_batch(batch: Any, where: str) -> Any:
    import pyarrow as pa

    if isinstance(batch, pa.RecordBatch):
        return batch
    raise ConfigurationError(f"{where}: gave {type(batch).__name__} among its batches; {WANTED}")
