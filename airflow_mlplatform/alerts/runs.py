"""From a notification to DAG runs, in Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.exceptions import DeserializationError, ParamValidationError
from airflow.models.dag import DagModel, DagTag
from airflow.models.dagbag import DBDagBag
from airflow.models.dagrun import DagRun
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from pendulum import instance
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError

from airflow_mlplatform.alerts.account import Account, Outcome
from airflow_mlplatform.alerts.listener import Listener, listeners_in, tag_of
from airflow_mlplatform.alerts.message import Alert, Message, told
from airflow_mlplatform.alerts.turn import Before, NotNow, Start, decide
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.specs.alerts import ALERT_PARAM

if TYPE_CHECKING:
    from airflow.serialization.definitions.dag import SerializedDAG
    from sqlalchemy.orm import Session

__all__ = ["start_runs"]

USER = "alertmanager"
ENDED = (DagRunState.SUCCESS, DagRunState.FAILED)
LATEST = 100
LONGEST_NOTE = 1000
ATTEMPTS = 5


def _utcnow() -> datetime:
    return datetime.now(UTC)


def start_runs(message: Message, clock: Callable[[], datetime] = _utcnow) -> Account:
    """Start the runs that a notification is to start. The same notification once more starts none.

    Each run is made in a transaction of its own: where a later one fails, the notification can be sent again.

    :param clock: tells the time, in UTC.
    :raises ServiceUnavailable: if the database refuses the run and shows no other.
    :raises sqlalchemy.exc.SQLAlchemyError: if the database cannot do its part.
    """
    account = Account()
    for name, alerts in message.firing.items():
        with create_session(scoped=False) as session:
            dag_ids = _tagged(name, session)
        found = [outcome for dag_id in dag_ids for outcome in _outcomes(dag_id, alerts, clock)]
        account.firing += len(alerts)
        account.outcomes += found
        account.unheard += [] if found else [name]
    return account


def _tagged(alert: str, session: Session) -> Sequence[str]:
    listening = select(DagModel.dag_id).join(DagTag, DagTag.dag_id == DagModel.dag_id)
    heard = listening.where(DagTag.name == tag_of(alert), ~DagModel.is_stale)
    return session.scalars(heard.order_by(DagModel.dag_id)).all()


def _outcomes(dag_id: str, alerts: Sequence[Alert], clock: Callable[[], datetime]) -> Iterator[Outcome]:
    name = alerts[0].name
    try:
        with create_session(scoped=False) as session:
            starter = Starter.of(dag_id, clock(), session)
        for listener, heard in _one_an_action(starter.listeners, alerts):
            decision = starter.start(listener, heard, clock)
            if isinstance(decision, Start):
                yield Outcome(name, dag_id, run_id=decision.run_id)
            else:
                yield Outcome(name, dag_id, why=decision.why)
    except (ConfigurationError, DeserializationError, ParamValidationError, ValueError) as error:
        # A ValueError is how Airflow refuses a run; its REST API tells it as a mistake too.
        yield Outcome(name, dag_id, why=str(error))


def _one_an_action(
    listeners: Iterable[Listener], alerts: Sequence[Alert]
) -> Iterator[tuple[Listener, tuple[Alert, ...]]]:
    """Yield the listeners that have heard something; of several with one action the least patient."""
    chosen: dict[str, tuple[Listener, tuple[Alert, ...]]] = {}
    for listener in sorted(listeners, key=lambda listener: listener.cooldown):
        if heard := listener.heard(alerts):
            chosen.setdefault(listener.action, (listener, heard))
    yield from chosen.values()


@dataclass(frozen=True)
class Starter:
    """Starts runs of one DAG.

    :param dag: as it was when its file was parsed last.
    :param refuses: why it starts no runs at all; empty if it does.
    """

    dag: SerializedDAG
    refuses: str

    @classmethod
    def of(cls, dag_id: str, now: datetime, session: Session) -> Starter:
        """Read a DAG.

        :param now: the time, in UTC.
        :raises ConfigurationError: if it is not there.
        """
        dag = DBDagBag(load_op_links=False).get_latest_version_of_dag(dag_id, session=session)
        model = session.get(DagModel, dag_id)
        if dag is None or model is None:
            raise ConfigurationError("the DAG is not there any more")
        if model.is_paused:
            return cls(dag, "the DAG is paused")
        if model.has_import_errors:
            return cls(dag, "its file cannot be loaded any more; see the import errors")
        # A run before that day would have no tasks, and be a success at once.
        return cls(dag, f"its start is {dag.start_date:%F}" if dag.start_date and dag.start_date > now else "")

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """What it listens to."""
        return listeners_in(self.dag.params.get_param(ALERT_PARAM).schema) if ALERT_PARAM in self.dag.params else ()

    def start(self, listener: Listener, alerts: tuple[Alert, ...], clock: Callable[[], datetime]) -> Start | NotNow:
        """Start a run, if it is the time for one.

        :raises ServiceUnavailable: if the database refuses the run and shows no other.
        """
        if self.refuses:
            return NotNow(self.refuses)
        taken: IntegrityError | None = None
        for _ in range(ATTEMPTS):
            try:
                with create_session(scoped=False) as session:
                    decision = decide(listener, self._before(listener, session), clock())
                    if isinstance(decision, Start):
                        self._make(decision.run_id, _configuration(listener, alerts), clock(), session)
                return decision
            except IntegrityError as error:
                # Somebody else has made this run meanwhile, and is seen by the next look.
                taken = error
        raise ServiceUnavailable(f"no run of {self.dag.dag_id} could be made; send the alert again") from taken

    def _before(self, listener: Listener, session: Session) -> list[Before]:
        runs = session.execute(
            select(DagRun.run_id, DagRun.state, DagRun.end_date, DagRun.run_after)
            .where(DagRun.dag_id == self.dag.dag_id, DagRun.run_id.startswith(listener.sequence, autoescape=True))
            .order_by(DagRun.id.desc())
            .limit(LATEST)
        )
        return [
            Before(run_id, str(state), (end or after) if state in ENDED else None) for run_id, state, end, after in runs
        ]

    def _make(self, run_id: str, configuration: dict[str, Any], now: datetime, session: Session) -> None:
        self.dag.create_dagrun(
            run_id=run_id,
            # As for a run by hand: templates with a date work in it.
            logical_date=now,
            data_interval=self.dag.timetable.infer_manual_data_interval(run_after=instance(now)),
            run_after=now,
            conf=configuration,
            run_type=DagRunType.MANUAL,
            triggered_by=DagRunTriggeredByType.REST_API,
            triggering_user_name=USER,
            note=_note(configuration[ALERT_PARAM]),
            state=DagRunState.QUEUED,
            session=session,
        )


def _configuration(listener: Listener, alerts: tuple[Alert, ...]) -> dict[str, Any]:
    if listener.action and not conf.getboolean("core", "dag_run_conf_overrides_params"):
        raise ConfigurationError(
            "[core] dag_run_conf_overrides_params is off, so that a run cannot be told what it is for; switch it on"
        )
    action = {"action": listener.action} if listener.action else {}
    return {ALERT_PARAM: told(alerts), **action}


def _note(alert: dict[str, Any]) -> str:
    summary = alert["annotations"].get("summary") or ", ".join(
        f"{key}={value}" for key, value in alert["labels"].items()
    )
    return f"{alert['name']} ({alert['count']} firing): {summary}"[:LONGEST_NOTE]
