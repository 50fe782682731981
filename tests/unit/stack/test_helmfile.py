"""The helmfile is whole: versions are pinned, what is needed is there, and values files exist."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.unit.stack.conftest import VALUES

ENVIRONMENTS, STATE = yaml.safe_load_all((VALUES / "helmfile.yaml").read_text("utf-8"))
RELEASES: dict[str, dict[str, Any]] = {release["name"]: release for release in STATE["releases"]}


@pytest.mark.parametrize("name", RELEASES)
def test_a_release_is_pinned_and_has_its_values(name: str) -> None:
    release = RELEASES[name]
    if not release["chart"].startswith("./"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", release["version"])
        assert release["chart"].split("/")[0] in {repository["name"] for repository in STATE["repositories"]}
    for file in release["values"]:
        assert (VALUES / file).is_file()


@pytest.mark.parametrize("name", RELEASES)
def test_what_a_release_needs_is_there(name: str) -> None:
    known = {f"{release['namespace']}/{release['name']}" for release in RELEASES.values()}
    assert set(RELEASES[name].get("needs", ())) <= known


def test_both_profiles_have_the_same_keys() -> None:
    small, production = (
        yaml.safe_load((VALUES / environment["values"][0]).read_text("utf-8"))
        for environment in ENVIRONMENTS["environments"].values()
    )
    assert _shape(small) == _shape(production)


def test_the_image_has_what_airflow_s_values_name() -> None:
    """Auth manager, bundles: each from a provider that docker/airflow installs, and that has such a class."""
    folder = VALUES / "airflow"
    text = (folder / "config.yaml").read_text("utf-8") + (folder / "values.yaml.gotmpl").read_text("utf-8")
    named = set(re.findall(r"\bairflow\.providers\.([a-z_]+)\.", text))
    assert {"amazon", "fab", "git"} <= named
    locked = (VALUES.parent / "docker" / "airflow" / "requirements.txt").read_text("utf-8")
    for provider in named:
        assert re.search(rf"^apache-airflow-providers-{provider}==", locked, re.MULTILINE), provider


def _shape(value: Any) -> Any:
    return {key: _shape(item) for key, item in value.items()} if isinstance(value, dict) else None
