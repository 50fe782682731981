from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.promotion.choice import choose
from airflow_mlplatform.promotion.judge import Contender
from airflow_mlplatform.specs.deployment import Candidates, Gate, ModelRef
from airflow_mlplatform.specs.training import Select
from tests.unit.promotion.builders import NOW, contender, run, version

if TYPE_CHECKING:
    from airflow_mlplatform.promotion.verdict import Verdict

NEWEST = Candidates(tags={"team": "risk"})
BEST = Candidates(select=Select(metric="rmse", best="min"))
LIMIT = {"metrics": [{"name": "rmse", "max": 0.9}]}


def chosen(
    among: Candidates,
    candidates: list[Contender],
    champion: Contender | None = None,
    gate: dict[str, Any] | None = None,
) -> Verdict:
    model = ModelRef(name="wine", candidates=among)
    return choose(Gate.model_validate(gate or LIMIT), model, candidates, champion, NOW)


def number(verdict: Verdict) -> int | None:
    return verdict.candidate.version if verdict.candidate else None


def test_the_newest_that_passes() -> None:
    found = chosen(NEWEST, [contender(3, rmse=0.5), contender(5, rmse=2.0), contender(4, rmse=0.8)])
    assert (found.outcome, number(found)) == ("promote", 4)
    assert found.reasons[0].text == (
        "it bears the tag team=risk, and is the newest that passes among those that could follow the champion (5, 4, 3)"
    )


def test_the_best_that_passes() -> None:
    found = chosen(BEST, [contender(3, rmse=0.5), contender(5, rmse=0.4, other=1.0), contender(4)])
    assert (found.outcome, number(found)) == ("promote", 5)


def test_where_none_passes_the_verdict_is_the_newests_or_the_bests() -> None:
    candidates = [contender(3, rmse=1.5), contender(5, rmse=3.0), contender(4, rmse=2.0)]
    assert [(chosen(among, candidates).outcome, number(chosen(among, candidates))) for among in (NEWEST, BEST)] == [
        ("refused", 5),
        ("refused", 3),
    ]


def test_one_that_may_pass_later_is_waited_for() -> None:
    young = Contender(version(4, age=timedelta(minutes=1)), run({"rmse": 0.5}))
    found = chosen(NEWEST, [contender(5, rmse=3.0), young], gate={**LIMIT, "min_age": "1h"})
    assert (found.outcome, number(found)) == ("pending", 4)


@pytest.mark.parametrize("among", [NEWEST, BEST])
def test_a_promotion_never_leads_back(among: Candidates) -> None:
    champion = contender(5, rmse=0.4)
    found = chosen(among, [contender(3, rmse=0.5), champion], champion)
    assert found.outcome == "already"
    assert chosen(among, [contender(3, rmse=0.5)], champion).outcome == "absent"


def test_the_best_may_be_older_than_the_champion_and_the_newest_worse() -> None:
    champion = contender(5, rmse=0.4)
    assert number(chosen(BEST, [contender(3, rmse=0.3)], champion)) == 3
    assert number(chosen(NEWEST, [contender(3, rmse=0.3), contender(6, rmse=0.8)], champion)) == 6


def test_a_champion_without_the_metric_can_be_followed_by_any() -> None:
    assert number(chosen(BEST, [contender(3, rmse=0.5)], contender(5))) == 3


def test_nobody_yet() -> None:
    found = chosen(Candidates(stage="Staging", tags={"a": "b"}), [])
    assert found.outcome == "absent"
    assert found.reasons[0].text == "no version of wine is in stage Staging and bears the tag a=b yet"
