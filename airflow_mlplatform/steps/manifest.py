"""``_manifest.json``: what one load of a folder consists of, and the point at which it counts."""

from __future__ import annotations

import builtins
import json
from dataclasses import asdict, dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.steps.parquet import Columns, schema_hash

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MANIFEST", "Manifest"]

MANIFEST = "_manifest.json"


@dataclass(frozen=True)
class Manifest:
    """One load of a folder.

    :param run: key of the run that made it.
    :param load: id of the load, part of its file names.
    :param rows: rows in all files.
    :param bytes: size of all files.
    :param columns: names and types, in order, partition columns included.
    :param partition_by: columns that are folders; empty too where an empty result has no folders.
    :param files: paths below the folder.
    :param superseded: paths of former loads that may not be deleted yet; who comes next deletes them too.
    :param reads: what of streams the load holds: topic → range.
    """

    run: str
    load: str
    rows: int
    bytes: int
    columns: Columns
    partition_by: tuple[str, ...]
    files: tuple[str, ...]
    superseded: tuple[str, ...] = ()
    reads: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Write it as the file's text."""
        return json.dumps({"version": 1, "schema_hash": schema_hash(self.columns), **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str | builtins.bytes, where: str) -> Manifest:
        """Read what the file holds.

        :param where: its URI, for the message.
        :raises ConfigurationError: if this package did not write it.
        """
        try:
            raw = json.loads(text)
            return cls(
                run=raw["run"],
                load=raw["load"],
                rows=raw["rows"],
                bytes=raw["bytes"],
                columns=tuple((name, kind) for name, kind in raw["columns"]),
                partition_by=tuple(raw["partition_by"]),
                files=tuple(_inside(path) for path in raw["files"]),
                superseded=tuple(_inside(path) for path in raw["superseded"]),
                reads=raw.get("reads", {}),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{where}: is no manifest of this package ({type(error).__name__}: {error}); move it away"
            ) from error


def _inside(path: str) -> str:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts:
        raise ValueError(f"{path!r} leads out of the folder")
    return path
