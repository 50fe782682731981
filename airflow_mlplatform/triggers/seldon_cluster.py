"""What a rollout looks at and acts upon, in the triggerer: Kubernetes, Prometheus, Airflow and the clock."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.clients.http import drive_async
from airflow_mlplatform.exceptions import ServiceError, ServiceUnavailable
from airflow_mlplatform.hooks.prometheus import PrometheusHook
from airflow_mlplatform.hooks.seldon import open_seldon
from airflow_mlplatform.runtime.process_output import Tail
from airflow_mlplatform.serving.analysis import Scope, ask, choose
from airflow_mlplatform.serving.ingress import cannot_split
from airflow_mlplatform.serving.predictor import CANDIDATE
from airflow_mlplatform.serving.ready import readiness
from airflow_mlplatform.serving.view import acted, open_view
from airflow_mlplatform.triggers.dag_runs import goes_on
from airflow_mlplatform.triggers.rollout_metrics import report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from airflow_mlplatform.hooks.seldon import SeldonCluster
    from airflow_mlplatform.serving.analysis import Choice, Judgement
    from airflow_mlplatform.serving.ready import Readiness
    from airflow_mlplatform.serving.seen import Failure
    from airflow_mlplatform.serving.state import Outcome, Who
    from airflow_mlplatform.serving.view import View
    from airflow_mlplatform.specs.deployment import Rollout
    from airflow_mlplatform.triggers.kept_outcome import KeptOutcome

__all__ = ["Place", "SeldonAround", "open_around"]

LAST_LINES = 30
LOOK_AGAIN = timedelta(minutes=1)


@dataclass
class SeldonAround:
    """One SeldonDeployment; see :class:`~airflow_mlplatform.serving.rolling.Around`.

    :param cluster: its namespace.
    :param view: what is known of it.
    :param rollout: what the analysis asks.
    :param airflow: address of this Airflow.
    :param prometheus_conn_id: Airflow connection (type prometheus); that of the ``[mlplatform]`` section if empty.
    :param log: the task's log.
    :param kept: where the end of a rollout is kept whose resource is removed; ``None`` where nobody asks for it.
    """

    cluster: SeldonCluster
    view: View
    rollout: Rollout
    airflow: str
    prometheus_conn_id: str
    log: Any
    kept: KeptOutcome | None = None
    _told: str = field(default="", init=False)

    @property
    def fresh(self) -> bool:
        """Whether nothing may have happened since the API server was asked."""
        return self.view.fresh

    @fresh.setter
    def fresh(self, value: bool) -> None:
        self.view.fresh = value

    @property
    def live(self) -> dict[str, Any] | None:
        """The resource, as far as it is known."""
        return self.view.live

    @property
    def acted(self) -> bool:
        """Whether the operator has taken notice of what was applied, as far as one can see."""
        return acted(self.view.seen)

    async def readiness(self) -> Readiness:
        """Tell whether what was applied is there; a failure says what the container printed last."""
        found = readiness(self.view.seen)
        return replace(found, failures=tuple([await self._explained(one) for one in found.failures]))

    async def refresh(self) -> None:
        """Ask for the resource again."""
        await self.view.refresh()

    async def apply(self, manifest: dict[str, Any]) -> None:
        """Apply a manifest."""
        self.view.took(await self.cluster.seldon.apply(manifest))
        self._report()

    async def remove(self, uid: str) -> None:
        """Remove the resource, and wait until it and its pods have gone."""
        await self.cluster.seldon.delete(self.view.name, uid)
        while (self.view.live or {"metadata": {"uid": ""}})["metadata"]["uid"] == uid or self.view.seen.pods:
            self.tell("waiting until it and its pods have gone")
            await self.view.changed(self.now() + LOOK_AGAIN)
        self._report()

    async def remember(self, outcome: Outcome) -> None:
        """Keep how a rollout ended whose resource is removed next."""
        if self.kept is not None:
            await self.kept.keep(outcome)

    async def remembered(self) -> Outcome | None:
        """Tell what was kept by the same task."""
        return await self.kept.find() if self.kept is not None else None

    async def changed(self, until: datetime | None) -> None:
        """Wait until something changes."""
        await self.view.changed(until)
        self._report()

    async def pause(self, seconds: float) -> None:
        """Wait, whatever changes."""
        await asyncio.sleep(seconds)

    async def divides(self) -> str:
        """Tell why traffic cannot be divided; empty if it can.

        :raises ConfigurationError: if an analysis asks what Prometheus cannot evaluate.
        """
        if why := cannot_split(self.view.live, await self.cluster.seldon.groups()):
            return why
        # A mistake in a query is better found before traffic moves; that Prometheus is away is borne, then and now.
        try:
            await self.judge("", self.now() - LOOK_AGAIN)
        except ServiceUnavailable as error:
            self.log.warning("The analysis gets no answer yet: %s", error)
        return ""

    async def goes_on(self, who: Who) -> bool:
        """Whether the DAG run of somebody else's rollout goes on; that of another Airflow is believed to."""
        if who.airflow != self.airflow:
            return True
        return await goes_on(who.dag_id, who.run_id)

    async def judge(self, base: str, since: datetime) -> Judgement:  # noqa: ARG002 - only the candidate is judged
        """Ask what the analyses say of the candidate's time since then."""
        async with await self._prometheus() as client:
            return await drive_async(ask(self.rollout.analysis, self._scope(CANDIDATE, since)), client.http)

    async def choose(self, base: str, since: datetime) -> Choice:
        """Ask who won since then."""
        assert self.rollout.winner is not None
        candidate, main = self._scope(CANDIDATE, since), self._scope(base, since)
        async with await self._prometheus() as client:
            return await drive_async(choose(self.rollout.winner, candidate, main), client.http)

    async def _explained(self, failure: Failure) -> Failure:
        if not failure.pod or "last lines" in failure.message:
            return failure
        words = await self._last_words(failure)
        return replace(failure, message=f"{failure.message}\n{words}") if words else failure

    async def _last_words(self, failure: Failure) -> str:
        try:
            lines = await self.cluster.pods.last_lines(
                failure.pod, failure.container, LAST_LINES, former=failure.former
            )
        except ServiceError as error:
            return f"Its log cannot be shown: {error}"
        tail = Tail()
        for line in lines:
            tail.add(line)
        return f"The last lines of {failure.pod}:\n{tail}" if str(tail) else ""

    def now(self) -> datetime:
        """The time."""
        return datetime.now(UTC)

    def tell(self, account: str) -> None:
        """Tell people what is going on, once."""
        if account != self._told:
            self.log.info("%s", account)
            self._told = account

    def _report(self) -> None:
        report(self.cluster.seldon.namespace, self.view.name, self.view.live)

    async def _prometheus(self) -> Any:
        return await PrometheusHook(self.prometheus_conn_id or None).async_client()

    def _scope(self, predictor: str, since: datetime) -> Scope:
        namespace, window = self.cluster.seldon.namespace, self.now() - since
        return Scope(deployment=self.view.name, predictor=predictor, namespace=namespace, window=window)


@dataclass(frozen=True)
class Place:
    """Which SeldonDeployment, and where.

    :param namespace: its namespace.
    :param name: its name.
    :param kubernetes_conn_id: Airflow connection (type kubernetes); that of the ``[mlplatform]`` section if empty.
    """

    namespace: str
    name: str
    kubernetes_conn_id: str = ""


@asynccontextmanager
async def open_around(
    place: Place,
    rollout: Rollout,
    airflow: str,
    prometheus_conn_id: str,
    log: Any,
    kept: KeptOutcome | None = None,
) -> AsyncIterator[SeldonAround]:
    """Open the way to a SeldonDeployment.

    :raises ProcessFailed: if Kubernetes does not answer; a retry goes on.
    :raises ServiceRefused: if it will not.
    :raises ConfigurationError: if there is no way to a cluster.
    """
    async with (
        open_seldon(place.namespace, place.kubernetes_conn_id) as cluster,
        open_view(cluster.seldon, place.name) as view,
    ):
        yield SeldonAround(cluster, view, rollout, airflow, prometheus_conn_id, log, kept)
