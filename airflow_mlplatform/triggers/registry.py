"""Event start: fires when an alias in MLflow's registry moves to another version.

The cursor, the version announced last, lies in the asset's state store. It is written only after Airflow has stored
the event (that is what a shared stream in ack mode tells), so a triggerer that dies at any moment announces
a change once more rather than never, and one that is started again finds what changed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseEventTrigger, TriggerEvent
from airflow.triggers.shared_stream import AdvanceItem, SharedStreamProducer

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
NOBODY: dict[str, Any] = {"version": 0, "run_id": ""}


@dataclass
class Look:
    """What one look at the registry found.

    :param bearer: version and run of who bears the alias; :data:`NOBODY` if nobody does.
    :param cursor: where to note it once Airflow has stored the event made of it; ``None`` if there is nothing to note.
    """

    bearer: dict[str, Any]
    cursor: Cursor | None = None


class Cursor:
    """The version announced last, kept in the state store of the watched asset.

    :param store: what the triggerer gave the trigger; ``None`` where nothing outlives the trigger.
    """

    def __init__(self, store: AssetStateStoreAccessors | None) -> None:
        self.store = store

    async def read(self) -> dict[str, Any]:
        """Return what was announced last; :data:`NOBODY` if nothing ever was."""
        try:
            found = await asyncio.to_thread(self.store.get, CURSOR) if self.store else None
        except ValueError:
            log.warning(
                "Several assets share one RegistryAliasTrigger, so that what has been announced cannot be remembered "
                "and is announced again when the triggerer starts; make the asset with registry_asset(model, alias)"
            )
            self.store = found = None
        return found if isinstance(found, dict) else NOBODY

    async def write(self, bearer: dict[str, Any]) -> None:
        """Note what was announced."""
        if self.store:
            await asyncio.to_thread(self.store.set, CURSOR, bearer)


class AliasStream(SharedStreamProducer):
    """Looks at one alias again and again; outages are borne.

    :param model: name of the registered model.
    :param alias: the alias to watch.
    :param mlflow_conn_id: connection id; that of the ``[mlplatform]`` section if ``None``.
    :param poll_interval: seconds between two looks; that of the ``[mlplatform]`` section if ``None``.
    """

    def __init__(self, model: str, alias: str, mlflow_conn_id: str | None, poll_interval: float | None) -> None:
        self.model = model
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id
        self.outages = Outages(poll_interval or settings().registry_poll_interval, log)

    async def open_stream(self) -> AsyncIterator[tuple[Look, Look]]:
        """Yield what each look found."""
        while True:
            try:
                async with await MlflowHook(self.mlflow_conn_id).async_client() as client:
                    while True:
                        found = await client.get_version_by_alias(self.model, self.alias)
                        self.outages.answered()
                        look = Look({"version": found.version, "run_id": found.run_id} if found else NOBODY)
                        yield look, look
                        await asyncio.sleep(self.outages.pause)
            except MlplatformError as error:
                # Refusals too: nobody would see a watcher end, and whoever mends the connection expects it to go on.
                self.outages.failed(error)
            await asyncio.sleep(self.outages.pause)

    async def advance(self, batch: Sequence[AdvanceItem]) -> None:
        """Note what Airflow has stored."""
        for item in batch:
            look: Look = item.broker_payload
            if look.cursor and item.outcome.is_clean:
                await look.cursor.write(look.bearer)


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
        """Return a key of its own: the stream is wanted for its acknowledgements, not to be shared."""
        return (__name__, *self._arguments().values())

    @classmethod
    def create_shared_stream_producer(cls, kwargs: dict[str, Any]) -> SharedStreamProducer:
        """Return what looks at the registry."""
        return AliasStream(**kwargs)

    async def filter_shared_stream(self, shared_stream: AsyncIterator[Look]) -> AsyncIterator[TriggerEvent]:
        """Fire where a look found something else than what was announced last."""
        cursor = Cursor(self.asset_state_store)
        announced = await cursor.read()
        async for look in shared_stream:
            if look.bearer == announced:
                continue
            former, announced = announced, look.bearer
            look.cursor = cursor
            if look.bearer != NOBODY:
                payload = {"model": self.model, "alias": self.alias, **look.bearer}
                yield TriggerEvent({**payload, "former": former["version"] or None})

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Do the same where the triggerer offers no shared streams; what was fired is noted at the next look."""
        async for event in self.filter_shared_stream(self._looks()):
            yield event

    async def _looks(self) -> AsyncIterator[Look]:
        async for look, _ in AliasStream(**self._arguments()).open_stream():
            yield look
            if look.cursor:
                await look.cursor.write(look.bearer)
