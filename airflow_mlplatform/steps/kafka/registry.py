"""Avro schemas from a schema registry.

Protocol: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from airflow_mlplatform.clients.http import Endpoint, Request, drive, unavailable
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.kafka.avro_types import LOGICAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.steps.login import Login

__all__ = ["Registry", "registry"]

NESTED = ("type", "items", "values", "fields")


@contextmanager
def registry(login: Login) -> Iterator[Registry]:
    """Open the registry that a connection of type http names."""
    if not login.host:
        raise ConfigurationError(f"connection {login.id!r}: has no host; fill in the address of the schema registry")
    address = login.host if "://" in login.host else f"{login.schema or 'http'}://{login.host}"
    url = f"{address}:{login.port}" if login.port else address
    token = login.extra.get("token")
    verify = login.extra.get("verify", True)
    endpoint = Endpoint(url, login.user or None, login.password, token, verify)
    with httpx.Client(**endpoint.options()) as client:
        yield Registry(client)


class Registry:
    """Schemas by their ids, each asked for once.

    :param client: speaks to the registry.
    """

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._schemas: dict[int, Any] = {}

    def newest(self, subject: str) -> Any:
        """Return the newest schema of a subject, parsed by fastavro.

        :raises NotFound: if there is no such subject.
        """
        return self._parse(self._get(f"/subjects/{quote(subject, safe='')}/versions/latest"), subject)

    def schema(self, number: int) -> Any:
        """Return the schema of an id, parsed by fastavro.

        :raises NotFound: if there is none.
        """
        if number not in self._schemas:
            self._schemas[number] = self._parse(self._get(f"/schemas/ids/{number}"), f"schema {number}")
        return self._schemas[number]

    def _parse(self, answer: dict[str, Any], what: str) -> Any:
        from fastavro import parse_schema
        from fastavro.schema import SchemaParseException

        kind = answer.get("schemaType", "AVRO")
        if kind != "AVRO":
            raise ConfigurationError(f"{what} of the schema registry is {kind}, not Avro; read format: raw (or json)")
        known: dict[str, Any] = {}
        self._learn(answer, known, set())
        try:
            return parse_schema(_without_time(json.loads(answer["schema"])), named_schemas=known)
        except (SchemaParseException, ValueError) as error:
            raise ConfigurationError(f"{what} of the schema registry is no Avro schema: {error}") from error

    def _learn(self, answer: dict[str, Any], known: dict[str, Any], done: set[tuple[str, int]]) -> None:
        """Parse what a schema refers to, and what that refers to, first."""
        from fastavro import parse_schema

        for reference in answer.get("references", ()):
            key = (reference["subject"], reference["version"])
            if key in done:
                continue
            done.add(key)
            found = self._get(f"/subjects/{quote(key[0], safe='')}/versions/{key[1]}")
            self._learn(found, known, done)
            parse_schema(_without_time(json.loads(found["schema"])), named_schemas=known)

    def _get(self, path: str) -> dict[str, Any]:
        return drive(_get(path, f"schema registry {self._client.base_url}"), self._client)


def _get(path: str, where: str) -> Operation[dict[str, Any]]:
    response = yield Request("GET", path)
    status = response.status_code
    if unavailable(response):
        raise ServiceUnavailable(f"{where}: answers {status} for {path}; a retry may help")
    if status == httpx.codes.NOT_FOUND:
        raise NotFound(f"{where}: knows no {path}; check the address, and the subject in schema_registry")
    if status >= 400:
        raise ServiceRefused(f"{where}: answers {status} for {path}; check the login of its connection")
    try:
        answer: dict[str, Any] = response.json()
        answer["schema"]
    except (ValueError, KeyError, TypeError) as error:
        raise ServiceRefused(f"{where}: its answer for {path} holds no schema; check the address") from error
    return answer


def _without_time(schema: Any) -> Any:
    """Take from a schema the logical types that Arrow reads as the numbers they are, and UUIDs, which are text."""
    if isinstance(schema, list):
        return [_without_time(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _without_time(value) if key in NESTED else value for key, value in schema.items()}
    logical = inner.get("logicalType")
    if isinstance(logical, str) and logical != "decimal":
        inner[LOGICAL] = inner.pop("logicalType")
    return inner
