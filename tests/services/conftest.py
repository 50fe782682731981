"""Fixtures of the real parts; each lives in the module that is named after its part."""

from __future__ import annotations

from tests.services.mlflow_server import mlflow_server, own_mlflow_server

__all__ = ["mlflow_server", "own_mlflow_server"]
