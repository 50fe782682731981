"""Kafka Connect's REST API, each call once. The clients in ``kafka_connect.py`` drive these.

The API: https://kafka.apache.org/documentation/#connect_rest
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.http import Operation, Request, unavailable
from airflow_mlplatform.clients.kafka_connect_entities import (
    Connector,
    ConnectorStatus,
    InitialState,
    Plugin,
    Validation,
)
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import httpx

Offset = dict[str, Any]
"""One entry of ``/connectors/NAME/offsets``: a ``partition`` and its ``offset``, ``None`` to forget it."""


class Rebalancing(ServiceUnavailable):
    """The workers are busy with themselves (409): rebalance, or the leader has changed."""


def _interpret(response: httpx.Response) -> Any:
    where = f"Kafka Connect at {response.request.url.copy_with(path='/', query=None)}"
    what = f"{response.request.method} {response.request.url.path}"
    if response.status_code == 409:
        raise Rebalancing(f"{where} cannot {what} now: {_message(response)}; try again later")
    if unavailable(response) or _starting(response):
        raise ServiceUnavailable(f"{where} answered {response.status_code}: {_message(response)}; try again later")
    if response.is_success:
        return _content(response, where)
    raise _refusal(response)(f"{where} refused {what}: {_message(response)}")


def _starting(response: httpx.Response) -> bool:
    """Whether a worker has no pages yet: its bare web server answers, with a page of its own."""
    return response.status_code == 404 and "HTTP ERROR 404 Not Found" in response.text


def _content(response: httpx.Response, where: str) -> Any:
    if not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise ServiceRefused(f"{where} answered without JSON; see that the connection names Kafka Connect") from None


def _error(response: httpx.Response) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) and "error_code" in answer else {}


def _refusal(response: httpx.Response) -> type[ServiceRefused]:
    # A path that Connect does not have at all is 404 too, in the words of its web server.
    missing = response.status_code == 404 and not str(_error(response).get("message", "HTTP 404")).startswith(
        "HTTP 404"
    )
    return NotFound if missing else ServiceRefused


def _message(response: httpx.Response) -> str:
    if error := _error(response):
        return str(error.get("message", "no reason given"))
    if response.status_code in (401, 403):
        return f"{response.status_code}; correct login, password, token or client certificate in the connection"
    if _starting(response):
        return "it has no pages, which is so while a worker starts, or where no Kafka Connect is"
    if response.has_redirect_location:
        return f"{response.status_code}, it is at {response.headers['location']}; write its address in the connection"
    if response.status_code == 404:
        return "404, no such page; see that the connection names Kafka Connect, with its path behind an ingress"
    return f"{response.status_code} {response.reason_phrase}"


def _path(name: str, below: str = "") -> str:
    if not name or "/" in name:
        raise ConfigurationError(f"{name!r} cannot name a connector: it is empty or holds a slash; rename it")
    return f"/connectors/{quote(name, safe='')}{below}"


def _ask(method: str, path: str, json: Mapping[str, Any] | None = None, **params: str) -> Operation[Any]:
    return _interpret((yield Request(method, path, params=params, json=json)))


def version() -> Operation[str]:
    """Return the version of the worker that answers, the cheapest way to see that it is Kafka Connect."""
    answer = yield from _ask("GET", "/")
    if not isinstance(answer, dict) or "kafka_cluster_id" not in answer:
        raise ServiceRefused("what answers is not Kafka Connect; correct the address in the connection")
    return str(answer["version"])


def plugins() -> Operation[tuple[Plugin, ...]]:
    """Return the connector classes that the workers have, by name."""
    answer = yield from _ask("GET", "/connector-plugins")
    return tuple(sorted(map(Plugin.parse, answer), key=lambda plugin: plugin.name))


def validate(config: Mapping[str, str]) -> Operation[Validation]:
    """Ask the plugin what it thinks of a config, which must hold ``name`` and ``connector.class``.

    :raises ConfigurationError: if no worker has the plugin; the message lists those that exist.
    """
    plugin = config["connector.class"]
    response = yield Request("PUT", f"/connector-plugins/{quote(plugin, safe='')}/config/validate", json=config)
    if not response.is_success:
        # An unknown class is answered with 500, or 404, depending on the version.
        yield from _see_that_it_exists(plugin)
    return Validation.parse(_interpret(response))


def _see_that_it_exists(plugin: str) -> Operation[None]:
    known = yield from plugins()
    if not any(one.answers_to(plugin) for one in known):
        raise ConfigurationError(
            f"the workers have no plugin {plugin!r}; install it in their plugin.path and restart them, or correct "
            f"connector.class to one of these: {', '.join(map(str, known)) or 'none at all'}"
        )


def list_connectors() -> Operation[dict[str, Connector]]:
    """Return all connectors with config and status, in one request."""
    answer = _interpret((yield Request("GET", "/connectors", params={"expand": ("status", "info")})))
    return {name: Connector.parse(name, data) for name, data in answer.items()}


def get_config(name: str) -> Operation[dict[str, str] | None]:
    """Return the config of a connector; ``None`` if there is none of that name."""
    try:
        answer: dict[str, str] = yield from _ask("GET", _path(name, "/config"))
    except NotFound:
        return None
    return answer


def get_status(name: str) -> Operation[ConnectorStatus | None]:
    """Return how a connector does; ``None`` if nobody has reported. One that is gone may be told of for a while."""
    try:
        return ConnectorStatus.parse((yield from _ask("GET", _path(name, "/status"))))
    except NotFound:
        return None


def get_connector(name: str) -> Operation[Connector | None]:
    """Return a connector; ``None`` if there is none of that name."""
    config = yield from get_config(name)
    if config is None:
        return None
    return Connector(name, config, (yield from get_status(name)))


def put_config(name: str, config: Mapping[str, str]) -> Operation[None]:
    """Make a connector, which then runs, or give another config to the present one, which keeps its state.

    :raises ServiceRefused: if the worker does not take the config; the present one stays.
    """
    yield from _ask("PUT", _path(name, "/config"), config)


def create(name: str, config: Mapping[str, str], state: InitialState) -> Operation[bool]:
    """Make a connector in a state; return false if there is one of that name already.

    :raises ServiceRefused: if the worker does not take the config.
    """
    _path(name)
    body = {"name": name, "config": dict(config), "initial_state": state.upper()}
    response = yield Request("POST", "/connectors", json=body)
    if response.status_code == 409 and (yield from get_config(name)) is not None:
        return False
    _interpret(response)
    return True


def delete(name: str) -> Operation[None]:
    """Remove a connector; nothing happens if there is none of that name. Its offsets stay."""
    try:
        yield from _ask("DELETE", _path(name))
    except NotFound:
        return


def set_state(name: str, state: InitialState) -> Operation[None]:
    """Resume, pause or stop a connector; workers follow some time later.

    :raises NotFound: if there is none of that name.
    """
    verb = {"running": "resume", "paused": "pause", "stopped": "stop"}[state]
    yield from _ask("PUT", _path(name, f"/{verb}"))


def restart(name: str, only_failed: bool = True) -> Operation[None]:
    """Restart connector and tasks.

    :param only_failed: only what has failed.
    :raises NotFound: if there is none of that name.
    """
    yield from _ask("POST", _path(name, "/restart"), includeTasks="true", onlyFailed="true" if only_failed else "false")


def get_offsets(name: str) -> Operation[list[Offset]]:
    """Return how far a connector is: committed group offsets of a sink, what a source has noted.

    :raises NotFound: if there is none of that name.
    """
    answer = yield from _ask("GET", _path(name, "/offsets"))
    return list(answer["offsets"])


def set_offsets(name: str, offsets: Sequence[Offset]) -> Operation[None]:
    """Change how far a stopped connector is; partitions that are not named keep theirs.

    :raises ServiceRefused: if it is not stopped, or its plugin does not take these offsets.
    """
    yield from _ask("PATCH", _path(name, "/offsets"), {"offsets": list(offsets)})


def reset_offsets(name: str) -> Operation[None]:
    """Let a stopped connector begin anew.

    :raises ServiceRefused: if it is not stopped.
    """
    yield from _ask("DELETE", _path(name, "/offsets"))
