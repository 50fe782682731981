"""Where a step, a project or a model server runs. Knows no Airflow."""
