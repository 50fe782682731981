"""The environment variables that a spec gives to its tasks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from airflow.sdk import BaseHook

from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import ConnectionRef, EnvValue, SecretRef

__all__ = ["kept_env", "resolve_env", "variables"]


def kept_env(env: Mapping[str, EnvValue | Mapping[str, str]] | None) -> dict[str, Any]:
    """Return the variables as a JSON-able dict, which names secrets and never holds one.

    :raises UnsupportedHere: for a Kubernetes Secret on the local runtime.
    """
    kept = {name: value if isinstance(value, str) else _reference(value) for name, value in (env or {}).items()}
    for name, value in kept.items():
        if isinstance(value, dict) and "secret" in value and settings().runtime == "local":
            raise UnsupportedHere(
                f"env.{name} comes from the Kubernetes Secret {value['secret']!r} and this runtime is local; "
                "use {connection: …} or run on Kubernetes"
            )
    return kept


def _reference(value: Any) -> dict[str, str]:
    return value.model_dump() if isinstance(value, (SecretRef, ConnectionRef)) else dict(value)


def resolve_env(kept: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables with their values; a connection gives its password.

    Kubernetes Secrets are left out: the pod has them already.

    :raises ConfigurationError: if a connection has no password.
    """
    resolved = {name: value for name, value in kept.items() if isinstance(value, str)}
    for name, value in kept.items():
        if isinstance(value, dict) and "connection" in value:
            password = BaseHook.get_connection(value["connection"]).password
            if not password:
                raise ConfigurationError(
                    f"env.{name}: the connection {value['connection']!r} has no password; "
                    "set one (Admin → Connections) or name another connection"
                )
            resolved[name] = password
    return resolved


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process for a while."""
    former = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in former.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
