"""A thin client of MLflow's REST API, blocking and async, with the same methods.

Why not ``mlflow`` itself: docs/decisions/0004-mlflow-client.md.
"""

from __future__ import annotations

import httpx

from airflow_mlplatform.clients import mlflow_operations as operations
from airflow_mlplatform.clients import mlflow_registry as registry
from airflow_mlplatform.clients.http import AsyncClient, BlockingClient, Endpoint, awaitable, blocking
from airflow_mlplatform.clients.mlflow_entities import (
    Experiment,
    LoggedModel,
    ModelVersion,
    RegisteredModel,
    Run,
    RunStatus,
)

__all__ = [
    "AsyncMlflowClient",
    "Endpoint",
    "Experiment",
    "LoggedModel",
    "MlflowClient",
    "ModelVersion",
    "RegisteredModel",
    "Run",
    "RunStatus",
]


class MlflowClient(BlockingClient):
    """Blocking client; a context manager that closes its connections.

    Every method raises :class:`~airflow_mlplatform.exceptions.ServiceUnavailable` for an outage,
    :class:`~airflow_mlplatform.exceptions.ServiceRefused` with MLflow's own message for a refusal, and its subclass
    :class:`~airflow_mlplatform.exceptions.NotFound` for what is not there.

    :param endpoint: where MLflow answers.
    :param transport: another transport, for tests.
    """

    def __init__(self, endpoint: Endpoint, transport: httpx.BaseTransport | None = None) -> None:
        super().__init__(endpoint, httpx.Client(**endpoint.options(), transport=transport))
        self.endpoint = endpoint

    version = blocking(operations.version)
    get_experiment_by_name = blocking(operations.get_experiment_by_name)
    get_or_create_experiment = blocking(operations.get_or_create_experiment)
    create_run = blocking(operations.create_run)
    get_run = blocking(operations.get_run)
    update_run = blocking(operations.update_run)
    search_runs = blocking(operations.search_runs)
    log_batch = blocking(operations.log_batch)
    set_run_tags = blocking(operations.set_run_tags)
    get_logged_model = blocking(operations.get_logged_model)
    get_logged_model_file = blocking(operations.get_logged_model_file)
    list_logged_model_files = blocking(operations.list_logged_model_files)
    get_model_of_run = blocking(operations.get_model_of_run)
    get_model_input_example = blocking(operations.get_model_input_example)
    list_registered_models = blocking(registry.list_registered_models)
    get_registered_model = blocking(registry.get_registered_model)
    get_or_create_registered_model = blocking(registry.get_or_create_registered_model)
    create_model_version = blocking(registry.create_model_version)
    get_model_version = blocking(registry.get_model_version)
    get_model_version_folder = blocking(registry.get_model_version_folder)
    get_version_by_alias = blocking(registry.get_version_by_alias)
    set_registered_model_tag = blocking(registry.set_registered_model_tag)
    set_alias = blocking(registry.set_alias)
    delete_alias = blocking(registry.delete_alias)
    search_model_versions = blocking(registry.search_model_versions)
    set_model_version_tag = blocking(registry.set_model_version_tag)
    delete_model_version_tags = blocking(registry.delete_model_version_tags)
    move_to_stage = blocking(registry.move_to_stage)


class AsyncMlflowClient(AsyncClient):
    """Async client for triggers; an async context manager. Methods and errors are those of :class:`MlflowClient`.

    :param endpoint: where MLflow answers.
    :param transport: another transport, for tests.
    """

    def __init__(self, endpoint: Endpoint, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__(endpoint, httpx.AsyncClient(**endpoint.options(), transport=transport))
        self.endpoint = endpoint

    version = awaitable(operations.version)
    get_experiment_by_name = awaitable(operations.get_experiment_by_name)
    get_or_create_experiment = awaitable(operations.get_or_create_experiment)
    create_run = awaitable(operations.create_run)
    get_run = awaitable(operations.get_run)
    update_run = awaitable(operations.update_run)
    search_runs = awaitable(operations.search_runs)
    log_batch = awaitable(operations.log_batch)
    set_run_tags = awaitable(operations.set_run_tags)
    get_logged_model = awaitable(operations.get_logged_model)
    get_logged_model_file = awaitable(operations.get_logged_model_file)
    list_logged_model_files = awaitable(operations.list_logged_model_files)
    get_model_of_run = awaitable(operations.get_model_of_run)
    get_model_input_example = awaitable(operations.get_model_input_example)
    list_registered_models = awaitable(registry.list_registered_models)
    get_registered_model = awaitable(registry.get_registered_model)
    get_or_create_registered_model = awaitable(registry.get_or_create_registered_model)
    create_model_version = awaitable(registry.create_model_version)
    get_model_version = awaitable(registry.get_model_version)
    get_model_version_folder = awaitable(registry.get_model_version_folder)
    get_version_by_alias = awaitable(registry.get_version_by_alias)
    set_registered_model_tag = awaitable(registry.set_registered_model_tag)
    set_alias = awaitable(registry.set_alias)
    delete_alias = awaitable(registry.delete_alias)
    search_model_versions = awaitable(registry.search_model_versions)
    set_model_version_tag = awaitable(registry.set_model_version_tag)
    delete_model_version_tags = awaitable(registry.delete_model_version_tags)
    move_to_stage = awaitable(registry.move_to_stage)
