"""A rollout, driven: look, decide, do it, wait for a change; nothing is remembered that the cluster does not know."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from airflow_mlplatform.clients.seldon import ChangedMeanwhile
from airflow_mlplatform.exceptions import (
    ConfigurationError,
    ProcessFailed,
    ServiceError,
    ServiceRefused,
    ServiceUnavailable,
)
from airflow_mlplatform.serving.decision import (
    Apply,
    Ended,
    Finish,
    Look,
    Measured,
    Need,
    Remove,
    Stalled,
    Wait,
)
from airflow_mlplatform.serving.state import state_of
from airflow_mlplatform.serving.steps import decide

if TYPE_CHECKING:
    from airflow_mlplatform.serving.analysis import Choice, Judgement
    from airflow_mlplatform.serving.decision import Decision
    from airflow_mlplatform.serving.plan import RolloutPlan
    from airflow_mlplatform.serving.ready import Readiness
    from airflow_mlplatform.serving.state import Outcome, Who

__all__ = ["Around", "Rolling"]

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 2.0, 60.0
OPERATOR = " (the Seldon operator does not answer: look whether it runs)"
OWNER_AGAIN = timedelta(minutes=5)


class Around(Protocol):
    """What a rollout asks of the world."""

    fresh: bool

    @property
    def live(self) -> dict[str, Any] | None:
        """The resource, as far as it is known."""

    @property
    def acted(self) -> bool:
        """Whether what serves has taken notice of what was applied, as far as one can see."""

    async def refresh(self) -> None:
        """Ask for the resource again."""

    async def apply(self, manifest: dict[str, Any]) -> None:
        """Apply a manifest."""

    async def remove(self, uid: str) -> None:
        """Remove the resource, and wait until it has gone."""

    async def remember(self, outcome: Outcome) -> None:
        """Keep how a rollout ended whose resource is removed next, and with it what it says."""

    async def remembered(self) -> Outcome | None:
        """Tell what was kept by the same task."""

    async def changed(self, until: datetime | None) -> None:
        """Wait until something changes."""

    async def pause(self, seconds: float) -> None:
        """Wait, whatever changes."""

    async def divides(self) -> str:
        """Tell why traffic cannot be divided; empty if it can."""

    async def goes_on(self, who: Who) -> bool:
        """Whether the DAG run of somebody else's rollout goes on."""

    async def judge(self, base: str, since: datetime) -> Judgement:
        """Ask what the analyses say of the time since then."""

    async def choose(self, base: str, since: datetime) -> Choice:
        """Ask who won since then."""

    async def readiness(self) -> Readiness:
        """Tell whether what was applied is there; a failure says what the container printed last, if anybody knows."""

    def now(self) -> datetime:
        """The time."""

    def tell(self, account: str) -> None:
        """Tell people what is going on."""


@dataclass
class Rolling:
    """A rollout that goes on until it has ended, whoever began it.

    :param plan: what is to be rolled out.
    :param around: what it looks at and acts upon.
    """

    plan: RolloutPlan
    around: Around
    _began: datetime = field(init=False)
    _known: bool = field(default=False, init=False)
    _measured_at: datetime | None = field(default=None, init=False)
    _owner: tuple[datetime, bool] | None = field(default=None, init=False)
    _unready: datetime | None = field(default=None, init=False)
    _dividing: bool = field(default=False, init=False)
    _refused: datetime | None = field(default=None, init=False)
    _refusal: str = field(default="", init=False)
    _removed: Outcome | None = field(default=None, init=False)
    _pause: float = field(default=FIRST_PAUSE, init=False)

    def __post_init__(self) -> None:
        self._began = self.around.now()

    async def run(self) -> Outcome:
        """Return how it ended.

        :raises ConfigurationError: if it cannot be, or must not.
        :raises ProcessFailed: if the operator or Kubernetes is away for too long; a retry goes on.
        """
        self._removed = await self.around.remembered()
        while True:
            try:
                outcome = await self._once()
            except ServiceUnavailable as error:
                await self._bear(error)
            else:
                if outcome is not None:
                    return outcome

    async def _once(self) -> Outcome | None:
        decision = await self._decided()
        if isinstance(decision, (Ended, Remove, Stalled)) and not self.around.fresh:
            await self.around.refresh()
            return None
        return await self._do(decision)

    async def _decided(self) -> Decision:
        state = state_of(self.around.live)
        self._known = self._known or (state is not None and state.who.id == self.plan.who.id)
        look = Look(
            live=self.around.live,
            now=self.around.now(),
            began=self._began,
            known=self._known,
            measured_at=self._measured_at,
            owner=self._recent_owner(),
            dividing=self._dividing,
            refused=self._refusal,
            removed=self._removed,
        )
        while isinstance(decision := decide(self.plan, look), Need):
            look = await self._learn(decision, look)
        return decision

    async def _learn(self, need: Need, look: Look) -> Look:
        if need.what == "readiness":
            found = await self.around.readiness()
            return replace(look, readiness=found, unready=self._lacking(found, look), acted=self.around.acted)
        if need.what == "owner":
            assert need.who is not None
            self._owner = (look.now, await self.around.goes_on(need.who))
            return replace(look, owner=self._owner[1])
        if need.what == "dividing":
            if why := await self.around.divides():
                strategy = self.plan.rollout.strategy
                raise ConfigurationError(f"rollout.strategy: {strategy} is refused, nothing was applied: {why}")
            self._dividing = True
            return replace(look, dividing=True)
        self._measured_at = look.now
        return replace(look, measured=await self._measure(need, look))

    def _lacking(self, found: Readiness, look: Look) -> datetime | None:
        """Return since when something lacks that must not lack for long."""
        state = state_of(look.live)
        well = found.ready or (state is not None and found.only(state.base))
        self._unready = None if well else self._unready or look.now
        return self._unready

    async def _measure(self, need: Need, look: Look) -> Measured:
        state = state_of(look.live)
        assert state is not None
        assert need.since is not None
        try:
            judgement = await self.around.judge(state.base, need.since)
            choice = await self.around.choose(state.base, need.since) if need.what == "winner" else None
        except ServiceUnavailable as error:
            return Measured(silence=str(error))
        except (ConfigurationError, ServiceRefused) as error:
            return Measured(mistake=str(error))
        return Measured(judgement, choice)

    async def _do(self, decision: Decision) -> Outcome | None:
        if isinstance(decision, Wait):
            self.around.tell(decision.account)
            soonest = [moment for moment in (decision.until, self._ask_owner_at()) if moment]
            await self.around.changed(min(soonest) if soonest else None)
        elif isinstance(decision, Apply):
            self.around.tell(decision.account)
            await self._write(decision.manifest)
        elif isinstance(decision, Finish):
            return decision.outcome if await self._write(decision.manifest, last=True) else None
        elif isinstance(decision, Remove):
            return await self._remove(decision.outcome)
        elif isinstance(decision, Stalled):
            raise ProcessFailed(decision.why)
        elif isinstance(decision, Ended):
            return decision.outcome
        return None

    async def _write(self, manifest: dict[str, Any], *, last: bool = False) -> bool:
        """Apply it to the resource that was looked at; if that has changed meanwhile, look again.

        :param last: only the notes change, and the rollout has ended.
        """
        live = self.around.live
        metadata = {**manifest["metadata"]}
        if live is not None:
            metadata |= {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        try:
            await self.around.apply({**manifest, "metadata": metadata})
        except ChangedMeanwhile:
            await self.around.refresh()
            return False
        except ServiceRefused as error:
            await self._take(error, last=last)
            return False
        self._refused, self._refusal, self._pause = None, "", FIRST_PAUSE
        return True

    async def _take(self, refusal: ServiceRefused, *, last: bool) -> None:
        """Take a no: before anything was applied it is the end, then a reason to go back; the end is insisted on.

        :raises ServiceRefused: if nothing was applied.
        """
        state = state_of(self.around.live)
        if state is None or state.who.id != self.plan.who.id:
            raise refusal
        if last or state.abort or self._refusal:
            await self._bear(refusal)
        else:
            self._refusal = str(refusal)

    async def _remove(self, outcome: Outcome) -> Outcome:
        live = self.around.live
        if live is None:
            return outcome
        await self.around.remember(outcome)
        try:
            await self.around.remove(live["metadata"]["uid"])
        except ServiceRefused as error:
            raise ServiceRefused(f"{outcome.why}\nIt could not be removed and is there still: {error}") from error
        return outcome

    async def _bear(self, error: ServiceError) -> None:
        """Bear an outage of Kubernetes, or of the operator, without which nothing can be written."""
        now = self.around.now()
        self._refused = self._refused or now
        if now - self._refused >= self.plan.ready_timeout:
            seconds = self.plan.ready_timeout.total_seconds()
            raise ProcessFailed(
                f"{error}. It was borne for {seconds:.0f} s (serving.ready_timeout). {self._left()} A retry goes on."
            ) from error
        silent = isinstance(error, ServiceUnavailable) and "webhook" in str(error)
        self.around.tell(f"{error}{OPERATOR if silent else ''}")
        await self.around.pause(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self.around.fresh = False

    def _left(self) -> str:
        state = state_of(self.around.live)
        if state is None or state.who.id != self.plan.who.id:
            return "Nothing was applied yet."
        back = f" It is to go back: {self._refusal}." if self._refusal else ""
        return f"The rollout is at {state.steps[-1]}, and traffic stays as it is.{back}"

    def _recent_owner(self) -> bool | None:
        fresh = self._owner is not None and self.around.now() < self._owner[0] + OWNER_AGAIN
        return self._owner[1] if self._owner and fresh else None

    def _ask_owner_at(self) -> datetime | None:
        return self._owner[0] + OWNER_AGAIN if self._owner and not self._known else None
