"""Fixtures of the real parts; each lives in the module that is named after its part."""

from __future__ import annotations

from tests.services.connect_workers import connect
from tests.services.kafka_broker import kafka, own_kafka
from tests.services.mlflow_server import mlflow_server, own_mlflow_server
from tests.services.postgres_server import own_postgres
from tests.services.prometheus_server import own_prometheus, prometheus

__all__ = [
    "connect",
    "kafka",
    "mlflow_server",
    "own_kafka",
    "own_mlflow_server",
    "own_postgres",
    "own_prometheus",
    "prometheus",
]
