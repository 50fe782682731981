"""``kind: etl`` → a DAG: a task a stage, or one for all."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, BaseOperator, chain
from airflow.sdk.definitions.mappedoperator import MappedOperator, OperatorPartial

from airflow_mlplatform.factory.dag import new_dag
from airflow_mlplatform.operators.etl import EtlOperator
from airflow_mlplatform.operators.etl_stage import EtlStageOperator
from airflow_mlplatform.operators.etl_stages import (
    CheckOperator,
    ExtractOperator,
    ListFilesOperator,
    LoadOperator,
    TransformOperator,
)
from airflow_mlplatform.specs.common import Defaults
from airflow_mlplatform.specs.etl import Etl, Source, Transform

__all__ = ["build_etl"]


def build_etl(spec: Etl, path: Path, shown: str) -> DAG:
    """Build the DAG of an ETL spec."""
    # Each run of a stream goes on where the one before has ended, so there is one at a time.
    with new_dag(spec, path, shown, max_active_runs=1 if spec.streams else None) as dag:
        where: dict[str, Any] = {
            "memory": spec.defaults.resources.memory,
            "search_path": str(path.parent),
            "env": spec.defaults.env,
        }
        if spec.streams:
            where["progress"] = spec.load.fixed_uri
        if spec.stages == "fused":
            EtlOperator(
                task_id="etl",
                extract=spec.sources,
                transform=spec.transform,
                checks=spec.checks,
                load=spec.load,
                **where,
            )
        else:
            _Stages(where, spec.defaults).build(spec)
    return dag


Task = BaseOperator | MappedOperator


@dataclass
class _Stages:
    """The tasks of a pipeline, while they are being made.

    :param where: arguments that all of them share.
    :param defaults: where and with what the pods of containers run.
    :param inputs: table name → id of the task that stages it.
    :param split: id of a task that is mapped over parts → id of the one that listed them.
    :param listing: the last task that lists files.
    """

    where: dict[str, Any]
    defaults: Defaults
    inputs: dict[str, str] = field(default_factory=dict)
    split: dict[str, str] = field(default_factory=dict)
    listing: ListFilesOperator | None = None

    def build(self, spec: Etl) -> None:
        """Make all tasks, and the arrows between them."""
        last = [self._extract(source) for source in spec.sources]
        for number, transform in enumerate(spec.transform, start=1):
            task = self._transform(f"transform_{number}", transform)
            last >> task
            last = [task]
        whole = {"input": last[0].task_id, "split": self.split, **self.where}
        tail: list[Task] = [CheckOperator(task_id="check", checks=spec.checks, **whole)] if spec.checks else []
        chain(last, *tail, LoadOperator(task_id="load", load=spec.load, **whole))

    def _extract(self, source: Source) -> Task:
        ending = f"_{source.name}" if source.name else ""
        arguments = {"task_id": f"extract{ending}", "source": source, **self.where}
        self.inputs[source.name or "input"] = f"extract{ending}"
        if source.files is None or source.files.split is None:
            return ExtractOperator(**arguments)
        self.listing = ListFilesOperator(task_id=f"list{ending}", source=source, **self.where)
        return self._mapped(ExtractOperator.partial(**arguments, listing=self.listing.task_id))

    def _transform(self, task_id: str, transform: Transform) -> Task:
        operator, arguments = self._operator(transform)
        arguments["task_id"] = self.inputs["input"] = task_id
        if transform.per:
            # With all_success Airflow (3.3.2) takes mapped tasks behind mapped ones away too early where a cleared run
            # has fewer parts than before: while one of the former is removed and others have not ended.
            return self._mapped(operator.partial(**arguments, trigger_rule="none_failed"))
        return operator(**arguments, split=self.split)

    def _operator(self, transform: Transform) -> tuple[type[EtlStageOperator], dict[str, Any]]:
        if transform.container is None:
            return TransformOperator, {"transforms": [transform], "inputs": dict(self.inputs), **self.where}
        # Imported here: most workers run an ETL without containers, and start sooner.
        from airflow_mlplatform.operators.container_transform import ContainerTransformOperator

        source = self.inputs.get("input") or next(iter(self.inputs.values()))
        # Its own pod has the image and the resources; what a worker does for it, if anything, takes a moment.
        return ContainerTransformOperator, {
            "transform": transform.container, "input": source, "pod": self.defaults, "executor_config": {},
        }  # fmt: skip

    def _mapped(self, partial: OperatorPartial) -> MappedOperator:
        assert self.listing is not None
        task = partial.expand(part=self.listing.output)
        self.split[task.task_id] = self.listing.task_id
        return task
