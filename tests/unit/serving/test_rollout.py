"""Rollouts from their beginning to their end: what serves then, and on the way."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ProcessFailed, ServiceRefused
from airflow_mlplatform.serving.manifest import SeldonManifest
from airflow_mlplatform.serving.model import ServableModel
from airflow_mlplatform.serving.plan import RolloutPlan
from airflow_mlplatform.serving.predictor import mark_of
from airflow_mlplatform.serving.rolling import Rolling
from airflow_mlplatform.serving.state import OUTCOME, STATE, Outcome, Who, outcome_of, state_of
from airflow_mlplatform.serving.wished import Rescaled
from airflow_mlplatform.specs.deployment import Rollout, Serving
from tests.unit.serving.fake_seldon import BEGIN, FakeSeldon, Killed

Json = dict[str, Any]

SERVING = Serving.model_validate({"name": "wine", "namespace": "models", "ready_timeout": "10m"}, strict=False)
ANALYSIS = [{"name": "errors", "metric": "error-rate", "max": 0.01}]
LOOKS = {"check_every": "2m", "analysis": ANALYSIS}
CANARY = {"strategy": "canary", "steps": [5, 25, 50, 100], "interval": "10m", **LOOKS}
AB = {"strategy": "ab", "weight": 30, "interval": "20m", **LOOKS}
WINNER = {"query": 'x{p="$predictor"}', "best": "max"}
SHADOW = {"strategy": "shadow", "weight": 20, "interval": "10m", **LOOKS}
STRATEGIES: dict[str, Json] = {
    "all-at-once": {},
    "canary": CANARY,
    "ab": AB,
    "ab-winner": {**AB, "winner": WINNER},
    "shadow": SHADOW,
}


def plan(version: int, rollout: Json | None = None, task: str = "a", **more: Any) -> RolloutPlan:
    model = ServableModel(name="wine", version=str(version), run_id="r", uri=f"s3://models/wine/v{version}")
    who = Who(id=task, attempt=more.pop("attempt", 1), dag_id="wine", run_id=task, task_id="deploy")
    return RolloutPlan(
        resource=SeldonManifest(SERVING, model),
        rollout=Rollout.model_validate(rollout or {}, strict=False),
        ready_timeout=SERVING.ready_timeout,
        who=who,
        model="wine",
        version=str(version),
        **more,
    )


def roll(seldon: FakeSeldon, wanted: RolloutPlan) -> Outcome:
    async def run() -> Outcome:
        await seldon.refresh()
        return await Rolling(wanted, seldon).run()

    return asyncio.run(run())


def serving(version: int = 1, **more: Any) -> FakeSeldon:
    """A cluster on which a version serves."""
    seldon = FakeSeldon()
    roll(seldon, plan(version, task="first"))
    seldon.at, seldon.applied_at = BEGIN, BEGIN - timedelta(hours=1)
    seldon.writes, seldon.requests, seldon.told = [], 0, []
    for name, value in more.items():
        setattr(seldon, name, value)
    return seldon


def shape(spec: Json) -> list[tuple[str, str, int | None, bool]]:
    return [
        (one["name"], one["graph"]["modelUri"][-2:], one.get("traffic"), bool(one.get("shadow")))
        for one in spec["predictors"]
    ]


def notes(seldon: FakeSeldon) -> set[str]:
    assert seldon.stored is not None
    return {STATE, OUTCOME} & set(seldon.stored["metadata"]["annotations"])


def whole(seldon: FakeSeldon) -> Json | None:
    """All that is there in the end, apart from the moments."""
    if seldon.stored is None:
        return None
    metadata = {key: value for key, value in seldon.stored["metadata"].items() if key not in COUNTERS}
    metadata["annotations"] = {key: value for key, value in metadata["annotations"].items() if key != OUTCOME}
    outcome = outcome_of(seldon.stored)
    told = outcome.model_dump(exclude={"at"}) if outcome else None
    return {"metadata": metadata, "spec": seldon.stored["spec"], "outcome": told}


COUNTERS = ("resourceVersion", "generation")


def test_the_first_model_is_served_at_once_whatever_the_strategy() -> None:
    seldon = FakeSeldon()
    outcome = roll(seldon, plan(1, CANARY))
    assert (outcome.result, outcome.former_version) == ("done", "")
    assert [shape(spec) for spec in seldon.writes] == [[("main", "v1", 100, False)]]
    assert notes(seldon) == {OUTCOME}


def test_a_canary_goes_step_by_step_and_leaves_one_predictor() -> None:
    seldon = serving()
    outcome = roll(seldon, plan(2, CANARY))
    assert [shape(spec) for spec in seldon.writes] == [
        *([("main", "v1", 100 - share, False), ("candidate", "v2", share, False)] for share in (5, 25, 50, 100)),
        [("main", "v2", 0, False), ("candidate", "v2", 100, False)],
        [("main", "v2", 100, False), ("candidate", "v2", 0, False)],
        [("main", "v2", 100, False)],
    ]
    assert (outcome.result, outcome.version, outcome.former_version) == ("done", "2", "1")
    assert outcome.steps[:4] == ("5 %", "25 %", "50 %", "100 %")
    assert seldon.at - BEGIN >= timedelta(minutes=40)
    assert notes(seldon) == {OUTCOME}


def test_a_shadow_gets_copies_and_then_replaces_the_model() -> None:
    seldon = serving()
    assert roll(seldon, plan(2, SHADOW)).result == "done"
    assert [shape(spec) for spec in seldon.writes] == [
        [("main", "v1", 100, False), ("candidate", "v2", 20, True)],
        [("main", "v2", 100, False)],
    ]


def test_an_ab_test_without_a_winner_stays_and_a_second_run_finds_it() -> None:
    seldon = serving()
    assert roll(seldon, plan(2, AB)).result == "staying"
    assert shape(seldon.spec()) == [("main", "v1", 70, False), ("candidate", "v2", 30, False)]
    assert roll(seldon, plan(2, AB, attempt=2)).result == "staying"
    assert len(seldon.writes) == 1


def test_the_winner_of_a_test_that_stayed_is_chosen_later() -> None:
    seldon = serving()
    roll(seldon, plan(2, AB))
    assert roll(seldon, plan(2, STRATEGIES["ab-winner"], task="b")).result == "done"
    assert shape(seldon.spec()) == [("main", "v2", 100, False)]


def test_a_candidate_that_loses_its_test_goes() -> None:
    seldon = serving(winner="main")
    before = seldon.spec()
    outcome = roll(seldon, plan(2, STRATEGIES["ab-winner"]))
    assert outcome.result == "kept"
    assert seldon.spec() == before


@pytest.mark.parametrize("strategy", ["canary", "ab", "shadow"])
def test_a_failed_analysis_restores_exactly_what_served(strategy: str) -> None:
    seldon = serving(verdicts=lambda at: "fail" if at > BEGIN + timedelta(minutes=5) else "pass")
    before = whole(seldon)
    assert before is not None
    outcome = roll(seldon, plan(2, STRATEGIES[strategy]))
    after = whole(seldon)
    assert after is not None
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "analysis failed" in outcome.why
    assert (after["spec"], after["metadata"]) == (before["spec"], before["metadata"])


def test_servers_that_never_come_up_are_taken_back() -> None:
    seldon = serving(bad={"s3://models/wine/v2"})
    before = seldon.spec()
    outcome = roll(seldon, plan(2))
    assert (outcome.result, outcome.lasting) == ("aborted", False)
    assert "not ready within 600 s" in outcome.why
    assert seldon.spec() == before


def test_a_first_model_that_never_comes_up_is_removed() -> None:
    seldon = FakeSeldon(bad={"s3://models/wine/v1"})
    outcome = roll(seldon, plan(1))
    assert (outcome.result, seldon.stored) == ("aborted", None)
    assert "Nothing served before" in outcome.why


def test_failed_looks_in_a_row_are_borne_as_often_as_the_spec_says() -> None:
    answers = itertools.cycle(["pass", "fail", "pass"])

    def sometimes(_: datetime) -> str:
        return next(answers)

    borne = {**CANARY, "failures": 1}
    assert roll(serving(verdicts=sometimes), plan(2, borne)).result == "done"
    assert roll(serving(verdicts=lambda _: "fail"), plan(2, borne)).result == "aborted"


@pytest.mark.parametrize(("means", "result"), [("fail", "aborted"), ("pass", "done"), ("wait", "aborted")])
def test_no_traffic_means_what_the_spec_says(means: str, result: str) -> None:
    seldon = serving(verdicts=lambda _: "no-traffic")
    outcome = roll(seldon, plan(2, {**CANARY, "no_traffic": means}))
    assert outcome.result == result
    if means == "wait":
        assert seldon.at - BEGIN >= timedelta(minutes=100)


def test_a_candidate_without_traffic_waits_for_it() -> None:
    seldon = serving(verdicts=lambda at: "pass" if at > BEGIN + timedelta(minutes=30) else "no-traffic")
    assert roll(seldon, plan(2, {**CANARY, "no_traffic": "wait"})).result == "done"


def test_prometheus_may_be_away_for_a_while() -> None:
    away = BEGIN + timedelta(minutes=14), BEGIN + timedelta(minutes=20)
    seldon = serving(verdicts=lambda at: None if away[0] < at < away[1] else "pass")
    assert roll(seldon, plan(2, CANARY)).result == "done"


def test_prometheus_away_for_too_long_aborts_and_another_try_may_help() -> None:
    seldon = serving(verdicts=lambda at: None if at > BEGIN + timedelta(minutes=14) else "pass")
    before = seldon.spec()
    outcome = roll(seldon, plan(2, CANARY))
    assert (outcome.result, outcome.lasting) == ("aborted", False)
    assert "no answer for 600 s at 25 %" in outcome.why
    assert "Prometheus does not answer" in outcome.why
    assert seldon.spec() == before


def test_the_operator_may_be_away_for_a_while() -> None:
    seldon = serving(down=(timedelta(minutes=8), timedelta(minutes=15)))
    assert roll(seldon, plan(2, CANARY)).result == "done"
    assert any("operator does not answer" in line for line in seldon.told)


def test_an_operator_away_for_too_long_fails_the_task_and_a_retry_goes_on() -> None:
    seldon = serving(down=(timedelta(minutes=8), timedelta(minutes=40)))
    with pytest.raises(ProcessFailed, match=r"failed calling webhook.*The rollout is at 5 %.*A retry goes on"):
        roll(seldon, plan(2, CANARY))
    assert shape(seldon.spec())[1] == ("candidate", "v2", 5, False)
    seldon.at = BEGIN + timedelta(minutes=41)
    assert roll(seldon, plan(2, CANARY, attempt=2)).result == "done"
    assert len(seldon.writes) == 7


def test_the_way_back_survives_an_operator_that_is_away() -> None:
    away = timedelta(minutes=8), timedelta(minutes=40)
    seldon = serving(down=away, verdicts=lambda at: "fail" if at > BEGIN + away[0] else "pass")
    before = seldon.spec()
    with pytest.raises(ProcessFailed, match="A retry goes on"):
        roll(seldon, plan(2, CANARY))
    seldon.at = BEGIN + timedelta(minutes=41)
    assert roll(seldon, plan(2, CANARY, attempt=2)).result == "aborted"
    assert seldon.spec() == before


def test_what_a_person_changes_meanwhile_stays_and_stops_the_rollout() -> None:
    def change(resource: Json) -> None:
        resource["spec"]["predictors"][0]["traffic"] = 60
        resource["spec"]["predictors"][1]["traffic"] = 40

    seldon = serving(agenda=[(timedelta(minutes=5), lambda it: it.edit(change))])
    outcome = roll(seldon, plan(2, CANARY))
    assert (outcome.result, outcome.lasting) == ("stopped", True)
    assert "kubectl-edit at t changed spec.predictors[0].traffic from 95 to 60" in outcome.why
    assert shape(seldon.spec()) == [("main", "v1", 60, False), ("candidate", "v2", 40, False)]
    assert notes(seldon) == {OUTCOME}


def test_what_a_person_adds_to_a_predictor_is_noticed_too() -> None:
    seldon = serving(
        agenda=[(timedelta(minutes=5), lambda it: it.edit(lambda one: one["spec"]["predictors"][0].update(new=1)))]
    )
    assert roll(seldon, plan(2, CANARY)).result == "stopped"


def test_fields_of_others_stay() -> None:
    seldon = serving(agenda=[(timedelta(minutes=5), lambda it: it.edit(lambda one: one["spec"].update(replicas=3)))])
    assert roll(seldon, plan(2, CANARY)).result == "done"
    assert seldon.spec()["replicas"] == 3


def test_a_resource_that_is_removed_meanwhile_stops_the_rollout() -> None:
    seldon = serving(agenda=[(timedelta(minutes=5), FakeSeldon.delete)])
    outcome = roll(seldon, plan(2, CANARY))
    assert (outcome.result, seldon.stored) == ("stopped", None)
    assert "removed meanwhile" in outcome.why


def test_a_second_run_of_a_finished_task_changes_nothing() -> None:
    seldon = serving()
    roll(seldon, plan(2, CANARY))
    written = len(seldon.writes)
    assert roll(seldon, plan(2, CANARY, attempt=2)).result == "unchanged"
    assert roll(seldon, plan(2, CANARY, task="b")).result == "unchanged"
    assert len(seldon.writes) == written
    assert roll(seldon, plan(3, CANARY, task="b", attempt=2)).result == "done"


def test_an_aborted_rollout_is_tried_again_by_another_try_only() -> None:
    seldon = serving(verdicts=lambda at: "fail" if at < BEGIN + timedelta(hours=1) else "pass")
    assert roll(seldon, plan(2, CANARY)).result == "aborted"
    written = len(seldon.writes)
    seldon.at = BEGIN + timedelta(hours=1)
    assert roll(seldon, plan(2, CANARY)).result == "aborted"
    assert len(seldon.writes) == written
    assert roll(seldon, plan(2, CANARY, attempt=2)).result == "done"


def test_without_an_ingress_nothing_is_applied() -> None:
    seldon = serving(splits=False)
    with pytest.raises(ConfigurationError, match="canary is refused, nothing was applied: there is no ingress"):
        roll(seldon, plan(2, CANARY))
    assert seldon.writes == []
    assert roll(seldon, plan(2)).result == "done"


def test_what_all_predictors_share_does_not_change_under_those_who_serve() -> None:
    seldon = serving()
    other = Serving.model_validate({**SERVING.model_dump(exclude_unset=True), "protocol": "seldon"}, strict=False)
    model = ServableModel(name="wine", version="2", uri="s3://models/wine/v2")
    wanted = plan(2, CANARY)
    with pytest.raises(ConfigurationError, match=r"spec\.protocol would change .* strategy: all-at-once first"):
        roll(seldon, replace(wanted, resource=SeldonManifest(other, model)))
    assert seldon.writes == []
    assert roll(seldon, replace(plan(2), resource=SeldonManifest(other, model))).result == "done"


def test_predictors_of_others_are_not_removed() -> None:
    seldon = serving()
    seldon.edit(lambda one: one["spec"]["predictors"].append({**one["spec"]["predictors"][0], "name": "theirs"}))
    with pytest.raises(ConfigurationError, match=r"has the predictors main, theirs; .* Nothing was applied"):
        roll(seldon, plan(2, CANARY))
    assert seldon.writes == []


@pytest.mark.parametrize("strategy", ["canary", "ab", "ab-winner", "shadow"])
@pytest.mark.parametrize("verdict", ["pass", "fail"])
def test_what_serves_bears_nothing_of_a_rollout_so_that_no_step_starts_it_anew(strategy: str, verdict: str) -> None:
    """The operator hands all that a predictor bears to its pods."""

    def bearing(predictor: Json) -> Json:
        return {key: value for key, value in predictor.items() if key != "traffic"}

    seldon = serving(verdicts=lambda _: verdict)
    there = bearing(seldon.spec()["predictors"][0])
    roll(seldon, plan(2, STRATEGIES[strategy]))
    old = [one for spec in seldon.writes for one in spec["predictors"] if one["graph"]["modelUri"] == V1]
    assert old
    assert all(bearing(one) == there for one in old)
    new = {mark_of(one) for spec in seldon.writes for one in spec["predictors"] if one["name"] == "candidate"}
    assert len(new) == 1
    assert "rollout" not in str(seldon.writes)


def interrupted(seldon: FakeSeldon, wanted: RolloutPlan) -> None:
    """Begin a rollout and die in its second step."""
    seldon.die_after = 9
    with pytest.raises(Killed):
        roll(seldon, wanted)
    assert state_of(seldon.stored) is not None


def test_a_second_rollout_waits_for_the_first() -> None:
    seldon = serving(owners={"a"})
    interrupted(seldon, plan(2, CANARY))

    def ends(it: FakeSeldon) -> None:
        it.owners.clear()

    seldon.agenda = [(timedelta(hours=2), ends)]
    before = len(seldon.writes)
    assert roll(seldon, plan(3, CANARY, task="b")).result == "done"
    assert any("waiting: wine / a / deploy is rolling out wine 2" in line for line in seldon.told)
    assert shape(seldon.writes[before]) == [("main", "v1", 95, False), ("candidate", "v3", 5, False)]
    assert seldon.at > BEGIN + timedelta(hours=2)


def test_a_second_rollout_is_refused_where_the_spec_says_so() -> None:
    seldon = serving(owners={"a"})
    interrupted(seldon, plan(2, CANARY))
    with pytest.raises(ConfigurationError, match=r"wine / a / deploy is rolling out.*refused"):
        roll(seldon, plan(3, {**CANARY, "when_busy": "refuse"}, task="b"))


def test_a_rollback_takes_over_from_a_rollout_which_then_stops() -> None:
    seldon = serving(owners={"a"})
    before = seldon.spec()
    interrupted(seldon, plan(2, CANARY))
    assert roll(seldon, plan(1, task="b", action="rollback")).result == "done"
    assert seldon.spec() == before
    assert notes(seldon) == {OUTCOME}

    wanted = replace(plan(1, task="c"), action="rollback")
    seldon = serving(owners={"a"})
    seldon.agenda = [(timedelta(minutes=5), lambda it: take_over(it, wanted))]
    outcome = roll(seldon, plan(2, CANARY))
    assert outcome.result == "stopped"
    assert "wine / c / deploy took over (rollback)" in outcome.why


def finish(seldon: FakeSeldon) -> None:
    """Let another driver bring the paused rollout to its end."""
    other = FakeSeldon(stored=seldon.stored, at=seldon.at, version=seldon.version, applied_at=seldon.applied_at)
    how = {**CANARY, "pause": {"after": 25, "users": ["ann"]}}

    async def run() -> None:
        await other.refresh()
        await Rolling(plan(2, how, answer="approved"), other).run()

    thread(run)
    seldon.stored, seldon.version, seldon.applied_at = other.stored, other.version, seldon.at


def take_over(seldon: FakeSeldon, wanted: RolloutPlan) -> None:
    other = FakeSeldon(stored=seldon.stored, at=seldon.at, version=seldon.version)

    async def first_write() -> None:
        await other.refresh()
        rolling = Rolling(wanted, other)
        while not other.writes:
            await rolling._once()

    thread(first_write)
    seldon.stored, seldon.version, seldon.applied_at = other.stored, other.version, other.applied_at


def thread(what: Callable[[], Any]) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(lambda: asyncio.run(what())).result()


def test_a_pause_ends_the_first_task_and_a_yes_lets_the_second_go_on() -> None:
    seldon = serving()
    how = {**CANARY, "pause": {"after": 25, "users": ["ann"]}}
    assert roll(seldon, plan(2, how)).result == "paused"
    assert shape(seldon.spec())[1] == ("candidate", "v2", 25, False)
    assert roll(seldon, plan(2, how, attempt=2)).result == "paused"
    assert roll(seldon, plan(2, how, answer="approved")).result == "done"
    assert len(seldon.writes) == 7


def test_a_no_at_a_pause_goes_back() -> None:
    seldon = serving()
    before = seldon.spec()
    how = {**CANARY, "pause": {"after": 25, "users": ["ann"]}}
    roll(seldon, plan(2, how))
    outcome = roll(seldon, plan(2, how, answer="rejected"))
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "rejected after 25 %" in outcome.why
    assert seldon.spec() == before
    assert roll(seldon, plan(2, how, answer="rejected", attempt=2)).result == "aborted"


def test_another_wish_of_the_same_task_begins_anew_from_what_served_first() -> None:
    seldon = serving()
    interrupted(seldon, plan(2, CANARY))
    assert roll(seldon, plan(3, {**CANARY, "steps": [50, 100]}, attempt=2)).former_version == "1"
    assert shape(seldon.spec()) == [("main", "v3", 100, False)]


V1, V2 = "s3://models/wine/v1", "s3://models/wine/v2"


@pytest.mark.parametrize("strategy", ["canary", "shadow"])
def test_a_champion_that_is_sick_for_a_while_stops_nothing_for_ever(strategy: str) -> None:
    """Longer than an interval and the time to become ready together."""
    seldon = serving(sick={V1: (timedelta(minutes=3), timedelta(hours=5))})
    assert roll(seldon, plan(2, STRATEGIES[strategy])).result == "done"
    assert seldon.at > BEGIN + timedelta(hours=5)
    assert any("main, which served before, is not well, and candidate is" in line for line in seldon.told)
    assert shape(seldon.spec()) == [("main", "v2", 100, False)]


def test_a_candidate_is_judged_while_the_champion_is_sick() -> None:
    seldon = serving(
        sick={V1: (timedelta(minutes=8), timedelta(days=2))},
        verdicts=lambda at: "fail" if at > BEGIN + timedelta(hours=1) else "pass",
    )
    before = seldon.spec()
    outcome = roll(seldon, plan(2, CANARY))
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "the analysis failed at 5 %" in outcome.why
    assert "put back, but is not well either" in outcome.why
    assert seldon.spec() == before
    assert seldon.at < BEGIN + timedelta(hours=2)


def test_servers_that_lack_for_a_moment_after_a_long_time_have_time_to_come_back() -> None:
    """A pod of the candidate is rescheduled in the tenth hour of a pause: nothing fails."""
    seldon = serving(servers_start=timedelta(minutes=1))
    roll(seldon, plan(2, PAUSED))
    seldon.agenda = [(timedelta(hours=9), anew), (timedelta(hours=10), answered)]
    with pytest.raises(Killed):
        roll(seldon, plan(2, PAUSED, answer="awaited"))
    assert any("0 are available" in line for line in seldon.told)
    assert shape(seldon.spec())[1] == ("candidate", "v2", 25, False)


def anew(seldon: FakeSeldon) -> None:
    """All pods are lost and started again."""
    seldon.applied_at = seldon.at


def test_after_a_champion_was_sick_the_operator_has_time_to_notice() -> None:
    seldon = serving(sick={V1: (timedelta(minutes=3), timedelta(hours=5))})
    seldon.agenda = [(timedelta(hours=5), anew)]
    assert roll(seldon, plan(2, CANARY)).result == "done"


def test_a_champion_that_was_sick_before_is_not_what_a_canary_can_mend() -> None:
    seldon = serving(sick={V1: (timedelta(minutes=-9), timedelta(days=2))})
    outcome = roll(seldon, plan(2, CANARY))
    assert (outcome.result, outcome.lasting) == ("aborted", False)
    assert "replace it with strategy: all-at-once" in outcome.why
    assert roll(seldon, plan(2, task="b")).result == "done"


def test_a_candidate_that_becomes_sick_is_taken_back_also_if_the_champion_is() -> None:
    seldon = serving(
        sick={V1: (timedelta(minutes=3), timedelta(days=2)), V2: (timedelta(minutes=5), timedelta(days=2))}
    )
    outcome = roll(seldon, plan(2, CANARY))
    assert outcome.result == "aborted"
    assert "candidate: " in outcome.why
    assert "ValueError: sick" in outcome.why


def refusing(word: str) -> Callable[[Json], str]:
    """Refuse what contains a word, unless it leads back."""

    def refuse(manifest: Json) -> str:
        weights = [str(one["traffic"]) for one in manifest["spec"]["predictors"]]
        return f"admission webhook denied {word}" if word in weights else ""

    return refuse


@pytest.mark.parametrize("strategy", ["canary", "ab-winner", "shadow"])
def test_a_write_that_is_refused_later_brings_back_what_served(strategy: str) -> None:
    seldon = serving()
    before = whole(seldon)
    first = {"canary": 5, "ab-winner": 30, "shadow": 20}[strategy]
    written: list[Json] = []

    def refuse(manifest: Json) -> str:
        there = {one["name"]: (one["graph"]["modelUri"], one["traffic"]) for one in manifest["spec"]["predictors"]}
        written.append(there)
        back = there["main"][0] == V1 and there.get("candidate", (V2, 0))[1] == 0
        return "" if back or there.get("candidate", (V2, 0))[1] == first else "too many requests for that one"

    seldon.refuses = refuse
    outcome = roll(seldon, plan(2, STRATEGIES[strategy]))
    after = whole(seldon)
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "was refused: the Kubernetes API refused to patch it (422): too many requests for that one" in outcome.why
    assert before is not None
    assert after is not None
    assert (after["spec"], after["metadata"]) == (before["spec"], before["metadata"])


def test_a_way_back_that_is_refused_is_insisted_on_and_a_retry_goes_on() -> None:
    seldon = serving(refuses=lambda one: "" if one["spec"]["predictors"][-1]["traffic"] == 5 else "nothing goes")
    with pytest.raises(ProcessFailed, match=r"nothing goes\. It was borne for 600 s .* is at 5 %.*A retry goes on"):
        roll(seldon, plan(2, CANARY))
    assert shape(seldon.spec())[1] == ("candidate", "v2", 5, False)
    assert not any("operator does not answer" in line for line in seldon.told)
    seldon.refuses = lambda _: ""
    assert roll(seldon, plan(2, CANARY, attempt=2)).result == "done"


def test_a_refused_first_write_changes_nothing() -> None:
    seldon = serving(refuses=lambda _: "Traffic must sum to 100")
    with pytest.raises(ServiceRefused, match="Traffic must sum to 100"):
        roll(seldon, plan(2, CANARY))
    assert seldon.writes == []


def test_a_refused_new_wish_of_the_same_task_brings_back_what_served() -> None:
    seldon = serving()
    before = seldon.spec()
    interrupted(seldon, plan(2, CANARY))
    seldon.refuses = lambda one: "not v3" if "v3" in str(one["spec"]) else ""
    outcome = roll(seldon, plan(3, CANARY, attempt=2))
    assert outcome.result == "aborted"
    assert "not v3" in outcome.why
    assert seldon.spec() == before


PAUSED = {**CANARY, "pause": {"after": 25, "users": ["ann"]}}


def test_a_candidate_that_turns_bad_while_a_person_is_asked_is_taken_back() -> None:
    seldon = serving(verdicts=lambda at: "fail" if at > BEGIN + timedelta(hours=9) else "pass")
    before = seldon.spec()
    assert roll(seldon, plan(2, PAUSED)).result == "paused"
    outcome = roll(seldon, plan(2, PAUSED, answer="awaited"))
    assert (outcome.result, outcome.lasting) == ("aborted", True)
    assert "the analysis failed at 25 %" in outcome.why
    assert timedelta(hours=9) < seldon.at - BEGIN < timedelta(hours=10)
    assert seldon.spec() == before
    # Who was asked meanwhile may still say yes.
    assert roll(seldon, plan(2, PAUSED, answer="approved")).result == "aborted"
    assert seldon.spec() == before


def test_servers_that_fail_while_a_person_is_asked_are_taken_back() -> None:
    seldon = serving(sick={V2: (timedelta(hours=9), timedelta(days=2))})
    without = {**PAUSED, "analysis": []}
    assert roll(seldon, plan(2, without)).result == "paused"
    assert roll(seldon, plan(2, without, answer="awaited")).result == "aborted"


def test_too_little_traffic_says_nothing_while_a_person_is_asked() -> None:
    seldon = serving()
    roll(seldon, plan(2, PAUSED))
    seldon.verdicts = lambda _: "no-traffic"
    seldon.agenda = [(timedelta(hours=10), answered)]
    with pytest.raises(Killed):
        roll(seldon, plan(2, PAUSED, answer="awaited"))
    assert seldon.at >= BEGIN + timedelta(hours=10)
    assert shape(seldon.spec())[1] == ("candidate", "v2", 25, False)


def answered(_: FakeSeldon) -> None:
    raise Killed("the person has answered")


def test_a_first_model_that_failed_is_not_tried_again_by_a_driver_that_died_after_its_removal() -> None:
    calm = FakeSeldon(bad={V1})
    outcome = roll(calm, plan(1, CANARY))
    for request in range(1, calm.requests + 1):
        seldon = FakeSeldon(bad={V1}, die_after=request)
        with pytest.raises(Killed):
            roll(seldon, plan(1, CANARY))
        again = roll(seldon, plan(1, CANARY))
        assert (again.result, again.why) == (outcome.result, outcome.why), f"killed at request {request}"
        assert (seldon.stored, len(seldon.writes)) == (None, 1)
    # What differs is tried, and so is what another try may mend.
    seldon.bad = set()
    assert roll(seldon, plan(2, CANARY)).result == "done"
    seldon.delete()
    assert roll(seldon, plan(1, CANARY, attempt=2)).result == "done"


def test_other_numbers_of_servers() -> None:
    seldon = serving()
    wanted = replace(plan(1, task="s"), resource=Rescaled(lambda: seldon.live, 3), action="scale")
    assert roll(seldon, wanted).result == "done"
    assert [one["replicas"] for one in seldon.spec()["predictors"]] == [3]
    assert shape(seldon.spec()) == [("main", "v1", 100, False)]


def test_scaling_waits_for_a_rollout_and_keeps_what_that_has_left() -> None:
    seldon = serving(owners={"a"})
    seldon.agenda = [(timedelta(hours=1), lambda it: it.owners.clear())]
    roll(seldon, plan(2, {**CANARY, "pause": {"after": 25, "users": ["ann"]}}))
    seldon.agenda += [(timedelta(minutes=50), lambda it: finish(it))]
    wanted = replace(plan(1, task="s"), resource=Rescaled(lambda: seldon.live, 3), action="scale")
    assert roll(seldon, wanted).result == "done"
    assert shape(seldon.spec()) == [("main", "v2", 100, False)]
    assert [one["replicas"] for one in seldon.spec()["predictors"]] == [3]


ENDS: dict[str, Json] = {
    "well": {},
    "bad metrics": {"verdicts": lambda at: "fail" if at > BEGIN + timedelta(minutes=12) else "pass"},
    "bad servers": {"bad": {"s3://models/wine/v2"}},
    "candidate loses": {"winner": "main"},
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_driver_that_dies_after_any_request_is_continued_by_another(strategy: str, end: str) -> None:
    wanted = plan(2, STRATEGIES[strategy])
    calm = serving(**ENDS[end])
    outcome = roll(calm, wanted)
    assert calm.requests >= 4
    for request in range(1, calm.requests + 1):
        seldon = serving(**ENDS[end])
        seldon.die_after = request
        with pytest.raises(Killed):
            roll(seldon, wanted)
        again = roll(seldon, wanted)
        assert again.model_dump(exclude={"at"}) == outcome.model_dump(exclude={"at"}), f"killed at request {request}"
        assert whole(seldon) == whole(calm)
        assert seldon.writes == calm.writes
