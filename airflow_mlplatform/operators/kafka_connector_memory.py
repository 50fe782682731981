"""What a try of a connector task notes for the next one, in Airflow's state store of the task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.models.crypto import get_fernet

from airflow_mlplatform.connectors.change import Change
from airflow_mlplatform.connectors.config import differences
from airflow_mlplatform.connectors.sealed import Seal

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_mlplatform.clients.kafka_connect import Connector
    from airflow_mlplatform.connectors.wish import Wish

__all__ = ["ChangeMemory", "airflow_seal"]

KEY = "mlplatform.connector.change"


def airflow_seal() -> Seal:
    """Return a seal with Airflow's own key; without a key, secrets are dropped rather than stored readably."""
    fernet = get_fernet()
    if not fernet.is_encrypted:
        return Seal()
    return Seal(
        close=lambda text: fernet.encrypt(text.encode()).decode(),
        open=lambda token: fernet.decrypt(token.encode()).decode(),
    )


class ChangeMemory:
    """A change that has begun and not yet ended; it outlives workers.

    :param context: Airflow's; without a state store in it nothing is remembered.
    """

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")
        self.seal = airflow_seal()

    def note(self, wish: Wish, change: Change) -> None:
        """Remember a change before it is made."""
        if self._store is not None:
            self._store.set(KEY, {"wish": wish.fingerprint(), "change": self.seal.to_json(change)})

    def recall(self, wish: Wish, present: Connector | None) -> Change | None:
        """Return the change of a former try for the same wish, if what it sent, or what was before, is still there."""
        found = self._found()
        if found.get("wish") != wish.fingerprint() or present is None:
            return None
        change = self.seal.from_json(found["change"])
        known = [config for config in (change.config, change.former_config) if config is not None]
        return change if not known or any(not differences(one, present.config) for one in known) else None

    def noted(self) -> Change:
        """Return the change that was noted last; one of nothing if there is none."""
        found = self._found()
        return self.seal.from_json(found["change"]) if found else Change()

    def _found(self) -> dict[str, Any]:
        found = self._store.get(KEY) if self._store is not None else None
        return found if isinstance(found, dict) else {}

    def forget(self) -> None:
        """The change has ended, one way or the other."""
        if self._store is not None:
            self._store.delete(KEY)
