"""An MLflow in memory that speaks as much of the REST API as promotion needs.

What it claims about MLflow is claimed of the real one by tests/services/test_promotion_registry.py.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpx

from airflow_mlplatform.clients.mlflow import AsyncMlflowClient, Endpoint, MlflowClient

if TYPE_CHECKING:
    from collections.abc import Callable

ENDPOINT = Endpoint("http://mlflow.test")
CREATED = 1_770_000_000_000
Answer = tuple[int, dict[str, Any]]


@dataclass
class FakeRegistry:
    """Models by name, each with aliases, tags and versions; runs by id.

    :param page: most models that a search gives in one answer.
    :param fault: asked before each request; what it returns is the answer, ``None`` lets the request through.
    """

    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    page: int = 1000
    fault: Callable[[httpx.Request], httpx.Response | None] = lambda request: None

    def client(self) -> MlflowClient:
        return MlflowClient(ENDPOINT, transport=httpx.MockTransport(self.handle))

    def async_client(self) -> AsyncMlflowClient:
        return AsyncMlflowClient(ENDPOINT, transport=httpx.MockTransport(self.handle))

    def train(self, name: str = "wine", alias: str | None = None, **metrics: float) -> int:
        """Register a version made by a run with these metrics; its number."""
        model = self.models.setdefault(name, {"aliases": {}, "tags": {}, "versions": {}})
        number = len(model["versions"]) + 1
        run_id = f"{name}-{number}"
        self.runs[run_id] = {
            "info": {"run_id": run_id, "experiment_id": "1", "status": "FINISHED"},
            "data": {"metrics": [{"key": key, "value": value} for key, value in metrics.items()]},
        }
        model["versions"][number] = {"run_id": run_id, "tags": {}}
        if alias:
            model["aliases"][alias] = number
        return number

    def alias(self, alias: str, name: str = "wine") -> int | None:
        found: int | None = self.models[name]["aliases"].get(alias)
        return found

    def tags(self, number: int, name: str = "wine") -> dict[str, str]:
        found: dict[str, str] = self.models[name]["versions"][number]["tags"]
        return found

    def handle(self, request: httpx.Request) -> httpx.Response:
        answer = self.fault(request)
        if answer is not None:
            return answer
        call = request.url.path.removeprefix("/api/2.0/mlflow/")
        arguments = dict(request.url.params) or (json.loads(request.content) if request.content else {})
        self.requests.append((f"{request.method} {call}", arguments))
        handler = getattr(self, f"_{request.method.lower()}_{call.replace('/', '_').replace('-', '_')}")
        status, body = handler(**arguments)
        return httpx.Response(status, json=body)

    def _get_registered_models_get(self, name: str) -> Answer:
        return (200, {"registered_model": self._describe(name)}) if name in self.models else missing(name)

    def _get_registered_models_search(self, max_results: str, page_token: str = "0") -> Answer:
        names, start, size = sorted(self.models), int(page_token), min(int(max_results), self.page)
        end = start + size
        page = {"registered_models": [self._describe(name) for name in names[start:end]]}
        return 200, page | ({"next_page_token": str(end)} if end < len(names) else {})

    def _describe(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        aliases = [{"alias": alias, "version": str(number)} for alias, number in model["aliases"].items()]
        tags = [{"key": key, "value": value} for key, value in model["tags"].items()]
        created = model.setdefault("created", CREATED)
        return {"name": name, "aliases": aliases, "tags": tags, "creation_timestamp": created}

    def _post_registered_models_create(self, name: str, tags: list[dict[str, str]], description: str) -> Answer:
        if name in self.models:
            return 400, {"error_code": "RESOURCE_ALREADY_EXISTS", "message": name}
        self.models[name] = {"aliases": {}, "tags": {tag["key"]: tag["value"] for tag in tags}, "versions": {}}
        return 200, {"registered_model": {"name": name, "description": description}}

    def _delete_registered_models_delete(self, name: str) -> Answer:
        return (200, {}) if self.models.pop(name, None) else missing(name)

    def _post_registered_models_alias(self, name: str, alias: str, version: str) -> Answer:
        if int(version) not in self.models[name]["versions"]:
            return missing(f"{name} {version}")
        self.models[name]["aliases"][alias] = int(version)
        return 200, {}

    def _delete_registered_models_alias(self, name: str, alias: str) -> Answer:
        self.models[name]["aliases"].pop(alias, None)
        return 200, {}

    def _post_registered_models_set_tag(self, name: str, key: str, value: str) -> Answer:
        self.models[name]["tags"][key] = value
        return 200, {}

    def _delete_model_versions_delete_tag(self, name: str, version: str, key: str) -> Answer:
        self.models[name]["versions"][int(version)]["tags"].pop(key, None)
        return 200, {}

    def _get_model_versions_get(self, name: str, version: str) -> Answer:
        model = self.models.get(name, {"versions": {}})
        found = model["versions"].get(int(version))
        if found is None:
            return missing(f"{name} {version}")
        aliases = [alias for alias, number in model["aliases"].items() if number == int(version)]
        tags = [{"key": key, "value": value} for key, value in found["tags"].items()]
        return 200, {
            "model_version": {
                "name": name, "version": version, "run_id": found["run_id"], "creation_timestamp": CREATED,
                "status": "READY", "aliases": aliases, "tags": tags,
            }
        }  # fmt: skip

    def _post_model_versions_set_tag(self, name: str, version: str, key: str, value: str) -> Answer:
        self.models[name]["versions"][int(version)]["tags"][key] = value
        return 200, {}

    def _get_runs_get(self, run_id: str) -> Answer:
        return (200, {"run": self.runs[run_id]}) if run_id in self.runs else missing(run_id)


def missing(what: str) -> Answer:
    return 404, {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": f"{what} not found"}


def down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def unauthorised(request: httpx.Request) -> httpx.Response:
    return httpx.Response(401, text="You are not authenticated", request=request)
