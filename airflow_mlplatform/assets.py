"""Assets that stand for what lies outside Airflow."""

from __future__ import annotations

from urllib.parse import quote

from airflow.sdk import Asset, AssetWatcher

__all__ = ["registry_asset"]


def registry_asset(model: str, alias: str, mlflow_conn_id: str | None = None) -> Asset:
    """Return the asset that changes when an alias of a registered model moves; a DAG's ``schedule``.

    The event's ``extra["payload"]`` is ``{model, alias, version, run_id, former}``.

    :param model: name of the registered model.
    :param alias: the alias to watch.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section (looked up at run time) if left out.
    """
    from airflow_mlplatform.triggers.registry import RegistryAliasTrigger

    server = f"{quote(mlflow_conn_id, safe='')}/" if mlflow_conn_id else ""
    place = f"{server}{quote(model, safe='')}@{quote(alias, safe='')}"
    trigger = RegistryAliasTrigger(model=model, alias=alias, mlflow_conn_id=mlflow_conn_id)
    return Asset(
        name=f"mlflow:{place}", uri=f"mlflow://registry/{place}", watchers=[AssetWatcher(name="alias", trigger=trigger)]
    )
