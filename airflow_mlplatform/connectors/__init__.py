"""Kafka connectors in a wished state: what differs, how it is changed, and when it is done. No Airflow."""
