"""How a model comes into service on Seldon Core: resource, readiness, rollout. Knows no Airflow."""
