"""Which model version is worth promoting: evidence, judgement, verdict. Knows specs and clients, never Airflow."""
