"""A SeldonDeployment, its operator and a clock, in memory: what a rollout looks at and acts upon.

What the operator makes of a resource is made by the stand-in's own functions (tests/cluster), which are checked against
recordings of the real one. Server-side apply is that of one manager and of people who edit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow_mlplatform.clients.kubernetes_api import ObjectRefused
from airflow_mlplatform.clients.seldon import ChangedMeanwhile
from airflow_mlplatform.exceptions import ServiceUnavailable
from airflow_mlplatform.serving.analysis import Choice, Judgement
from airflow_mlplatform.serving.ready import Readiness, readiness
from airflow_mlplatform.serving.seen import Seen
from airflow_mlplatform.serving.state import Outcome, Who
from airflow_mlplatform.serving.view import acted
from tests.cluster.seldon_stand_in_objects import components
from tests.cluster.seldon_stand_in_predictor import Installation

__all__ = ["BEGIN", "FakeSeldon", "Killed"]

Json = dict[str, Any]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
AT = Installation(servers={}, executor="executor", initializer="initializer")
LONGEST = timedelta(days=3)


class Killed(BaseException):
    """The driver died."""


@dataclass
class FakeSeldon:
    """A cluster with one SeldonDeployment at most, as :class:`~airflow_mlplatform.serving.rolling.Around` wants it.

    :ivar servers_start: time from a write until its servers are ready.
    :ivar bad: model URIs whose servers never become ready.
    :ivar sick: model URIs whose servers fail from a number of seconds on, until another.
    :ivar refuses: why a manifest is refused; empty if it is not.
    :ivar down: moments between which the operator is away.
    :ivar verdicts: what the analysis says from a number of seconds on; ``None`` is no answer.
    :ivar winner: who wins an A/B test.
    :ivar owners: ids of rollouts whose DAG run goes on.
    :ivar die_after: number of the request after which the driver dies.
    :ivar pace: seconds that a wait takes, for others to go on meanwhile.
    :ivar writes: the specs that were written, one after the other.
    """

    servers_start: timedelta = timedelta(seconds=30)
    bad: set[str] = field(default_factory=set)
    sick: dict[str, tuple[timedelta, timedelta]] = field(default_factory=dict)
    refuses: Callable[[Json], str] = lambda _: ""
    down: tuple[timedelta, timedelta] = (timedelta(0), timedelta(0))
    verdicts: Callable[[datetime], str | None] = lambda _: "pass"
    winner: str | None = "candidate"
    owners: set[str] = field(default_factory=set)
    splits: bool = True
    pace: float = 0.0
    die_after: int | None = None
    stored: Json | None = None
    at: datetime = BEGIN
    fresh: bool = True
    requests: int = 0
    writes: list[Json] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    agenda: list[tuple[timedelta, Callable[[FakeSeldon], None]]] = field(default_factory=list)
    applied_at: datetime = BEGIN
    version: int = 0
    kept: Outcome | None = None
    _known: Json | None = None

    # What a rollout asks.

    @property
    def live(self) -> Json | None:
        return self._known

    @property
    def acted(self) -> bool:
        return acted(self._seen)

    async def readiness(self) -> Readiness:
        return readiness(self._seen)

    @property
    def _seen(self) -> Seen:
        if self.stored is None:
            return Seen(None)
        made = components(self.acted_on, AT)
        deployments = [self._grown(deepcopy(one)) for one in made.deployments.values()]
        pods = [pod for one in deployments if (pod := self._crashing(one))]
        return Seen(self._known, deployments, pods, (), next(iter(made.virtual_services.values())))

    async def refresh(self) -> None:
        self._counted()
        self._known, self.fresh = deepcopy(self.stored), True

    async def apply(self, manifest: Json) -> None:
        self._counted(before=True)
        if self.away:
            raise ServiceUnavailable("the Kubernetes API answered 500: failed calling webhook; try again later")
        if why := self.refuses(manifest):
            raise ObjectRefused(f"the Kubernetes API refused to patch it (422): {why}", 422, {})
        wanted = manifest["metadata"].get("resourceVersion")
        if wanted != (self.stored and self.stored["metadata"]["resourceVersion"]):
            raise ChangedMeanwhile("the object has been modified", 409, {})
        self._store(manifest)
        self._known, self.fresh = deepcopy(self.stored), True
        self._counted()

    async def remove(self, uid: str) -> None:
        assert self.stored is not None
        assert self.stored["metadata"]["uid"] == uid
        self.stored = self._known = None
        self._counted()

    async def remember(self, outcome: Outcome) -> None:
        self.kept = outcome
        self._counted()

    async def remembered(self) -> Outcome | None:
        return self.kept

    async def changed(self, until: datetime | None) -> None:
        coming = [self.at_least(moment) for moment in (until, self._next_event()) if moment is not None]
        assert coming, "the rollout waits for something that never comes"
        await asyncio.sleep(self.pace)
        self._go_to(min(coming))

    async def pause(self, seconds: float) -> None:
        self._go_to(self.at + timedelta(seconds=seconds))

    async def divides(self) -> str:
        return "" if self.splits else "there is no ingress"

    async def goes_on(self, who: Who) -> bool:
        return who.id in self.owners

    async def judge(self, base: str, since: datetime) -> Judgement:
        assert base
        assert since <= self.at
        verdict = self.verdicts(self.at)
        if verdict is None:
            raise ServiceUnavailable("Prometheus does not answer")
        return Judgement.model_validate({"verdict": verdict})

    async def choose(self, base: str, since: datetime) -> Choice:
        assert base
        assert since < self.at
        return Choice.model_validate({"winner": self.winner, "account": f"{self.winner} won"})

    def now(self) -> datetime:
        return self.at

    def tell(self, account: str) -> None:
        self.told.append(account)

    # What others do.

    def edit(self, change: Callable[[Json], None], who: str = "kubectl-edit") -> None:
        """Change the resource as a person would."""
        assert self.stored is not None
        former = deepcopy(self.stored)
        change(self.stored)
        entries = self.stored["metadata"]["managedFields"]
        changed = [key for key in self.stored["spec"] if self.stored["spec"][key] != former["spec"].get(key)]
        for entry in entries:
            for key in changed:
                entry["fieldsV1"].get("f:spec", {}).pop(f"f:{key}", None)
        fields: Json = {f"f:{key}": {} for key in changed}
        entries.append({"manager": who, "operation": "Update", "time": "t", "fieldsV1": {"f:spec": fields}})
        self._touch()

    def delete(self) -> None:
        """Remove the resource as a person would."""
        self.stored = self._known = None

    def spec(self) -> Json:
        """The spec as it is."""
        assert self.stored is not None
        found: Json = self.stored["spec"]
        return found

    # How it works.

    @property
    def away(self) -> bool:
        return BEGIN + self.down[0] <= self.at < BEGIN + self.down[1]

    @property
    def acted_on(self) -> Json:
        """The resource as the operator last took notice of it."""
        assert self.stored is not None
        return self.stored

    def _store(self, manifest: Json) -> None:
        wanted = deepcopy(manifest)
        there = self.stored or {"metadata": {"uid": "uid", "generation": 0}, "spec": {}}
        others = [one for one in there["metadata"].get("managedFields", ()) if one["operation"] != "Apply"]
        theirs = {key for entry in others for key in entry["fieldsV1"]["f:spec"]}
        foreign = {key: value for key, value in there["spec"].items() if f"f:{key}" in theirs}
        spec = foreign | wanted["spec"]
        if spec != there["spec"]:
            self.applied_at = self.at
            self.writes.append(deepcopy(spec))
        metadata = {
            **wanted["metadata"],
            "uid": there["metadata"]["uid"],
            "generation": there["metadata"]["generation"] + (spec != there["spec"]),
            "managedFields": [*others, _managed(wanted)],
        }
        self.stored = {**wanted, "metadata": metadata, "spec": spec, "status": STATUS}
        self._touch()

    def _touch(self) -> None:
        assert self.stored is not None
        self.version += 1
        self.stored["metadata"]["resourceVersion"] = str(self.version)

    def _grown(self, deployment: Json) -> Json:
        broken = self._uri(deployment) in self.bad or self._is_sick(deployment)
        there = self.at >= self.applied_at + self.servers_start and not broken
        wanted = deployment["spec"].get("replicas", 1)
        deployment["metadata"]["generation"] = 1
        counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted if there else 0}
        deployment["status"] = {"observedGeneration": 1, **counts}
        return deployment

    def _uri(self, deployment: Json) -> str:
        uris = {one["name"]: one["graph"]["modelUri"] for one in self.spec()["predictors"]}
        return str(uris[deployment["metadata"]["labels"]["version"]])

    def _is_sick(self, deployment: Json) -> bool:
        begin, end = self.sick.get(self._uri(deployment), (LONGEST, LONGEST))
        return begin <= self.at - BEGIN < end

    def _crashing(self, deployment: Json) -> Json | None:
        """The pod of a Deployment that crashes again and again."""
        if not self._is_sick(deployment):
            return None
        name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
        server = {
            "name": "model",
            "restartCount": 5,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "ValueError: sick"}},
        }
        status = {"phase": "Running", "containerStatuses": [server]}
        metadata = {"name": f"{name}-1", "namespace": "models", "labels": {**labels, "app": name}}
        return {"metadata": metadata, "spec": {"containers": [{"name": "model"}]}, "status": status}

    def _next_event(self) -> datetime | None:
        turns = [moment for both in self.sick.values() for moment in both]
        coming = [self.applied_at + self.servers_start, *(BEGIN + one for one in turns)]
        coming += [BEGIN + moment for moment, _ in self.agenda]
        return min((moment for moment in coming if moment > self.at), default=None)

    def at_least(self, moment: datetime) -> datetime:
        return max(moment, self.at + timedelta(seconds=1))

    def _go_to(self, moment: datetime) -> None:
        self.at = moment
        assert self.at < BEGIN + LONGEST, "the rollout never ends"
        for due, what in list(self.agenda):
            if BEGIN + due <= self.at:
                self.agenda.remove((due, what))
                what(self)
        if self._known != self.stored:
            self._known, self.fresh = deepcopy(self.stored), False

    def _counted(self, *, before: bool = False) -> None:
        self.requests += 1
        if self.requests == self.die_after:
            self.fresh = True
            raise Killed(f"{'before' if before else 'after'} request {self.requests}")


STATUS: Json = {
    "state": "Available",
    "conditions": [
        {"type": "Ready", "status": "True"},
        {"type": "istioVirtualServicesReady", "status": "True", "reason": "All VirtualServices created"},
    ],
}


def _managed(manifest: Json) -> Json:
    fields = {
        "f:spec": {f"f:{key}": {} for key in manifest["spec"]},
        "f:metadata": {"f:labels": {f"f:{key}": {} for key in manifest["metadata"].get("labels", {})}},
    }
    return {"manager": "airflow-mlplatform", "operation": "Apply", "time": "t", "fieldsV1": fields}
