"""The embedded default: Airflow, MLflow and model serving on one machine, and the wine pipelines run through them."""
