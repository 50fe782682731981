"""The tasks that change a SeldonDeployment, in the triggerer: what they do and what they leave in XCom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from airflow.providers.standard.triggers import hitl
from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import TaskSkippedEvent, TaskSuccessEvent

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed
from airflow_mlplatform.settings import settings
from airflow_mlplatform.training.provenance import Provenance
from airflow_mlplatform.triggers import seldon_actions, seldon_task
from airflow_mlplatform.triggers.seldon_actions import (
    SeldonRollbackTrigger,
    SeldonScaleTrigger,
    SeldonTeardownTrigger,
)
from airflow_mlplatform.triggers.seldon_deploy import SeldonDeployTrigger
from airflow_mlplatform.triggers.step_approval import SeldonStepApprovalTrigger
from airflow_mlplatform.triggers.task import TaskEnding
from tests.unit.promotion.fake_registry import FakeRegistry
from tests.unit.serving.fake_seldon import BEGIN, FakeSeldon

SERVING = {"name": "wine", "namespace": "models"}
CANARY = {"strategy": "canary", "steps": [50, 100], "analysis": [{"name": "e", "metric": "error-rate", "max": 0.1}]}


def origin(task: str = "deploy", run: str = "run-1", attempt: int = 1) -> dict[str, Any]:
    return Provenance("wine", run, task, -1, attempt, "http://airflow.test/dags/wine/runs/1").to_json()


@pytest.fixture
def xcom(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was left in XCom, by task and key."""
    kept: dict[str, Any] = {}

    async def leave(owner: Provenance, value: object, key: str = "return_value") -> None:
        kept[f"{owner.task_id}.{key}"] = value

    async def fetch(*, key: str, dag_id: str, task_id: str, run_id: str, map_index: int | None = None) -> Any:
        assert dag_id == "wine"
        assert map_index in (None, -1)
        return kept.get(f"{task_id}.{key}")

    monkeypatch.setattr(seldon_task, "leave", leave)
    monkeypatch.setattr(seldon_actions, "leave", leave)
    monkeypatch.setattr(XCom, "aget_one", fetch)
    return kept


@pytest.fixture
def seldon(monkeypatch: pytest.MonkeyPatch) -> FakeSeldon:
    """The cluster that every trigger reaches."""
    fake = FakeSeldon()

    @asynccontextmanager
    async def opened(*_: Any) -> AsyncIterator[FakeSeldon]:
        await fake.refresh()
        yield fake

    monkeypatch.setattr(seldon_task, "open_around", opened)
    return fake


@pytest.fixture
def wine(registry: FakeRegistry, monkeypatch: pytest.MonkeyPatch) -> FakeRegistry:
    """A registry that tells where the files of its versions lie: version 1 was the champion, version 2 is."""

    def folder(_: FakeRegistry, name: str, version: str) -> tuple[int, dict[str, str]]:
        return 200, {"artifact_uri": f"s3://models/{name}/v{version}"}

    monkeypatch.setattr(FakeRegistry, "_get_model_versions_get_download_uri", folder, raising=False)
    registry.train(alias="previous-champion")
    registry.train(alias="champion")
    return registry


async def event(trigger: Any) -> Any:
    (fired,) = [event async for event in trigger.run()]
    return fired


async def end(trigger: Any) -> None:
    """Let a trigger end its task well."""
    fired = await event(trigger)
    assert isinstance(fired, TaskSuccessEvent), fired


def deploy(version: int, rollout: dict[str, Any] | None = None, **more: Any) -> SeldonDeployTrigger:
    arguments = {"model": {"name": "wine", "version": version}, "origin": origin(), **more}
    plan = {"rollout": rollout or {}, "resumes": arguments.pop("resumes", "")}
    return SeldonDeployTrigger(serving=SERVING, plan=plan, **arguments)


def version_of(seldon: FakeSeldon) -> str:
    return str(seldon.spec()["predictors"][0]["graph"]["modelUri"])[-2:]


@pytest.mark.usefixtures("wine")
async def test_a_deployment_leaves_facts_and_links(
    seldon: FakeSeldon, xcom: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__MLPLATFORM__GRAFANA_URL", "http://grafana.test/d?var={namespace}-{name}-{version}")
    settings.cache_clear()
    await end(deploy(1))
    await end(deploy(2, CANARY, origin=origin(run="run-2")))
    settings.cache_clear()
    assert xcom["deploy.return_value"] == {
        "endpoint_url": "",
        "model": "wine",
        "version": "2",
        "former_version": "1",
        "strategy": "canary",
        "steps": [
            "50 %",
            "100 %",
            "new model behind the former name",
            "no requests for the candidate",
            "one predictor",
        ],
        "result": "done",
    }
    assert xcom["deploy.grafana_url"] == "http://grafana.test/d?var=models-wine-2"
    assert xcom["deploy.model_version_url"] == "http://mlflow.test/#/models/wine/versions/2"
    assert version_of(seldon) == "v2"


@pytest.mark.usefixtures("wine", "seldon")
async def test_the_model_may_be_what_another_task_found(xcom: dict[str, Any]) -> None:
    xcom["gate.return_value"] = {"promote": True, "candidate": {"name": "wine", "version": 2}}
    await end(deploy(0, model={"from_task": "gate"}))
    assert xcom["deploy.return_value"]["version"] == "2"
    with pytest.raises(ConfigurationError, match="task other of this DAG run has returned nothing"):
        TaskEnding.decode((await event(deploy(0, model={"from_task": "other"}))).payload).outcome()


@pytest.mark.usefixtures("wine", "xcom")
async def test_a_rollout_that_failed_fails_the_task(seldon: FakeSeldon) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    seldon.verdicts = lambda _: "fail"
    with pytest.raises(ConfigurationError, match=r"models/wine: the deploy of wine 2 was aborted: the analysis failed"):
        TaskEnding.decode((await event(deploy(2, CANARY))).payload).outcome()
    seldon.bad = {"s3://models/wine/v2"}
    with pytest.raises(ProcessFailed, match="not ready within 600 s"):
        TaskEnding.decode((await event(deploy(2, CANARY, origin=origin(attempt=2)))).payload).outcome()


@pytest.mark.usefixtures("wine")
async def test_a_pause_and_its_answer(seldon: FakeSeldon, xcom: dict[str, Any]) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    how = {**CANARY, "pause": {"after": 50, "users": ["ann"]}}
    await end(deploy(2, how))
    assert xcom["deploy.return_value"]["result"] == "paused"
    xcom["ask.return_value"] = {"chosen_options": ["Approve"], "responded_by_user": {"id": "1", "name": "ann"}}
    more = {"resumes": "deploy", "answer": {"from_task": "ask"}, "origin": origin("deploy_on")}
    await end(deploy(2, how, **more))
    assert xcom["deploy_on.return_value"]["result"] == "done"
    assert version_of(seldon) == "v2"


PAUSED = {**CANARY, "check_every": "1m", "pause": {"after": 50, "users": ["ann"]}}


@dataclass
class Person:
    """Whom Airflow asks.

    :ivar says: the answer; empty if there is none yet.
    """

    says: str = ""
    defaulted: bool = False

    def look(self, ti_id: UUID) -> SimpleNamespace:
        user = SimpleNamespace(id="7", name="vera")
        answered = {"responded_by_user": user, "responded_at": BEGIN, "params_input": {}}
        return SimpleNamespace(response_received=bool(self.says), chosen_options=[self.says], **answered)

    def default(self, ti_id: UUID, chosen_options: list[str], params_input: dict[str, Any]) -> SimpleNamespace:
        (self.says,) = chosen_options
        self.defaulted = True
        return self.look(ti_id)


@pytest.fixture
def person(monkeypatch: pytest.MonkeyPatch) -> Person:
    asked = Person()
    monkeypatch.setattr(hitl, "get_hitl_detail_content_detail", asked.look)
    monkeypatch.setattr(hitl, "update_hitl_detail_response", asked.default)
    return asked


def approval(version: int = 2, until: datetime | None = None) -> SeldonStepApprovalTrigger:
    until = until or datetime.now(UTC) + timedelta(days=1)
    asked = {"ti_id": str(uuid4()), "options": ["Approve", "Reject"], "defaults": ["Reject"]}
    return SeldonStepApprovalTrigger(
        asked={**asked, "until": until.isoformat()},
        serving=SERVING,
        model={"name": "wine", "version": version},
        plan={"rollout": PAUSED, "resumes": "deploy"},
        answer="awaited",
        origin=origin("approve_step"),
    )


@pytest.mark.usefixtures("wine", "xcom")
async def test_limits_that_are_breached_while_a_person_is_asked_end_the_task(
    seldon: FakeSeldon, person: Person
) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    before = seldon.spec()
    await end(deploy(2, PAUSED))
    seldon.verdicts = lambda _: "fail"
    trigger = approval()
    path, arguments = trigger.serialize()
    assert path == f"{SeldonStepApprovalTrigger.__module__}.SeldonStepApprovalTrigger"
    fired = await event(SeldonStepApprovalTrigger(**arguments))
    with pytest.raises(ConfigurationError, match="the deploy of wine 2 was aborted: the analysis failed at 50 %"):
        TaskEnding.decode(fired.payload).outcome()
    assert seldon.spec() == before
    assert not person.says


@pytest.mark.usefixtures("wine", "xcom")
@pytest.mark.parametrize(("says", "until"), [("Approve", timedelta(days=1)), ("", timedelta(0))])
async def test_the_answer_ends_the_watch(seldon: FakeSeldon, person: Person, says: str, until: timedelta) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    await end(deploy(2, PAUSED))
    person.says, seldon.pace = says, 0.01
    there = seldon.spec()
    fired = await event(approval(until=datetime.now(UTC) + until))
    assert fired.payload["chosen_options"] == [says or "Reject"]
    assert person.defaulted == (not says)
    assert seldon.spec() == there


@pytest.mark.usefixtures("wine", "xcom", "person")
async def test_a_pause_of_a_rollout_that_is_no_longer_there_asks_nobody(seldon: FakeSeldon) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    with pytest.raises(ConfigurationError, match="clear the deploy task to begin it again"):
        TaskEnding.decode((await event(approval())).payload).outcome()
    assert len(seldon.spec()["predictors"]) == 1


@pytest.mark.usefixtures("wine")
async def test_a_candidate_that_loses_is_told_by_a_worker(seldon: FakeSeldon, xcom: dict[str, Any]) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    seldon.winner = "main"
    winner = {"query": 'q{p="$predictor"}', "best": "max"}
    fired = await event(deploy(2, {"strategy": "ab", "winner": winner}))
    assert TaskEnding.decode(fired.payload).outcome()["result"] == "kept"
    assert xcom["deploy.return_value"]["result"] == "kept"


def rollback(**more: Any) -> SeldonRollbackTrigger:
    return SeldonRollbackTrigger(SERVING, {"name": "wine"}, {}, **{"origin": origin("rollback", "run-9"), **more})


async def test_back_to_the_former_champion_and_then_its_alias(
    seldon: FakeSeldon, wine: FakeRegistry, xcom: dict[str, Any]
) -> None:
    await end(deploy(2))
    await end(rollback())
    assert version_of(seldon) == "v1"
    assert wine.alias("champion") == 1
    assert xcom["rollback.return_value"]["former_version"] == "2"
    await end(rollback())
    assert wine.alias("champion") == 1


@pytest.mark.usefixtures("xcom")
async def test_a_former_champion_that_does_not_come_up_gets_no_alias(seldon: FakeSeldon, wine: FakeRegistry) -> None:
    await end(deploy(2))
    seldon.bad = {"s3://models/wine/v1"}
    with pytest.raises(ProcessFailed, match="the rollback of wine 1 was aborted"):
        TaskEnding.decode((await event(rollback())).payload).outcome()
    assert (version_of(seldon), wine.alias("champion")) == ("v2", 2)


@pytest.mark.usefixtures("xcom")
async def test_a_rollback_ends_what_is_not_finished_and_moves_no_alias(seldon: FakeSeldon, wine: FakeRegistry) -> None:
    await end(deploy(1, origin=origin(run="run-0")))
    before = seldon.spec()
    await end(deploy(2, {"strategy": "ab", "weight": 20}))
    assert len(seldon.spec()["predictors"]) == 2
    await end(rollback())
    assert seldon.spec() == before
    await end(deploy(2, {**CANARY, "pause": {"after": 50, "users": ["ann"]}}, origin=origin(run="run-2")))
    assert len(seldon.spec()["predictors"]) == 2
    await end(rollback(origin=origin("rollback", "run-10")))
    assert seldon.spec() == before
    assert wine.alias("champion") == 2


@pytest.mark.usefixtures("wine")
async def test_other_numbers_of_servers_and_none(seldon: FakeSeldon, xcom: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="models/wine is not there; deploy a model first"):
        TaskEnding.decode((await event(SeldonScaleTrigger(SERVING, 3, {}, origin("scale")))).payload).outcome()
    await end(deploy(1))
    await end(SeldonScaleTrigger(SERVING, "3", {}, origin("scale")))
    assert [one["replicas"] for one in seldon.spec()["predictors"]] == [3]
    assert xcom["scale.return_value"]["result"] == "done"
    with pytest.raises(ConfigurationError, match="replicas is 'many'; give a whole number"):
        TaskEnding.decode((await event(SeldonScaleTrigger(SERVING, "many", {}, origin("scale")))).payload).outcome()
    await end(SeldonTeardownTrigger(SERVING, {}, origin("teardown")))
    assert (seldon.stored, xcom["teardown.return_value"]["result"]) == (None, "removed")
    await end(SeldonTeardownTrigger(SERVING, {}, origin("teardown")))
    assert xcom["teardown.return_value"]["result"] == "unchanged"


async def test_what_a_run_is_not_for_is_skipped() -> None:
    assert isinstance(await event(rollback(only_if="False")), TaskSkippedEvent)


@pytest.mark.usefixtures("wine", "xcom")
async def test_an_operator_that_is_away_is_no_lasting_failure(seldon: FakeSeldon) -> None:
    seldon.down = (timedelta(0), timedelta(hours=1))
    with pytest.raises(ProcessFailed, match="Nothing was applied yet"):
        TaskEnding.decode((await event(deploy(1))).payload).outcome()
    seldon.at = BEGIN + timedelta(hours=2)
    await end(deploy(1, origin=origin(attempt=2)))
