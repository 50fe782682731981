"""Which files are specs, and what two specs of one name are told."""

from __future__ import annotations

from pathlib import Path

from airflow_mlplatform.factory.discover import find_specs, load_folder
from airflow_mlplatform.factory.references import check_references
from tests.unit.specs.examples import DEPLOYMENT, ETL, TRAINING


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def found(root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in find_specs(root)]


def test_specs_are_found_in_every_folder(tmp_path: Path) -> None:
    write(tmp_path, b_yaml=ETL, a__c_yml=ETL, a__defaults_yaml="owner: x", readme_md="x", a__b__d_yaml=ETL)
    assert found(tmp_path) == ["a/b/d.yaml", "a/c.yml", "b.yaml"]


def test_airflowignore_is_honoured_like_gitignore(tmp_path: Path) -> None:
    write(tmp_path, keep_yaml=ETL, charts__values_yaml="x: 1", team__notes_yaml="x", team__etl_yaml=ETL)
    (tmp_path / ".airflowignore").write_text("charts/\n# comment\n")
    (tmp_path / "team" / ".airflowignore").write_text("notes.*\n")
    assert found(tmp_path) == ["keep.yaml", "team/etl.yaml"]


def test_mlflow_projects_and_hidden_folders_are_none_of_ours(tmp_path: Path) -> None:
    write(tmp_path, project__conda_yaml="name: x", git__x_yaml="x")
    (tmp_path / "project" / "MLproject").write_text("name: x")
    (tmp_path / "git").rename(tmp_path / ".git")
    assert found(tmp_path) == []


def test_a_linked_folder_outside_is_told_and_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "specs"
    write(root, a_yaml=ETL)
    write(tmp_path / "other", b_yaml=TRAINING)
    (root / "link").symlink_to(tmp_path / "other", target_is_directory=True)
    (problem,) = [problem for document in load_folder(root) for problem in document.problems]
    assert str(problem).startswith("link:1:1: is a link that leaves")


def test_both_bearers_of_a_name_are_told(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=ETL, b__c_yaml=f"{TRAINING}---\n{ETL}", d_yaml=DEPLOYMENT)
    documents = load_folder(tmp_path)
    assert [document.spec is None for document in documents] == [True, False, True, False]
    assert [str(problem) for document in documents for problem in document.problems] == [
        "a.yaml:3:1 name: 'shop-etl' is also the name of b/c.yaml:14; rename one; a name is a dag_id and stands once",
        "b/c.yaml:14:1 name: 'shop-etl' is also the name of a.yaml:3; rename one; a name is a dag_id and stands once",
    ]


def test_a_reference_that_nearly_fits_is_warned_about(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=ETL, b_yaml=TRAINING.replace("pond/orders", "pond/order"),
          c_yaml=DEPLOYMENT.replace("model: {name: shop,", "model: {name: shoop,"))  # fmt: skip
    assert [str(warning) for warning in check_references(load_folder(tmp_path))] == [
        "b.yaml:4:21 schedule.assets[0]: warning: no spec here loads 's3://pond/order'; did you mean \"s3://pond/orders\"?",
        "c.yaml:5:15 model.name: warning: no spec here registers 'shoop'; did you mean \"shop\"?",
    ]


def test_what_lies_elsewhere_may_be_named(tmp_path: Path) -> None:
    write(tmp_path, a_yaml=ETL, b_yaml=TRAINING.replace("s3://pond/orders", "s3://elsewhere/weather"))
    assert list(check_references(load_folder(tmp_path))) == []
