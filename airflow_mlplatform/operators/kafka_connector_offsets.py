"""How far a Kafka connector is: read, reset, set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from airflow.sdk import BaseOperator

from airflow_mlplatform.exceptions import ConfigurationError, NotFound
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook
from airflow_mlplatform.links import KafkaConnectorLink
from airflow_mlplatform.operators.kafka_connector_place import open_connectors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.clients.kafka_connect_operations import Offset
    from airflow_mlplatform.connectors.backend import Connectors
    from airflow_mlplatform.connectors.strimzi import StrimziCluster

__all__ = ["KafkaConnectorOffsetsOperator"]


class KafkaConnectorOffsetsOperator(BaseOperator):
    """Read, reset or set the offsets of a connector. Reading works always, the rest only on a stopped connector.

    XCom (return value): the offsets as they are afterwards, as Connect writes them: a list of ``{"partition": …,
    "offset": …}``.

    :param name: the connector. Templated.
    :param offsets: left out, they are read; ``reset`` lets the connector begin anew; a list sets those it names, and
        ``"offset": None`` in it forgets one. Templated.
    :param kafka_connect_conn_id: Airflow connection (type kafka_connect).
    :param strimzi: a Connect cluster whose connectors are resources of Strimzi, which is asked instead.
    """

    template_fields: Sequence[str] = ("name", "offsets")
    template_fields_renderers: ClassVar = {"offsets": "json"}
    operator_extra_links = (KafkaConnectorLink(),)
    ui_color = "#e3dcf5"

    def __init__(
        self,
        *,
        name: str,
        offsets: Literal["reset"] | Sequence[Offset] | None = None,
        kafka_connect_conn_id: str = KafkaConnectHook.default_conn_name,
        strimzi: StrimziCluster | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.offsets = offsets
        self.kafka_connect_conn_id = kafka_connect_conn_id
        self.strimzi = strimzi

    def execute(self, context: Context) -> list[Offset]:
        """Change the offsets, if asked to, and return them."""
        with failing_fast(), open_connectors(self, context) as connectors:
            if self.offsets is not None:
                self._change(connectors, self.offsets)
            return connectors.get_offsets(self.name)

    def _change(self, connectors: Connectors, offsets: Literal["reset"] | Sequence[Offset]) -> None:
        if isinstance(offsets, str) and offsets != "reset":
            raise ConfigurationError(f"{self.task_id}: offsets is {offsets!r}; write reset, a list, or leave it out")
        present = connectors.get(self.name)
        if present is None:
            raise NotFound(f"there is no connector {self.name!r}; correct its name")
        if present.status is None or present.status.state != "STOPPED":
            raise ConfigurationError(
                f"connector {self.name} is {present.status.state if present.status else 'not known yet'}, and its "
                f'offsets change only while it is stopped; put KafkaConnectorOperator(name="{self.name}", '
                'state="stopped") before this task'
            )
        if isinstance(offsets, str):
            connectors.reset_offsets(self.name)
        else:
            connectors.set_offsets(self.name, offsets)
