"""What a Kafka client complains of, in our words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import (
    ConfigurationError,
    MlplatformError,
    NotFound,
    ServiceRefused,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Problems", "kafka_error"]

LOGIN = {"_AUTHENTICATION", "SASL_AUTHENTICATION_FAILED", "ILLEGAL_SASL_STATE", "UNSUPPORTED_SASL_MECHANISM", "_SSL"}
RIGHTS = {"TOPIC_AUTHORIZATION_FAILED", "GROUP_AUTHORIZATION_FAILED", "CLUSTER_AUTHORIZATION_FAILED"}
GONE = {"UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_TOPIC", "_UNKNOWN_PARTITION", "TOPIC_EXCEPTION"}
DOWN = {"_ALL_BROKERS_DOWN", "_TRANSPORT", "_TIMED_OUT", "_RESOLVE"}
PAST = {"OFFSET_OUT_OF_RANGE", "_AUTO_OFFSET_RESET"}


def kafka_error(error: Any, where: str) -> MlplatformError:
    """Turn an error of the client into ours.

    :param error: a ``KafkaError``.
    :param where: topic and connection, for the message.
    """
    name, text = error.name(), f"{where}: {error.str()} ({error.name()})"
    if name in GONE:
        return NotFound(f"{text}; check the name of the topic, and that the login may describe it")
    if name in PAST:
        return ConfigurationError(
            f"{text}: records were removed while they were read; raise retention.ms or run more often, then "
            "clear this run"
        )
    if name in LOGIN:
        return ServiceRefused(f"{text}; check security.protocol, sasl.* and ssl.* in the connection's extra")
    if name in RIGHTS:
        return ServiceRefused(f"{text}; let the login read and describe the topic")
    if name in ("_INVALID_ARG", "_CONFLICT"):
        return ConfigurationError(f"{text}; correct the connection's extra")
    if name in DOWN:
        # Brokers hang up on who speaks another protocol, without a word.
        hint = "if not, check bootstrap.servers and security.protocol in the connection's extra"
        return ServiceUnavailable(f"{text}; a retry may help; {hint}")
    return ServiceUnavailable(f"{text}; a retry may help")


class Problems:
    """What a client tells aside while it goes on trying: the reason of a later timeout.

    :param where: topic and connection, for messages.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self._last: Any = None

    def add(self, error: Any) -> None:
        """Be told of a problem (a ``KafkaError``); may be called from another thread."""
        # That all brokers are down is said last, and is not the reason.
        if self._last is None or error.name() != "_ALL_BROKERS_DOWN":
            self._last = error

    def demand_hope(self) -> None:
        """Raise what no patience can mend.

        :raises ServiceRefused: for a login that the brokers refuse.
        """
        if self._last is None:
            return
        found = kafka_error(self._last, self._where)
        if isinstance(found, ServiceRefused):
            raise found

    def silence(self) -> MlplatformError:
        """Return the outage, with the reason that was told last."""
        if self._last is not None:
            return kafka_error(self._last, self._where)
        return ServiceUnavailable(f"{self._where}: the brokers do not answer; a retry may help")

    @contextmanager
    def named(self) -> Iterator[None]:
        """Turn errors of the client in the block into ours.

        :raises ConfigurationError: for a configuration that the client does not understand.
        :raises ServiceRefused: for a login, right or topic that the brokers do not know.
        :raises ServiceUnavailable: for everything else.
        """
        from confluent_kafka import KafkaException

        try:
            yield
        except KafkaException as error:
            found = kafka_error(error.args[0], self._where)
            if isinstance(found, ServiceUnavailable) and self._last is not None:
                found = self.silence()
            raise found from None
