"""What the front itself answers: which endpoints there are and how they are, as JSON, or as a small page for people."""

from __future__ import annotations

import html
import os
from typing import TYPE_CHECKING, Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from airflow_mlplatform.runtime.relay import unknown_endpoint
from airflow_mlplatform.runtime.serving_folder import base_url
from airflow_mlplatform.runtime.traffic import exposition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from airflow_mlplatform.runtime.endpoint import Endpoint
    from airflow_mlplatform.runtime.serving_files import Wish

__all__ = ["Pages"]

COLUMNS = ("endpoint", "model", "version", "candidate", "phase", "servers", "message")
STYLE = (
    "body{font:16px system-ui;margin:3rem auto;max-width:60rem;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}pre{white-space:pre-wrap;margin:0}"
    "td,th{text-align:left;padding:.4rem .8rem;border-bottom:1px solid #8884;vertical-align:top}"
)


def describe(endpoint: Endpoint, address: str) -> dict[str, Any]:
    """Describe an endpoint: what serves, how its last wish went, where to ask."""
    status = endpoint.status
    model = status.serving.model if status.serving else None
    return {
        "endpoint": endpoint.name,
        "model": model.name if model else None,
        "version": model.version if model else None,
        "candidate": _candidate(status.serving),
        "phase": status.phase,
        "generation": status.generation,
        "servers": len(status.backends),
        "message": status.message,
        "invocations": f"{base_url(address)}/{endpoint.name}/invocations",
    }


def _candidate(serving: Wish | None) -> str | None:
    candidate = serving.candidate if serving else None
    if candidate is None:
        return None
    return f"version {candidate.model.version}: {candidate.weight} % {'copied' if candidate.shadow else 'of requests'}"


class Pages:
    """The front's own routes.

    :param endpoints: the endpoints by name.
    :param address: ``host:port`` of the front.
    """

    def __init__(self, endpoints: Mapping[str, Endpoint], address: str) -> None:
        self._endpoints = endpoints
        self._address = address

    async def health(self, _: Request) -> Response:
        """Tell that this front answers, and which process it is."""
        return JSONResponse({"front": os.getpid()})

    async def metrics(self, _: Request) -> Response:
        """Tell Prometheus of the predictions since this front started."""
        text = exposition({name: endpoint.traffic for name, endpoint in self._endpoints.items()})
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4; charset=utf-8")

    async def overview(self, request: Request) -> Response:
        """List all endpoints."""
        rows = [describe(endpoint, self._address) for _, endpoint in sorted(self._endpoints.items())]
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page(rows))
        return JSONResponse({"endpoints": rows})

    async def endpoint(self, request: Request) -> Response:
        """Show one endpoint."""
        name = request.path_params["endpoint"]
        if name not in self._endpoints:
            return unknown_endpoint(name, self._endpoints)
        row = describe(self._endpoints[name], self._address)
        if "text/html" in request.headers.get("accept", ""):
            return HTMLResponse(page([row]))
        return JSONResponse(row)


def page(rows: list[dict[str, Any]]) -> str:
    """Write the table of endpoints as HTML."""
    head = "".join(f"<th>{column}" for column in COLUMNS)
    body = "".join("<tr>" + "".join(f"<td>{_cell(row[column])}" for column in COLUMNS) for row in rows)
    asks = "".join(f"<p>POST <code>{_cell(row['invocations'])}</code></p>" for row in rows)
    return (
        f"<!doctype html><meta charset=utf-8><title>Model endpoints</title><style>{STYLE}</style>"
        f"<h1>Model endpoints</h1><table><tr>{head}{body}</table>{asks or '<p>None yet.</p>'}"
    )


def _cell(value: object) -> str:
    text = html.escape("" if value is None else str(value))
    return f"<pre>{text}</pre>" if "\n" in text else text
