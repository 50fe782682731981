"""Spec to DAG: straight-line code, one module a kind."""
