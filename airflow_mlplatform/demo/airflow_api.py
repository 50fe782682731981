"""The few calls of Airflow's REST API that show how far the pipelines are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["AirflowApi", "DagRun", "TaskState"]


@dataclass(frozen=True)
class TaskState:
    """A task instance of a run."""

    task_id: str
    map_index: int
    state: str


@dataclass(frozen=True)
class DagRun:
    """A run of a DAG."""

    dag_id: str
    run_id: str
    state: str
    run_type: str


class AirflowApi:
    """A client of Airflow's stable REST API, logged in by name and password."""

    def __init__(self, url: str, username: str, password: str) -> None:
        token = httpx.post(f"{url}/auth/token", json={"username": username, "password": password}, timeout=30)
        token.raise_for_status()
        headers = {"Authorization": f"Bearer {token.json()['access_token']}"}
        self._http = httpx.Client(base_url=f"{url}/api/v2", headers=headers, timeout=30)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def dag_ids(self) -> set[str]:
        """Return the ids of the DAGs that are there."""
        return {dag["dag_id"] for dag in self.get("/dags", limit=1000)["dags"]}

    def import_errors(self) -> list[str]:
        """Return the import errors, file and text."""
        return [f"{row['filename']}: {row['stack_trace']}" for row in self.get("/importErrors")["import_errors"]]

    def trigger(self, dag_id: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run and return its id."""
        answer = self.post(f"/dags/{dag_id}/dagRuns", {"logical_date": None, "conf": conf or {}})
        return str(answer["dag_run_id"])

    def runs(self, dag_id: str) -> list[DagRun]:
        """Return the runs of a DAG, oldest first; none where there is no such DAG yet."""
        answer = self._http.get(f"/dags/{dag_id}/dagRuns", params={"limit": 100, "order_by": "run_after"})
        rows = [] if answer.status_code == httpx.codes.NOT_FOUND else _json(answer)["dag_runs"]
        return [DagRun(dag_id, row["dag_run_id"], row["state"], row["run_type"]) for row in rows]

    def tasks(self, run: DagRun) -> list[TaskState]:
        """Return the task instances of a run."""
        rows = self.get(f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances", limit=1000)["task_instances"]
        return [TaskState(row["task_id"], row["map_index"], row["state"] or "waiting") for row in rows]

    def xcom(self, run: DagRun, task_id: str, key: str = "return_value", map_index: int = -1) -> Any:
        """Return an XCom value, or ``None`` if there is none."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        answer = self._http.get(path, params={"map_index": map_index, "deserialize": True})
        return answer.json()["value"] if answer.is_success else None

    def log(self, run: DagRun, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of a task."""
        path = f"/dags/{run.dag_id}/dagRuns/{run.run_id}/taskInstances/{task_id}/logs/{try_number}"
        answer = self._http.get(path, params={"map_index": map_index, "full_content": True})
        lines = answer.json().get("content", []) if answer.is_success else []
        return "\n".join(text for line in lines for text in _texts(line))

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a POST request."""
        return _json(self._http.post(path, json=body))

    def patch(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to a PATCH request."""
        return _json(self._http.patch(path, json=body))

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        """Return the answer to a GET request."""
        return _json(self._http.get(path, params=params))


def _texts(line: Any) -> Iterator[str]:
    """Yield what a structured log line says, its exceptions too."""
    if not isinstance(line, dict):
        yield str(line)
        return
    yield str(line.get("event", line))
    for cause in line.get("error_detail") or ():
        yield f"{cause['exc_type']}: {cause['exc_value']}"


def _json(answer: httpx.Response) -> dict[str, Any]:
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()
    return found
