"""The platform together with "Seldon": trainings, registry, deployments and traffic, all on one cluster."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from airflow_mlplatform.serving.state import OUTCOME
from tests.cluster.control_plane import HELM_VALUES
from tests.cluster.seldon_history import SeldonHistory
from tests.cluster.triggerer_pod import TriggererPod
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from airflow_mlplatform.demo.airflow_api import DagRun
    from tests.cluster.platform import ClusterPlatform
    from tests.cluster.proxy import Proxies
    from tests.cluster.seldon_parts import SeldonParts

__all__ = ["ALIASES", "ServingPlatform", "serving_platform"]

ROLE = HELM_VALUES / "platform" / "rbac-models.yaml"
ALIASES = ("champion", "previous-champion", "challenger", "rolled-back-champion")
TIMEOUT = 420.0


@dataclass(frozen=True)
class ServingPlatform:
    """Everything that a test of the whole loop needs.

    :param platform: Airflow, specs, the services.
    :param seldon: the namespace in which models are served, with Prometheus and gateway.
    :param triggerer: the only one that runs.
    :param history: what was written to SeldonDeployments.
    :param registry: MLflow, whose new experiments lie at ``s3://``.
    """

    platform: ClusterPlatform
    seldon: SeldonParts
    triggerer: TriggererPod
    history: SeldonHistory
    registry: MlflowClient

    def run_after(self, dag_id: str, before: int) -> DagRun:
        """Wait until the DAG's next run has ended, well or badly.

        :param before: how many runs there were.
        """
        return self.platform.run_number(dag_id, before + 1, TIMEOUT)

    def states(self, run: DagRun) -> dict[str, str]:
        """Return the states of a run's tasks."""
        return {task.task_id: task.state for task in self.platform.api.tasks(run)}

    def aliases(self, model: str) -> dict[str, str]:
        """Return who bears which alias: alias → version."""
        return {alias: version for alias in ALIASES if (version := self._bearer(model, alias))}

    def _bearer(self, model: str, alias: str) -> str:
        try:
            return str(self.registry.get_model_version_by_alias(model, alias).version)
        except MlflowException:
            return ""

    def whole(self, name: str) -> dict[str, Any]:
        """All of a SeldonDeployment that must be as it was after an abort, and its Deployments, once none is going."""
        wait_for(lambda: not self._going(name), f"until nothing of {name} is going")
        live = self.seldon.get(name)
        head = live["metadata"]
        notes = {key: value for key, value in head["annotations"].items() if key != OUTCOME}
        there = sorted(self.seldon.deployments(name))
        return {"spec": live["spec"], "labels": head["labels"], "annotations": notes, "deployments": there}

    def _going(self, name: str) -> bool:
        return any("deletionTimestamp" in one["metadata"] for one in self.seldon.deployments(name).values())


@contextmanager
def serving_platform(platform: ClusterPlatform, seldon: SeldonParts, proxies: Proxies) -> Iterator[ServingPlatform]:
    """Airflow's triggerer moves into the cluster; MLflow and Prometheus are as the stack has them."""
    with ExitStack() as stack:
        mlflow_url = platform.services.start_direct_mlflow(platform.images, proxies)
        _connect(platform, "mlflow", "mlflow", mlflow_url)
        stack.callback(_connect, platform, "mlflow", "mlflow", platform.services.mlflow_url)
        prometheus = proxies.to("127.0.0.1", int(seldon.prometheus_url.rpartition(":")[2]))
        _connect(platform, "prometheus_default", "prometheus", f"http://{platform.services.node_ip}:{prometheus.port}")
        seldon.kubectl.apply(_role(platform.kubectl.namespace))
        stack.callback(platform.airflow.start_part, "triggerer")
        triggerer = TriggererPod.started(platform, proxies)
        stack.callback(triggerer.remove)
        history = stack.enter_context(SeldonHistory(seldon.kubectl.namespace))
        yield ServingPlatform(platform, seldon, triggerer, history, MlflowClient(mlflow_url))


def _connect(platform: ClusterPlatform, name: str, kind: str, host: str) -> None:
    """Make or change an Airflow connection."""
    entity = {"connection_id": name, "conn_type": kind, "host": host}
    create = {"action": "create", "entities": [entity], "action_on_existence": "overwrite"}
    answer = platform.api.patch("/connections", {"actions": [create]})
    assert not answer["create"]["errors"], answer


def _role(airflow: str) -> str:
    """The shipped role, for the namespace of this Airflow."""
    return ROLE.read_text("utf-8").replace("namespace: airflow}", f"namespace: {airflow}}}")
