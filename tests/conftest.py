"""Keeps every test away from the Airflow of whoever runs it."""

from __future__ import annotations

import os
import tempfile

# Before anything imports Airflow, which reads its home once.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AIRFLOW__MLPLATFORM"))]:
    del os.environ[name]
