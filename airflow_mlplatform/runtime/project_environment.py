"""Where a project's packages come from, and what has to be there for it: told before anything starts."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow_mlplatform.exceptions import ConfigurationError, UnsupportedHere

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Environment", "check_environment", "in_image", "refuse_docker", "require_program"]

Environment = Literal["image", "uv", "virtualenv", "conda"]

PROGRAMS: dict[Environment, str] = {"image": "", "uv": "uv", "virtualenv": "pyenv", "conda": "conda"}
# In an image of somebody else there is no Python of ours to look around; `mlflow run` needs a shell anyway.
LOOK_AROUND = """\
missing=
for program in bash mlflow $1; do
  command -v "$program" >/dev/null || [ -x "${MLFLOW_CONDA_HOME:-/nowhere}/bin/$program" ] ||
    missing="$missing $program"
done
if [ -n "$missing" ]; then
  echo "the training image lacks$missing, which environment: $2 needs; add it to the image, or choose another" \
    "image or environment in the spec" >&2
  exit 78
fi
shift 2
exec "$@"
"""


def in_image(command: Sequence[str], environment: Environment) -> list[str]:
    """Return a command that first sees that the image has what MLflow needs; exit code 78 says that it does not.

    :param command: the `mlflow run`.
    """
    return ["sh", "-c", LOOK_AROUND, "train", PROGRAMS[environment], environment, *command]


def require_program(environment: Environment) -> None:
    """See that this machine has what MLflow needs.

    :raises ConfigurationError: if it does not.
    """
    program = PROGRAMS[environment]
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
    if conda := os.environ.get("MLFLOW_CONDA_HOME"):
        places.append(f"{conda}/bin")
    if program and not shutil.which(program, path=os.pathsep.join(places)):
        raise ConfigurationError(
            f"{program} is not installed here, which environment: {environment} needs; install it, or choose another "
            "environment"
        )


def check_environment(project: Path, mlproject: Mapping[str, Any], environment: Environment, shown: str) -> None:
    """See that the project says what its environment is made of.

    :param project: its folder.
    :param mlproject: content of its MLproject file.
    :param shown: how messages name the project.
    :raises ConfigurationError: if a file that it names is missing, or conda is to make what is none of conda's.
    """
    for key in ("python_env", "conda_env"):
        if (file := mlproject.get(key)) and not (project / str(file)).is_file():
            raise ConfigurationError(
                f"MLflow project {shown} names {key}: {file}, and there is no such file; add it or correct the "
                "MLproject file"
            )
    of_conda = "conda_env" in mlproject or (
        "python_env" not in mlproject
        and not (project / "python_env.yaml").exists()
        and (project / "conda.yaml").exists()
    )
    if environment == "conda" and not of_conda:
        raise ConfigurationError(
            f"MLflow project {shown} has no conda environment, which environment: conda needs; add conda_env to the "
            "MLproject file, or choose uv or virtualenv"
        )


def refuse_docker(mlproject: Mapping[str, Any], shown: str) -> None:
    """Refuse a project that wants to start a container of its own, which a pod cannot.

    :raises UnsupportedHere: if it does.
    """
    if mlproject.get("docker_env"):
        raise UnsupportedHere(
            f"MLflow project {shown} has a docker_env, and training pods start no containers; drop it from the "
            "MLproject file and name the image in defaults.image of the spec"
        )
