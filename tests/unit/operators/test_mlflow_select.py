"""Which run of a matrix goes on."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.operators.mlflow_select import MlflowSelectOperator


def run(name: str, params: dict[str, str] | None = None, **metrics: float | None) -> dict[str, Any]:
    return {"run_id": name, "metrics": metrics, "params": params or {}}


def select(runs: Any, metric: str = "loss", best: Any = "min") -> dict[str, Any]:
    return MlflowSelectOperator(task_id="select", runs=runs, metric=metric, best=best).execute({})


@pytest.mark.parametrize(
    ("runs", "best", "winner"),
    [
        ([run("a", loss=2.0), run("b", loss=1.0), run("c", loss=3.0)], "min", "b"),
        ([run("a", loss=2.0), run("b", loss=1.0), run("c", loss=3.0)], "max", "c"),
        ([run("a", loss=1.0), run("b", loss=1.0)], "min", "a"),
        ([run("a", loss=1.0), run("b", loss=1.0)], "max", "a"),
        ([run("nan", loss=None), run("b", loss=9.0)], "min", "b"),
        ([run("nan", loss=float("nan")), run("b", loss=9.0)], "max", "b"),
        ([run("none", other=1.0), run("b", loss=9.0)], "max", "b"),
        ([run("a", loss=0.0), run("b", loss=-1.0)], "max", "a"),
        ([run("a", loss=-5.0)], "min", "a"),
        ([None, run("b", loss=9.0)], "min", "b"),
    ],
)
def test_winner(runs: list[Any], best: str, winner: str) -> None:
    assert select(runs, best=best)["run_id"] == winner


def test_the_result_says_why() -> None:
    best = select([run("a", loss=2.0), run("b", loss=1.0)])
    assert best["selected_by"] == {"metric": "loss", "best": "min", "value": 1.0, "of": 2}


@pytest.mark.parametrize("runs", [[run("a", acc=1.0), run("b", loss=None)], [run("a", loss=float("nan"))], []])
def test_no_run_with_the_metric_is_a_lasting_mistake(runs: list[Any]) -> None:
    with pytest.raises(AirflowFailException, match=r"usable metric 'loss'.*log it in the project"):
        select(runs)


def test_the_table_shows_all_and_marks_the_winner() -> None:
    runs = [
        run("a", {"C": "0.1", "data": "x"}, loss=2.0),
        run("b", {"C": "1", "data": "x"}, loss=1.0),
        run("c", {"C": "10", "data": "x"}),
    ]
    operator = MlflowSelectOperator(task_id="select", runs=runs, metric="loss", best="min")
    text = "\n".join(operator._table(runs, runs[1])) + "\n"
    assert "→            1  C=1\n" in text
    assert "             2  C=0.1\n" in text
    assert "             -  C=10" in text
    assert "data=x" not in text, "what all have in common tells nothing"


def test_a_sequence_of_a_mapped_task_is_read_in_one_go() -> None:
    class Lazy:
        """As Airflow's LazyXComSequence: iterating asks the server for every item, and once more for the end."""

        def __getitem__(self, key: slice) -> list[Any]:
            assert isinstance(key, slice)
            return [run("a", loss=1.0)]

    assert select(Lazy())["run_id"] == "a"
