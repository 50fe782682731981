"""What the DAGs of all kinds share: the head of a spec, turned into a DAG without tasks."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Param

from airflow_mlplatform.factory.alerts import alert_params, alert_tags, alerts_told
from airflow_mlplatform.factory.schedule import airflow_schedule, scheduled_assets
from airflow_mlplatform.macros import asset_uri
from airflow_mlplatform.policy import SPEC_PATH_ATTRIBUTE
from airflow_mlplatform.settings import settings
from airflow_mlplatform.specs.common import Param as SpecParam
from airflow_mlplatform.specs.kinds import Spec
from airflow_mlplatform.specs.streaming import Streaming

__all__ = ["new_dag"]


def new_dag(spec: Spec, path: Path, shown: str, *, max_active_runs: int | None = None, **options: Any) -> DAG:
    """Make the DAG of a spec, still without tasks.

    :param path: the YAML file; the Code tab shows it.
    :param shown: the file relative to the folder of specs; the documentation names it.
    :param max_active_runs: runs at the same time; Airflow's default if left out.
    :param options: further arguments of the DAG.
    """
    if spec.schedule == "@continuous":
        max_active_runs = 1
    if max_active_runs is not None:
        options["max_active_runs"] = max_active_runs
    dag = DAG(
        dag_id=spec.name,
        description=spec.description or None,
        doc_md=documentation(spec, shown),
        schedule=airflow_schedule(spec.schedule),
        start_date=datetime.datetime.combine(spec.start, datetime.time(), tzinfo=datetime.UTC),
        catchup=spec.catchup,
        tags=[spec.kind, *spec.tags, *alert_tags(spec)],
        params={**{name: _param(param) for name, param in spec.params.items()}, **alert_params(spec)},
        default_args=_default_args(spec),
        user_defined_macros={"asset_uri": asset_uri},
        **options,
    )
    setattr(dag, SPEC_PATH_ATTRIBUTE, str(path))
    return dag


def documentation(spec: Spec, shown: str) -> str:
    """Return the Markdown that the DAG's page shows."""
    lines = [spec.description, "", f"* **Spec:** `{shown}` ({spec.kind}), owner {spec.owner}"]
    if uris := scheduled_assets(spec.schedule):
        lines.append(f"* **Starts on:** {', '.join(_asset_link(uri) for uri in uris)}")
    lines += [f"* **Starts on alert:** {told}" for told in alerts_told(spec)]
    lines += _kind_lines(spec)
    return "\n".join(lines).strip()


def _kind_lines(spec: Spec) -> list[str]:
    if spec.kind == "etl":
        return [f"* **Loads:** {_asset_link(spec.load.asset_uri)} at `{spec.load.uri}`"]
    if spec.kind == "training":
        uri = spec.project.uri
        project = f"[{uri}]({uri})" if uri.startswith("https://") else f"`{uri}`"
        model = f", registers **{spec.register_.model}** as `{spec.register_.alias}`" if spec.register_ else ""
        return [f"* **Runs:** {project} in experiment **{spec.experiment}**{model}"]
    if spec.kind == "streaming":
        return [f"* **Keeps {spec.state}:** {', '.join(_streaming_parts(spec)) or 'nothing'}"]
    roles = f"`{spec.model.candidate}` against `{spec.model.champion}`"
    return [f"* **Serves:** model **{spec.model.name}** ({roles}) as **{spec.serving.name}**"]


def _streaming_parts(spec: Streaming) -> Iterator[str]:
    for word, names in (
        ("topics", [topic.name for topic in spec.topics]),
        ("sources", [connector.name for connector in spec.sources]),
        ("app", [spec.name] if spec.app else []),
        ("sinks", [connector.name for connector in spec.sinks]),
    ):
        if names:
            yield f"{word} {', '.join(f'**{name}**' for name in names)}"


def _asset_link(uri: str) -> str:
    return f"[{uri}](/assets?name_pattern={uri})"


def _param(param: SpecParam) -> Param:
    schema = dict(param.schema_without_default)
    description = schema.pop("description", None)
    if "default" in param.model_fields_set:
        return Param(param.default, description=description, **schema)
    return Param(description=description, **schema)


def _default_args(spec: Spec) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "owner": spec.owner,
        "retries": spec.retries.count,
        "retry_delay": spec.retries.delay,
    }
    if spec.timeout:
        arguments["execution_timeout"] = spec.timeout
    # What else there is runs for moments on plain workers: a training's image and GPUs are its pod's.
    if spec.kind == "etl" and settings().runtime == "kubernetes":
        from airflow_mlplatform.runtime.pod import pod_override

        arguments["executor_config"] = {"pod_override": pod_override(spec.defaults)}
    return arguments
