"""A short lock in MLflow's registry, so that of several promoters one moves the alias at a time.

MLflow cannot move an alias on a condition. What it does decide atomically is who creates a registered model of a given
name: its database refuses the second. So whoever creates ``<model>.<alias>.lock`` holds the lock until they delete it.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow_operations import AlreadyExists, _get, _send
from airflow_mlplatform.exceptions import NotFound, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.mlflow import MlflowClient

__all__ = ["AliasLock"]

LEASE = 30.0
PATIENCE = 120.0
PAUSE = 0.2
OWNER, TOKEN = "mlplatform.lock.owner", "mlplatform.lock.token"
EXPLANATION = "A lock of airflow-mlplatform while it moves an alias; it goes within seconds."


@dataclass(frozen=True)
class Holder:
    """Who holds a lock.

    :param owner: the Airflow task; its retry has the same.
    :param token: drawn anew each time the lock is taken.
    """

    owner: str
    token: str


@dataclass
class AliasLock:
    """The lock of one alias of one registered model.

    Its holder needs well under a second. A lock that one and the same holder has kept for :data:`LEASE` seconds
    while we watched belongs to somebody who died, and is removed; a retry of the same task takes its own at once.

    :param client: the registry.
    :param model: name of the registered model.
    :param alias: the alias that is going to move.
    :param owner: who asks.
    :param clock: seconds that only grow.
    :param pause: waits for some seconds.
    """

    client: MlflowClient
    model: str
    alias: str
    owner: str
    clock: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep
    token: str = field(default_factory=lambda: uuid4().hex)

    @property
    def name(self) -> str:
        """Name of the registered model that is the lock."""
        return f"{self.model}.{self.alias}.lock"

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock.

        :raises ServiceUnavailable: if others hold it for too long; a retry may help.
        """
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def _acquire(self) -> None:
        began = since = self.clock()
        seen: Holder | None = None
        while not self._take(self.name):
            holder, now = self.holder(), self.clock()
            if holder != seen:
                seen, since = holder, now
            if holder and (holder.owner == self.owner or now - since > LEASE):
                self._break(holder)
            elif now - began > PATIENCE:
                raise ServiceUnavailable(self._busy(holder))
            self.pause(PAUSE)

    def _take(self, name: str) -> bool:
        try:
            drive(_create(name, Holder(self.owner, self.token)), self.client.http)
        except (
            AlreadyExists,
            NotFound,
        ):  # NotFound: MLflow wanted to describe the one in the way, and it had just gone
            return False
        return True

    def _break(self, holder: Holder) -> None:
        # Many may find the same dead holder; the second to break its lock would remove the new lock of the first.
        if not self._take(f"{self.name}.break"):
            return
        try:
            if self.holder() == holder:
                drive(_delete(self.name), self.client.http)
        finally:
            drive(_delete(f"{self.name}.break"), self.client.http)

    def _release(self) -> None:
        if self.mine():
            drive(_delete(self.name), self.client.http)

    def mine(self) -> bool:
        """Whether we still hold it; not if others thought us dead."""
        holder = self.holder()
        return holder is not None and holder.token == self.token

    def holder(self) -> Holder | None:
        """Return who holds it; ``None`` if nobody does."""
        return drive(_holder(self.name), self.client.http)

    def _busy(self, holder: Holder | None) -> str:
        who = f"by {holder.owner}" if holder else "by others in turn"
        return (
            f"the alias {self.alias!r} of {self.model!r} has been locked {who} for {PATIENCE:.0f} s; try again, and if "
            f"nothing is being promoted, delete the registered models {self.name!r} and '{self.name}.break' in MLflow"
        )


def _create(name: str, holder: Holder) -> Operation[None]:
    tags = [{"key": OWNER, "value": holder.owner}, {"key": TOKEN, "value": holder.token}]
    yield from _send("POST", "/registered-models/create", name=name, tags=tags, description=EXPLANATION)


def _delete(name: str) -> Operation[None]:
    try:
        yield from _send("DELETE", "/registered-models/delete", name=name)
    except NotFound:
        return


def _holder(name: str) -> Operation[Holder | None]:
    try:
        answer = yield from _get("/registered-models/get", name=name)
    except NotFound:
        return None
    tags = {tag["key"]: tag.get("value", "") for tag in answer["registered_model"].get("tags", ())}
    return Holder(tags.get(OWNER, "somebody"), tags.get(TOKEN, ""))
