"""Where a served model answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["endpoint_url"]


def endpoint_url(live: Mapping[str, Any] | None, ingress: str = "") -> str:
    """Return the address for predictions; empty if there is none.

    :param live: the SeldonDeployment.
    :param ingress: address of the ingress; empty: the address within the cluster, as the operator tells it.
    """
    told = str((((live or {}).get("status") or {}).get("address") or {}).get("url") or "")
    if live is None or not told or not ingress:
        return told
    metadata = live["metadata"]
    return f"{ingress}/seldon/{metadata['namespace']}/{metadata['name']}{urlsplit(told).path}"
