"""What runs inside a task: extract, transform, check, load. Knows no Airflow."""
