"""The images of `docker/`: pinned, non-root, labelled, written about."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
DOCKER = REPOSITORY / "docker"
IMAGES = sorted(path.parent.name for path in DOCKER.glob("*/Dockerfile"))
LABELS = ("title", "description", "source", "version", "revision", "licenses")
# What a model is made of: a model is loaded with the versions it was made with.
MODEL_PARTS = ("cloudpickle", "joblib", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "skops")


def instructions(name: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile: word and arguments, continued lines joined."""
    text = (DOCKER / name / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def requirements(path: Path) -> dict[str, set[str]]:
    """Package → its version, or versions for several Pythons."""
    pins: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9][a-z0-9._-]*)==([^ ;\\]+)", path.read_text("utf-8"), re.MULTILINE):
        pins.setdefault(name, set()).add(version)
    return pins


def test_there_are_six() -> None:
    assert IMAGES == ["airflow", "faust", "model-server", "seldon-server", "streaming", "trainer"]


@pytest.mark.parametrize("name", IMAGES)
def test_the_base_is_an_argument_with_a_pinned_default(name: str) -> None:
    found = instructions(name)
    assert found[0] == ("ARG", "PYTHON_IMAGE=python:3.11-slim-bookworm")
    bases = {arguments.split()[0] for word, arguments in found if word == "FROM"}
    assert bases == {"${PYTHON_IMAGE}"}
    assert "latest" not in (DOCKER / name / "Dockerfile").read_text("utf-8")


@pytest.mark.parametrize("name", IMAGES)
def test_it_runs_as_a_user_that_kubernetes_can_tell_from_root(name: str) -> None:
    users = [arguments for word, arguments in instructions(name) if word == "USER"]
    assert users == ["50000:0"]


@pytest.mark.parametrize("name", IMAGES)
def test_signals_arrive(name: str) -> None:
    found = dict(instructions(name))
    assert found["ENTRYPOINT"].startswith('["dumb-init", "--"')
    assert found["CMD"].startswith("[")
    assert "dumb-init" in requirements(DOCKER / name / "requirements.txt")


@pytest.mark.parametrize("name", IMAGES)
def test_it_is_labelled(name: str) -> None:
    (labels,) = [arguments for word, arguments in instructions(name) if word == "LABEL"]
    assert re.findall(r'org\.opencontainers\.image\.(\w+)="[^"]+"', labels) == list(LABELS)
    assert f'title="mlplatform-{name}"' in labels
    assert 'version="${VERSION}"' in labels
    assert 'revision="${REVISION}"' in labels


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_installed_is_locked_by_hash(name: str) -> None:
    installs = [arguments for word, arguments in instructions(name) if word == "RUN" and "pip install" in arguments]
    assert len(installs) >= 2
    for install in installs:
        # The package itself comes as a wheel that was just built.
        assert "--require-hashes" in install or "--no-deps --no-index" in install
    locks = DOCKER / name / "requirements.txt", DOCKER / "installer.txt"
    for lock in locks:
        text = lock.read_text("utf-8")
        entries = re.split(r"\n(?=\S)", text.strip())
        assert entries
        assert [entry for entry in entries if "==" not in entry or "--hash=sha256:" not in entry] == []
        assert "://" not in text, "any index may serve it"


@pytest.mark.parametrize("name", IMAGES)
def test_what_is_asked_for_is_in_the_lock(name: str) -> None:
    asked = (DOCKER / name / "requirements.in").read_text("utf-8")
    names = re.findall(r"^([a-z0-9][a-z0-9-]*)", asked, re.MULTILINE)
    pins = requirements(DOCKER / name / "requirements.txt")
    assert [one for one in names if one not in pins] == []


@pytest.mark.parametrize("name", ["airflow", "streaming", "trainer"])
def test_versions_are_those_of_the_package(name: str) -> None:
    ours, theirs = requirements(REPOSITORY / "requirements.lock"), requirements(DOCKER / name / "requirements.txt")
    assert {one: theirs[one] for one in theirs if one in ours} == {one: ours[one] for one in theirs if one in ours}


@pytest.mark.parametrize(("name", "mlflow"), [("model-server", "mlflow"), ("seldon-server", "mlflow-skinny")])
def test_model_servers_have_what_the_trainer_makes_models_of(name: str, mlflow: str) -> None:
    trainer, server = (requirements(DOCKER / one / "requirements.txt") for one in ("trainer", name))
    assert {part: trainer[part] for part in MODEL_PARTS} == {part: server[part] for part in MODEL_PARTS}
    assert trainer["mlflow"] == server[mlflow]


def test_the_wine_project_asks_for_what_the_trainer_has() -> None:
    asked = (REPOSITORY / "dag_specs/wine/project/python_env.yaml").read_text("utf-8")
    trainer = requirements(DOCKER / "trainer" / "requirements.txt")
    for name, version in re.findall(r"- ([a-z-]+)==(\S+)", asked):
        assert trainer[name] == {version}


@pytest.mark.parametrize("name", IMAGES)
def test_only_what_the_image_needs_reaches_the_builder(name: str) -> None:
    first, *rest = (DOCKER / name / ".dockerignore").read_text("utf-8").split()
    assert first == "*"
    copied = {
        source
        for word, arguments in instructions(name)
        if word == "COPY" and "--from" not in arguments
        for source in arguments.split()[:-1]
        if not source.startswith("--")
    }
    assert {f"!{source}" for source in copied} == set(rest)


@pytest.mark.parametrize(
    "script", ["build", "lock", "airflow/entrypoint", "model-server/serve", "seldon-server/serve", "trainer/pyenv"]
)
def test_scripts_can_be_run(script: str) -> None:
    path = DOCKER / script
    assert os.access(path, os.X_OK)
    if path.read_text("utf-8").startswith("#!/usr/bin/env bash\n"):
        subprocess.run(["bash", "-n", str(path)], check=True)
    else:
        compile(path.read_bytes(), str(path), "exec")


def build(*names: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOCKER / "build", *names], env=os.environ | environment, capture_output=True, text=True, check=False
    )


@pytest.fixture
def builder(tmp_path: Path) -> Path:
    """A builder that writes down how it was called and what it was given."""
    script = tmp_path / "builder"
    script.write_text('#!/bin/sh\ncd "$2" && ls -A >"$0.files" && shift 2 && printf "%s\\n" "$@" >"$0.words"\n')
    script.chmod(0o755)
    return script


def test_the_builder_is_given_a_staged_folder_and_a_tag(builder: Path) -> None:
    done = build(
        "streaming",
        IMAGE_BUILD=f"{builder} build",
        IMAGE_PREFIX="ours",
        IMAGE_TAG="1.2",
        PYTHON_IMAGE="mirror/python:3",
    )
    assert (done.returncode, done.stdout) == (0, "ours-streaming:1.2\n"), done.stderr
    words = Path(f"{builder}.words").read_text().split()
    assert words[0] == "ours-streaming:1.2"
    arguments = dict(pair.split("=", 1) for pair in words[2::2])
    assert set(words[1::2]) == {"--build-arg"}
    assert set(arguments) == {"VERSION", "REVISION", "PYTHON_IMAGE"}
    assert arguments["PYTHON_IMAGE"] == "mirror/python:3"
    assert re.fullmatch(r"\d+\.\d+\.\d+\S*", arguments["VERSION"])
    files = set(Path(f"{builder}.files").read_text().split())
    assert files == {".dockerignore", "Dockerfile", "installer.txt", "requirements.in", "requirements.txt"}


def test_a_builder_that_fails_fails_the_build() -> None:
    assert build("streaming", IMAGE_BUILD="false").returncode == 1


def test_an_image_that_is_not_there_is_told_with_those_that_are(builder: Path) -> None:
    done = build("trainr", IMAGE_BUILD=str(builder))
    assert done.returncode == 2
    known = "airflow faust model-server seldon-server streaming trainer"
    assert f"no image is called trainr, only: {known}" in done.stderr


def test_entrypoint_runs_programs_and_else_airflow(tmp_path: Path) -> None:
    (tmp_path / "airflow").write_text('#!/bin/sh\necho airflow: "$@"\n')
    (tmp_path / "airflow").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def run(*words: str) -> str:
        entrypoint = DOCKER / "airflow" / "entrypoint"
        return subprocess.run(
            [entrypoint, *words], env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run("scheduler", "--num-runs", "1") == "airflow: scheduler --num-runs 1"
    assert run("airflow", "version") == "airflow: version"
    assert run("bash", "-c", "exec airflow 'db migrate'") == "airflow: db migrate"
    assert run("jobs", "check") == "airflow: jobs check"  # which is a word of bash, too
    assert run() == "airflow:"


def test_every_image_is_written_about() -> None:
    page = (REPOSITORY / "docs" / "images.md").read_text("utf-8")
    for name in IMAGES:
        assert f"`mlplatform-{name}`" in page
