from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import CheckFailed, NotFound, PromotionConflict, ServiceUnavailable
from airflow_mlplatform.promotion.lock import AliasLock
from airflow_mlplatform.promotion.promote import Promotion, promote
from airflow_mlplatform.promotion.waiting import look
from airflow_mlplatform.specs.deployment import Gate, GateMetric, ModelRef
from tests.unit.promotion.fake_registry import FakeRegistry, down

if TYPE_CHECKING:
    import httpx

    from airflow_mlplatform.promotion.verdict import Verdict

WINE = ModelRef(name="wine")


@pytest.fixture
def registry() -> FakeRegistry:
    return FakeRegistry()


def verdict(registry: FakeRegistry, **gate: Any) -> Verdict:
    return drive(look(WINE, Gate(**gate)), registry.client().http)[0]


def promoted(registry: FakeRegistry, found: Verdict, owner: str = "dag/run/promote") -> Promotion:
    return promote(registry.client(), found, owner)


def test_the_first_champion(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=0.8)
    done = promoted(registry, verdict(registry))
    assert (done.version.version, done.former, done.moved) == (1, None, True)
    assert registry.alias("champion") == 1
    assert registry.alias("previous-champion") is None
    assert registry.tags(1)["mlplatform.promoted_by"] == "dag/run/promote"
    assert "mlplatform.promoted_at" in registry.tags(1)


def test_the_former_champion_keeps_an_alias(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    done = promoted(registry, verdict(registry))
    assert done.former == 1
    assert (registry.alias("champion"), registry.alias("previous-champion")) == (2, 1)


def test_the_lock_is_gone_afterwards(registry: FakeRegistry) -> None:
    registry.train(alias="challenger")
    promoted(registry, verdict(registry))
    assert set(registry.models) == {"wine"}


def test_twice_is_once(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    found = verdict(registry)
    promoted(registry, found)
    at = registry.tags(2)["mlplatform.promoted_at"] = "long ago"
    again = promoted(registry, found)
    assert not again.moved
    assert registry.tags(2)["mlplatform.promoted_at"] == at
    assert (registry.alias("champion"), registry.alias("previous-champion")) == (2, 1)


@pytest.mark.parametrize("compared_with_nobody", [True, False])
def test_another_champion_since_the_comparison_is_a_conflict(
    registry: FakeRegistry, compared_with_nobody: bool
) -> None:
    registry.train(alias=None if compared_with_nobody else "champion")
    registry.train(alias="challenger")
    found = verdict(registry)
    registry.train(alias="champion")
    with pytest.raises(PromotionConflict, match=r"version 3 now.*version 2 was compared with .*run the DAG again"):
        promoted(registry, found)
    assert registry.alias("champion") == 3
    assert registry.alias("previous-champion") is None
    assert set(registry.models) == {"wine"}


def test_a_champion_that_vanished_is_a_conflict(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    found = verdict(registry)
    del registry.models["wine"]["aliases"]["champion"]
    with pytest.raises(PromotionConflict, match="nobody now"):
        promoted(registry, found)


def test_a_refused_candidate_is_not_promoted(registry: FakeRegistry) -> None:
    registry.train(alias="challenger", rmse=2.0)
    with pytest.raises(CheckFailed, match="is above 1"):
        promoted(registry, verdict(registry, metrics=[GateMetric(name="rmse", max=1)]))
    assert registry.alias("champion") is None


def test_a_deleted_candidate_moves_nothing(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    found = verdict(registry)
    del registry.models["wine"]["versions"][2]
    with pytest.raises(NotFound):
        promoted(registry, found)
    assert (registry.alias("champion"), registry.alias("previous-champion")) == (1, None)


def test_dying_before_any_request_leaves_what_a_retry_completes(registry: FakeRegistry) -> None:
    registry.train(alias="champion")
    registry.train(alias="challenger")
    found = verdict(registry)
    before = len(registry.requests)
    promoted(FakeRegistry(**copied(registry)), found)
    steps = 14  # more than a promotion needs

    for step in range(steps):
        mine = FakeRegistry(**copied(registry))
        left = step

        def dies(request: httpx.Request) -> httpx.Response | None:
            nonlocal left
            left -= 1
            return down(request) if left < 0 else None

        mine.fault = dies
        try:
            promoted(mine, found)
        except ServiceUnavailable:
            mine.fault = lambda request: None
            promoted(mine, found)
        assert (mine.alias("champion"), mine.alias("previous-champion")) == (2, 1), f"after {step} requests"
        assert "mlplatform.promoted_at" in mine.tags(2), f"after {step} requests"
        assert set(mine.models) == {"wine"}, f"after {step} requests"
    assert len(registry.requests) == before


def copied(registry: FakeRegistry) -> dict[str, Any]:
    from copy import deepcopy

    return {"models": deepcopy(registry.models), "runs": deepcopy(registry.runs)}


class Clock:
    """A clock that moves only while somebody pauses."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def lock(registry: FakeRegistry, owner: str, clock: Clock) -> AliasLock:
    return AliasLock(registry.client(), "wine", "champion", owner, clock=clock, pause=clock.pause)


def test_the_lock_of_a_dead_promoter_is_broken_after_its_lease(registry: FakeRegistry) -> None:
    clock = Clock()
    lock(registry, "dead", clock)._acquire()
    with lock(registry, "heir", clock).held():
        assert 30 < clock.now < 40
    assert registry.models == {}


def test_a_retry_takes_its_own_lock_at_once(registry: FakeRegistry) -> None:
    clock = Clock()
    lock(registry, "task", clock)._acquire()
    with lock(registry, "task", clock).held():
        assert clock.now < 1


def test_a_lock_that_changes_hands_is_not_broken_but_ends_in_an_outage(registry: FakeRegistry) -> None:
    clock = Clock()
    lock(registry, "busy", clock)._acquire()

    def busy(seconds: float) -> None:
        clock.pause(10)
        registry.models["wine.champion.lock"]["tags"]["mlplatform.lock.token"] = f"at {clock.now}"

    waiting = AliasLock(registry.client(), "wine", "champion", "patient", clock=clock, pause=busy)
    with pytest.raises(ServiceUnavailable, match="locked by busy for 120 s"):
        waiting._acquire()
    assert "wine.champion.lock" in registry.models


def test_who_lost_the_lock_does_not_release_that_of_another(registry: FakeRegistry) -> None:
    clock = Clock()
    slow = lock(registry, "slow", clock)
    with slow.held(), lock(registry, "fast", clock).held():
        assert not slow.mine()
        slow._release()
        assert "wine.champion.lock" in registry.models
    assert registry.models == {}


def test_many_threads_hold_the_lock_one_by_one(registry: FakeRegistry) -> None:
    inside: list[str] = []
    most = 0

    def work(owner: str) -> None:
        nonlocal most
        with AliasLock(registry.client(), "wine", "champion", owner, pause=lambda seconds: None).held():
            inside.append(owner)
            most = max(most, len(inside))
            inside.remove(owner)

    threads = [threading.Thread(target=work, args=(f"task-{index}",)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert most == 1
    assert registry.models == {}
