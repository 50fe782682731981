"""The application as the plugin names it: every process of Airflow loads plugins, one of them serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["AlertsApp"]


class AlertsApp:
    """An ASGI application that imports what it needs when it is asked the first time."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        from airflow_mlplatform.alerts.app import app

        await app(scope, receive, send)
