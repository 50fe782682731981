"""Projects that are folders: found in the DAG bundle or on disk, copied, checked and pinned."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from airflow_mlplatform import fetch_project
from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere
from airflow_mlplatform.fetch_project import Request, fetch, main
from airflow_mlplatform.runtime.git_login import GitLogin
from airflow_mlplatform.runtime.mlflow_project import prepare

MLPROJECT = """
name: wine
entry_points:
  main:
    parameters: {alpha: {type: float, default: 0.5}}
    command: "python train.py {alpha}"
"""
SPEC_BUNDLE = "airflow_mlplatform.bundle.SpecBundle"
LOCAL_BUNDLE = "airflow.dag_processing.bundles.local.LocalDagBundle"


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    project = tmp_path / "specs" / "wine" / "project"
    (project / "nested").mkdir(parents=True)
    (project / "MLproject").write_text(MLPROJECT)
    (project / "train.py").write_text("print('hello')")
    (project / "nested" / "MLproject").write_text(MLPROJECT)
    return tmp_path / "specs"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "mlplatform" / "project"


def bundle_of(monkeypatch: pytest.MonkeyPatch, classpath: str, path: Path, storage: Path) -> None:
    bundles = [{"name": "specs", "classpath": classpath, "kwargs": {"path": str(path)}}]
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST", json.dumps(bundles))
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(storage))


@pytest.fixture(params=[SPEC_BUNDLE, LOCAL_BUNDLE])
def bundle(request: pytest.FixtureRequest, specs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of specs as a bundle."""
    bundle_of(monkeypatch, request.param, specs, tmp_path / "storage")
    return specs


def get(target: Path, **changes: Any) -> dict[str, str | None]:
    wanted = {"uri": "project", "bundle": {"name": "specs", "folder": "wine"}, "target": target, **changes}
    return fetch(Request.model_validate(wanted), GitLogin())


def test_a_folder_of_the_bundle(bundle: Path, target: Path) -> None:
    found = get(target, parameters={"alpha": 0.1})
    assert found["commit"] is None
    here = prepare("project", folder=bundle / "wine")
    assert found["code_version"] == here.code_version, "the same code has the same version on every runtime"
    assert sorted(path.name for path in target.iterdir()) == ["MLproject", "nested", "train.py"]
    assert sorted(path.name for path in target.parent.iterdir()) == ["project"]


def test_what_a_run_leaves_behind_is_not_copied(bundle: Path, target: Path) -> None:
    for name in ("mlruns", ".git", "__pycache__", ".venv"):
        (bundle / "wine" / "project" / name).mkdir()
        (bundle / "wine" / "project" / name / "large").touch()
    get(target)
    assert sorted(path.name for path in target.iterdir()) == ["MLproject", "nested", "train.py"]


def test_subfolders_and_neighbours(bundle: Path, target: Path) -> None:
    get(target, uri="project#nested")
    assert (target / "MLproject").is_file()
    assert (target.resolve().parent / "train.py").is_file()
    get(target, uri="../wine/project")
    assert (target / "train.py").is_file()


@pytest.mark.parametrize("uri", ["../../outside", "../../../../etc", "link"])
def test_no_path_leads_out_of_the_bundle(bundle: Path, target: Path, uri: str) -> None:
    outside = bundle.parent / "outside"
    outside.mkdir()
    (outside / "MLproject").write_text(MLPROJECT)
    (bundle / "wine" / "link").symlink_to(outside)
    with pytest.raises(ConfigurationError, match="outside of the bundle"):
        get(target, uri=uri)


def test_links_in_the_project(bundle: Path, target: Path) -> None:
    project = bundle / "wine" / "project"
    (bundle / "shared.py").write_text("shared")
    (project / "shared.py").symlink_to(bundle / "shared.py")
    get(target)
    assert (target / "shared.py").read_text() == "shared"
    assert not (target / "shared.py").is_symlink()
    (project / "passwords").symlink_to("/etc/passwd")
    with pytest.raises(ConfigurationError, match=r"passwords is a link that leads out"):
        get(target)
    (project / "passwords").unlink()
    (project / "circle").symlink_to("circle")
    with pytest.raises(ConfigurationError, match="circle"):
        get(target)


def test_a_bundle_that_is_mounted_from_a_config_map(tmp_path: Path, target: Path, monkeypatch: Any) -> None:
    mounted = tmp_path / "mounted"
    (mounted / "..2026").mkdir(parents=True)
    (mounted / "..2026" / "MLproject").write_text(MLPROJECT)
    (mounted / "..data").symlink_to("..2026")
    (mounted / "MLproject").symlink_to("..data/MLproject")
    (tmp_path / "current").symlink_to("mounted")
    bundle_of(monkeypatch, LOCAL_BUNDLE, tmp_path / "current", tmp_path / "storage")
    get(target, uri=".", bundle={"name": "specs", "folder": ""})
    assert (target / "MLproject").read_text() == MLPROJECT


def test_where_the_bundle_lacks_it_the_dag_processor_s_folder_counts(bundle: Path, target: Path) -> None:
    elsewhere = bundle.parent / "elsewhere"
    (bundle / "wine").rename(elsewhere)
    get(target, folder=elsewhere)
    get(target, folder=elsewhere, bundle=None)
    get(target, uri=str(elsewhere / "project"), bundle=None)
    get(target, uri=f"file://{elsewhere}/project", bundle=None)
    with pytest.raises(ConfigurationError, match=r"looked for .*specs/wine/project and .*other/project; correct"):
        get(target, folder=bundle.parent / "other")


def test_an_unknown_bundle_is_a_mistake(bundle: Path, target: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"DAG bundle 'dags'.*dag_bundle_config_list"):
        get(target, bundle={"name": "dags"})


def test_leftovers_of_a_killed_try(bundle: Path, target: Path) -> None:
    whole = target.with_name("project.whole")
    whole.mkdir(parents=True)
    (whole / "half").touch()
    target.symlink_to(whole)
    get(target)
    (target / "changed").touch()
    get(target)
    assert sorted(path.name for path in target.iterdir()) == ["MLproject", "nested", "train.py"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"uri": "projct"}, "no MLflow project projct: looked for"),
        ({"uri": "project#nowhere"}, "no folder 'nowhere'"),
        ({"uri": "project#../.."}, "no folder"),
        ({"entry_point": "mian"}, "MLflow project project has no entry point 'mian', only: main"),
        ({"parameters": {"alpha": "much"}}, "declared float and its value is 'much'"),
        ({"environment": "conda"}, "has no conda environment"),
    ],
)
def test_mistakes(bundle: Path, target: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        get(target, **changes)


def test_a_project_that_wants_a_container_of_its_own(bundle: Path, target: Path) -> None:
    (bundle / "wine" / "project" / "MLproject").write_text(MLPROJECT + "docker_env: {image: python}\n")
    with pytest.raises(UnsupportedHere, match=r"docker_env.*defaults\.image"):
        get(target)


def test_zip_files_are_refused_with_the_reason(target: Path) -> None:
    with pytest.raises(UnsupportedHere, match="zip file, which training pods do not take; put"):
        get(target, uri="https://example.org/wine.zip")


def test_the_group_may_write_and_programs_stay_programs(bundle: Path, target: Path) -> None:
    (bundle / "wine" / "project" / "train.py").chmod(0o500)
    get(target)
    assert (target / "train.py").stat().st_mode & 0o777 == 0o560
    assert target.stat().st_mode & 0o070 == 0o070


class TestMain:
    @pytest.fixture
    def result(self, tmp_path: Path) -> Path:
        return tmp_path / "termination-log"

    def run(self, monkeypatch: pytest.MonkeyPatch, result: Path, **request: Any) -> int:
        monkeypatch.setenv("MLPLATFORM_PROJECT", json.dumps(request))
        return main(["--result", str(result)])

    def test_the_code_version(self, specs: Path, target: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, result, uri=str(specs / "wine" / "project"), target=str(target)) == 0
        found = json.loads(result.read_text())
        assert found["code_version"].startswith("sha256:")
        assert found["commit"] is None

    def test_a_mistake(self, target: Path, result: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.run(monkeypatch, result, uri="/nowhere", target=str(target)) == os.EX_CONFIG == 78
        assert "there is no MLflow project /nowhere" in result.read_text()

    def test_long_reasons_are_cut(
        self, specs: Path, target: Path, result: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = {"uri": str(specs / "wine" / "project"), "parameters": {"ü" * 5000: 1}, "target": str(target)}
        assert self.run(monkeypatch, result, **request) == 78
        assert 3000 < len(result.read_bytes()) <= 4096
        result.read_text(encoding="utf-8")

    @pytest.mark.parametrize("text", ["", "{", "{}", '{"uri": 3, "target": "/x"}'])
    def test_no_request(self, result: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
        monkeypatch.setenv("MLPLATFORM_PROJECT", text)
        assert main(["--result", str(result)]) == 78
        assert "MLPLATFORM_PROJECT does not describe a project" in result.read_text()

    def test_a_volume_that_cannot_be_written_is_an_outage(
        self, specs: Path, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "file").touch()
        target = tmp_path / "file" / "project"
        assert self.run(monkeypatch, result, uri=str(specs / "wine" / "project"), target=str(target)) == os.EX_TEMPFAIL
        assert "cannot be written" in result.read_text()


def test_a_git_project_needs_no_airflow() -> None:
    import subprocess
    import sys

    code = f"import sys, {fetch_project.__name__}; print('airflow' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
