"""Alerts of Prometheus that start runs: Alertmanager's webhook, and what Airflow's API server makes of it."""
