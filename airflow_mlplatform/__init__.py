"""Airflow as a machine-learning platform: YAML specs become ETL, training and deployment DAGs.

The public names are imported when they are first used; importing this package imports no Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_mlplatform.assets import registry_asset as registry_asset
    from airflow_mlplatform.bundle import SpecBundle as SpecBundle
    from airflow_mlplatform.connectors.strimzi import StrimziCluster as StrimziCluster
    from airflow_mlplatform.exceptions import MlplatformError as MlplatformError
    from airflow_mlplatform.exceptions import SpecError as SpecError
    from airflow_mlplatform.factory.loader import load_dags as load_dags
    from airflow_mlplatform.hooks.kafka_connect import KafkaConnectHook as KafkaConnectHook
    from airflow_mlplatform.hooks.mlflow import MlflowHook as MlflowHook
    from airflow_mlplatform.hooks.prometheus import PrometheusHook as PrometheusHook
    from airflow_mlplatform.macros import MACROS as MACROS
    from airflow_mlplatform.operators.etl import EtlOperator as EtlOperator
    from airflow_mlplatform.operators.kafka_connector import KafkaConnectorOperator as KafkaConnectorOperator
    from airflow_mlplatform.operators.kafka_connector_offsets import (
        KafkaConnectorOffsetsOperator as KafkaConnectorOffsetsOperator,
    )
    from airflow_mlplatform.operators.kafka_connector_restart import (
        KafkaConnectorRestartOperator as KafkaConnectorRestartOperator,
    )
    from airflow_mlplatform.operators.kafka_topics import KafkaTopicsOperator as KafkaTopicsOperator
    from airflow_mlplatform.operators.local_actions import LocalRollbackOperator as LocalRollbackOperator
    from airflow_mlplatform.operators.local_actions import LocalScaleOperator as LocalScaleOperator
    from airflow_mlplatform.operators.local_actions import LocalTeardownOperator as LocalTeardownOperator
    from airflow_mlplatform.operators.local_deploy import LocalDeployOperator as LocalDeployOperator
    from airflow_mlplatform.operators.mlflow_register import MlflowRegisterOperator as MlflowRegisterOperator
    from airflow_mlplatform.operators.mlflow_run import MlflowRunOperator as MlflowRunOperator
    from airflow_mlplatform.operators.mlflow_select import MlflowSelectOperator as MlflowSelectOperator
    from airflow_mlplatform.operators.preflight import PreflightOperator as PreflightOperator
    from airflow_mlplatform.operators.promote_model import PromoteModelOperator as PromoteModelOperator
    from airflow_mlplatform.operators.seldon_actions import SeldonRollbackOperator as SeldonRollbackOperator
    from airflow_mlplatform.operators.seldon_actions import SeldonScaleOperator as SeldonScaleOperator
    from airflow_mlplatform.operators.seldon_actions import SeldonTeardownOperator as SeldonTeardownOperator
    from airflow_mlplatform.operators.seldon_deploy import SeldonDeployOperator as SeldonDeployOperator
    from airflow_mlplatform.operators.seldon_preflight import SeldonPreflightOperator as SeldonPreflightOperator
    from airflow_mlplatform.operators.step_approval import LocalStepApprovalOperator as LocalStepApprovalOperator
    from airflow_mlplatform.operators.step_approval import SeldonStepApprovalOperator as SeldonStepApprovalOperator
    from airflow_mlplatform.operators.stream_app import StreamAppOperator as StreamAppOperator
    from airflow_mlplatform.sensors.kafka_connector import KafkaConnectorSensor as KafkaConnectorSensor
    from airflow_mlplatform.sensors.model_promotion import ModelPromotionSensor as ModelPromotionSensor
    from airflow_mlplatform.specs.load import load_file as load_file

__version__ = "0.1.0"

PUBLIC = {
    "EtlOperator": "operators.etl",
    "KafkaConnectHook": "hooks.kafka_connect",
    "KafkaConnectorOffsetsOperator": "operators.kafka_connector_offsets",
    "KafkaConnectorOperator": "operators.kafka_connector",
    "KafkaConnectorRestartOperator": "operators.kafka_connector_restart",
    "KafkaConnectorSensor": "sensors.kafka_connector",
    "KafkaTopicsOperator": "operators.kafka_topics",
    "LocalDeployOperator": "operators.local_deploy",
    "LocalRollbackOperator": "operators.local_actions",
    "LocalScaleOperator": "operators.local_actions",
    "LocalStepApprovalOperator": "operators.step_approval",
    "LocalTeardownOperator": "operators.local_actions",
    "MACROS": "macros",
    "MlflowHook": "hooks.mlflow",
    "MlflowRegisterOperator": "operators.mlflow_register",
    "MlflowRunOperator": "operators.mlflow_run",
    "MlflowSelectOperator": "operators.mlflow_select",
    "MlplatformError": "exceptions",
    "ModelPromotionSensor": "sensors.model_promotion",
    "PreflightOperator": "operators.preflight",
    "PrometheusHook": "hooks.prometheus",
    "PromoteModelOperator": "operators.promote_model",
    "SeldonDeployOperator": "operators.seldon_deploy",
    "SeldonPreflightOperator": "operators.seldon_preflight",
    "SeldonRollbackOperator": "operators.seldon_actions",
    "SeldonScaleOperator": "operators.seldon_actions",
    "SeldonStepApprovalOperator": "operators.step_approval",
    "SeldonTeardownOperator": "operators.seldon_actions",
    "SpecBundle": "bundle",
    "SpecError": "exceptions",
    "StreamAppOperator": "operators.stream_app",
    "StrimziCluster": "connectors.strimzi",
    "load_dags": "factory.loader",
    "load_file": "specs.load",
    "registry_asset": "assets",
}
__all__ = ["__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(PUBLIC)}")
    return getattr(import_module(f"{__name__}.{PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
