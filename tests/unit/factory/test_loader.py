"""The fallback loader: broken specs become placeholders, workers build one DAG."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_mlplatform.factory import loader
from airflow_mlplatform.factory.loader import load_dags
from tests.unit.specs.examples import TRAINING


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(TRAINING.replace("shop-training", name))
    (tmp_path / "broken.yaml").write_text(TRAINING.replace("best: min", "best: mim"))
    return tmp_path


def test_a_broken_spec_becomes_a_placeholder_and_costs_no_other_one(root: Path) -> None:
    dags = load_dags(root)
    assert set(dags) == {"a", "b", "broken-spec.broken.yaml"}
    broken = dags["broken-spec.broken.yaml"]
    assert "broken.yaml:9:30 select.best" in (broken.doc_md or "")
    assert broken.tags == {"broken-spec"}


def test_the_placeholder_fails_with_the_problems_when_it_is_run(root: Path) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    (task,) = load_dags(root)["broken-spec.broken.yaml"].tasks
    with pytest.raises(AirflowFailException, match=r"select\.best"):
        task.execute({})


def test_a_worker_parses_only_the_file_that_may_hold_its_dag(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []
    real = loader.load_file
    monkeypatch.setattr(loader, "load_file", lambda path, base: parsed.append(path.name) or real(path, base))
    assert set(load_dags(root, only="b")) == {"b"}
    assert parsed == ["b.yaml"]


def test_a_worker_gets_a_placeholder_too(root: Path) -> None:
    assert set(load_dags(root, only="broken-spec.broken.yaml")) == {"broken-spec.broken.yaml"}


def test_two_bearers_of_a_name_are_both_placeholders(root: Path) -> None:
    (root / "c.yaml").write_text(TRAINING.replace("shop-training", "a"))
    assert set(load_dags(root)) == {"b", "broken-spec.a.yaml", "broken-spec.broken.yaml", "broken-spec.c.yaml"}
