"""Rollouts by steps on this machine: the front divides and counts, and the engine of Kubernetes decides."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
from collections import Counter
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from airflow_mlplatform.clients.prometheus import Answer, Sample
from airflow_mlplatform.runtime.serving_files import Candidate, ServedModel, Servers, Wish, read
from airflow_mlplatform.runtime.traffic import Traffic
from airflow_mlplatform.serving.local import LocalAround
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import Who
from airflow_mlplatform.specs.deployment import Rollout, Serving
from airflow_mlplatform.triggers.local_rollout import LocalRollout, LocalRolloutTrigger, read_end, roll_out
from tests.services.runtime.conftest import PATIENCE, Crowd, deploy, eventually, model_folder, servers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from airflow_mlplatform.runtime.serving import LocalServing
    from airflow_mlplatform.serving.state import Outcome

log = logging.getLogger(__name__)

ERRORS = [{"name": "errors", "metric": "error-rate", "max": 0.1}]
CANARY = {"strategy": "canary", "steps": [25, 100], "interval": "2s", "check_every": "1s", "analysis": ERRORS}


@pytest.fixture
def front(serving: LocalServing, tmp_path: Path) -> LocalServing:
    """Version 1 serves."""
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    return serving


def of(folder: Path, version: str, **behaviour: Any) -> Servers:
    model = model_folder(folder, version, **behaviour)
    return Servers(model=ServedModel(name="wine", version=version), folder=model, ready_timeout=30)


def beside(serving: LocalServing, folder: Path, weight: int, *, shadow: bool = False, **behaviour: Any) -> None:
    """Let version 2 have its share, with no rollout about it."""
    former = serving.wish("wine")
    assert former is not None
    candidate = Candidate(**dict(of(folder, "2", **behaviour)), weight=weight, shadow=shadow)
    generation = serving.replace("wine", former.model_copy(update={"candidate": candidate}), former.generation)
    assert serving.wait("wine", generation, PATIENCE).result == "ready"


def work(
    serving: LocalServing, folder: Path, rollout: dict[str, Any], version: str = "2", who: str = "one", **behaviour: Any
) -> LocalRollout:
    return LocalRollout(
        state_dir=serving.folder.path.parent,
        address=serving.address,
        serving=Serving(name="wine"),
        rollout=Rollout.model_validate(rollout),
        servers=of(folder, version, **behaviour),
        who=Who(id=who, attempt=1, dag_id="dag", run_id=who, task_id="deploy"),
    )


async def rolled(wanted: LocalRollout) -> Outcome:
    async with asyncio.timeout(PATIENCE.total_seconds()):
        return await roll_out(wanted, log)


def predict(serving: LocalServing, times: int) -> Counter[str]:
    """Ask one after the other; how often each version answered."""
    with httpx.Client(trust_env=False, timeout=30) as client:
        answers = [client.post(f"{serving.url('wine')}/invocations", content=b"{}") for _ in range(times)]
    return Counter(answer.headers.get("x-mlplatform-model-version", "none") for answer in answers)


def counted(serving: LocalServing) -> dict[str, dict[str, int]]:
    """What the front tells Prometheus: predictions by predictor and code."""
    text = httpx.get(f"http://{serving.address}/-/metrics", trust_env=False).text
    found: dict[str, dict[str, int]] = {}
    pattern = (
        r'requests_seconds_count{code="(\d+)",deployment_name="wine",method="post",predictor_name="(\w+)".*} (\d+)'
    )
    for code, predictor, count in re.findall(pattern, text):
        found.setdefault(predictor, {})[code] = int(count)
    return found


def test_requests_are_divided_exactly(front: LocalServing, tmp_path: Path) -> None:
    beside(front, tmp_path, 5)
    assert predict(front, 100) == {"1": 95, "2": 5}
    beside(front, tmp_path, 50)
    assert predict(front, 20) == {"1": 10, "2": 10}
    assert counted(front) == {"main": {"200": 105}, "candidate": {"200": 15}}


def test_a_shadow_gets_copies_and_nobody_its_answers(front: LocalServing, tmp_path: Path) -> None:
    beside(front, tmp_path, 50, shadow=True, status=500)
    assert predict(front, 20) == {"1": 20}
    eventually(lambda: counted(front).get("candidate") == {"500": 10}, "the copies are answered")
    assert counted(front)["main"] == {"200": 20}


def test_a_slow_shadow_keeps_nobody_waiting(front: LocalServing, tmp_path: Path) -> None:
    beside(front, tmp_path, 100, shadow=True, delay=600)
    assert predict(front, 120) == {"1": 120}
    assert counted(front)["candidate"] == {"503": 20}, "more copies than it can take are dropped, and counted"


def test_a_candidate_that_is_down_costs_only_the_request_at_which_it_died(front: LocalServing, tmp_path: Path) -> None:
    beside(front, tmp_path, 50, dies=True)
    answered = predict(front, 40)
    failed = counted(front)["candidate"]
    assert 1 <= failed["502"] < 20
    assert failed["502"] + failed["503"] == 20
    assert answered == {"1": 40 - failed["502"], "none": failed["502"]}


@asynccontextmanager
async def crowd(serving: LocalServing) -> AsyncIterator[Crowd]:
    with Crowd(serving.url("wine"), size=2) as users:
        yield users


async def test_a_canary_that_does_well_becomes_the_only_one(front: LocalServing, tmp_path: Path) -> None:
    async with crowd(front) as users:
        outcome = await rolled(work(front, tmp_path, CANARY))
    assert (outcome.result, outcome.former_version) == ("done", "1")
    assert outcome.steps[:2] == ("25 %", "100 %")
    assert users.refused == []
    assert {"1", "2"} == set(users.versions)
    assert predict(front, 10) == {"2": 10}
    eventually(lambda: len(servers(front)) == 1, "the former servers are gone")
    status = front.status("wine")
    assert status is not None
    assert status.serving is not None
    assert status.serving.candidate is None


@pytest.mark.parametrize(
    ("behaviour", "analysis", "why"),
    [
        ({"status": 500}, ERRORS, r"errors: 1 is above max 0\.1"),
        ({"delay": 0.3}, [{"name": "slow", "metric": "latency-p95", "max": 0.1}], r"slow: 0\.\d+ is above max 0\.1"),
        ({"dies": True}, ERRORS, "errors: |died again and again|was not ready"),
        ({"exit": 3}, ERRORS, "exit code 3"),
    ],
)
async def test_a_canary_that_does_badly_leaves_what_served_before(
    front: LocalServing, tmp_path: Path, behaviour: dict[str, Any], analysis: list[dict[str, Any]], why: str
) -> None:
    before = servers(front)
    async with crowd(front):
        outcome = await rolled(work(front, tmp_path, CANARY | {"analysis": analysis}, **behaviour))
    assert outcome.result == "aborted"
    assert re.search(why, outcome.why), outcome.why
    assert predict(front, 10) == {"1": 10}
    eventually(lambda: servers(front) == before, "the candidate is gone, and the former servers are the same")


@pytest.mark.long
async def test_without_requests_nothing_is_known(front: LocalServing, tmp_path: Path) -> None:
    outcome = await rolled(work(front, tmp_path, CANARY))
    assert outcome.result == "aborted"
    assert "too little traffic" in outcome.why
    assert (await rolled(work(front, tmp_path, CANARY | {"no_traffic": "pass"}, who="two"))).result == "done"


async def test_the_first_model_has_nothing_beside_it(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert (await rolled(work(serving, tmp_path, CANARY))).result == "done"
    assert predict(serving, 3) == {"2": 3}


async def test_whoever_dies_meanwhile_the_next_one_goes_on(front: LocalServing, tmp_path: Path) -> None:
    wanted = work(front, tmp_path, CANARY | {"interval": "8s"})
    async with crowd(front):
        dying = asyncio.create_task(rolled(wanted))
        await asyncio.to_thread(eventually, lambda: counted(front).get("candidate"), "the candidate has requests")
        dying.cancel()
        with suppress(asyncio.CancelledError):
            await dying
        before = servers(front)
        asked = eventually(lambda: traffic(front).by_code("candidate").get("200"), "they are noted")
        os.kill(front.ensure_front().process.pid, signal.SIGKILL)
        outcome = await rolled(wanted)
    assert outcome.result == "done"
    assert outcome.steps[:2] == ("25 %", "100 %"), "no step is repeated"
    assert asked > 0
    assert servers(front) & before, "the candidate's server was adopted"
    assert predict(front, 5) == {"2": 5}


def traffic(serving: LocalServing) -> Traffic:
    return read(serving.folder.endpoint("wine").traffic_path, Traffic) or Traffic()


def test_a_killed_front_forgets_neither_shares_nor_counts(front: LocalServing, tmp_path: Path) -> None:
    beside(front, tmp_path, 25)
    predict(front, 40)
    eventually(lambda: traffic(front).by_code("candidate") == {"200": 10}, "the requests are noted")
    os.kill(front.ensure_front().process.pid, signal.SIGKILL)
    front.ensure_front()
    assert predict(front, 40) == {"1": 30, "2": 10}
    eventually(lambda: traffic(front).by_code("candidate") == {"200": 20}, "it goes on counting")


async def test_somebody_else_may_deploy_meanwhile_and_the_rollout_stops(front: LocalServing, tmp_path: Path) -> None:
    async with crowd(front):
        rolling = asyncio.create_task(rolled(work(front, tmp_path, CANARY | {"interval": "30s"})))
        await asyncio.to_thread(eventually, lambda: counted(front).get("candidate"), "the candidate has requests")
        assert (await asyncio.to_thread(deploy, front, tmp_path, "3")).result == "ready"
        outcome = await rolling
    assert outcome.result == "stopped"
    assert predict(front, 5) == {"3": 5}


async def test_an_ab_test_stays(front: LocalServing, tmp_path: Path) -> None:
    ab = {"strategy": "ab", "weight": 50, "interval": "1s", "check_every": "1s", "analysis": ERRORS}
    async with crowd(front):
        outcome = await rolled(work(front, tmp_path, ab))
    assert outcome.result == "staying"
    # The front begins its turns anew when it takes notice of the last wish, which may be now.
    assert 4 <= predict(front, 10)["1"] <= 6


async def test_a_shadow_that_does_well_takes_over(front: LocalServing, tmp_path: Path) -> None:
    shadow = {"strategy": "shadow", "interval": "2s", "check_every": "1s", "analysis": ERRORS}
    async with crowd(front) as users:
        outcome = await rolled(work(front, tmp_path, shadow))
    assert outcome.result == "done"
    assert users.refused == []
    assert predict(front, 10) == {"2": 10}


@pytest.mark.parametrize(("measured", "result"), [(0.9, "done"), (0.1, "kept")])
async def test_a_winner_is_chosen_by_a_query_of_ones_own(
    front: LocalServing, tmp_path: Path, measured: float, result: str
) -> None:
    ab = {
        "strategy": "ab",
        "interval": "1s",
        "check_every": "1s",
        "analysis": [{"name": "clicks", "query": 'clicks{p="$predictor"}', "min": 0.0}],
        "winner": {"query": 'clicks{p="$predictor"}', "best": "max"},
    }
    asked: list[str] = []

    async def ask(query: str) -> Answer:
        asked.append(query)
        value = measured if "candidate" in query else 0.5
        return Answer(kind="vector", samples=(Sample(labels={}, value=value),))

    async def running(who: Who) -> bool:
        return False

    wanted = work(front, tmp_path, ab)
    around = LocalAround(front, wanted.serving, wanted.rollout, ask, running, log.info)
    async with crowd(front), asyncio.timeout(PATIENCE.total_seconds()):
        await around.refresh()
        outcome = await Rolling(wanted.plan(), around).run()
    assert outcome.result == result
    assert set(asked) == {'clicks{p="candidate"}', 'clicks{p="main"}'}
    assert predict(front, 4) == {"2" if result == "done" else "1": 4}


async def test_a_person_says_yes_in_the_middle(front: LocalServing, tmp_path: Path) -> None:
    wanted = work(front, tmp_path, CANARY | {"pause": {"after": 25, "users": ["ada"]}})
    async with crowd(front):
        assert (await rolled(wanted)).result == "paused"
        assert (await rolled(wanted)).result == "paused", "a retry asks nobody again"
        outcome = await rolled(wanted.model_copy(update={"answer": "approved"}))
    assert outcome.result == "done"
    assert predict(front, 4) == {"2": 4}


async def test_a_candidate_is_judged_while_a_person_is_asked(front: LocalServing, tmp_path: Path) -> None:
    wanted = work(front, tmp_path, CANARY | {"pause": {"after": 25, "users": ["ada"]}})
    async with crowd(front):
        assert (await rolled(wanted)).result == "paused"
        (wanted.servers.folder / "bad").touch()
        outcome = await rolled(wanted.model_copy(update={"answer": "awaited"}))
    assert outcome.result == "aborted"
    assert "the analysis failed at 25 %" in outcome.why
    assert predict(front, 4) == {"1": 4}


async def test_the_trigger_tells_what_goes_wrong(front: LocalServing, tmp_path: Path) -> None:
    trigger = LocalRolloutTrigger(work(front, tmp_path, CANARY).model_dump(mode="json", exclude_unset=True))
    path, arguments = trigger.serialize()
    assert path == "airflow_mlplatform.triggers.local_rollout.LocalRolloutTrigger"
    event = await anext(LocalRolloutTrigger(**arguments).run())
    assert read_end(event.payload).result().result == "aborted"


def test_what_an_older_front_wrote_is_understood(front: LocalServing) -> None:
    wish = front.wish("wine")
    assert wish is not None
    former = wish.model_dump(mode="json", exclude={"candidate", "notes"})
    assert Wish.model_validate(former).division == wish.division
    assert timedelta(seconds=wish.ready_timeout) > timedelta(0)
