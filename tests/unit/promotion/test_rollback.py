from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.exceptions import ConfigurationError, PromotionConflict, ServiceUnavailable
from airflow_mlplatform.promotion.promote import promote
from airflow_mlplatform.promotion.rollback import Rollback, plan_rollback, roll_back
from airflow_mlplatform.promotion.waiting import look
from airflow_mlplatform.specs.deployment import Gate, ModelRef
from tests.unit.promotion.fake_registry import FakeRegistry, down

if TYPE_CHECKING:
    import httpx

    from airflow_mlplatform.promotion.verdict import Verdict

WINE = ModelRef(name="wine")


@pytest.fixture
def registry() -> FakeRegistry:
    """Version 2 is the champion, version 1 the one before."""
    registry = FakeRegistry()
    registry.train(alias="previous-champion")
    registry.train(alias="champion")
    return registry


def rolled(registry: FakeRegistry, owner: str = "dag/run/rollback") -> Rollback:
    return roll_back(registry.client(), WINE, owner)


def aliases(registry: FakeRegistry) -> dict[str, int]:
    found: dict[str, int] = registry.models["wine"]["aliases"]
    return found


BACK = {"champion": 1, "rolled-back-champion": 2}


def test_back_to_the_champion_before(registry: FakeRegistry) -> None:
    done = rolled(registry)
    assert (done.leaves, done.back_to, done.done) == (2, 1, True)
    assert aliases(registry) == BACK
    assert registry.tags(2)["mlplatform.rolled_back_by"] == "dag/run/rollback"
    assert registry.tags(1)["mlplatform.promoted_by"] == "dag/run/rollback"
    assert set(registry.models) == {"wine"}, "the lock is gone"


def test_a_retry_does_not_swap_again(registry: FakeRegistry) -> None:
    assert rolled(registry) == rolled(registry)
    assert aliases(registry) == BACK


def test_a_second_rollback_does_not_bring_the_bad_one_back(registry: FakeRegistry) -> None:
    rolled(registry)
    with pytest.raises(ConfigurationError, match=r"nothing to go back to: version 1 is the champion and no version"):
        rolled(registry, "dag/impatient/rollback")
    assert aliases(registry) == BACK


def test_what_is_planned_moves_nothing_and_stays_the_plan(registry: FakeRegistry) -> None:
    client = registry.client()
    planned = plan_rollback(client, WINE, "me")
    assert (planned.leaves, planned.back_to, planned.done) == (2, 1, False)
    assert aliases(registry) == {"previous-champion": 1, "champion": 2}
    done = roll_back(client, WINE, "me")
    assert plan_rollback(client, WINE, "me") == done
    assert aliases(registry) == BACK


def test_it_may_die_before_any_request(registry: FakeRegistry) -> None:
    for fatal in count():
        asked = count()

        def dying(request: httpx.Request, fatal: int = fatal, asked: count[int] = asked) -> httpx.Response | None:
            return down(request) if next(asked) >= fatal else None

        died = FakeRegistry()
        died.train(alias="previous-champion")
        died.train(alias="champion")
        died.fault = dying
        try:
            rolled(died)
        except ServiceUnavailable:
            died.fault = lambda request: None
            assert rolled(died).back_to == 1
            assert aliases(died) == BACK
            assert set(died.models) == {"wine"}
        else:
            break
    assert fatal > 10


def test_a_promotion_meanwhile_is_a_conflict(registry: FakeRegistry) -> None:
    plan_rollback(registry.client(), WINE, "me")
    registry.train(alias="champion")
    with pytest.raises(PromotionConflict, match=r"on version 3 now.*from version 2 to version 1"):
        rolled(registry, "me")
    assert aliases(registry) == {"previous-champion": 1, "champion": 3}


def test_a_rollback_cleared_after_a_promotion_moves_nothing(registry: FakeRegistry) -> None:
    rolled(registry)
    registry.models["wine"]["aliases"] |= {"champion": 2, "previous-champion": 1}
    with pytest.raises(PromotionConflict, match="trigger a new rollback"):
        rolled(registry)
    assert registry.alias("champion") == 2


@pytest.mark.parametrize(
    ("there", "why"),
    [
        ({}, "no version bears the alias 'champion'"),
        ({"champion": 2}, "no version bears the alias 'previous-champion'"),
        ({"champion": 2, "previous-champion": 2}, "bears both aliases"),
    ],
)
def test_nothing_to_go_back_to(registry: FakeRegistry, there: dict[str, int], why: str) -> None:
    registry.models["wine"]["aliases"] = dict(there)
    with pytest.raises(ConfigurationError, match=why):
        rolled(registry)
    assert aliases(registry) == there


def test_an_unknown_model(registry: FakeRegistry) -> None:
    with pytest.raises(ConfigurationError, match="no registered model 'beer'"):
        roll_back(registry.client(), ModelRef(name="beer"), "me")


def judged(registry: FakeRegistry) -> Verdict:
    return drive(look(WINE, Gate()), registry.client().http)[0]


def test_what_was_rolled_back_does_not_return_by_itself(registry: FakeRegistry) -> None:
    aliases(registry)["challenger"] = 2
    rolled(registry)
    refused = judged(registry)
    assert refused.outcome == "refused"
    assert "rolled it back" in refused.reasons[0].text
    del registry.tags(2)["mlplatform.rolled_back_at"]
    assert judged(registry).promote


def test_a_promotion_that_is_cleared_after_the_rollback_does_not_undo_it() -> None:
    registry = FakeRegistry()
    registry.train(alias="champion")
    registry.train(alias="challenger")
    verdict = judged(registry)
    promote(registry.client(), verdict, "dag/run/promote")
    rolled(registry)
    with pytest.raises(PromotionConflict, match="rolled it back"):
        promote(registry.client(), verdict, "dag/run/promote")
    assert registry.alias("champion") == 1
