"""Topics of Kafka as a spec wishes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator
from pydantic import ValidationError

from airflow_mlplatform.clients.kafka_admin import KafkaAdmin
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.failing_fast import failing_fast
from airflow_mlplatform.hooks.kafka import KafkaHook
from airflow_mlplatform.specs.streaming import Topic
from airflow_mlplatform.steps.topics import apply_topics, remove_topics

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow.sdk import Context

__all__ = ["KafkaTopicsOperator"]


class KafkaTopicsOperator(BaseOperator):
    """Make topics, or make them what they should be.

    All topics are compared with what is there before anything is done. Partitions only grow; another replication than
    the one that is there is refused; settings that differ are changed and shown, and those that are not named stay.
    Nothing is sent if nothing differs.

    :param topics: topics, or mappings like ``{"name": "clicks", "partitions": 6, "config": {"cleanup.policy":
        "compact"}}``. Templated.
    :param state: ``present`` or ``absent``.
    :param delete: whether ``absent`` deletes the topics with their data, rather than only saying that they stay.
    :param kafka_conn_id: Airflow connection (type kafka).

    Its XCom is what was done, by topic; for ``absent`` the lists ``deleted`` and ``stay``.
    """

    template_fields: Sequence[str] = ("topics",)
    ui_color = "#e8e4f3"

    def __init__(
        self,
        *,
        topics: Sequence[Topic | Mapping[str, Any]],
        state: Literal["present", "absent"] = "present",
        delete: bool = False,
        kafka_conn_id: str = KafkaHook.default_conn_name,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.topics = [topic.model_dump(mode="json") if isinstance(topic, Topic) else dict(topic) for topic in topics]
        self.state = state
        self.delete = delete
        self.kafka_conn_id = kafka_conn_id

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Compare, then do what is to be done."""
        with failing_fast():
            topics = [self._topic(topic) for topic in self.topics]
            admin = KafkaAdmin(KafkaHook(self.kafka_conn_id).get_conn())
            if self.state == "absent":
                return remove_topics(admin, [topic.name for topic in topics], delete=self.delete)
            return apply_topics(admin, topics)

    def _topic(self, topic: Mapping[str, Any]) -> Topic:
        try:
            return Topic.model_validate(topic)
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors())
            raise ConfigurationError(f"topics of task {self.task_id}: {problems}; correct its arguments") from None
