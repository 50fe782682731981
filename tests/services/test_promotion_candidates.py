"""Candidates without an alias, rollback and deletions, on a real MLflow server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.exceptions import ConfigurationError, NotFound
from airflow_mlplatform.promotion.promote import promote
from airflow_mlplatform.promotion.rollback import roll_back
from airflow_mlplatform.promotion.waiting import look
from airflow_mlplatform.specs.deployment import Candidates, Gate, GateMetric, ModelRef
from airflow_mlplatform.specs.training import Select
from tests.services.mlflow_server import MlflowServer, mlflow_server
from tests.services.test_promotion_registry import bearer, client, judged, model, nothing_locked, train

if TYPE_CHECKING:
    from airflow_mlplatform.promotion.verdict import Verdict

__all__ = ["client", "mlflow_server", "model"]

GATE = Gate(metrics=(GateMetric(name="rmse", max=0.9),))


def chosen(client: MlflowClient, reference: ModelRef) -> Verdict:
    return drive(look(reference, GATE), client.http)[0]


def number(verdict: Verdict) -> int | None:
    return verdict.candidate.version if verdict.candidate else None


def test_the_newest_or_the_best_of_those_with_a_tag(client: MlflowClient, model: str) -> None:
    for rmse in (0.5, 0.6, 2.0):
        client.set_model_version_tag(model, train(client, model, rmse=rmse), "team", "risk")
    train(client, model, rmse=0.1)
    newest = ModelRef(name=model, candidates=Candidates(tags={"team": "risk"}))
    best = ModelRef(name=model, candidates=Candidates(tags={"team": "risk"}, select=Select(metric="rmse", best="min")))
    assert number(chosen(client, newest)) == 2
    verdict = chosen(client, best)
    assert number(verdict) == 1
    promote(client, verdict, "test")
    assert bearer(client, model) == 1
    assert chosen(client, best).outcome == "already"


def test_stages_of_an_older_registry(client: MlflowClient, model: str) -> None:
    staged = ModelRef(name=model, candidates=Candidates(stage="Staging"))
    assert chosen(client, staged).outcome == "absent"
    for stage in ("Production", "Staging"):
        client.move_to_stage(model, train(client, model, rmse=0.5), stage)
    verdict = chosen(client, staged)
    assert verdict.promote
    assert verdict.champion is not None
    assert verdict.champion.version == 1
    assert promote(client, verdict, "test").former == 1
    assert (bearer(client, model), bearer(client, model, "previous-champion")) == (2, 1)
    stages = [client.get_model_version(model, version).stage for version in (1, 2)]
    assert stages == ["Archived", "Production"]
    assert not promote(client, verdict, "test").moved
    roll_back(client, staged, "rollback")
    stages = [client.get_model_version(model, version).stage for version in (1, 2)]
    assert stages == ["Production", "Archived"]
    assert bearer(client, model) == 1


def test_a_rollback_and_its_retry(client: MlflowClient, model: str) -> None:
    train(client, model, "previous-champion")
    train(client, model, "champion")
    client.set_alias(model, "challenger", 2)
    reference = ModelRef(name=model)
    assert roll_back(client, reference, "dag/run/rollback") == roll_back(client, reference, "dag/run/rollback")
    assert client.get_registered_model(model).aliases == {"champion": 1, "rolled-back-champion": 2, "challenger": 2}
    assert judged(client, model).outcome == "refused"
    with pytest.raises(ConfigurationError, match="nothing to go back to"):
        roll_back(client, reference, "another")
    assert nothing_locked(client, model)


def test_of_many_impatient_rollbacks_one_moves_the_alias(
    mlflow_server: MlflowServer, client: MlflowClient, model: str
) -> None:
    train(client, model, "previous-champion")
    train(client, model, "champion")

    def one(index: int) -> bool:
        with MlflowClient(Endpoint(mlflow_server.url)) as own:
            try:
                roll_back(own, ModelRef(name=model), f"dag/run-{index}/rollback")
            except ConfigurationError:
                return False
            return True

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(one, range(6))) == [False] * 5 + [True]
    assert bearer(client, model) == 1
    assert nothing_locked(client, model)


def test_deleted_versions(client: MlflowClient, model: str) -> None:
    train(client, model, "champion", rmse=0.5)
    train(client, model, "challenger", rmse=0.4)
    verdict = judged(client, model)
    delete(client, model, 2)
    assert judged(client, model).outcome == "absent"
    with pytest.raises(NotFound):
        promote(client, verdict, "test")
    delete(client, model, 1)
    train(client, model, "challenger", rmse=0.6)
    first = judged(client, model)
    assert first.promote
    assert first.champion is None
    assert number(chosen(client, ModelRef(name=model, candidates=Candidates()))) == 3


def delete(client: MlflowClient, model: str, version: int) -> None:
    answer = client.http.request(
        "DELETE", "/api/2.0/mlflow/model-versions/delete", json={"name": model, "version": str(version)}
    )
    assert answer.is_success, answer.text
