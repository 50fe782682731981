"""``python -m airflow_mlplatform.runtime.model_download URI FOLDER``: let MLflow fetch a model from whatever store.

A process of its own, because MLflow takes its address and credentials from the environment and seconds to import.
The last line on standard output is JSON: ``{"folder": …}``, or ``{"code": …, "message": …}`` as MLflow says it.
"""

from __future__ import annotations

import json
import sys

__all__ = ["main"]


def main() -> int:
    """Download and report."""
    from mlflow.artifacts import download_artifacts
    from mlflow.exceptions import MlflowException

    uri, folder = sys.argv[1:]
    try:
        report = {"folder": download_artifacts(artifact_uri=uri, dst_path=folder)}
    except MlflowException as error:
        report = {"code": error.error_code, "message": str(error.message)}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
