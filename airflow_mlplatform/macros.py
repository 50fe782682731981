"""Functions that the templates of a spec may call."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from airflow.sdk import Asset
from jinja2 import pass_context

from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.storage import Storage
from airflow_mlplatform.training.provenance import DataAsset, data_assets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from airflow.sdk import Context
    from jinja2.runtime import Context as TemplateContext

__all__ = ["MACROS", "asset_uri", "locate"]


@pass_context
def asset_uri(context: TemplateContext, asset: str) -> str:
    """Return where the newest data of an asset lies.

    Told by the asset event that started this DAG run; else by the asset's last event, if it is an inlet of the task;
    else the asset's own URI, with ``pond://`` resolved.

    :param asset: URI of the asset, as in ``schedule``.
    """
    return locate(asset, data_assets(cast("Context", context)))


def locate(asset: str, known: Iterable[DataAsset]) -> str:
    """Return where the newest data of an asset lies, as far as that is known; else the asset's own place."""
    wanted = Asset(asset).uri.rstrip("/")
    found = next((data.uri for data in known if data.asset == wanted and data.uri), None)
    return found or Storage(pond=settings().pond).resolve(asset)


MACROS = {"asset_uri": asset_uri}
