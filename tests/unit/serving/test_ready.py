"""Readiness: recorded states of the real operator with their traps, and what pods and events tell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from airflow_mlplatform.serving.ingress import uses_istio
from airflow_mlplatform.serving.predictor import MARK
from airflow_mlplatform.serving.ready import Failure, readiness
from airflow_mlplatform.serving.seen import Seen
from tests.unit.serving.recorded_seldon import Moment, deployment, moments, seen, virtual_service

Json = dict[str, Any]

FIRST_AVAILABLE = 5


def at(time: str) -> Moment:
    return next(one for one in moments() if one.at.startswith(time))


class TestTraps:
    """None of the operator's states is believed before the Deployments, and none of theirs before its."""

    @pytest.mark.parametrize("moment", moments(), ids=lambda one: one.at)
    @pytest.mark.parametrize("progress", ["former", "rolling"])
    def test_nothing_is_ready_before_its_deployments(self, moment: Moment, progress: Any) -> None:
        assert not readiness(seen(moment, progress)).ready

    @pytest.mark.parametrize("moment", [one for one in moments() if one.state != "Available"], ids=lambda one: one.at)
    def test_nothing_is_ready_before_the_operator_says_so(self, moment: Moment) -> None:
        found = readiness(seen(moment))
        # Servers that are to have no pods stay Creating for ever (5).
        assert found.ready == any(one.get("replicas") == 0 for one in moment.sdep["spec"]["predictors"])

    @pytest.mark.parametrize("generation", [2, 3, 4, 5, 11])
    def test_the_end_of_each_change_is_ready(self, generation: int) -> None:
        iris = [one for one in moments() if one.generation == generation and not uses_istio(one.sdep)]
        last = next(one for one in reversed(iris) if one.state)
        assert readiness(seen(last)).ready

    def test_1_a_state_that_is_late_is_of_the_former_spec(self) -> None:
        late = at("15:56:29.376")
        assert (late.state, late.generation) == ("Available", 2)
        main = late.sdep["spec"]["predictors"][0]
        found = readiness(Seen(late.sdep, [deployment(main)]))
        assert not found.ready
        assert "challenger: the operator has not made Deployment iris-challenger-0-classifier yet" in found.account

    def test_2_a_false_flash(self) -> None:
        flash = at("15:57:31.677")
        assert flash.state == "Available"
        found = readiness(seen(flash, "former"))
        assert not found.ready
        assert "has not brought this version into Deployment iris-main-0-classifier yet" in found.account

    def test_3_a_broken_image_on_a_predictor_that_serves_is_told_by_its_pod(self) -> None:
        stuck = at("15:59:54.658")
        assert stuck.state == "Creating"
        broken = pod(
            stuck, waiting={"reason": "ImagePullBackOff", "message": 'failed to pull image "x": localhost: not found'}
        )
        found = readiness(seen(stuck, "rolling", pods=[broken]))
        assert found.failure is not None
        assert (found.failure.reason, found.failure.lasting, found.failure.predictor) == ("ImagePull", True, "main")

    def test_4_a_broken_canary_fails_the_whole_while_main_serves(self) -> None:
        failed = at("16:02:22.042")
        assert failed.state == "Failed"
        main, challenger = failed.sdep["spec"]["predictors"]
        late = deployment(challenger, "rolling")
        late["status"]["conditions"][1] |= {"status": "False", "reason": "ProgressDeadlineExceeded"}
        found = readiness(Seen(failed.sdep, [deployment(main), late]))
        assert found.failure is not None
        assert (found.failure.reason, found.failure.predictor, found.failure.lasting) == ("Late", "challenger", False)
        assert "challenger: not available within 120 s" in found.failure.message

    def test_4_a_state_of_failure_from_before_the_fix_is_none(self) -> None:
        fixed = at("16:03:32.843")
        assert (fixed.state, fixed.generation) == ("Failed", 8)
        assert readiness(seen(fixed, "former")).failure is None

    def test_5_no_pods_are_wished_and_creating_stays(self) -> None:
        asleep = at("16:03:41.652")
        assert (asleep.state, asleep.sdep["spec"]["predictors"][0]["replicas"]) == ("Creating", 0)
        assert readiness(seen(asleep)).ready

    def test_6_available_comes_before_the_routes(self) -> None:
        early = at("16:05:42.115")
        assert early.state == "Available"
        found = readiness(seen(early, virtual_service=virtual_service("istio-canary")))
        assert not found.ready
        assert "Not all VirtualServices created" in found.account
        done = at("16:05:42.145")
        assert readiness(seen(done, virtual_service=virtual_service("istio-canary"))).ready

    def test_6_a_step_counts_when_the_routes_have_its_weights(self) -> None:
        stale = at("16:06:15.789")
        assert (stale.state, stale.generation) == ("Available", 13)
        found = readiness(seen(stale, virtual_service=virtual_service("istio-canary")))
        assert not found.ready
        assert "still splits 75 % iris-main, 25 % iris-challenger instead of 40 % iris-main, 60 %" in found.account
        assert readiness(seen(at("16:06:15.896"), virtual_service=virtual_service("istio-4060"))).ready

    def test_7_a_failure_in_passing_while_a_predictor_goes_is_none(self) -> None:
        passing = at("16:07:42.313")
        assert passing.state == "Failed"
        assert readiness(seen(passing)).failure is None


class TestAccount:
    def test_an_operator_that_is_away(self) -> None:
        found = readiness(Seen(moments()[0].sdep))
        assert not found.ready
        assert "the Seldon operator has not taken it up yet" in found.account

    def test_what_serves_is_told_when_all_is_well(self) -> None:
        found = readiness(seen(moments()[FIRST_AVAILABLE]))
        assert (found.ready, found.account) == (True, "main: 1 pod of this version, all available")

    def test_a_number_of_pods_that_the_operator_has_not_set(self) -> None:
        scaled = moments()[FIRST_AVAILABLE]
        (main,) = scaled.sdep["spec"]["predictors"]
        wished = {**scaled.sdep, "spec": {"predictors": [{**main, "replicas": 2}]}}
        found = readiness(Seen(wished, [deployment(main)]))
        assert "has not scaled Deployment iris-main-0-classifier to 2 yet" in found.account

    def test_a_probe_that_fails_is_told_by_its_event(self) -> None:
        moment = moments()[FIRST_AVAILABLE]
        unready = pod(moment, running=True)
        event = {"lastTimestamp": "2026-11-22T16:01:19Z", "message": "Readiness probe failed: HTTP probe failed: 503"}
        events = [{**event, "involvedObject": {"kind": "Pod", "name": unready["metadata"]["name"]}}]
        found = readiness(seen(moment, "rolling", pods=[unready], events=events))
        assert "main: 0 of 1 pod are of this version" in found.account
        assert "(Kubernetes says: Readiness probe failed: HTTP probe failed: 503)" in found.account
        assert found.failure is None

    def test_pods_of_a_former_version_are_nobodys_failure(self) -> None:
        moment = moments()[FIRST_AVAILABLE]
        former = pod(moment, crashed="out of luck", restarts=9)
        former["metadata"]["labels"][MARK] = "of-the-former"
        assert readiness(seen(moment, "rolling", pods=[former])).failure is None

    def test_one_that_was_removed(self) -> None:
        found = readiness(Seen(None))
        assert found.failure == Failure("Gone", found.account, lasting=False)
        leaving = moments()[FIRST_AVAILABLE]
        sdep = {**leaving.sdep, "metadata": {**leaving.sdep["metadata"], "deletionTimestamp": "2026-11-22T16:08:45Z"}}
        assert readiness(replace(seen(leaving), sdep=sdep)).failure is not None


class TestFailure:
    MOMENT = moments()[FIRST_AVAILABLE]

    def failed(self, **keys: Any) -> Failure:
        found = readiness(seen(self.MOMENT, "rolling", pods=[pod(self.MOMENT, **keys)]))
        assert found.failure is not None, found.account
        assert "\n" not in found.account
        return found.failure

    def test_a_model_that_is_not_in_the_bucket(self) -> None:
        words = 'mlflow.exceptions.MlflowException: Could not find an "MLmodel" configuration file at "/mnt/models"'
        found = self.failed(crashed=words, restarts=1)
        assert (found.reason, found.lasting) == ("ModelMissing", True)
        assert "main: at s3://models/iris/v1 lies no model" in found.message
        assert (found.pod, found.container, found.former) == ("iris-main-0-classifier-1", "classifier", True)

    def test_a_server_that_crashes_again_and_again(self) -> None:
        found = self.failed(crashed="ValueError: bad\n", restarts=3)
        assert (found.reason, found.lasting, found.predictor) == ("ExitCode", False, "main")
        assert "ValueError: bad" in found.message

    def test_what_ended_a_server_long_ago_is_not_what_is_wrong_now(self) -> None:
        old = pod(self.MOMENT, crashed="ValueError: bad", restarts=9)
        (server,) = old["status"]["containerStatuses"]
        server["state"] = {"running": {"startedAt": "2026-11-01T00:00:00Z"}}
        old["status"]["conditions"] = [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-22T16:00:00Z"}
        ]
        assert readiness(seen(self.MOMENT, "rolling", pods=[old])).failure is None
        old["status"]["conditions"][0]["lastTransitionTime"] = "2026-10-31T23:59:00Z"
        assert readiness(seen(self.MOMENT, "rolling", pods=[old])).failure is not None

    def test_memory(self) -> None:
        found = self.failed(crashed="", restarts=1, reason="OOMKilled", code=137)
        assert (found.reason, found.lasting) == ("OutOfMemory", True)

    def test_a_secret_of_the_store_that_is_not_there(self) -> None:
        waiting = {"reason": "CreateContainerConfigError", "message": 'secret "nosuch-secret" not found'}
        found = self.failed(waiting=waiting, init=True)
        assert (found.reason, found.lasting) == ("MissingSecret", True)

    def test_a_service_account_that_is_not_there(self) -> None:
        (main,) = self.MOMENT.sdep["spec"]["predictors"]
        refused = deployment(main, "rolling")
        why = (
            'pods "x-" is forbidden: error looking up service account models/nosuch: serviceaccount "nosuch" not found'
        )
        refused["status"]["conditions"].append({"type": "ReplicaFailure", "status": "True", "message": why})
        found = readiness(Seen(self.MOMENT.sdep, [refused]))
        assert found.failure is not None
        assert found.failure.lasting
        assert "create the service account" in found.failure.message

    def test_no_node_with_room_may_pass(self) -> None:
        placed = {"type": "PodScheduled", "status": "False", "message": "0/1 nodes are available: 1 Insufficient cpu."}
        lone = pod(self.MOMENT)
        lone["status"] = {"phase": "Pending", "conditions": [placed | {"reason": "Unschedulable"}]}
        found = readiness(seen(self.MOMENT, "rolling", pods=[lone]))
        assert found.failure is None
        assert "too little free cpu on 1" in found.account


class TestInvalidNames:
    """`Failed` with a description: lasting, if the operator says so of the very spec that is there."""

    WHY = (
        'Service "iris-Bad_Predictor" is invalid: metadata.name: Invalid value: "iris-Bad_Predictor": a DNS-1035 label'
    )
    WRITTEN = "2026-11-22T16:00:02Z"

    def said(self, at: str, description: str = WHY) -> Failure | None:
        sdep = {
            **moments()[0].sdep,
            "status": {"state": "Failed", "description": description},
        }
        entries = [{"time": self.WRITTEN}, {"time": "2026-11-22T17:00:00Z", "subresource": "status"}]
        sdep["metadata"] = {**sdep["metadata"], "managedFields": entries}
        event = {"lastTimestamp": at, "message": self.WHY, "involvedObject": {"name": "iris", "uid": "iris-1"}}
        return readiness(Seen(sdep, events=[event])).failure

    def test_it_lasts(self) -> None:
        found = self.said("2026-11-22T16:00:45Z")
        assert found is not None
        assert (found.reason, found.lasting) == ("Invalid", True)
        assert "iris-Bad_Predictor" in found.message

    def test_a_word_on_the_former_spec_says_nothing(self) -> None:
        assert self.said("2026-11-22T15:59:59Z") is None
        assert self.said(self.WRITTEN) is None

    def test_what_is_tried_again_says_nothing(self) -> None:
        assert self.said("2026-11-22T16:00:45Z", 'deployments.apps "iris-main-0-classifier" not found') is None


def pod(
    moment: Moment,
    *,
    waiting: Json | None = None,
    running: bool = False,
    crashed: str | None = None,
    restarts: int = 0,
    reason: str = "Error",
    code: int = 1,
    init: bool = False,
) -> Json:
    """A pod of the first predictor's Deployment, with its one container in a state."""
    main = moment.sdep["spec"]["predictors"][0]
    server = {"name": "classifier", "image": "x", "resources": {"limits": {"memory": "1Gi"}}}
    state: Json = {"waiting": waiting} if waiting else {"running": {}}
    status: Json = {"name": "classifier", "state": state, "ready": False, "restartCount": restarts}
    if crashed is not None:
        status["lastState"] = {"terminated": {"exitCode": code, "reason": reason, "message": crashed}}
    kind = "initContainer" if init else "container"
    return {
        "metadata": {
            "name": "iris-main-0-classifier-1",
            "labels": {"app": "iris-main-0-classifier", MARK: main["labels"][MARK]},
        },
        "spec": {f"{kind}s": [server]},
        "status": {"phase": "Running" if running or crashed is not None else "Pending", f"{kind}Statuses": [status]},
    }
