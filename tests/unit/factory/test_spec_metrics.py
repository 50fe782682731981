"""What the DAG processor tells of the specs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from airflow_mlplatform.bundle import SpecBundle
from airflow_mlplatform.factory.schedule import longest_pause
from airflow_mlplatform.metrics import SPEC_INTERVAL, SPECS
from airflow_mlplatform.specs.common import AllAssets
from tests.unit.recorded_metrics import recording
from tests.unit.specs.examples import DEPLOYMENT, ETL, TRAINING

CRON = "0 2 * * *"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    (tmp_path / "specs").mkdir()
    return tmp_path / "specs"


def told(root: Path) -> tuple[dict[tuple[str, ...], float], dict[tuple[str, ...], float]]:
    """What a refresh tells: the counts that are not 0, and the pauses."""
    bundle = SpecBundle(name="specs", path=str(root))
    bundle.initialize()
    with recording() as recorder:
        bundle.refresh()
    counts = {key[1:]: count for key, count in recorder.of(SPECS).items() if count}
    return counts, recorder.of(SPEC_INTERVAL)


def test_specs_are_counted_by_kind_and_state(root: Path) -> None:
    (root / "a.yaml").write_text(ETL)
    (root / "b.yaml").write_text(f"{TRAINING}---\n{DEPLOYMENT}")
    (root / "broken.yaml").write_text("apiVersion: mlplatform/v1\nkind: etl\nname: broken\n")
    (root / "nothing.yaml").write_text("- what is this?\n")
    (root / "torn.yaml").write_text("kind: {etl\n")
    counts, _ = told(root)
    assert counts == {
        ("etl", "loaded"): 1,
        ("training", "loaded"): 1,
        ("deployment", "loaded"): 1,
        ("etl", "broken"): 1,
        ("unknown", "broken"): 2,
    }


def test_a_name_that_stands_twice_breaks_both(root: Path) -> None:
    (root / "a.yaml").write_text(TRAINING)
    (root / "b.yaml").write_text(TRAINING)
    assert told(root)[0] == {("training", "broken"): 2}


def test_what_is_mended_is_told_as_0_again(root: Path) -> None:
    (root / "a.yaml").write_text("kind: etl\n")
    bundle = SpecBundle(name="specs", path=str(root))
    bundle.initialize()
    with recording() as recorder:
        bundle.refresh()
        (root / "a.yaml").write_text(TRAINING)
        bundle.refresh()
    assert recorder.of(SPECS)["specs", "etl", "broken"] == 0
    assert recorder.of(SPECS)["specs", "training", "loaded"] == 1


def test_the_rhythm_of_specs_that_start_by_the_clock_is_told(root: Path) -> None:
    (root / "a.yaml").write_text(ETL.replace(CRON, "6h"))
    (root / "b.yaml").write_text(TRAINING)
    _, pauses = told(root)
    assert list(pauses.values()) == [6 * 3600]


@pytest.mark.parametrize(
    ("schedule", "pause"),
    [
        ("6h", timedelta(hours=6)),
        ("@daily", timedelta(days=1)),
        ("*/5 * * * *", timedelta(minutes=5)),
        ("0 6 * * 1-5", timedelta(days=3)),
        ("@quarterly", timedelta(days=92)),
        ("@once", None),
        ("@continuous", None),
        (None, None),
        (AllAssets(assets=("s3://pond/wine",)), None),
    ],
)
def test_longest_pause(schedule: str | None, pause: timedelta | None) -> None:
    assert longest_pause(schedule) == pause
