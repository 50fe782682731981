"""The stack as helmfile renders it: values of a profile by Helm's own engine, then each chart with them.

Our own chart is always there. Those of others are read from the folder that ``CHARTS`` names, one folder a release (its
name, or that of its chart with a dash for the slash): ``helmfile --file helm-values/helmfile.yaml -e small fetch``
brings them. A folder with only ``values.yaml`` and ``values.schema.json`` is enough to check values.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.parts import program, require

__all__ = [
    "PROFILES",
    "RELEASES",
    "VALUES",
    "Object",
    "chart_folder",
    "facts",
    "has_whole_chart",
    "helm",
    "installed",
    "is_installed",
    "laid",
    "render",
    "values",
    "whole_chart_folder",
]

VALUES = Path(__file__).parents[3] / "helm-values"
# `inside` is production with MinIO and PostgreSQL in the cluster.
PROFILES = ("small", "production", "inside")
INSIDE: dict[str, Any] = {
    "minio": {"enabled": True},
    "s3": {"endpoint": ""},
    "postgresql": {"enabled": True, "host": ""},
    "secrets": {"make": True},
}
# Kinds that charts ask for before they render what needs them.
KINDS = ("monitoring.coreos.com/v1", "postgresql.cnpg.io/v1", "networking.istio.io/v1", "cert-manager.io/v1")
RELEASES: dict[str, dict[str, Any]] = {
    release["name"]: release
    for release in list(yaml.safe_load_all((VALUES / "helmfile.yaml").read_text("utf-8")))[1]["releases"]
}
Object = dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """Takes a lone equals sign, which is an operator in Prometheus' resources, as the text that it is."""


_Loader.add_constructor("tag:yaml.org,2002:value", lambda _, node: str(node.value))


def helm(*arguments: str) -> str:
    """Run Helm and return what it prints."""
    command = program("helm", "install Helm 3.19 or newer: https://helm.sh/docs/intro/install")
    done = subprocess.run([command, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def facts(profile: str) -> dict[str, Any]:
    """The environment of a profile."""
    name = "production" if profile == "inside" else profile
    found = dict(yaml.safe_load((VALUES / "environments" / f"{name}.yaml").read_text("utf-8")))
    return laid(found, INSIDE if profile == "inside" else {})


def is_installed(release: str, profile: str) -> bool:
    """Whether a profile has this release, by its `condition`."""
    condition = RELEASES[release].get("condition", "")
    value: Any = facts(profile)
    for name in filter(None, condition.split(".")):
        value = value[name]
    return bool(value)


def installed(profiles: Iterable[str]) -> list[tuple[str, str]]:
    """Each release with each of the profiles that have it."""
    return [(release, profile) for profile in profiles for release in RELEASES if is_installed(release, profile)]


def chart_folder(release: str) -> Path:
    """The folder of a release's chart; the test is skipped if there is none."""
    folder = _folder(release)
    require(folder, f"CHARTS is to name a folder with the chart of {release}: see tests/services/stack/rendering.py")
    assert folder is not None
    return folder


def whole_chart_folder(release: str) -> Path:
    """The folder of a release's chart; the test is skipped if there are values only."""
    folder = chart_folder(release)
    if not has_whole_chart(release):
        pytest.skip(f"{folder} has values only: bring the whole chart of {release}")
    return folder


def has_whole_chart(release: str) -> bool:
    """Whether there is more of a release's chart than its values."""
    folder = _folder(release)
    return folder is not None and (folder / "templates").is_dir()


def _folder(release: str) -> Path | None:
    chart = str(RELEASES[release]["chart"])
    if chart.startswith("./"):
        return VALUES / chart
    charts = Path(os.environ.get("CHARTS", "/nowhere"))
    folders = [charts / name for name in (chart.replace("/", "-"), release)]
    return next((folder for folder in folders if folder.is_dir()), None)


@cache
def values(release: str, profile: str) -> dict[str, Any]:
    """What the values files of a release come to, laid one over the other."""
    merged: dict[str, Any] = {}
    for file in RELEASES[release]["values"]:
        path = VALUES / file
        plain = path.suffix != ".gotmpl"
        merged = laid(merged, yaml.safe_load(path.read_text("utf-8")) if plain else _templated(path, profile))
    for option in RELEASES[release].get("set", ()):
        merged[option["name"]] = (VALUES / option["file"]).read_text("utf-8")
    return merged


def laid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """One set of values over another, as Helm lays them."""
    merged = dict(below)
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = laid(under, value) if isinstance(value, dict) and isinstance(under, dict) else value
    return merged


def _templated(path: Path, profile: str) -> dict[str, Any]:
    """A template of values with the facts of a profile: helmfile uses the same engine."""
    with tempfile.TemporaryDirectory() as folder:
        chart = Path(folder)
        (chart / "templates").mkdir()
        (chart / "Chart.yaml").write_text("{apiVersion: v2, name: values, version: 0.0.0}", "utf-8")
        (chart / "templates" / "values.yaml").write_text(path.read_text("utf-8"), "utf-8")
        (chart / "values.yaml").write_text(yaml.safe_dump(facts(profile)), "utf-8")
        return dict(yaml.safe_load(helm("template", "x", folder)))


@cache
def render(release: str, profile: str) -> tuple[Object, ...]:
    """Every object that a release makes in a profile; none if the profile does not have it."""
    if not is_installed(release, profile):
        return ()
    folder = whole_chart_folder(release)
    kinds = [option for kind in KINDS for option in ("--api-versions", kind)]
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        yaml.safe_dump(values(release, profile), file)
        namespace = RELEASES[release]["namespace"]
        place = ["-n", namespace, "-f", file.name, "--kube-version", "1.30"]
        out = helm("template", release, str(folder), "--include-crds", *place, *kinds)
    return tuple(_placed(yaml.load_all(out, _Loader), namespace))


def _placed(objects: Iterator[Any], namespace: str) -> Iterator[Object]:
    """Objects with the namespace that Helm would put them into."""
    for found in objects:
        for one in found.get("items", [found]) if found else ():
            one["metadata"].setdefault("namespace", namespace)
            yield one
