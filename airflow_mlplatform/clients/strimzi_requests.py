"""What Strimzi does when an annotation of a KafkaConnector asks for it: restarts, and reads and changes offsets.

The annotations: https://strimzi.io/docs/operators/latest/deploying.html#con-connector-offsets-str
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.exceptions import NotFound, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from airflow_mlplatform.clients.kubernetes_api import Object
    from airflow_mlplatform.clients.strimzi import KafkaConnectors

__all__ = ["LOOK", "RESTART", "get_offsets", "moment", "reset_offsets", "restart", "set_offsets"]

RESTART, OFFSETS = "strimzi.io/restart", "strimzi.io/connector-offsets"
PAUSED = "strimzi.io/pause-reconciliation"
LOOK = "mlplatform/look"
"""Ours: whatever changes in the annotations, Strimzi looks at the connector."""
KEY = "offsets.json"
PATIENCE = 60.0
LOOKS = 0.2
AGAIN = 3.0
# Strimzi, or Kafka Connect behind it, could not just now.
_NOT_NOW = re.compile(r"returned (409|5\d\d)|^(?!.*returned 4).*(ConnectException|TimeoutException)", re.DOTALL)


def moment() -> str:
    """Return a value for :data:`LOOK` that it did not have before."""
    return datetime.now(UTC).isoformat()


async def restart(resources: KafkaConnectors, name: str, only_failed: bool = True) -> None:
    """Ask for a restart of a connector and its tasks. Until Strimzi has begun with it, the annotation is there.

    :param only_failed: only what has failed.
    """
    how = "includeTasks,onlyFailed" if only_failed else "includeTasks"
    await resources.annotate(name, {RESTART: how, LOOK: moment()})


async def get_offsets(resources: KafkaConnectors, name: str) -> list[dict[str, Any]]:
    """Return how far a connector is, in the words of Kafka Connect's REST API.

    :raises NotFound: if there is no such resource.
    """
    present = await _present(resources, name)
    place = ((present["spec"].get("listOffsets") or {}).get("toConfigMap") or {}).get("name")
    spec = None if place else {"listOffsets": {"toConfigMap": {"name": f"{name}-connector-offsets"}}}
    await _obeyed(resources, name, "list", spec)
    found = await resources.config_map(place or f"{name}-connector-offsets")
    try:
        return list(json.loads((found or {})["data"][KEY])["offsets"])
    except (KeyError, TypeError, ValueError):
        raise ServiceUnavailable(
            f"connector {name}: Strimzi has not written its offsets to {KEY} of a ConfigMap that can be read; try again"
        ) from None


async def set_offsets(resources: KafkaConnectors, name: str, offsets: Sequence[Mapping[str, Any]]) -> None:
    """Change how far a stopped connector is; partitions that are not named keep theirs.

    :raises ServiceRefused: if it is not stopped, or its plugin does not take these offsets.
    """
    place = f"{name}-new-offsets"
    owner = await _present(resources, name)
    await resources.write_config_map(place, {KEY: json.dumps({"offsets": list(offsets)})}, owner)
    await _obeyed(resources, name, "alter", {"alterOffsets": {"fromConfigMap": {"name": place}}})


async def reset_offsets(resources: KafkaConnectors, name: str) -> None:
    """Let a stopped connector begin anew.

    :raises ServiceRefused: if it is not stopped.
    """
    await _obeyed(resources, name, "reset")


async def _present(resources: KafkaConnectors, name: str) -> Object:
    found = await resources.get(name)
    if found is None:
        raise NotFound(f"there is no KafkaConnector {resources.namespace}/{name}; correct its name")
    return found


async def _obeyed(resources: KafkaConnectors, name: str, what: str, spec: Mapping[str, Any] | None = None) -> None:
    """Annotate a resource and wait until Strimzi has taken the annotation away, for then it has done what it says."""
    former = _warning(await resources.annotate(name, {OFFSETS: what, LOOK: moment()}, spec))
    looked, deadline = time.monotonic(), time.monotonic() + PATIENCE
    while True:
        seen = await _present(resources, name)
        if OFFSETS not in seen["metadata"].get("annotations", {}):
            return
        warning, now = _warning(seen), time.monotonic()
        refused = warning not in ({}, former) and not _NOT_NOW.search(warning.get("message", ""))
        refused = refused or seen["metadata"]["annotations"].get(PAUSED) == "true"
        if refused or now > deadline:
            # What stays would be done some day, when nobody thinks of it any more.
            await resources.annotate(name, {OFFSETS: None})
            raise _refusal(name, f"{OFFSETS}: {what}", seen, refused=refused)
        if now - looked > AGAIN:
            looked = now
            await resources.annotate(name, {LOOK: moment()})
        await asyncio.sleep(LOOKS)


def _warning(resource: Object) -> dict[str, str]:
    return next((one for one in _conditions(resource) if one.get("type") == "Warning"), {})


def _conditions(resource: Object) -> list[dict[str, str]]:
    return list((resource.get("status") or {}).get("conditions") or ())


def _refusal(name: str, asked: str, seen: Object, *, refused: bool) -> ServiceRefused | ServiceUnavailable:
    said = "; ".join(
        ": ".join(filter(None, (one.get("type"), one.get("reason"), one.get("message")))) for one in _conditions(seen)
    )
    said = said or "nothing"
    if refused:
        return ServiceRefused(f"connector {name}: Strimzi does not do what {asked} asks for; it says {said}")
    return ServiceUnavailable(
        f"connector {name}: Strimzi has not done within {PATIENCE:.0f} s what {asked} asks for; it says {said}; see "
        "that its operator runs, then try again"
    )
