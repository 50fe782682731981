"""Small files of a model: handed out by MLflow's server, or read where the model lies."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from airflow_mlplatform.clients.http import drive_async
from airflow_mlplatform.clients.mlflow_model_files import get_model_version_file
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.hooks.login import login_from
from airflow_mlplatform.settings import settings
from airflow_mlplatform.steps.preflight import ModelCard, card_of, example_file
from airflow_mlplatform.steps.storage import S3Options, s3_errors
from airflow_mlplatform.triggers.outages import Outages
from airflow_mlplatform.triggers.pod import patiently

if TYPE_CHECKING:
    from airflow_mlplatform.hooks.mlflow import MlflowHook
    from airflow_mlplatform.serving.model import ServableModel

__all__ = ["read_card"]

LOOKS = 2.0
S3 = "s3://"


async def read_card(model: ServableModel, hook: MlflowHook, log: Any) -> ModelCard:
    """Read input example and signature of a model.

    :param model: the model.
    :param hook: MLflow, which hands out files of registered models; if it does not, those on S3 are read with the
        connection ``[mlplatform] s3_conn_id``.
    :raises ConfigurationError: if they cannot be had, or the model has no input example.
    """
    files = ModelFiles(model, hook, Outages(LOOKS, log))
    text = (await files.read("MLmodel")).decode("utf-8")
    example = example_file(text)
    return card_of(text, await files.read(example) if example else None)


@dataclass
class ModelFiles:
    """The files of one model.

    :param model: the model.
    :param hook: MLflow.
    :param outages: bears what is away.
    """

    model: ServableModel
    hook: MlflowHook
    outages: Outages

    async def read(self, path: str) -> bytes:
        """Return a file.

        :param path: below the folder with ``MLmodel``.
        :raises ConfigurationError: if it cannot be had.
        :raises ProcessFailed: if its store does not answer.
        """
        if not self.model.name:
            return await self._from_store(path)
        try:
            return await patiently(lambda: self._from_mlflow(path), self.outages)
        except ConfigurationError as error:
            if not (self.model.uri.startswith(S3) and settings().s3_conn_id):
                raise
            try:
                return await self._from_store(path)
            except (ConfigurationError, ServiceRefused, ProcessFailed) as own:
                kind = ProcessFailed if isinstance(own, ProcessFailed) else ConfigurationError
                raise kind(f"{error}. From here: {own}") from own

    async def _from_mlflow(self, path: str) -> bytes:
        async with await self.hook.async_client() as client:
            return await drive_async(get_model_version_file(self.model.name, self.model.version, path), client.http)

    async def _from_store(self, path: str) -> bytes:
        if not self.model.uri.startswith(S3):
            raise ConfigurationError(
                f"{self.model} is neither registered nor on S3, so its input example cannot be read; register it, or "
                "set preflight: false"
            )
        try:
            return await asyncio.to_thread(_read, await self._options(), f"{self.model.uri}/{path}")
        except ServiceUnavailable as error:
            raise ProcessFailed(str(error)) from error

    async def _options(self) -> S3Options:
        conn_id = settings().s3_conn_id
        if not conn_id:
            return S3Options()
        try:
            return S3Options.of(login_from(conn_id, await BaseHook.aget_connection(conn_id)))
        except AirflowNotFoundException as error:
            raise ConfigurationError(f"connection {conn_id!r} is not there; add it to Airflow") from error


def _read(options: S3Options, uri: str) -> bytes:
    place = uri.removeprefix(S3)
    try:
        with s3_errors(uri), options.filesystem(place.partition("/")[0]).open_input_file(place) as file:
            return bytes(file.read())
    except FileNotFoundError:
        raise ConfigurationError(f"{uri} is not there; see that this is the folder of the model") from None
