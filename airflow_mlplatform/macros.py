"""Functions that the templates of a spec may call."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow.sdk import Asset
from jinja2 import pass_context

from airflow_mlplatform.operators.provenance import data_assets
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.storage import Storage

if TYPE_CHECKING:
    from airflow.sdk import Context
    from jinja2.runtime import Context as TemplateContext

__all__ = ["MACROS", "asset_uri"]


@pass_context
def asset_uri(context: TemplateContext, asset: str) -> str:
    """Return where the newest data of an asset lies.

    Told by the asset event that started this DAG run; else by the asset's last event, if it is an inlet of the task;
    else the asset's own URI, with ``pond://`` resolved.

    :param asset: URI of the asset, as in ``schedule``.
    """
    wanted = Asset(asset).uri.rstrip("/")
    for known in data_assets(cast("Context", context)):
        if known.asset == wanted and known.uri:
            return known.uri
    return Storage(pond=settings().pond).resolve(asset)


MACROS = {"asset_uri": asset_uri}
