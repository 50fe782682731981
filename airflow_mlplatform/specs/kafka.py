"""``extract.kafka``: a Kafka topic as a batch source."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from airflow_mlplatform.specs.base import Model, Text, Uri

__all__ = ["KAFKA_COLUMNS", "KafkaSource", "SchemaRegistry", "SetAside"]

KAFKA_COLUMNS = (
    "kafka_partition", "kafka_offset", "kafka_timestamp", "kafka_key", "kafka_headers", "kafka_tombstone",
)  # fmt: skip


class SchemaRegistry(Model):
    """Where the Avro schemas of a topic are registered."""

    connection: Text = Field(description="Airflow connection (type http) with its host and login.")
    subject: Text | None = Field(
        default=None, description="Subject whose newest schema gives the columns; <topic>-value if left out."
    )


class SetAside(Model):
    """What becomes of records that do not parse: Parquet of their own."""

    set_aside: Uri = Field(description="A .parquet file, or a folder; with {{ ds }} or {{ run_id }} in it.")
    connection: Text | None = Field(default=None, description="Airflow connection (type aws) for S3.")


class KafkaSource(Model):
    """What came into a Kafka topic since the last run."""

    connection: Text = Field(description="Airflow connection (type kafka); its extra is the client's configuration.")
    topic: Annotated[str, Field(min_length=1, max_length=249)] = Field(description="The topic.")
    format: Literal["json", "avro", "raw"] = Field(
        default="json", description="What values are: JSON objects, Avro in a registry's wire format, or bytes."
    )
    columns: dict[str, str] = Field(
        default={},
        description="json: the keys to read, with their types (DuckDB names); all, guessed, if none.",
    )
    key: Literal["text", "raw"] = Field(default="text", description="What keys are: UTF-8 text, or bytes.")
    schema_registry: SchemaRegistry | None = Field(default=None, description="avro: where its schemas are registered.")
    start: Literal["earliest", "latest"] = Field(
        default="earliest", description="Where the first run begins: at the oldest record, or at the newest."
    )
    on_error: Literal["fail", "skip"] | SetAside = Field(
        default="fail", description="Records that do not parse: fail, skip (counted in the log), or {set_aside: URI}."
    )
    on_gap: Literal["fail", "skip"] = Field(
        default="fail", description="Records that the topic lost before they were read: fail, or go on without them."
    )

    @model_validator(mode="after")
    def _fits_its_format(self) -> KafkaSource:
        if self.columns and self.format != "json":
            raise ValueError(f"columns are for format: json and this is {self.format}; cast in a transform instead")
        if (self.schema_registry is not None) != (self.format == "avro"):
            raise ValueError("schema_registry does not fit: format avro needs one, the others have none")
        names = [name.lower() for name in self.columns]
        for name in names:
            if name.startswith("kafka_"):
                raise ValueError(f"columns: {name!r} does not fit: kafka_… is what each record has anyway; drop it")
            if names.count(name) > 1:
                raise ValueError(f"columns: {name!r} stands twice but for its case; keep one of the two")
        return self
