"""A candidate answers its own input example, through the same server, before anybody depends on it."""

from __future__ import annotations

import asyncio
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from airflow.sdk import BaseOperator

from airflow_mlplatform.exceptions import CheckFailed, ServingFailed
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.links import ModelVersionLink
from airflow_mlplatform.operators.served_model import find_version
from airflow_mlplatform.runtime.model_server import ModelServer, free_port, mlflow_scoring
from airflow_mlplatform.runtime.model_store import ModelStore
from airflow_mlplatform.runtime.processes import stop_marked
from airflow_mlplatform.runtime.serving_files import ServedModel
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.preflight import ModelCard, check_answer, read_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.runtime.serving_files import EnvManager

__all__ = ["PreflightOperator"]

MARK = "MLPLATFORM_PREFLIGHT"


class PreflightOperator(BaseOperator):
    """Serve a model version on a free port of this machine, send it its input example, and check the answer.

    The answer must be HTTP 200 and JSON with a prediction a row, of the types of the model's signature. The server is
    stopped whatever happens; one that a killed try left behind is stopped by the next try.

    :param model: the verdict of the promotion gate, or a dict with ``name`` and ``version`` or ``alias``; templated.
    :param mlflow_conn_id: connection of MLflow; that of the ``[mlplatform]`` section if left out.
    :param env_manager: where the model's packages come from: ``local`` (this Python), ``uv``, ``virtualenv`` or
        ``conda``.
    :param ready_timeout: how long the server may take to come up (default 5 minutes).
    :param answer_timeout: how long the answer may take (default 1 minute).
    :returns: ``{"model", "version", "predictions", "seconds"}``; seconds is how long the answer took.
    """

    operator_extra_links = (ModelVersionLink(),)
    template_fields: Sequence[str] = ("model", "mlflow_conn_id")
    ui_color = "#e8f4ea"

    def __init__(
        self,
        *,
        model: Mapping[str, Any] | Any,
        mlflow_conn_id: str | None = None,
        env_manager: EnvManager = "local",
        ready_timeout: timedelta = timedelta(minutes=5),
        answer_timeout: timedelta = timedelta(minutes=1),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.mlflow_conn_id = mlflow_conn_id
        self.env_manager: EnvManager = env_manager
        self.ready_timeout = ready_timeout
        self.answer_timeout = answer_timeout
        self._identity: str | None = None
        self._killed = False

    def execute(self, context: Context) -> dict[str, Any]:
        """Download, serve, ask, check."""
        ti = context["ti"]
        self._identity = "/".join((ti.dag_id, ti.run_id, ti.task_id, str(ti.map_index)))
        self._stop_servers()
        with failing_fast():
            hook = MlflowHook(self.mlflow_conn_id)
            version = find_version(self.model, hook)
            ti.xcom_push(key=ModelVersionLink.key, value=hook.version_url(version))
            model = ServedModel.of(version)
            folder = ModelStore(settings().state_dir).fetch(model, hook.environment())
            try:
                card = read_model(folder)
                predictions, seconds = asyncio.run(self._try(folder, card))
            except (CheckFailed, ServingFailed) as error:
                raise type(error)(f"{model} fails its preflight: {error}") from error
        self.log.info("%s answers its input example with %s predictions in %.3f s", model, predictions, seconds)
        return {"model": model.name, "version": model.version, "predictions": predictions, "seconds": round(seconds, 3)}

    async def _try(self, folder: Path, card: ModelCard) -> tuple[int | None, float]:
        with tempfile.TemporaryDirectory() as logs:
            if self._killed:
                raise ServingFailed("the task was stopped")
            port = free_port()
            invocation = mlflow_scoring(folder, port, self.env_manager)
            server = ModelServer.start(invocation, port, Path(logs) / "server.log", {MARK: str(self._identity)})
            try:
                await server.wait_ready(time.monotonic() + self.ready_timeout.total_seconds())
                return await self._ask(server, card)
            finally:
                await server.stop()

    async def _ask(self, server: ModelServer, card: ModelCard) -> tuple[int | None, float]:
        started = time.monotonic()
        limit = self.answer_timeout.total_seconds()
        async with httpx.AsyncClient(trust_env=False, timeout=limit) as client:
            try:
                answer = await client.post(
                    f"{server.url}/invocations",
                    content=card.example.body,
                    headers={"content-type": "application/json"},
                )
            except httpx.TimeoutException:
                raise CheckFailed(f"it did not answer its own input example within {limit:g} s") from None
            except httpx.TransportError as error:
                raise server.failure("broke off while it answered its input example") from error
        return check_answer(card, answer.status_code, answer.content), time.monotonic() - started

    def on_kill(self) -> None:
        """Stop the server, and start none any more."""
        self._killed = True
        self._stop_servers()

    def _stop_servers(self) -> None:
        if self._identity:
            stop_marked(MARK, self._identity)
