"""One MLflow run a task, whichever try works on it: found or made, closed, and told as the task's result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from airflow_mlplatform.clients import mlflow_operations as mlflow
from airflow_mlplatform.clients.mlflow_operations import quoted
from airflow_mlplatform.training.provenance import CODE_VERSION, FINGERPRINT, KEY, PREFIX, REASON, Provenance

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation
    from airflow_mlplatform.clients.mlflow_entities import Run, RunStatus

__all__ = ["COMMIT", "TRY", "RunResult", "Work", "close", "find_or_create", "label", "result_of"]

TRY = f"{PREFIX}airflow.try"
COMMIT = "mlflow.source.git.commit"


class RunResult(TypedDict):
    """What a training leaves in XCom; a metric that is no finite number is ``None``."""

    run_id: str
    experiment_id: str
    run_url: str
    model_uri: str | None
    metrics: dict[str, float | None]
    params: dict[str, str]
    code_version: str


@dataclass(frozen=True)
class Work:
    """What a training does.

    :param experiment: name of the MLflow experiment.
    :param uri: the project.
    :param entry_point: its entry point.
    :param parameters: values of the entry point's parameters.
    :param fingerprint: equal for two trainings that do the same.
    :param owner: who answers for it.
    :param name: name of the run; MLflow finds one if empty.
    :param code_version: commit or content hash of the code; empty while it is not known.
    :param commit: commit of a git project, or empty.
    """

    experiment: str
    uri: str
    entry_point: str
    parameters: Mapping[str, str]
    fingerprint: str
    owner: str = ""
    name: str = ""
    code_version: str = ""
    commit: str = field(default="")

    @property
    def tags(self) -> dict[str, str]:
        """The tags that `mlflow run` writes when it makes a run itself, and the version of the code."""
        tags = {
            "mlflow.source.name": self.uri,
            "mlflow.source.type": "PROJECT",
            "mlflow.project.entryPoint": self.entry_point,
            "mlflow.user": self.owner,
            CODE_VERSION: self.code_version,
            COMMIT: self.commit,
        }
        return {key: value for key, value in tags.items() if value}


def find_or_create(
    work: Work, origin: Provenance, log: Any, give_up: Callable[[Run], None] = lambda _: None
) -> Operation[Run]:
    """Return the run of this task.

    An open or finished run of an earlier try is continued, and one that was killed is opened again, as long as the work
    is the same. A failed one stays as it is: the next try makes its own. What this very try has failed is returned.

    :param log: the task's log.
    :param give_up: told of a run whose place another one takes, before it is closed.
    """
    experiment_id = yield from mlflow.get_or_create_experiment(work.experiment)
    found = yield from mlflow.search_runs(experiment_id, f"tags.`{KEY}` = {quoted(origin.key)}", limit=1)
    for former in found:
        if former.tags.get(FINGERPRINT) == work.fingerprint and _goes_on(former, origin):
            log.info("Continuing MLflow run %s (%s) of an earlier try", former.run_id, former.status)
            return (yield from _continue(former, work, origin))
        give_up(former)
        if former.active:
            yield from close(former.run_id, "KILLED", "another try with other code or parameters took its place")
    tags = origin.tags() | work.tags | {KEY: origin.key, FINGERPRINT: work.fingerprint}
    run = yield from mlflow.create_run(experiment_id, tags, name=work.name or None)
    yield from mlflow.log_batch(run.run_id, params=work.parameters)
    return run


def _goes_on(former: Run, origin: Provenance) -> bool:
    failed_now = former.status == "FAILED" and former.tags.get(TRY) == str(origin.try_number)
    return former.status != "FAILED" or failed_now


def _continue(former: Run, work: Work, origin: Provenance) -> Operation[Run]:
    yield from mlflow.set_run_tags(former.run_id, origin.tags())
    if former.status == "KILLED":
        yield from mlflow.update_run(former.run_id, "RUNNING")
    missing = {name: value for name, value in work.parameters.items() if name not in former.params}
    if missing:  # the former try died between making the run and telling its parameters
        yield from mlflow.log_batch(former.run_id, params=missing)
    return (yield from mlflow.get_run(former.run_id))


def close(run_id: str, status: RunStatus, reason: str) -> Operation[None]:
    """End a run that did not end itself, and say why."""
    yield from mlflow.set_run_tags(run_id, {REASON: reason})
    yield from mlflow.update_run(run_id, status)


def result_of(run_id: str, url: Callable[[Run], str]) -> Operation[RunResult]:
    """Return what a run logged."""
    run = yield from mlflow.get_run(run_id)
    model = yield from mlflow.get_model_of_run(run)
    return RunResult(
        run_id=run.run_id,
        experiment_id=run.experiment_id,
        run_url=url(run),
        model_uri=model.uri if model else None,
        metrics={name: value if math.isfinite(value) else None for name, value in run.metrics.items()},
        params=dict(run.params),
        code_version=run.tags.get(CODE_VERSION, ""),
    )


def label(combination: Mapping[str, object]) -> str:
    """Return a combination of parameters in a line; it names the run, and the task in Airflow."""
    return ", ".join(f"{name}={value}" for name, value in combination.items())
