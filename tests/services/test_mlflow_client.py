"""The client against a real MLflow server: the fakes of the unit tests must not lie."""

from __future__ import annotations

import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import httpx
import pytest

from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Endpoint, MlflowClient
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.mlflow_server import MlflowServer


@pytest.fixture
def client(mlflow_server: MlflowServer) -> Iterator[MlflowClient]:
    with MlflowClient(Endpoint(mlflow_server.url)) as client:
        yield client


@pytest.fixture
def name() -> str:
    return f"wine {uuid.uuid4()}"


def test_version(client: MlflowClient) -> None:
    assert client.version()[0].isdigit()


def test_a_run_from_start_to_end(client: MlflowClient, name: str) -> None:
    experiment = client.get_or_create_experiment(name)
    assert client.get_or_create_experiment(name) == experiment
    run = client.create_run(experiment, {"mlplatform.key": "it's", "long": "x" * 100_000}, name="C=1")
    assert (run.active, run.name, run.tags["mlplatform.key"]) == (True, "C=1", "it's")
    client.log_batch(run.run_id, params={"C": "1"}, metrics={"loss": float("nan"), "acc": 0.5})
    client.log_batch(run.run_id, params={"C": "1"})
    with pytest.raises(ServiceRefused, match="C"):
        client.log_batch(run.run_id, params={"C": "2"})
    client.update_run(run.run_id, "FINISHED")
    ended = client.search_runs(experiment, 'tags.`mlplatform.key` = "it\'s"')[0]
    assert ended.status == "FINISHED"
    assert ended.end_time is not None
    assert ended.end_time.tzinfo is not None
    assert (ended.params["C"], ended.metrics["acc"]) == ("1", 0.5)
    assert ended.metrics["loss"] != ended.metrics["loss"], "NaN survives"


def test_search_finds_all_pages_newest_first(client: MlflowClient, name: str) -> None:
    experiment = client.get_or_create_experiment(name)
    made = [client.create_run(experiment).run_id for _ in range(205)]
    assert {run.run_id for run in client.search_runs(experiment)} == set(made)
    assert len(client.search_runs(experiment, limit=3)) == 3


def test_what_is_not_there(client: MlflowClient, name: str) -> None:
    for ask in (
        lambda: client.get_run("0" * 32),
        lambda: client.get_logged_model("m-" + "0" * 32),
        lambda: client.get_experiment_by_name(name),
        lambda: client.get_model_version(name, 1),
    ):
        with pytest.raises(NotFound):
            ask()
    with pytest.raises(ServiceRefused, match="INVALID_PARAMETER_VALUE"):
        client.search_runs("1", "nonsense")


def test_a_deleted_experiment(client: MlflowClient, mlflow_server: MlflowServer, name: str) -> None:
    experiment = client.get_or_create_experiment(name)
    httpx.post(f"{mlflow_server.url}/api/2.0/mlflow/experiments/delete", json={"experiment_id": experiment})
    with pytest.raises(ConfigurationError, match="restore"):
        client.get_or_create_experiment(name)


def test_many_ask_for_the_same_names_at_once(client: MlflowClient, name: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: client.get_or_create_experiment(name), range(8)))
        list(pool.map(lambda _: client.get_or_create_registered_model(name), range(8)))
    assert len(found) == 1


async def test_versions_and_aliases_with_both_clients(
    client: MlflowClient, mlflow_server: MlflowServer, name: str
) -> None:
    run = client.create_run(client.get_or_create_experiment(name))
    async with AsyncMlflowClient(Endpoint(mlflow_server.url)) as asynchronous:
        assert await asynchronous.get_version_by_alias(name, "champion") is None, "no model"
        client.get_or_create_registered_model(name)
        assert await asynchronous.get_version_by_alias(name, "champion") is None, "no alias"
        first = client.create_model_version(
            name, f"{run.artifact_uri}/model", run.run_id, {"mlplatform.data.uri": "s3://x"}
        )
        second = await asynchronous.create_model_version(name, f"{run.artifact_uri}/model", run.run_id)
        assert (first.version, second.version, first.status) == (1, 2, "READY")
        client.set_alias(name, "champion", 1)
        await asynchronous.set_alias(name, "champion", 2)
        champion = await asynchronous.get_version_by_alias(name, "champion")
        assert champion == client.get_version_by_alias(name, "champion")
        assert champion is not None
        assert (champion.version, champion.run_id, champion.aliases) == (2, run.run_id, ("champion",))
        client.set_model_version_tag(name, 1, "checked", "yes")
        assert client.get_model_version(name, 1).tags == {"mlplatform.data.uri": "s3://x", "checked": "yes"}
        assert [version.version for version in client.search_model_versions(name)] == [2, 1]
        assert client.search_model_versions(name, run_id="0" * 32) == ()
        client.delete_alias(name, "champion")
        client.delete_alias(name, "champion")
        assert client.get_version_by_alias(name, "champion") is None


@pytest.mark.slow
def test_an_outage_and_after(own_mlflow_server: MlflowServer) -> None:
    with MlflowClient(Endpoint(own_mlflow_server.url)) as client:
        experiment = client.get_or_create_experiment("lasting")
        own_mlflow_server.stop()
        with pytest.raises(ServiceUnavailable):
            client.get_version_by_alias("wine", "champion")
        own_mlflow_server.start()
        assert client.get_or_create_experiment("lasting") == experiment
