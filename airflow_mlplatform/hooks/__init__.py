"""An Airflow connection becomes a client, nothing else."""
