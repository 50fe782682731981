"""The real front, which starts the stand-in of ``backend.py`` instead of MLflow."""

from __future__ import annotations

import sys
from pathlib import Path

from airflow_mlplatform.runtime.front import main
from airflow_mlplatform.runtime.model_server import Invocation


def fake_backend(folder: Path, port: int, env_manager: str) -> Invocation:
    return Invocation((sys.executable, "-S", str(Path(__file__).with_name("backend.py")), str(folder), str(port)))


if __name__ == "__main__":
    main(command=fake_backend)
