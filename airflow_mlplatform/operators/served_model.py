"""The model version that an operator of this package is told to serve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import ConfigurationError, NotFound

if TYPE_CHECKING:
    from airflow_mlplatform.clients.mlflow import ModelVersion
    from airflow_mlplatform.hooks.mlflow import MlflowHook

__all__ = ["find_version"]


def find_version(value: Any, hook: MlflowHook) -> ModelVersion:
    """Look up the model version that an operator's ``model`` names.

    :param value: the verdict of the promotion gate, or a mapping with ``name`` and ``version`` or ``alias``.
    :raises ConfigurationError: if it names none.
    :raises NotFound: if the registry has no such version.
    """
    wanted = value.get("candidate", value) if isinstance(value, Mapping) else None
    if not isinstance(wanted, Mapping) or not wanted.get("name"):
        raise _names_nothing(value)
    name = str(wanted["name"])
    with hook.client() as client:
        if str(wanted.get("version", "")).isdigit():
            return client.get_model_version(name, int(wanted["version"]))
        if not wanted.get("alias"):
            raise _names_nothing(value)
        version = client.get_version_by_alias(name, str(wanted["alias"]))
        if version is None:
            raise NotFound(f"no version of model {name!r} bears the alias {wanted['alias']!r}; set it in MLflow")
        return version


def _names_nothing(value: Any) -> ConfigurationError:
    return ConfigurationError(
        f"model is {value!r:.200}, which names no model version; give the output of the promotion gate, "
        "{'name': 'wine', 'version': 3} or {'name': 'wine', 'alias': 'challenger'}"
    )
