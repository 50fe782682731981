"""Why a pod does not start or did not succeed, in plain words, and whether another try can help.

Pods are dicts as the Kubernetes API sends them. Nothing here talks to a cluster: all is read from a pod's spec and
status, which hold less than ``kubectl describe`` shows, because events are objects of their own.
"""

from __future__ import annotations

from airflow_mlplatform.runtime.pod_failure.ended import EX_CONFIG, failure, out_of_memory
from airflow_mlplatform.runtime.pod_failure.facts import PodFailure
from airflow_mlplatform.runtime.pod_failure.obstacle import obstacle
from airflow_mlplatform.runtime.pod_failure.refusal import refusal

__all__ = ["EX_CONFIG", "PodFailure", "failure", "obstacle", "out_of_memory", "refusal"]
