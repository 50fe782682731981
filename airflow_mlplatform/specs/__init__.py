"""The YAML language: models, loading, errors with lines, JSON Schema. Knows no Airflow."""
