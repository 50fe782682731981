"""Who waits for which alert: written into the DAG by the factory, read from Airflow's database by the API server.

The API server parses no DAGs. A tag ``alert:NAME`` finds those that listen; the schema of the param ``alert``, in which
a run finds its alert, says the rest under a key of ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from airflow_mlplatform.alerts.message import Alert
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.specs.alerts import DeploymentAlert, OnAlert
from airflow_mlplatform.specs.base import show_duration

__all__ = ["SCHEMA_KEY", "Listener", "listeners_in", "tag_of"]

SCHEMA_KEY = "x-mlplatform-alerts"


class Listener(OnAlert):
    """One entry of ``on_alert``.

    :param action: what the run is for, where a DAG's param ``action`` says that; else empty.
    """

    action: str = ""

    @classmethod
    def of(cls, wish: OnAlert) -> Listener:
        """Return the listener of an entry of a spec."""
        action = wish.action if isinstance(wish, DeploymentAlert) else ""
        return cls(alert=wish.alert, labels=wish.labels, cooldown=wish.cooldown, action=action)

    def heard(self, alerts: Sequence[Alert]) -> tuple[Alert, ...]:
        """Return those of the alerts that are meant."""
        return tuple(alert for alert in alerts if self._means(alert))

    def _means(self, alert: Alert) -> bool:
        wanted = {**self.labels, "alertname": self.alert}
        return all(alert.labels.get(name) == value for name, value in wanted.items())

    @property
    def sequence(self) -> str:
        """What the ids of its runs begin with; all listeners of a DAG for the same action share them."""
        return f"alert__{self.action or 'run'}__"

    def __str__(self) -> str:
        labels = ", ".join(f"{name}={value}" for name, value in self.labels.items())
        purpose = f"{self.action} " if self.action else ""
        return f"{purpose}on {self.alert}{f' ({labels})' if labels else ''}, pause {show_duration(self.cooldown)}"


LISTENERS = TypeAdapter(tuple[Listener, ...])


def listeners_in(schema: Mapping[str, Any]) -> tuple[Listener, ...]:
    """Read the listeners of a DAG from the schema of its param ``alert``; none if it has no such key.

    :raises ConfigurationError: if they were written by a release that knows more.
    """
    try:
        return LISTENERS.validate_python(tuple(schema.get(SCHEMA_KEY, ())))
    except ValidationError as error:
        raise ConfigurationError(
            "its on_alert was written by another release of this package; run the same one in the API server and the "
            "DAG processor"
        ) from error


def tag_of(alert: str) -> str:
    """Return the tag of DAGs that an alert of this name starts."""
    return f"alert:{alert}"
