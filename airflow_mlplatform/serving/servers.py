"""How far the servers of one predictor are, told by its Deployments and pods alone."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_mlplatform.runtime.app_rollout import Progress, progress, started_again, unexplained
from airflow_mlplatform.runtime.pod_failure.facts import condition, statuses
from airflow_mlplatform.serving.names import Expected, expected_deployments
from airflow_mlplatform.serving.predictor import mark_of
from airflow_mlplatform.serving.seen import Failure, Seen

__all__ = ["Servers", "servers_of"]

Json = Mapping[str, Any]

# What MLflow says of an empty folder; the storage initializer is content when it finds nothing to copy.
NO_MODEL = re.compile(r"MLmodel\"? configuration file|No such file or directory: '?/mnt/models")


@dataclass(frozen=True)
class Servers:
    """How far the servers of a predictor are.

    :param complete: all of them are of this version and available, and no other is left.
    :param account: in a line, what is there and what is missing.
    :param failure: what will not mend by itself.
    """

    complete: bool
    account: str
    failure: Failure | None = None


def servers_of(seen: Seen, predictor: Json) -> Servers:
    """Return how far the servers of a predictor are.

    :param seen: what was found; with a SeldonDeployment.
    :param predictor: one of its predictors.
    """
    assert seen.sdep is not None
    name, spec = seen.sdep["metadata"]["name"], seen.sdep["spec"]
    found = [_look(seen, predictor, one) for one in expected_deployments(name, spec, predictor)]
    missing = [one.account for one in found if not one.complete]
    account = "; ".join(missing or [one.account for one in found])
    failure = next((one.failure for one in found if one.failure), None)
    return Servers(not missing, f"{predictor['name']}: {account}", failure)


def _look(seen: Seen, predictor: Json, expected: Expected) -> Servers:
    there = next((one for one in seen.deployments if one["metadata"]["name"] in expected.names), None)
    if there is None:
        return Servers(False, f"the operator has not made Deployment {min(expected.names)} yet")
    name, template = there["metadata"]["name"], there["spec"]["template"]["metadata"]
    if mark_of(template) != mark_of(predictor):
        return Servers(False, f"the operator has not brought this version into Deployment {name} yet")
    if expected.replicas not in (None, there["spec"].get("replicas")):
        return Servers(False, f"the operator has not scaled Deployment {name} to {expected.replicas} yet")
    pods = [one for one in seen.pods if _belongs(one, name, mark_of(predictor))]
    found = progress(there, pods)
    if found.complete:
        return Servers(True, found.account)
    account = f"{_one_line(found.account)}{_warned(seen.events, found.pod or unexplained(pods), found.account)}"
    return Servers(False, account, _failure(predictor, there, found))


def _belongs(pod: Json, deployment: str, mark: str) -> bool:
    return (pod["metadata"].get("labels") or {}).get("app") == deployment and mark_of(pod["metadata"]) == mark


def _warned(events: Sequence[Json], pod: Json | None, told: str) -> str:
    """What Kubernetes warned of last about a pod, unless it is told already."""
    if pod is None:
        return ""
    warnings = [one for one in events if one["involvedObject"].get("name") == pod["metadata"]["name"]]
    last = max(warnings, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""), default={})
    message = _one_line(str(last.get("message") or ""))
    return f" (Kubernetes says: {message})" if message and message not in told else ""


def _failure(predictor: Json, deployment: Json, found: Progress) -> Failure | None:
    where = {"predictor": str(predictor["name"]), "container": found.container}
    if found.pod is not None:
        where["pod"] = str(found.pod["metadata"]["name"])
    former = found.pod is not None and started_again(found.pod, found.container)
    crashed = found.failure.message if found.failure else found.account
    if NO_MODEL.search(crashed):
        message = (
            f"{predictor['name']}: at {_model_uri(predictor['graph'], found.container)} lies no model; see that it is "
            f"the folder with MLmodel, and that the storage secret is for that store\n{crashed}"
        )
        return Failure("ModelMissing", message, lasting=True, former=former, **where)
    if found.failure and not (former and _was_ready_since(found.pod or {}, found.container)):
        message = f"{predictor['name']}: {found.failure.message}"
        return Failure(found.failure.reason, message, found.failure.lasting, former=former, **where)
    if not _given_up(deployment):
        return None
    seconds = deployment["spec"].get("progressDeadlineSeconds", 600)
    message = f"{predictor['name']}: not available within {seconds} s: {found.account}"
    return Failure("Late", message, lasting=False, former=former, **where)


def _model_uri(unit: Json, name: str) -> str:
    """Return what the node of a graph is to serve; the first node's, if none has that name."""
    below = (_model_uri(one, name) for one in unit.get("children") or () if unit["name"] != name)
    return next((uri for uri in below if uri), "") or str(unit.get("modelUri") or "")


def _was_ready_since(pod: Json, container: str) -> bool:
    """Whether a container has been ready after it was started again: what ended it then is not what is wrong now."""
    running = next((one["state"].get("running") or {} for one in statuses(pod) if one["name"] == container), {})
    changed = str(condition(pod, "Ready").get("lastTransitionTime") or "")
    return bool(running.get("startedAt")) and changed > str(running["startedAt"])


def _given_up(deployment: Json) -> bool:
    told, status = condition(deployment, "Progressing"), deployment.get("status") or {}
    current = int(status.get("observedGeneration") or 0) >= int(deployment["metadata"].get("generation") or 0)
    return current and told.get("status") == "False" and told.get("reason") == "ProgressDeadlineExceeded"


def _one_line(text: str) -> str:
    return " ".join(text.split("\n", 1)[0].split())
