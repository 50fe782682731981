"""Promotion on a real MLflow server: what the fake claims, and what only many promoters at once can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
from airflow_mlplatform.exceptions import PromotionConflict
from airflow_mlplatform.promotion import lock as locks
from airflow_mlplatform.promotion.lock import AliasLock
from airflow_mlplatform.promotion.promote import promote
from airflow_mlplatform.promotion.waiting import look, tell
from airflow_mlplatform.specs.deployment import Gate, GateMetric, ModelRef
from tests.services.mlflow_server import MlflowServer, mlflow_server

if TYPE_CHECKING:
    from airflow_mlplatform.promotion.verdict import Verdict

__all__ = ["mlflow_server"]

RACERS = 8


@pytest.fixture
def client(mlflow_server: MlflowServer) -> MlflowClient:
    return MlflowClient(Endpoint(mlflow_server.url))


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A registered model of this test alone."""
    return request.node.name.replace("[", "-").rstrip("]")


def train(client: MlflowClient, model: str, alias: str | None = None, **metrics: float) -> int:
    run = client.create_run(client.get_or_create_experiment("promotion"))
    client.log_batch(run.run_id, metrics=metrics)
    client.update_run(run.run_id, "FINISHED")
    client.get_or_create_registered_model(model)
    version = client.create_model_version(model, f"{run.artifact_uri}/model", run.run_id).version
    if alias:
        client.set_alias(model, alias, version)
    return version


def judged(client: MlflowClient, model: str, candidate: str = "challenger", **gate: object) -> Verdict:
    reference = ModelRef(name=model, candidate=candidate)
    return drive(look(reference, Gate.model_validate(gate, strict=False)), client.http)[0]


def bearer(client: MlflowClient, model: str, alias: str = "champion") -> int | None:
    version = client.get_version_by_alias(model, alias)
    return version.version if version else None


def nothing_locked(client: MlflowClient, model: str) -> bool:
    return drive(locks._holder(f"{model}.champion.lock"), client.http) is None


def test_from_evidence_to_champion(client: MlflowClient, model: str) -> None:
    metrics = [GateMetric(name="rmse", max=0.9, beats_champion_by=0.01, best="min")]
    assert judged(client, model).outcome == "absent"
    train(client, model, "champion", rmse=0.80)
    train(client, model, "challenger", rmse=0.795)
    worse, version = drive(look(ModelRef(name=model), Gate(metrics=metrics)), client.http)
    assert worse.outcome == "refused"
    drive(tell(worse, version), client.http)
    assert client.get_model_version(model, 2).tags["mlplatform.verdict"] == "refused"
    train(client, model, "challenger", rmse=0.79)
    better = judged(client, model, metrics=metrics)
    assert better.promote
    assert promote(client, better, "test").former == 1
    assert (bearer(client, model), bearer(client, model, "previous-champion")) == (3, 1)
    assert not promote(client, better, "test").moved
    assert judged(client, model).outcome == "already"
    assert nothing_locked(client, model)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_mlflow_makes_of_odd_metrics_never_passes(client: MlflowClient, model: str, value: float) -> None:
    run = client.create_run(client.get_or_create_experiment("promotion"))
    client.log_batch(run.run_id, metrics={"rmse": value})
    client.get_or_create_registered_model(model)
    version = client.create_model_version(model, f"{run.artifact_uri}/model", run.run_id)
    client.set_alias(model, "challenger", version.version)
    found = judged(client, model, metrics=[{"name": "rmse", "max": 1}, {"name": "rmse", "min": 1}])
    assert not any(reason.passed for reason in found.reasons)


class FarAway(MlflowClient):
    """A client whose requests to move an alias take their time, each client another: others could come in between."""

    delay = 0.0

    def set_alias(self, name: str, alias: str, version: int) -> None:
        time.sleep(self.delay)
        MlflowClient.set_alias(self, name, alias, version)


def race(server: MlflowServer, verdicts: list[Verdict]) -> list[str]:
    """Promote all at the same moment; what became of each."""
    start = Barrier(len(verdicts))

    def one(number: int, verdict: Verdict) -> str:
        with FarAway(Endpoint(server.url)) as client:
            client.delay = 0.15 * number
            start.wait(30)
            try:
                promote(client, verdict, f"dag/run-{number}/promote")
            except PromotionConflict as conflict:
                return f"conflict: {conflict}"
            return f"won with {verdict.candidate.version if verdict.candidate else None}"

    with ThreadPoolExecutor(len(verdicts)) as pool:
        return list(pool.map(one, range(len(verdicts)), verdicts))


def contestants(client: MlflowClient, model: str) -> list[Verdict]:
    """Verdicts on different candidates, all compared with the same champion."""
    verdicts = []
    for number in range(RACERS):
        train(client, model, f"challenger-{number}")
        verdicts.append(judged(client, model, f"challenger-{number}"))
    return verdicts


@pytest.mark.parametrize("champion", [True, False])
def test_of_many_promoters_exactly_one_wins(
    mlflow_server: MlflowServer,
    client: MlflowClient,
    model: str,
    champion: bool,
) -> None:
    if champion:
        train(client, model, "champion")
    outcomes = race(mlflow_server, contestants(client, model))
    winners = [outcome for outcome in outcomes if outcome.startswith("won")]
    assert len(winners) == 1, outcomes
    assert winners == [f"won with {bearer(client, model)}"]
    assert bearer(client, model, "previous-champion") == (1 if champion else None)
    assert nothing_locked(client, model)


def test_a_promoter_killed_while_it_holds_the_lock_stops_nobody_for_good(
    mlflow_server: MlflowServer,
    client: MlflowClient,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train(client, model, "champion")
    verdicts = contestants(client, model)
    holder = f"""
        import os, sys
        from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient
        from airflow_mlplatform.promotion.lock import AliasLock
        with AliasLock(MlflowClient(Endpoint({mlflow_server.url!r})), {model!r}, "champion", "dead").held():
            print("held", flush=True)
            sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(holder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        os.kill(process.pid, signal.SIGKILL)
    assert AliasLock(client, model, "champion", "me").holder() is not None
    monkeypatch.setattr(locks, "LEASE", 6.0)  # longer than the slowest of them holds it
    outcomes = race(mlflow_server, verdicts)
    assert len([outcome for outcome in outcomes if outcome.startswith("won")]) == 1, outcomes
    assert nothing_locked(client, model)
