"""``kind: etl``: sources, transforms, checks, and one load into the data pond."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from airflow_mlplatform.specs.base import Items, Model, Text, Uri, exactly_one
from airflow_mlplatform.specs.common import EnvValue, Head
from airflow_mlplatform.specs.kafka import KafkaSource, SetAside

__all__ = [
    "Checks",
    "ContainerTransform",
    "Etl",
    "FilesSource",
    "HttpSource",
    "Load",
    "RowLimits",
    "Source",
    "SqlCheck",
    "SqlSource",
    "Transform",
]

IDENTIFIER = r"^[A-Za-z_][A-Za-z0-9_]*$"
CALLABLE = r"^[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_]*$"
PLACE = r"^(pond://|s3://|file:///|/|\{\{|\{%)"
SOURCES = ("sql", "files", "http", "kafka")
Format = Literal["csv", "parquet", "json"]
# As many instances as Airflow makes of a mapped task ([core] max_map_length).
MOST_PARTS = 1024


class SqlSource(Model):
    """The result of a query on a database."""

    connection: Text = Field(description="Id of the Airflow connection (PostgreSQL or SQLite).")
    query: Text = Field(description="SQL in the database's own dialect; Jinja is rendered at run time.")


class FilesSource(Model):
    """Files, here, on S3 or behind HTTP(S)."""

    uri: Uri = Field(description="A path or URI; * ? [] and ** match several (not over HTTP).")
    format: Format | None = Field(
        default=None, description="csv, parquet or json (a document a line); told by the file name if left out."
    )
    connection: Text | None = Field(default=None, description="Airflow connection (type aws) for S3.")
    columns: dict[str, str] = Field(default={}, description="Column types (DuckDB names) where guessing is not wanted.")
    split: int | None = Field(
        default=None, ge=2, le=MOST_PARTS, description="Read by so many tasks (pods) at most, each a part of the files."
    )

    @model_validator(mode="after")
    def _several_files(self) -> FilesSource:
        if self.split and self.uri.lower().startswith(("http://", "https://")):
            raise ValueError("split needs several files and a URL is one; drop split")
        return self


class HttpSource(Model):
    """The answer of an HTTP API: CSV, JSON lines, or JSON with a list of records."""

    url: Annotated[str, Field(pattern=r"^(https?://|/|\{\{)")] = Field(
        description="URL; with a connection, the path below its host."
    )
    connection: Text | None = Field(default=None, description="Airflow connection (type http) with host and login.")
    params: dict[str, str] = Field(default={}, description="Query parameters.")
    headers: dict[str, EnvValue] = Field(default={}, description="Request headers; secrets as {connection: …}.")
    format: Literal["csv", "json"] = Field(default="json", description="Format of the answer.")
    records: Text | None = Field(default=None, description="Dotted path to the list inside a JSON answer: data.items.")


class Source(Model):
    """One source: exactly one of sql, files, http, kafka; a name where there are several."""

    model_config = exactly_one(*SOURCES)

    name: Annotated[str, Field(pattern=IDENTIFIER)] | None = Field(
        default=None, description="Table name of this source in the transforms; needed where there are several."
    )
    sql: SqlSource | None = Field(default=None, description="A query on a database.")
    files: FilesSource | None = Field(default=None, description="CSV, Parquet or JSON lines.")
    http: HttpSource | None = Field(default=None, description="An HTTP API.")
    kafka: KafkaSource | None = Field(default=None, description="What came into a Kafka topic since the last run.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Source:
        given = [key for key in SOURCES if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(
                f"a source is exactly one of {', '.join(SOURCES)}; found {found}; "
                "for several sources write a list, each with a name"
            )
        return self


class ContainerTransform(Model):
    """Any image: it reads Parquet at $INPUT and writes Parquet at $OUTPUT."""

    image: Text = Field(description="Image to run.")
    command: Items[str] = Field(default=(), description="Command; the image's own if left out.")
    env: dict[str, EnvValue] = Field(default={}, description="More environment variables.")


class Transform(Model):
    """One step between the sources and the load: exactly one of sql, python, container."""

    model_config = exactly_one("sql", "python", "container")

    sql: Text | None = Field(
        default=None, description="A DuckDB query; `input` is the result so far, sources go by their names."
    )
    python: Annotated[str, Field(pattern=CALLABLE, examples=["features.clean:run"])] | None = Field(
        default=None, description="module:callable beside the spec; takes and returns Arrow."
    )
    container: ContainerTransform | None = Field(default=None, description="Any image (needs Kubernetes).")
    per: Literal["part"] | None = Field(
        default=None, description="Run on each part of split files, before they are put together; sees that part only."
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Transform:
        given = [key for key in ("sql", "python", "container") if getattr(self, key) is not None]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            raise ValueError(
                f"a transform is exactly one of sql, python, container; found {found}; "
                "write each as an item of the list"
            )
        return self


class RowLimits(Model):
    """How many rows there may be."""

    min: int | None = Field(default=None, ge=0, description="Fewest rows.")
    max: int | None = Field(default=None, ge=0, description="Most rows.")

    @model_validator(mode="after")
    def _ordered(self) -> RowLimits:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}; swap them")
        return self


class SqlCheck(Model):
    """A query with one number as its answer, and the number that it must be."""

    name: Text = Field(description="Name of the check in messages.")
    query: Text = Field(description="A DuckDB query with one value; `input` is the data to be loaded.")
    expect: int | float | str | bool | None = Field(default=0, description="The value that it must give.")


class Checks(Model):
    """What must be true of the data before it is loaded."""

    rows: RowLimits | None = Field(default=None, description="How many rows there may be.")
    not_null: Items[Text] = Field(default=(), description="Columns without nulls.")
    unique: Items[Text] = Field(default=(), description="Columns in which each value stands once.")
    sql: Items[SqlCheck] = Field(default=(), description="Checks in SQL.")


class Load(Model):
    """Where the result goes. A load replaces exactly what lies at its URI, all at once."""

    uri: Uri = Field(description="A .parquet file, or a folder; with {{ ds }} in it each run has its own.")
    partition_by: Items[Text] = Field(default=(), description="Columns that become folders (column=value).")
    asset: Uri | None = Field(
        default=None, description="Asset URI that others schedule on; the fixed part of uri if left out."
    )
    connection: Text | None = Field(default=None, description="Airflow connection (type aws) for S3.")

    @model_validator(mode="after")
    def _is_a_place(self) -> Load:
        if not re.match(PLACE, self.uri):
            raise ValueError(f"uri: {self.uri!r} is no place of the pond; begin with pond://, s3://, file:// or /")
        if self.partition_by and self.uri.endswith(".parquet"):
            raise ValueError("partition_by writes several files but uri is one .parquet file; name a folder")
        if not self.asset_uri:
            raise ValueError("uri starts with a template, so no asset URI can be told from it; add asset: …")
        return self

    @property
    def asset_uri(self) -> str:
        """The asset's URI: ``asset``, or the segments of ``uri`` before the first template."""
        return self.asset or self.fixed_uri

    @property
    def is_templated(self) -> bool:
        """Whether runs may load to different places."""
        return "{{" in self.uri or "{%" in self.uri

    @property
    def fixed_uri(self) -> str:
        """The segments of ``uri`` before the first template, which all runs share; empty if there are none."""
        if not self.is_templated:
            return self.uri.rstrip("/")
        fixed = re.split(r"\{\{|\{%", self.uri)[0]
        return fixed.rpartition("/")[0].rstrip("/") if not fixed.endswith(":/") else ""


def _source_kind(value: Any) -> str:
    return "list" if isinstance(value, (list, tuple)) else "one"


class Etl(Head):
    """Sources → transforms → checks → one load, each stage a task."""

    kind: Literal["etl"] = Field(description="What the spec describes.")
    extract: Annotated[
        Annotated[Source, Tag("one")] | Annotated[Items[Source], Field(min_length=1), Tag("list")],
        Discriminator(_source_kind),
    ] = Field(description="Exactly one source, or a list of sources, each named.")
    transform: Items[Transform] = Field(default=(), description="Steps, in order.")
    checks: Checks | None = Field(default=None, description="What must be true before the load.")
    load: Load = Field(description="Where the result goes.")
    stages: Literal["separate", "fused"] = Field(
        default="separate", description="A task (pod) a stage, or one for all of them."
    )

    @property
    def sources(self) -> tuple[Source, ...]:
        """The sources as a tuple, also where there is one."""
        return (self.extract,) if isinstance(self.extract, Source) else self.extract

    @property
    def splits(self) -> bool:
        """Whether files are read by several tasks."""
        return any(source.files is not None and source.files.split for source in self.sources)

    @property
    def streams(self) -> tuple[KafkaSource, ...]:
        """The sources of which each run reads what came since the one before."""
        return tuple(source.kafka for source in self.sources if source.kafka is not None)

    @property
    def per_part(self) -> tuple[Transform, ...]:
        """The transforms that run on each part of the files."""
        return tuple(step for step in self.transform if step.per)

    @model_validator(mode="after")
    def _splits_fit(self) -> Etl:
        if self.splits and self.stages == "fused":
            raise ValueError(
                "stages: fused is one task, which cannot share its files with others (split); "
                "write stages: separate or drop split"
            )
        count = len(self.per_part)
        if count and (len(self.sources) > 1 or not self.splits):
            raise ValueError("transform: per: part needs files with split as the only source; drop per or add split")
        if any(step.per is None for step in self.transform[:count]):
            raise ValueError(
                "transform: per: part comes after a transform of the whole, where there are no parts any more; "
                "move it to the front or drop per"
            )
        return self

    @model_validator(mode="after")
    def _sources_fit(self) -> Etl:
        sources = self.sources
        names = [source.name for source in sources]
        if len(sources) > 1:
            if not all(names):
                raise ValueError("extract: several sources need a name each, their table names; add name: …")
            twice = sorted({str(name) for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"extract: the source name {twice[0]!r} stands twice; rename one")
            if "input" in names:
                raise ValueError("extract: `input` is the result so far and cannot name a source; rename it")
            if not self.transform or self.transform[0].sql is None:
                raise ValueError(
                    "extract: several sources need a first transform that joins them; "
                    "begin transform with - sql: select … from … join …"
                )
        return self

    @model_validator(mode="after")
    def _streams_fit(self) -> Etl:
        topics = [stream.topic for stream in self.streams]
        if topics and not self.load.is_templated:
            raise ValueError(
                "load: a run of a Kafka source reads what is new, so each needs a place of its own and this one is the "
                "same for all; add {{ run_id }} or {{ ts_nodash }} to uri"
            )
        if topics and not self.load.fixed_uri:
            raise ValueError(
                "load: uri starts with a template, so there is no place where runs of a Kafka source find how far the "
                "one before came; begin it with a fixed folder"
            )
        for aside in (stream.on_error for stream in self.streams if isinstance(stream.on_error, SetAside)):
            if "{{" not in aside.set_aside and "{%" not in aside.set_aside:
                raise ValueError(
                    "extract: each run needs a place of its own for what it sets aside; add {{ run_id }} or "
                    "{{ ts_nodash }} to set_aside"
                )
        if len(set(topics)) < len(topics):
            raise ValueError("extract: two sources read the same Kafka topic; read it once and select from it twice")
        return self
