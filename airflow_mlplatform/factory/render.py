"""What a spec becomes, for people: tasks, arrows, schedule, and every value with the place it came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_mlplatform.factory.alerts import alerts_told
from airflow_mlplatform.specs.common import Schedule
from airflow_mlplatform.specs.load import Document
from airflow_mlplatform.specs.values import locate, show_field

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["as_json", "as_mermaid", "as_text", "effective_values"]

Origin = tuple[str, Any, str]


def effective_values(document: Document) -> Iterator[Origin]:
    """Yield each value of a spec as (field, value, origin); the origin is ``file:line`` or ``built in``."""
    spec, node = document.require(), document.node
    for location, value in _leaves(spec.model_dump(mode="json", by_alias=True), ()):
        written, found = locate(node, location, keep_last=False) if node else (None, ())
        origin = (
            f"{written.start_mark.name}:{written.start_mark.line + 1}" if written and found == location else "built in"
        )
        yield show_field(location), value, origin


def _leaves(value: Any, location: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, dict) and value:
        for key, item in value.items():
            yield from _leaves(item, (*location, key))
    elif isinstance(value, list) and value:
        for index, item in enumerate(value):
            yield from _leaves(item, (*location, index))
    else:
        yield location, value


def as_json(document: Document, dag: DAG) -> dict[str, Any]:
    """Return the rendering as JSON-able data."""
    return {
        "dag_id": dag.dag_id,
        "kind": document.require().kind,
        "schedule": _schedule(document),
        "tasks": [
            {"task_id": task.task_id, "operator": task.task_type, "then": sorted(task.downstream_task_ids)}
            for task in dag.topological_sort()
        ],
        "values": [dict(zip(("field", "value", "origin"), row, strict=True)) for row in effective_values(document)],
    }


def as_text(document: Document, dag: DAG) -> str:
    """Return the rendering as plain text."""
    tasks = list(dag.topological_sort())
    width = max(len(task.task_id) for task in tasks)
    lines = [f"{dag.dag_id} ({document.require().kind}), schedule {_schedule(document)}", "", "tasks"]
    for task in tasks:
        then = ", ".join(sorted(task.downstream_task_ids))
        lines.append(f"  {task.task_id:<{width}}  {task.task_type}" + (f"  → {then}" if then else ""))
    values = list(effective_values(document))
    field_width = max(len(field) for field, _, _ in values)
    lines += ["", "values"]
    lines += [f"  {field:<{field_width}}  {_short(value)}  ({origin})" for field, value, origin in values]
    return "\n".join(lines)


def as_mermaid(document: Document, dag: DAG) -> str:
    """Return the tasks and arrows as a Mermaid flowchart."""
    lines = ["flowchart LR", f'  subgraph {_node(dag.dag_id)}["{dag.dag_id}"]']
    tasks = list(dag.topological_sort())
    lines += [f'    {_node(task.task_id)}["{task.task_id}<br/><i>{task.task_type}</i>"]' for task in tasks]
    for task in tasks:
        lines += [f"    {_node(task.task_id)} --> {_node(below)}" for below in sorted(task.downstream_task_ids)]
    lines.append("  end")
    spec = document.require()
    if spec.schedule or spec.on_alert:
        lines.append(f'  schedule(["{_schedule(document)}"]) --> {_node(dag.dag_id)}')
    if spec.kind == "etl":
        lines.append(f'  {_node(dag.dag_id)} --> asset[("{spec.load.asset_uri}")]')
    if spec.kind == "training" and spec.register_:
        lines.append(f'  {_node(dag.dag_id)} --> model[("{spec.register_.model} @{spec.register_.alias}")]')
    return "\n".join(lines)


def _node(name: str) -> str:
    return "n_" + "".join(letter if letter.isalnum() else "_" for letter in name)


def _schedule(document: Document) -> str:
    spec = document.require()
    return "; ".join([_in_time_or_by_data(spec.schedule), *alerts_told(spec)])


def _in_time_or_by_data(schedule: Schedule | None) -> str:
    if schedule is None:
        return "by hand"
    if isinstance(schedule, str):
        return schedule
    parts = schedule.model_dump()
    if "model" in parts:
        return f"{parts['model']} @{parts['alias']}"
    word = "all of" if "assets" in parts else "any of"
    return f"{word} {', '.join(parts.get('assets') or parts['any'])}"


def _short(value: Any) -> str:
    text = "" if value is None else str(value).replace("\n", "⏎")
    return text if len(text) <= 100 else text[:97] + "…"
