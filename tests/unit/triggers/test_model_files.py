"""Where the input example of a model comes from."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from pyarrow import fs

from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Endpoint
from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.steps.storage import S3Options
from airflow_mlplatform.triggers import model_files
from airflow_mlplatform.triggers.model_files import read_card

if TYPE_CHECKING:
    from pathlib import Path

LOG = logging.getLogger(__name__)
CARD = {
    "saved_input_example_info": {"type": "dataframe", "serving_input_path": "serving.json"},
    "signature": {"inputs": "[]", "outputs": '[{"type": "long"}]'},
    "flavors": {"python_function": {"python_version": "3.12.1"}},
}
EXAMPLE = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}
FILES = {"MLmodel": yaml.safe_dump(CARD).encode(), "serving.json": json.dumps(EXAMPLE).encode()}
REGISTERED = ServableModel(name="wine", version="7", uri="s3://models/wine/7")


class Hook(MlflowHook):
    """MLflow that has some files."""

    def __init__(self, **files: bytes) -> None:
        self.files = files

    async def async_client(self) -> AsyncMlflowClient:
        def handler(request: httpx.Request) -> httpx.Response:
            found = self.files.get(request.url.params["path"])
            return httpx.Response(200, content=found) if found else httpx.Response(500)

        return AsyncMlflowClient(Endpoint("http://mlflow"), httpx.MockTransport(handler))


@pytest.fixture
def s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that stands for S3."""
    local = fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem())
    monkeypatch.setattr(S3Options, "filesystem", lambda self, bucket: local)
    monkeypatch.setenv("AIRFLOW_CONN_POND", '{"conn_type": "aws", "login": "key", "password": "s3cret"}')
    monkeypatch.setattr(model_files, "settings", lambda: SimpleNamespace(s3_conn_id="pond"))
    return tmp_path


def store(s3: Path, **files: bytes) -> None:
    for name, content in files.items():
        (s3 / "models/wine/7").mkdir(parents=True, exist_ok=True)
        (s3 / "models/wine/7" / name).write_bytes(content)


async def test_mlflow_hands_it_out() -> None:
    card = await read_card(REGISTERED, Hook(**FILES), LOG)
    assert (card.example.rows, card.python, card.outputs) == (2, "3.12.1", [{"type": "long"}])


@pytest.mark.parametrize("name", ["wine", ""])
async def test_else_it_is_read_where_it_lies(s3: Path, name: str) -> None:
    store(s3, **FILES)
    card = await read_card(REGISTERED.model_copy(update={"name": name}), Hook(), LOG)
    assert card.example.rows == 2


async def test_one_that_is_nowhere_is_named(s3: Path) -> None:
    words = r"version 7 \(500\).*From here: s3://models/wine/7/MLmodel is not there"
    with pytest.raises(ConfigurationError, match=words):
        await read_card(REGISTERED, Hook(), LOG)


async def test_a_store_that_pods_alone_reach() -> None:
    with pytest.raises(ConfigurationError, match="neither registered nor on S3"):
        await read_card(ServableModel(uri="gs://models/wine"), Hook(), LOG)
    with pytest.raises(ConfigurationError, match=r"hand out MLmodel"):
        await read_card(REGISTERED.model_copy(update={"uri": "gs://models/wine"}), Hook(), LOG)


async def test_without_an_example(s3: Path) -> None:
    text = yaml.safe_dump({key: value for key, value in CARD.items() if key != "saved_input_example_info"})
    with pytest.raises(ConfigurationError, match="logged without an input example"):
        await read_card(REGISTERED, Hook(MLmodel=text.encode()), LOG)


async def test_without_a_connection_for_s3_nobody_looks_there() -> None:
    with pytest.raises(ConfigurationError, match=r"version 7 \(500\)") as caught:
        await read_card(REGISTERED, Hook(), LOG)
    assert "From here" not in str(caught.value)


async def test_a_store_that_is_away_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    def away(self: S3Options, bucket: str) -> Any:
        raise OSError("AWS Error NETWORK_CONNECTION")

    monkeypatch.setattr(S3Options, "filesystem", away)
    with pytest.raises(ProcessFailed, match="S3 did not do it"):
        await read_card(REGISTERED.model_copy(update={"name": ""}), Hook(), LOG)
