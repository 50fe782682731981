"""The DAG bundle: a stub a document, replaced only when its YAML changes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import BundleDagBag

from airflow_mlplatform.bundle import SpecBundle
from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.factory.stubs import document_of_stub
from tests.unit.specs.examples import ETL, TRAINING


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(tmp_path / "storage"))
    (tmp_path / "specs" / "team").mkdir(parents=True)
    (tmp_path / "specs" / "a.yaml").write_text(named("a"))
    (tmp_path / "specs" / "team" / "b.yaml").write_text(named("b"))
    return tmp_path / "specs"


def named(name: str) -> str:
    return TRAINING.replace("shop-training", name)


def bundle(root: Path) -> SpecBundle:
    """As the DAG processor opens it."""
    made = SpecBundle(name="specs", path=str(root))
    made.initialize()
    made.refresh()
    return made


def stubs(made: SpecBundle) -> dict[str, int]:
    return {str(path.relative_to(made.path)): path.stat().st_mtime_ns for path in made.path.rglob("*.py")}


def parse(made: SpecBundle) -> tuple[set[str], dict[str, str]]:
    bag = BundleDagBag(dag_folder=str(made.path), bundle_path=made.path, bundle_name="specs")
    return set(bag.dags), bag.import_errors


def test_a_stub_a_spec_and_a_dag_a_stub(root: Path) -> None:
    made = bundle(root)
    assert set(stubs(made)) == {"a.yaml.py", "team/b.yaml.py"}
    assert parse(made) == ({"a", "b"}, {})


def test_the_folder_of_specs_is_never_written_to(root: Path) -> None:
    before = sorted(root.rglob("*"))
    bundle(root).refresh()
    assert sorted(root.rglob("*")) == before


def test_only_what_changed_is_parsed_again(root: Path) -> None:
    made = bundle(root)
    before = stubs(made)
    made.refresh()
    assert stubs(made) == before
    (root / "a.yaml").write_text(named("a2"))
    made.refresh()
    after = stubs(made)
    assert after["a.yaml.py"] > before["a.yaml.py"]
    assert after["team/b.yaml.py"] == before["team/b.yaml.py"]
    assert parse(made)[0] == {"a2", "b"}


def test_an_older_file_moved_into_place_is_noticed(root: Path) -> None:
    made = bundle(root)
    before = stubs(made)
    (root / "old").write_text(named("older"))
    os.utime(root / "old", (0, 0))
    (root / "old").replace(root / "a.yaml")
    made.refresh()
    assert stubs(made)["a.yaml.py"] > before["a.yaml.py"]


def test_defaults_reach_the_specs_below_them_only(root: Path) -> None:
    made = bundle(root)
    before = stubs(made)
    (root / "team" / "defaults.yaml").write_text("owner: somebody\n")
    made.refresh()
    assert stubs(made)["a.yaml.py"] == before["a.yaml.py"]
    assert stubs(made)["team/b.yaml.py"] > before["team/b.yaml.py"]


def test_additions_and_deletions_follow(root: Path) -> None:
    made = bundle(root)
    (root / "a.yaml").unlink()
    (root / "new.yaml").write_text(named("new"))
    made.refresh()
    assert parse(made) == ({"b", "new"}, {})


def test_each_broken_document_is_an_import_error_of_its_own(root: Path) -> None:
    (root / "a.yaml").write_text(f"{named('a')}---\nkind: [\n---\n{named('c').replace('best: min', 'best: mim')}")
    dags, errors = parse(bundle(root))
    assert dags == {"a", "b"}
    assert set(errors) == {"a.yaml.2.py", "a.yaml.3.py"}
    assert "a.yaml:13:1: is no valid YAML" in errors["a.yaml.2.py"]
    assert (
        "a.yaml:22:30 select.best: the text 'mim' is not one of min, max; did you mean \"min\"?"
        in errors["a.yaml.3.py"]
    )
    assert "select: {metric: rmse, best: mim}" in errors["a.yaml.3.py"], "the traceback shows the YAML line"


def test_two_specs_of_one_name_are_both_import_errors(root: Path) -> None:
    (root / "team" / "b.yaml").write_text(named("a"))
    made = bundle(root)
    dags, errors = parse(made)
    assert dags == set()
    assert "also the name of team/b.yaml:3" in errors["a.yaml.py"]
    assert "also the name of a.yaml:3" in errors["team/b.yaml.py"]
    (root / "team" / "b.yaml").write_text(named("b"))
    made.refresh()
    assert parse(made) == ({"a", "b"}, {})


def test_the_code_tab_shows_the_yaml(root: Path) -> None:
    made = bundle(root)
    bag = BundleDagBag(dag_folder=str(made.path), bundle_path=made.path, bundle_name="specs")
    assert bag.dags["b"].fileloc == str(root / "team" / "b.yaml")
    assert bag.dags["b"].relative_fileloc == "team/b.yaml.py"


def test_a_worker_leaves_the_stubs_of_the_processor_alone(root: Path) -> None:
    before = stubs(bundle(root))
    worker = SpecBundle(name="specs", path=str(root))
    (root / "a.yaml").write_text(named("changed"))
    worker.initialize()
    assert stubs(worker) == before


def test_a_worker_on_a_new_machine_parses_no_spec_but_its_own(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "team" / "b.yaml").write_text(f"{named('b')}---\n{named('c')}")
    (root / "bad.yaml").write_bytes(b"\xff")
    monkeypatch.setattr("airflow_mlplatform.factory.stubs.load_file", None)
    worker = SpecBundle(name="specs", path=str(root))
    worker.initialize()
    assert set(stubs(worker)) == {"a.yaml.py", "bad.yaml.py", "team/b.yaml.py", "team/b.yaml.2.py"}
    assert parse(worker)[0] == {"a", "b", "c"}


def test_the_stubs_of_a_new_machine_are_one_file(root: Path) -> None:
    worker = SpecBundle(name="specs", path=str(root))
    worker.initialize()
    assert len({path.stat().st_ino for path in worker.path.rglob("*.py")}) == 1
    worker.refresh()  # and a DAG processor that starts there writes its own, each apart
    assert len({path.stat().st_ino for path in worker.path.rglob("*.py")}) == 2
    assert parse(worker) == ({"a", "b"}, {})


def test_a_file_system_without_hard_links_will_do(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object, **options: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refused)
    worker = SpecBundle(name="specs", path=str(root))
    worker.initialize()
    assert parse(worker) == ({"a", "b"}, {})


def test_a_start_that_was_killed_half_way_is_made_good_by_the_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(self: Path, target: Path) -> None:
        raise SystemExit(137)

    worker = SpecBundle(name="specs", path=str(root))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed)
        with pytest.raises(SystemExit):
            worker.initialize()
    assert not worker.path.exists()
    (root / "a.yaml").unlink()
    worker.initialize()
    assert set(stubs(worker)) == {"team/b.yaml.py"}


def test_stubs_that_another_start_wrote_meanwhile_are_kept(root: Path) -> None:
    first, second = (SpecBundle(name="specs", path=str(root)) for _ in range(2))
    first.initialize()
    before = stubs(first)
    second._stubs_of_now().write_unparsed()  # where a start goes on that saw no stubs, and then waited for the lock
    assert stubs(first) == before


def test_a_stub_knows_its_document_by_its_name(tmp_path: Path) -> None:
    def document(stub: str) -> tuple[str, int]:
        return document_of_stub(str(tmp_path / stub), str(tmp_path), "/specs")

    assert document("a.yaml.py") == ("/specs/a.yaml", 0)
    assert document("team/b.yml.12.py") == ("/specs/team/b.yml", 11)
    assert document("a.yaml.2.yaml.py") == ("/specs/a.yaml.2.yaml", 0)
    assert document("a.2.py") == ("/specs/a.2", 0)


REFRESHED = """
import sys
from airflow_mlplatform.bundle import SpecBundle
SpecBundle(name="specs", path=sys.argv[1]).refresh()
from airflow.dag_processing.dagbag import BundleDagBag
from airflow_mlplatform.factory.build import dag_of
already = set(sys.modules)
dag_of(sys.argv[1] + "/a.yaml", root=sys.argv[1])
print([name for name in set(sys.modules) - already if name.startswith(("kubernetes", "airflow_mlplatform.factory"))])
"""


def test_what_stubs_import_is_there_before_the_dag_processor_forks(root: Path) -> None:
    (root / "a.yaml").write_text(ETL)
    environment = os.environ | {"AIRFLOW__MLPLATFORM__RUNTIME": "kubernetes"}
    done = subprocess.run(
        [sys.executable, "-c", REFRESHED, str(root)], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_git_bundle_is_wrapped_versions_included(root: Path, tmp_path: Path) -> None:
    git = pytest.importorskip("airflow.providers.git.bundles.git", reason="pip install apache-airflow-providers-git")
    assert git
    repository = tmp_path / "repository"
    repository.mkdir()

    def run(*words: str) -> None:
        subprocess.run(["git", "-C", str(repository), *words], check=True, capture_output=True)

    run("init", "-b", "main")
    run("config", "user.email", "a@example.org")
    run("config", "user.name", "a")

    def commit(name: str) -> None:
        (repository / "dags").mkdir(exist_ok=True)
        (repository / "dags" / "x.yaml").write_text(named(name))
        run("add", ".")
        run("commit", "-m", name)

    source: dict[str, Any] = {
        "classpath": "airflow.providers.git.bundles.git.GitDagBundle",
        "kwargs": {"repo_url": str(repository), "tracking_ref": "main"},
    }
    commit("first")
    made = SpecBundle(name="from-git", source=source, path="dags")
    made.initialize()
    version = made.get_current_version()
    assert parse(made)[0] == {"first"}
    commit("second")
    made.refresh()
    assert parse(made)[0] == {"second"}

    former = SpecBundle(name="from-git", source=source, path="dags", version=getattr(version, "version", version))
    former.initialize()
    assert parse(former)[0] == {"first"}


def test_a_bundle_without_a_place_says_what_to_do() -> None:
    with pytest.raises(ConfigurationError, match="add path \\(a folder\\) or source"):
        SpecBundle(name="specs")
