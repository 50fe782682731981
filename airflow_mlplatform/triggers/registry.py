"""Event start: fires when an alias in MLflow's registry moves to another version.

All aliases of a server are watched together: one request a poll (a page of 1,000 registered models), however many
specs wait for it. Each alias has its cursor, the version announced last, in its asset's state store. It is written only
after Airflow has stored the event (that is what a shared stream in ack mode tells), so a triggerer that dies at any
moment announces a change once more rather than never, and one that is started again finds what changed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.sdk.exceptions import AirflowRuntimeError
from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

from airflow_mlplatform.clients.mlflow_entities import RegisteredModel
from airflow_mlplatform.clients.mlflow_registry import LARGEST_PAGE
from airflow_mlplatform.exceptions import MlplatformError
from airflow_mlplatform.hooks.mlflow import MlflowHook
from airflow_mlplatform.settings import settings
from airflow_mlplatform.triggers.outages import Outages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Hashable, Sequence

    from airflow.sdk.execution_time.context import AssetStateStoreAccessors

__all__ = ["RegistryAliasTrigger"]

log = logging.getLogger(__name__)

ARGUMENTS = ("model", "alias", "mlflow_conn_id", "poll_interval")
CURSOR = "mlplatform.registry.announced"
Bearer = dict[str, Any]
NOBODY: Bearer = {"version": 0}


@dataclass
class Look:
    """What one look at the registry found.

    :param models: the registered models by name.
    :param notes: cursors to write once Airflow has stored the events made of this look.
    """

    models: Mapping[str, RegisteredModel]
    notes: list[tuple[Cursor, Bearer]] = field(default_factory=list)

    def bearer(self, model: str, alias: str) -> Bearer:
        """Return who bears an alias; :data:`NOBODY` if nobody does."""
        found = self.models.get(model)
        number = found.aliases.get(alias) if found else None
        return {"version": number, "created": found.created} if found and number else NOBODY

    @property
    def whole(self) -> bool:
        """Whether a model that is missing is really gone, not just pushed from one page to another meanwhile."""
        return len(self.models) < LARGEST_PAGE


class Cursor:
    """The version announced last, kept in the state store of the watched asset.

    :param store: what the triggerer gave the trigger; ``None`` where nothing outlives the trigger.
    """

    def __init__(self, store: AssetStateStoreAccessors | None) -> None:
        self.store = store

    async def read(self) -> Bearer | None:
        """Return what was announced last, :data:`NOBODY` if nothing ever was; ``None`` if that cannot be told now."""
        try:
            found = await asyncio.to_thread(self.store.get, CURSOR) if self.store else None
        except ValueError:
            log.warning(
                "Several assets share one RegistryAliasTrigger, so that what has been announced cannot be remembered "
                "and is announced again when the triggerer starts; make the asset with registry_asset(model, alias)"
            )
            self.store = found = None
        except (AirflowRuntimeError, OSError) as error:
            log.warning("What has been announced cannot be read, which is tried again: %s", error)
            return None
        return found if isinstance(found, dict) else NOBODY

    async def write(self, bearer: Bearer) -> bool:
        """Note what was announced; ``False`` if it must be tried again."""
        try:
            if self.store:
                await asyncio.to_thread(self.store.set, CURSOR, bearer)
        except (AirflowRuntimeError, OSError) as error:
            log.warning("What has been announced cannot be noted, which is tried again: %s", error)
            return False
        return True


class RegistryStream(SharedStreamProducer):
    """Looks at all aliases of a server again and again; outages are borne.

    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if ``None``.
    :param poll_interval: seconds between two looks; that of the ``[mlplatform]`` section if ``None``.
    """

    def __init__(self, mlflow_conn_id: str | None, poll_interval: float | None) -> None:
        self.mlflow_conn_id = mlflow_conn_id
        self.outages = Outages(poll_interval or settings().registry_poll_interval, log)
        self._notes: list[tuple[Cursor, Bearer]] = []

    async def open_stream(self) -> AsyncIterator[tuple[Look, Look]]:
        """Yield what each look found."""
        while True:
            try:
                async with await MlflowHook(self.mlflow_conn_id).async_client() as client:
                    while True:
                        look = Look(await client.list_registered_models())
                        self.outages.answered()
                        yield look, look
                        await asyncio.sleep(self.outages.pause)
            except MlplatformError as error:
                # Refusals too: nobody would see a watcher end, and whoever mends the connection expects it to go on.
                self.outages.failed(error)
            await asyncio.sleep(self.outages.pause)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Note what Airflow has stored; an error here would end the watch for all, so it is kept for the next time."""
        stored: list[Look] = [item.broker_payload for item in batch if item.outcome.is_clean]
        self._notes += [note for look in stored for note in look.notes]
        self._notes = [(cursor, bearer) for cursor, bearer in self._notes if not await cursor.write(bearer)]


class RegistryAliasTrigger(BaseEventTrigger):
    """Fires ``{model, alias, version, run_id, former}`` when the alias is on another version than announced last.

    The first look fires too if the alias exists, so that a DAG that comes after the training still starts. Taking the
    alias away fires nothing; setting it again does.

    :param model: name of the registered model.
    :param alias: the alias to watch.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if ``None``.
    :param poll_interval: seconds between two looks; that of the ``[mlplatform]`` section if ``None``.
    """

    def __init__(
        self, model: str, alias: str, mlflow_conn_id: str | None = None, poll_interval: float | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id
        self.poll_interval = poll_interval

    def _arguments(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ARGUMENTS}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return class path and arguments."""
        return f"{__name__}.{type(self).__name__}", self._arguments()

    def shared_stream_key(self) -> Hashable:
        """Return the same for all aliases of a server that are looked at equally often."""
        return (__name__, MlflowHook(self.mlflow_conn_id).mlflow_conn_id, self.poll_interval)

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what looks at the registry."""
        return RegistryStream(kwargs["mlflow_conn_id"], kwargs["poll_interval"])

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Fire where a look found something else than what was announced last."""
        cursor = Cursor(self.asset_state_store)
        announced: Bearer | None = None
        missed = False
        async for look in shared_stream:
            announced = announced or await cursor.read()
            bearer = look.bearer(self.model, self.alias)
            first_miss, missed = bearer == NOBODY and not missed and not look.whole, bearer == NOBODY
            if announced is None or first_miss or _same(bearer, announced):
                continue
            payload = await self._payload(bearer, announced)
            if payload is not None or bearer == NOBODY:
                announced = bearer
                look.notes.append((cursor, bearer))
            if payload is not None:
                yield TriggerEvent(payload)

    async def _payload(self, bearer: Bearer, former: Bearer) -> dict[str, Any] | None:
        """Tell of a change; ``None`` if there is nothing to tell, or not yet."""
        if bearer == NOBODY:
            return None
        try:
            async with await MlflowHook(self.mlflow_conn_id).async_client() as client:
                version = await client.get_model_version(self.model, bearer["version"])
        except MlplatformError as error:
            log.warning("%s@%s has moved, which is announced later: %s", self.model, self.alias, error)
            return None
        change = {"version": version.version, "run_id": version.run_id, "former": former["version"] or None}
        return {"model": self.model, "alias": self.alias, **change}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the same where the triggerer offers no shared streams; what was fired is noted at the next look."""
        async for event in self.filter_shared_stream(self._looks()):
            yield event

    async def _looks(self) -> AsyncIterator[Look]:
        async for look, _ in RegistryStream(self.mlflow_conn_id, self.poll_interval).open_stream():
            yield look
            for cursor, bearer in look.notes:
                await cursor.write(bearer)


def _same(bearer: Bearer, announced: Bearer) -> bool:
    # What older releases noted does not say when the model was made.
    made = announced.get("created", bearer.get("created"))
    return bool(bearer["version"] == announced["version"]) and bearer.get("created") == made
