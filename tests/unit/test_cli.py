"""The command line, as people and CI use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from airflow_mlplatform.cli import main
from airflow_mlplatform.specs.kinds import KINDS
from tests.unit.specs.examples import DEPLOYMENT, ETL, TRAINING

WRONG = TRAINING.replace("best: min", "best: mim")
MESSAGE = "9:30 select.best: the text 'mim' is not one of min, max; did you mean \"min\"?"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs" / "team").mkdir(parents=True)
    (tmp_path / "specs" / "good.yaml").write_text(ETL)
    (tmp_path / "specs" / "team" / "bad.yaml").write_text(WRONG)
    return tmp_path


def test_validate_tells_every_problem_and_exits_with_1(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "specs"]) == 1
    assert capsys.readouterr().out == f"specs/team/bad.yaml:{MESSAGE}\n"


def test_validate_is_silent_about_good_specs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "specs/good.yaml"]) == 0
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "1 specs, 0 broken\n")


def test_validate_takes_single_files_and_finds_the_defaults_above(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "specs" / "defaults.yaml").write_text("ownr: x\n")
    assert main(["validate", "specs/good.yaml"]) == 1
    assert capsys.readouterr().out.startswith('specs/defaults.yaml:1:1 ownr: unknown key; did you mean "owner"?')


def test_validate_as_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "specs", "--format", "json"]) == 1
    (problem,) = json.loads(capsys.readouterr().out)
    assert problem == {
        "path": "specs/team/bad.yaml", "line": 9, "column": 30, "field": "select.best", "severity": "error",
        "what": "the text 'mim' is not one of min, max", "todo": 'did you mean "min"?',
    }  # fmt: skip


def test_validate_for_github(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "specs", "--format", "github"]) == 1
    assert capsys.readouterr().out == (
        "::error file=specs/team/bad.yaml,line=9,col=30::select.best: the text 'mim' is not one of min, max; "
        'did you mean "min"?\n'
    )


def test_validate_tells_what_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "nowhere"]) == 1
    assert capsys.readouterr().out == "nowhere:1:1: is not there; name a spec file or a folder of specs\n"


def test_a_warning_does_not_fail(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "specs" / "team" / "bad.yaml").write_text(TRAINING.replace("pond/orders", "pond/order"))
    assert main(["validate", "specs"]) == 0
    assert "warning: no spec here loads 's3://pond/order'" in capsys.readouterr().out


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_spec_validates(kind: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", kind, "my.own-pipeline", "--folder", "new"]) == 0
    assert "name: my.own-pipeline" in (here / "new" / "my.own-pipeline.yaml").read_text()
    assert (here / "new" / "mlplatform-v1.schema.json").exists()
    capsys.readouterr()
    assert main(["validate", "new"]) == 0
    assert main(["render", "new/my.own-pipeline.yaml"]) == 0


def test_a_new_spec_never_overwrites_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "etl", "good", "--folder", "specs"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (here / "specs" / "good.yaml").read_text() == ETL


def test_a_bad_name_is_refused(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "etl", "../x"]) == 2
    assert "is no name" in capsys.readouterr().err


def test_render_shows_tasks_arrows_and_where_values_come_from(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "specs" / "team" / "bad.yaml").write_text(TRAINING)
    (here / "specs" / "defaults.yaml").write_text("owner: everyone\n")
    assert main(["render", "specs/team/bad.yaml", "--root", "specs"]) == 0
    shown = capsys.readouterr().out
    assert "shop-training (training), schedule all of s3://pond/orders" in shown
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "train.alpha-0.1_depth-2 MlflowRunOperator → select" in lines
    assert "owner everyone (defaults.yaml:1)" in lines
    assert "experiment shop (team/bad.yaml:6)" in lines
    assert "retries.count 2 (built in)" in lines


def test_render_as_mermaid_and_json(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "d.yaml").write_text(DEPLOYMENT[: DEPLOYMENT.index("rollout:")])
    assert main(["render", "d.yaml", "--format", "mermaid"]) == 0
    assert "n_gate --> n_approval" in capsys.readouterr().out
    assert main(["render", "d.yaml", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["dag_id"] == "shop-deployment"


def test_render_of_a_broken_spec_tells_the_problems(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["render", "specs/team/bad.yaml"]) == 1
    assert f"specs/team/bad.yaml:{MESSAGE}" in capsys.readouterr().err


def test_the_schema_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["schema"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "airflow-mlplatform spec, mlplatform/v1"
