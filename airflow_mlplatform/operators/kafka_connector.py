"""A Kafka connector in a wished state."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, get_args

from airflow.sdk import BaseOperator
from airflow.sdk.log import mask_secret

from airflow_mlplatform.connectors.caught_up import takes_snapshot
from airflow_mlplatform.connectors.change import Change, perform, plan, put_back, validate
from airflow_mlplatform.connectors.config import secret_values
from airflow_mlplatform.connectors.ends import end_offsets
from airflow_mlplatform.connectors.waiting import ConnectorEvent, ConnectorWait, StatusFacts, settle_after
from airflow_mlplatform.connectors.wish import Wish, fulfilled
from airflow_mlplatform.exceptions import ConfigurationError, ConnectorFailed, ServiceRefused
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka import KafkaHook
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.links import KafkaConnectorLink
from airflow_mlplatform.operators.kafka_connector_memory import ChangeMemory
from airflow_mlplatform.operators.kafka_connector_place import open_connectors
from airflow_mlplatform.triggers.kafka_connect_wait import seconds_to_wait, wait_in_triggerer

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jinja2
    from airflow.sdk import Context

    from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorState
    from airflow_mlplatform.connectors.backend import Connectors
    from airflow_mlplatform.connectors.caught_up import Targets
    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["KafkaConnectorOperator", "WaitUntil"]

WaitUntil = Literal["running", "caught_up"]


class KafkaConnectorOperator(BaseOperator):
    """Bring a connector into a state, with a config, and wait until it and all its tasks are there.

    Nothing is sent when nothing differs. A new config is validated by the worker first; every problem is told with its
    field, and nothing has changed then. Requests survive rebalances, restarts of workers and changes of their leader.
    The wait takes no worker; one poll serves all waits for the same Connect cluster. Failed tasks are restarted a
    bounded number of times. If it does not work out, the former config is put back (or the connector removed, if it was
    new), also when it was a former try that changed it, and the task fails with the connector's own stack trace.

    XCom (return value): ``name``, ``done`` (``nothing``, ``created``, ``updated``, ``removed``), ``changed`` (``from``
    and ``to`` by key, secrets masked), ``state``, ``tasks`` (a state each), ``kind`` and ``version`` of the plugin.

    :param name: the connector. Templated.
    :param config: its config; numbers and booleans may be written as such. Secrets come from Airflow connections
        (``{{ conn.shop.password }}``) or stay with Connect (``${file:…}``, ``${secrets:…}``, ``${env:…}``). Templated.
        Left out, the present config stays, so that a state alone pauses, stops and resumes.
    :param state: ``running``, ``paused``, ``stopped`` or ``absent``. Templated.
    :param wait_until: what a running connector is waited for: ``running``, or ``caught_up``, when a sink has got all
        records that were in its topics at the start, or a Debezium source has ended its snapshot.
    :param settle: seconds for which the state has to last before it is believed; 10 if left out, and 45 where a
        connector that is there gets another config: its tasks then count as running until they run or have failed,
        and some plugins try for half a minute before they give up. At most half of ``timeout``.
    :param restarts: how often failed tasks are restarted, after 2, 4, 8 … seconds.
    :param timeout: seconds until the task gives up.
    :param kafka_connect_conn_id: Airflow connection (type kafka_connect).
    :param strimzi: a Connect cluster whose connectors are resources of Strimzi; they are applied instead of asking its
        REST API, and Strimzi validates them when it hands them on.
    :param kafka_conn_id: Airflow connection (type kafka) of the brokers, asked where the topics of a sink end.
    """

    template_fields: Sequence[str] = ("name", "config", "state")
    template_fields_renderers: ClassVar = {"config": "json"}
    operator_extra_links = (KafkaConnectorLink(),)
    ui_color = "#e3dcf5"

    def __init__(
        self,
        *,
        name: str,
        config: Mapping[str, Any] | None = None,
        state: ConnectorState = "running",
        wait_until: WaitUntil = "running",
        settle: float | None = None,
        restarts: int = 3,
        timeout: float = 600.0,
        kafka_connect_conn_id: str = KafkaConnectHook.default_conn_name,
        strimzi: StrimziCluster | None = None,
        kafka_conn_id: str = "kafka_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if wait_until not in get_args(WaitUntil):
            raise ConfigurationError(f"{self.task_id}: wait_until is {wait_until!r}; write running or caught_up")
        if settle is not None and settle >= timeout:
            raise ConfigurationError(
                f"{self.task_id}: settle, {settle:g} s, is no shorter than timeout, {timeout:g} s; raise timeout"
            )
        self.name = name
        self.config = config
        self.state = state
        self.wait_until = wait_until
        self.settle = settle
        self.restarts = restarts
        self.timeout = timeout
        self.kafka_connect_conn_id = kafka_connect_conn_id
        self.strimzi = strimzi
        self.kafka_conn_id = kafka_conn_id

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:
        """Render, and let Airflow know what must not be shown: rendered fields are stored right after this."""
        super().render_template_fields(context, jinja_env)
        # It may be anything by now; execute tells what is wrong with it.
        config = self.config if isinstance(self.config, Mapping) else {}
        for secret in secret_values({str(key): str(value) for key, value in config.items()}):
            mask_secret(secret)

    def execute(self, context: Context) -> dict[str, Any]:
        """Change what differs and wait, unless there is nothing to wait for."""
        with failing_fast():
            wish = Wish.of(self.name, self.state, self.config)
            with open_connectors(self, context) as connectors:
                return self._bring(connectors, wish, ChangeMemory(context))

    def execute_complete(
        self, context: Context, event: dict[str, Any], change: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """End the task as the trigger's event says; put back what was there before if it does not say ``done``."""
        memory = ChangeMemory(context)
        with failing_fast():
            told = ConnectorEvent.decode(event)
            # `airflow dags test` loses what a task hands to its own end.
            undo = memory.seal.from_json(change) if change else memory.noted()
            if told.ending == "behind":
                memory.forget()
                raise ConnectorFailed(f"connector {self.name}: {told.message}\nIt stays as it is; raise timeout")
            if told.ending != "done":
                with open_connectors(self, context) as connectors:
                    self._give_up(connectors, undo, told, memory)
            memory.forget()
            return self._result(undo, told.status)

    def _bring(self, connectors: Connectors, wish: Wish, memory: ChangeMemory) -> dict[str, Any]:
        present = connectors.get(wish.name)
        planned = plan(wish, present)
        undo = memory.recall(wish, present)
        if undo or not planned.nothing or not self._is_there(wish, present):
            change = validate(connectors, wish.name, planned)
            undo = undo.continued(change) if undo else change
            targets = self._targets(connectors, wish, present)
            self._perform(connectors, wish, change, undo, memory)
            self._wait(wish, undo, targets, memory)
        self.log.info("%s is %s already, with this config", wish.name, wish.state)
        return self._result(planned, StatusFacts.of(present.status if present else None))

    def _is_there(self, wish: Wish, present: Connector | None) -> bool:
        if present is None:
            return wish.state == "absent"
        return self.wait_until == "running" and fulfilled(wish.state, present.status)

    def _perform(self, connectors: Connectors, wish: Wish, change: Change, undo: Change, memory: ChangeMemory) -> None:
        if change.nothing:
            return
        changed = json.dumps(change.told())
        self.log.info("%s: %s, state %s, config %s", wish.name, change.kind, change.state or "as it is", changed)
        memory.note(wish, undo)
        try:
            perform(connectors, wish.name, change)
        except ServiceRefused as error:
            self._give_up(connectors, undo, ConnectorEvent(ending="mistake", message=str(error)), memory)

    def _targets(self, connectors: Connectors, wish: Wish, present: Connector | None) -> Targets | None:
        """Return the offsets that a sink has to reach, none for a source without snapshot; ``None`` where a snapshot
        has to end, or nothing is to be caught up.
        """
        if self.wait_until != "caught_up":
            return None
        config = wish.config or (present.config if present else {})
        plugin = connectors.plugin(config)
        if wish.state != "running" or plugin is None:
            raise ConfigurationError(
                f"connector {wish.name}: only a running source or sink catches up; drop wait_until"
            )
        if plugin.kind == "sink":
            return end_offsets(KafkaHook(self.kafka_conn_id).get_conn(), config)
        return None if takes_snapshot(plugin, config) else {}

    def _wait(self, wish: Wish, undo: Change, targets: Targets | None, memory: ChangeMemory) -> NoReturn:
        wait = ConnectorWait(
            name=wish.name,
            state=wish.state,
            settle=self._settle(undo),
            restarts=self.restarts,
            caught_up=self.wait_until == "caught_up",
            targets=targets,
            secret_keys=tuple(sorted(undo.declared)),
        )
        kwargs = {"change": memory.seal.to_json(undo)}
        wait_in_triggerer(self, wait, self.strimzi or self.kafka_connect_conn_id, self.timeout, kwargs)

    def _settle(self, change: Change) -> float:
        if self.settle is not None:
            return self.settle
        return settle_after(change, seconds_to_wait(self, self.timeout))

    def _give_up(self, connectors: Connectors, undo: Change, told: ConnectorEvent, memory: ChangeMemory) -> NoReturn:
        outcome = put_back(connectors, self.name, undo)
        if outcome.done:
            memory.forget()
        kind = ConfigurationError if told.ending == "mistake" else ConnectorFailed
        raise kind(f"connector {self.name}: {told.message}\n{outcome.message}")

    def _result(self, change: Change, status: StatusFacts) -> dict[str, Any]:
        facts = {"name": self.name, "done": change.kind, "changed": change.told()}
        return {**facts, **status.model_dump(mode="json")}
