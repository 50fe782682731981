"""The best of several MLflow runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.failing_fast import failing_fast

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from airflow.sdk import Context

    from airflow_mlplatform.operators.mlflow_run import RunResult

__all__ = ["MlflowSelectOperator"]


class MlflowSelectOperator(BaseOperator):
    """Pick the run with the best metric and return its result, with ``selected_by`` telling why.

    A run without the metric, or with one that is no finite number, loses. Of equals the first wins.

    :param runs: results of :class:`~airflow_mlplatform.operators.mlflow_run.MlflowRunOperator`: the ``output`` of a
        mapped task, or a list. Templated.
    :param metric: name of the metric. Templated.
    :param best: whether the smallest (``min``) or the largest (``max``) is best.
    """

    template_fields: Sequence[str] = ("runs", "metric")
    ui_color = "#d9f0fa"

    def __init__(self, *, runs: Any, metric: str, best: Literal["min", "max"], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.runs = runs
        self.metric = metric
        self.best = best

    def execute(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Compare, show the comparison in the log, and return the best."""
        with failing_fast():
            # A slice of a mapped task's results is one request; iterating asks for each, and once more for the end.
            results: list[RunResult] = [result for result in self.runs[:] if result]
            winner = self._winner(results)
        self.log.info("%s (%s is best):\n%s", self.metric, self.best, "\n".join(self._table(results, winner)))
        by = {"metric": self.metric, "best": self.best, "value": winner["metrics"][self.metric], "of": len(results)}
        return {**winner, "selected_by": by}

    def _winner(self, results: list[RunResult]) -> RunResult:
        judged = [result for result in results if math.isfinite(self._value(result))]
        for result in results:
            if result not in judged:
                self.log.warning("Run %s has no usable %s and loses", result["run_id"], self.metric)
        if not judged:
            logged = ", ".join(sorted({name for result in results for name in result["metrics"]})) or "none"
            raise ConfigurationError(
                f"task {self.task_id}: none of the {len(results)} runs logged a usable metric {self.metric!r} "
                f"(metrics they logged: {logged}); log it in the project or correct select.metric"
            )
        pick = min if self.best == "min" else max
        return pick(judged, key=self._value)

    def _value(self, result: RunResult) -> float:
        value = result["metrics"].get(self.metric)
        return math.nan if value is None else value

    def _table(self, results: list[RunResult], winner: RunResult) -> Iterable[str]:
        varying = sorted(
            {name for one in results for name, value in one["params"].items() if self._varies(name, value, results)}
        )
        for result in results:
            value = self._value(result)
            shown = f"{value:.6g}" if math.isfinite(value) else "-"
            params = ", ".join(f"{name}={result['params'].get(name, '-')}" for name in varying) or result["run_id"]
            yield f"{'→' if result is winner else ' '} {shown:>12}  {params}"

    @staticmethod
    def _varies(name: str, value: str, results: list[RunResult]) -> bool:
        return any(result["params"].get(name) != value for result in results)
