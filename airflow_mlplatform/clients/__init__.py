"""Wire protocols of the services, blocking and async. Knows no Airflow."""
