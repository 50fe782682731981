"""A rollout on this machine: the front's files in the shape of a SeldonDeployment, so that one engine directs both.

What Kubernetes, Istio and Prometheus are elsewhere, the front (:mod:`~airflow_mlplatform.runtime.front`) is here: its
``desired.json`` is the resource, with the rollout's state among its notes, ``status.json`` tells what became of it, and
``traffic.json`` what the predictors have answered.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.seldon import ChangedMeanwhile
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.runtime.serving import WishChanged
from airflow_mlplatform.runtime.serving_files import MAIN, Candidate, Servers, Status, Wish, read
from airflow_mlplatform.runtime.traffic import Traffic
from airflow_mlplatform.serving.analysis import number
from airflow_mlplatform.serving.judgement import Contender, Finding, Requests, conclude, elect, judge
from airflow_mlplatform.serving.predictor import CANDIDATE, PREFIX, sharing
from airflow_mlplatform.serving.queries import QUANTILES, Scope, fill_in
from airflow_mlplatform.serving.ready import Failure, Readiness
from airflow_mlplatform.serving.state import STATE, Outcome, written
from airflow_mlplatform.serving.wished import Rescaled

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_mlplatform.clients.prometheus import Answer
    from airflow_mlplatform.runtime.serving import LocalServing
    from airflow_mlplatform.serving.judgement import Choice, Judgement
    from airflow_mlplatform.serving.state import Who
    from airflow_mlplatform.specs.deployment import Analysis, Rollout, Serving

__all__ = ["LocalAround", "LocalRescaled", "LocalResource"]

Json = dict[str, Any]

POLL = 0.5


@dataclass(frozen=True)
class LocalResource:
    """One model, served on this machine; implements :class:`~airflow_mlplatform.serving.plan.Resource`.

    :param serving: the endpoint.
    :param servers: the model's servers.
    """

    serving: Serving
    servers: Servers

    @property
    def digest(self) -> str:
        """The same for the same wish, whoever has it."""
        return hashlib.sha256(f"{self.serving.name} {self.servers.fingerprint}".encode()).hexdigest()[:16]

    def predictor(self, name: str) -> Json:
        """Return the predictor that serves the model, with all traffic."""
        return sharing({"name": name, "servers": _servers(self.servers)}, 100)

    def manifest(self, predictors: Sequence[Mapping[str, Any]]) -> Json:
        """Return the resource with these predictors."""
        return _resource(self.serving.name, self.servers, predictors)


@dataclass(frozen=True)
class LocalRescaled(Rescaled):
    """The servers of this machine in another number."""

    def _scaled(self, found: Mapping[str, Any]) -> Json:
        if not self.replicas:
            raise ConfigurationError("an endpoint on this machine has one server at least; action: teardown removes it")
        return {**found, "servers": {**found["servers"], "replicas": self.replicas}}


@dataclass
class LocalAround:
    """What a rollout on this machine looks at and acts upon; see :class:`~airflow_mlplatform.serving.rolling.Around`.

    :param local: the serving folder and its front.
    :param serving: the endpoint.
    :param rollout: what the analysis asks.
    :param ask: asks Prometheus, for queries of one's own.
    :param running: whether the DAG run of somebody else's rollout goes on.
    :param say: tells people what is going on.
    """

    local: LocalServing
    serving: Serving
    rollout: Rollout
    ask: Callable[[str], Awaitable[Answer]]
    running: Callable[[Who], Awaitable[bool]]
    say: Callable[[str], None]
    fresh: bool = True
    _wish: Wish | None = field(default=None, init=False)
    _status: Status = field(default_factory=Status, init=False)
    _told: str = field(default="", init=False)

    @property
    def live(self) -> Json | None:
        """The endpoint, as it is to be; what serves instead, if that came to nothing and no rollout is about it."""
        wish, status = self._wish, self._status
        if wish is None:
            return None
        came_to_nothing = status.generation == wish.generation and status.phase == "failed" and STATE not in wish.notes
        served = status.serving if came_to_nothing else wish
        spec = _resource(self.serving.name, served, _predictors(served))["spec"] if served else {"predictors": []}
        told = {f"{PREFIX}/version": served.model.version} if served else {}
        metadata = {
            "name": self.serving.name,
            "namespace": self.serving.namespace,
            "uid": self.serving.name,
            "resourceVersion": str(wish.generation),
            "annotations": {**told, **wish.notes},
        }
        return {"metadata": metadata, "spec": spec}

    @property
    def acted(self) -> bool:
        """Whether the front has taken notice of what is wished."""
        return self._wish is not None and self._status.generation == self._wish.generation

    async def refresh(self) -> None:
        """Read the files again."""
        self._wish, self._status = await asyncio.to_thread(self._read)
        self.fresh = True

    def _read(self) -> tuple[Wish | None, Status]:
        name = self.serving.name
        return self.local.wish(name), self.local.status(name) or Status()

    async def apply(self, manifest: Json) -> None:
        """Wish what a manifest says."""
        version = manifest["metadata"].get("resourceVersion")
        wish = _wished(manifest)
        try:
            former = int(version) if version else None
            await asyncio.to_thread(self.local.replace, self.serving.name, wish, former)
        except WishChanged as error:
            raise ChangedMeanwhile(str(error), 409, {}) from error
        await self.refresh()

    async def remove(self, uid: str) -> None:  # noqa: ARG002 - the protocol's
        """Remove the endpoint, and wait until it has gone."""
        await asyncio.to_thread(self.local.remove, self.serving.name)
        await self.refresh()

    async def remember(self, outcome: Outcome) -> None:
        """Keep how a rollout ended whose endpoint is removed next."""
        await asyncio.to_thread(self._ended_path.write_text, written(outcome), "utf-8")

    async def remembered(self) -> Outcome | None:
        """Tell what was kept last."""
        path = self._ended_path
        text = await asyncio.to_thread(lambda: path.read_text("utf-8") if path.exists() else "")
        return Outcome.model_validate_json(text) if text else None

    @property
    def _ended_path(self) -> Path:
        return self.local.folder.path / f"{self.serving.name}.ended.json"

    async def changed(self, until: datetime | None) -> None:
        """Wait until the files change; a front that has died is started again."""
        before = self._wish, self._status
        while (self._wish, self._status) == before and (until is None or self.now() < until):
            await asyncio.sleep(POLL)
            if await asyncio.to_thread(self.local.folder.front) is None:
                await asyncio.to_thread(self.local.ensure_front)
            await self.refresh()

    async def pause(self, seconds: float) -> None:
        """Wait, whatever changes."""
        await asyncio.sleep(seconds)

    async def divides(self) -> str:
        """The front divides requests by itself."""
        return ""

    async def goes_on(self, who: Who) -> bool:
        """Whether the DAG run of somebody else's rollout goes on."""
        return await self.running(who)

    async def readiness(self) -> Readiness:
        """Return how far the front is with what is wished."""
        # Not the wish: it must stay the one that was looked at, or somebody else's would be overwritten.
        status = self._status = (await asyncio.to_thread(self._read))[1]
        beside = self._wish is not None and self._wish.candidate is not None
        judged = CANDIDATE if beside else MAIN
        if not self.acted:
            return Readiness(False, "the front has not taken it up yet", unwell=frozenset({judged}))
        if status.phase == "failed":
            return Readiness(False, status.message, (Failure("NotServing", status.message, lasting=status.lasting),))
        if judged in status.crashing:
            message = f"the servers of {judged} have died again and again: {status.down.get(judged, 'see their logs')}"
            failure = Failure("CrashLoop", message, lasting=False, predictor=judged)
            return Readiness(False, message, (failure,), frozenset({judged}))
        if status.phase != "ready" or judged in status.down:
            starting = status.message or f"the servers of {judged} are starting"
            return Readiness(False, starting, unwell=frozenset({judged}))
        return Readiness(True, "all servers are up")

    async def judge(self, base: str, since: datetime) -> Judgement:  # noqa: ARG002 - only the candidate is judged
        """Judge the candidate's time since then by what the front has counted."""
        traffic = await asyncio.to_thread(self._traffic)
        requests = _requests(traffic, CANDIDATE)
        return conclude([await self._find(one, traffic, requests, since) for one in self.rollout.analysis])

    async def choose(self, base: str, since: datetime) -> Choice:  # noqa: ARG002 - the front calls it main
        """Ask Prometheus who won since then."""
        winner = self.rollout.winner
        assert winner is not None
        traffic = await asyncio.to_thread(self._traffic)
        both = {}
        for name in (CANDIDATE, MAIN):
            value = await self._number(winner.query, name, since)
            both[name] = Contender(value=value, requests=_requests(traffic, name))
        return elect(winner, both[CANDIDATE], both[MAIN])

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC)

    def tell(self, account: str) -> None:
        """Tell people what is going on, once."""
        if account != self._told:
            self.say(account)
            self._told = account

    async def _find(self, analysis: Analysis, traffic: Traffic, requests: Requests, since: datetime) -> Finding:
        if analysis.query is not None:
            try:
                value = await self._number(analysis.query, CANDIDATE, since)
            except ConfigurationError as error:
                return Finding(name=analysis.name, verdict="fail", account=f"{analysis.name}: {error}")
        elif analysis.metric is None or analysis.metric == "error-rate":
            value = requests.error_rate
        else:
            value = traffic.quantile(CANDIDATE, QUANTILES[analysis.metric])
        return judge(analysis, value, requests)

    async def _number(self, query: str, predictor: str, since: datetime) -> float | None:
        window = self.now() - since
        name, namespace = self.serving.name, self.serving.namespace
        scope = Scope(deployment=name, predictor=predictor, namespace=namespace, window=window)
        asked = fill_in(query, scope)
        return number(await self.ask(asked), asked)

    def _traffic(self) -> Traffic:
        found = read(self.local.folder.endpoint(self.serving.name).traffic_path, Traffic)
        return found if found and self._wish and found.division == self._wish.division else Traffic()


def _requests(traffic: Traffic, predictor: str) -> Requests:
    by_code = traffic.by_code(predictor)
    failed = {code: count for code, count in by_code.items() if not code.startswith("2")}
    return Requests(total=sum(by_code.values()), failed=failed)


def _resource(name: str, servers: Servers, predictors: Sequence[Mapping[str, Any]]) -> Json:
    told = {f"{PREFIX}/model": servers.model.name, f"{PREFIX}/version": servers.model.version}
    return {"metadata": {"name": name, "annotations": told}, "spec": {"predictors": [dict(one) for one in predictors]}}


def _predictors(wish: Wish) -> list[Json]:
    candidate = wish.candidate
    share = 100 - candidate.weight if candidate and not candidate.shadow else 100
    main = sharing({"name": MAIN, "servers": _servers(wish)}, share)
    if candidate is None:
        return [main]
    beside = {"name": CANDIDATE, "servers": _servers(candidate)}
    return [main, sharing(beside, candidate.weight, shadow=candidate.shadow)]


def _servers(servers: Servers) -> Json:
    return servers.model_dump(mode="json", include=set(Servers.model_fields))


def _wished(manifest: Json) -> Wish:
    """Return what a manifest says; the front counts its generation."""
    by_name = {one["name"]: one for one in manifest["spec"]["predictors"]}
    beside = by_name.pop(CANDIDATE, None)
    (main,) = by_name.values()
    candidate = None
    if beside:
        shared = {"weight": beside["traffic"], "shadow": beside.get("shadow", False)}
        candidate = Candidate.model_validate({**beside["servers"], **shared})
    notes = dict(manifest["metadata"].get("annotations") or {})
    return Wish.model_validate({**main["servers"], "generation": 0, "candidate": candidate, "notes": notes})
