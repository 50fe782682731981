"""MLflow's tracking API, each call once: what to ask, how to read the answer. The clients in ``mlflow.py`` drive these.

The registry's calls are in ``mlflow_registry.py``."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from airflow_mlplatform.clients.http import Operation, Request, unavailable
from airflow_mlplatform.clients.mlflow_entities import Experiment, LoggedModel, Run, RunStatus
from airflow_mlplatform.exceptions import ConfigurationError, NotFound, ServiceRefused, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

API = "/api/2.0/mlflow"
PAGE = 200
MAX_VALUE = {"run tag": 5000, "parameter": 6000}
EXAMPLE_FILE = "serving_input_example.json"


class AlreadyExists(ServiceRefused):
    """The name is taken."""


def _interpret(response: httpx.Response) -> dict[str, Any]:
    where = f"MLflow at {response.request.url.copy_with(path='/', query=None)}"
    if unavailable(response):
        raise ServiceUnavailable(f"{where} answered {response.status_code}: {_message(response)}; try again later")
    if response.is_success:
        answer = _json(response)
        if answer is not None:
            return answer
        raise ServiceRefused(f"{where} answered without JSON; see that the connection names MLflow's own address")
    raise _refusal(response)(
        f"{where} refused {response.request.method} {response.request.url.path}: {_message(response)}"
    )


def _json(response: httpx.Response) -> dict[str, Any] | None:
    try:
        answer = response.json()
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _refusal(response: httpx.Response) -> type[ServiceRefused]:
    code = (_json(response) or {}).get("error_code")
    return {"RESOURCE_DOES_NOT_EXIST": NotFound, "RESOURCE_ALREADY_EXISTS": AlreadyExists}.get(
        str(code), ServiceRefused
    )


def _message(response: httpx.Response) -> str:
    answer = _json(response) or {}
    if "error_code" in answer:
        return f"{answer['error_code']}: {answer.get('message', '')}"
    if response.status_code in (401, 403):
        return f"{response.status_code}; correct login, password or token in the connection"
    if response.status_code == 404:
        return "404, no such page; see that the connection names MLflow's own address"
    return f"{response.status_code} {response.reason_phrase}"


def _get(path: str, **params: str) -> Operation[dict[str, Any]]:
    return _interpret((yield Request("GET", API + path, params=params)))


def _send(method: str, path: str, **body: Any) -> Operation[dict[str, Any]]:
    return _interpret((yield Request(method, API + path, json=body)))


def _tags(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    return [{"key": key, "value": value[: MAX_VALUE["run tag"]]} for key, value in (tags or {}).items()]


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _now() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def quoted(text: str) -> str:
    """Write a text as a value of MLflow's filter language, which has no escapes.

    :raises ConfigurationError: for a text with both kinds of quotes.
    """
    for quote_mark in ("'", '"'):
        if quote_mark not in text:
            return f"{quote_mark}{text}{quote_mark}"
    raise ConfigurationError(f"MLflow cannot search for {text!r}: it holds both kinds of quotes; rename it")


def version() -> Operation[str]:
    """Return the server's version, the cheapest way to see that it is MLflow and that it answers."""
    response = yield Request("GET", "/version")
    if not response.is_success or not response.text[:1].isdigit():
        _interpret(response)
        raise ServiceRefused(
            f"{response.request.url} is not MLflow; see that the connection names MLflow's own address"
        )
    # Any server may have a page /version, and without the right login MLflow shows its own too.
    yield from search_experiments(1)
    return response.text.strip()


def search_experiments(limit: int = PAGE) -> Operation[tuple[Experiment, ...]]:
    """Return up to ``limit`` active experiments."""
    answer = yield from _send("POST", "/experiments/search", max_results=limit)
    return tuple(Experiment.parse(item) for item in answer.get("experiments", ()))


def get_experiment_by_name(name: str) -> Operation[Experiment]:
    """Return an experiment, deleted ones included.

    :raises NotFound: if there is none.
    """
    answer = yield from _get("/experiments/get-by-name", experiment_name=name)
    return Experiment.parse(answer["experiment"])


def get_or_create_experiment(name: str) -> Operation[str]:
    """Return the id of the experiment of this name, made now if missing; many may ask at once.

    :raises ConfigurationError: if it has been deleted, since its name stays taken.
    """
    try:
        experiment = yield from get_experiment_by_name(name)
    except NotFound:
        try:
            answer = yield from _send("POST", "/experiments/create", name=name)
            return str(answer["experiment_id"])
        except AlreadyExists:
            experiment = yield from get_experiment_by_name(name)
    if experiment.lifecycle_stage != "active":
        raise ConfigurationError(
            f"MLflow experiment {name!r} is deleted but its name stays taken; restore it "
            f"(mlflow experiments restore -x {experiment.experiment_id}) or use another name"
        )
    return experiment.experiment_id


def create_run(experiment_id: str, tags: Mapping[str, str] | None = None, name: str | None = None) -> Operation[Run]:
    """Start a run; its status is ``RUNNING``."""
    body: dict[str, Any] = {"experiment_id": experiment_id, "start_time": _now(), "tags": _tags(tags)}
    answer = yield from _send("POST", "/runs/create", **body, **({"run_name": name} if name else {}))
    return Run.parse(answer["run"])


def get_run(run_id: str) -> Operation[Run]:
    """Return a run.

    :raises NotFound: if there is none.
    """
    answer = yield from _get("/runs/get", run_id=run_id)
    return Run.parse(answer["run"])


def update_run(run_id: str, status: RunStatus) -> Operation[None]:
    """Set the status of a run; any but ``RUNNING`` and ``SCHEDULED`` also records its end."""
    end = {} if status in ("RUNNING", "SCHEDULED") else {"end_time": _now()}
    yield from _send("POST", "/runs/update", run_id=run_id, status=status, **end)


def search_runs(experiment_id: str, condition: str = "", limit: int | None = None) -> Operation[tuple[Run, ...]]:
    """Return the runs of an experiment that fulfil a condition, newest first.

    :param condition: in MLflow's filter language; empty for all runs.
    :param limit: most runs to return; ``None`` for all.
    """
    found: list[Run] = []
    token = ""
    while limit is None or len(found) < limit:
        answer = yield from _send(
            "POST", "/runs/search", experiment_ids=[experiment_id], filter=condition,
            max_results=min(PAGE, limit - len(found)) if limit else PAGE,
            order_by=["attributes.start_time DESC"], page_token=token,
        )  # fmt: skip
        found += [Run.parse(item) for item in answer.get("runs", ())]
        token = answer.get("next_page_token", "")
        if not token:
            break
    return tuple(found)


def log_batch(
    run_id: str,
    tags: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    metrics: Mapping[str, float] | None = None,
) -> Operation[None]:
    """Write tags, parameters and metrics of a run; long tags are cut.

    :raises ServiceRefused: if a parameter is there already with another value.
    """
    now = _now()
    yield from _send(
        "POST", "/runs/log-batch", run_id=run_id, tags=_tags(tags),
        params=[{"key": key, "value": value} for key, value in (params or {}).items()],
        metrics=[
            {"key": key, "value": _number(value), "timestamp": now, "step": 0} for key, value in (metrics or {}).items()
        ],
    )  # fmt: skip


def set_run_tags(run_id: str, tags: Mapping[str, str]) -> Operation[None]:
    """Set tags of a run."""
    yield from log_batch(run_id, tags=tags)


def get_logged_model(model_id: str) -> Operation[LoggedModel]:
    """Return a logged model (``m-…``).

    :raises NotFound: if there is none.
    """
    answer = yield from _get(f"/logged-models/{quote(model_id, safe='')}")
    return LoggedModel.parse(answer["model"])


def get_model_of_run(run: Run) -> Operation[LoggedModel | None]:
    """Return the newest complete model that a run logged; ``None`` if it logged none."""
    for model_id in reversed(run.model_ids):
        try:
            model = yield from get_logged_model(model_id)
        except NotFound:
            continue
        if model.ready:
            return model
    return None


def get_logged_model_file(model_id: str, path: str) -> Operation[bytes]:
    """Download a file of a logged model through the server, wherever it keeps its artifacts.

    :raises NotFound: if the model has no such file.
    """
    place = f"/ajax-api/2.0/mlflow/logged-models/{quote(model_id, safe='')}/artifacts/files"
    response = yield Request("GET", place, params={"artifact_file_path": path})
    if response.is_success:
        return response.content
    # What a missing file is answered with depends on where the server keeps its artifacts; its list of files does not.
    if path not in (yield from list_logged_model_files(model_id, path.rpartition("/")[0])):
        raise NotFound(f"logged model {model_id} has no file {path!r}")
    _interpret(response)
    raise AssertionError("unreachable: an unsuccessful answer raises")


def list_logged_model_files(model_id: str, folder: str = "") -> Operation[tuple[str, ...]]:
    """Return the paths of files and folders of a logged model, directly below a folder of it."""
    found: list[str] = []
    params = {"artifact_directory_path": folder} if folder else {}
    while True:
        answer = yield from _get(f"/logged-models/{quote(model_id, safe='')}/artifacts/directories", **params)
        found += [item["path"] for item in answer.get("files", ())]
        if not answer.get("next_page_token"):
            return tuple(found)
        params["page_token"] = answer["next_page_token"]


def get_model_input_example(model_id: str) -> Operation[Any]:
    """Return the input example of a logged model as the JSON body of a request to ``/invocations``.

    ``None`` if the model was logged without one.
    """
    try:
        content = yield from get_logged_model_file(model_id, EXAMPLE_FILE)
    except NotFound:
        return None
    return json.loads(content)
