"""Airflow's triggerer in a pod: what it does for a deployment works only from within the cluster."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tests.cluster.control_plane import HELM_VALUES
from tests.cluster.images import AIRFLOW
from tests.waiting import wait_for

if TYPE_CHECKING:
    from airflow_mlplatform.demo.airflow_api import AirflowApi
    from tests.cluster.kubectl import Kubectl
    from tests.cluster.platform import ClusterPlatform
    from tests.cluster.proxy import Proxies

__all__ = ["TriggererPod"]

NAME = "airflow-triggerer"
WORKER_POD = HELM_VALUES / "airflow" / "worker-pod.yaml"
MANIFEST = Path(__file__).parent / "manifests" / "triggerer.yaml"
# What the pod has from its configuration, or from Kubernetes.
OF_THIS_MACHINE = ("AIRFLOW__KUBERNETES_EXECUTOR__", "AIRFLOW__DAG_PROCESSOR__", "AIRFLOW__API__HOST")
KILL_ALL = "import os, signal; os.kill(-1, signal.SIGKILL)"


@dataclass(frozen=True)
class TriggererPod:
    """The only triggerer that runs, in the namespace of Airflow's pods.

    :param kubectl: in that namespace.
    :param api: client of Airflow's API.
    """

    kubectl: Kubectl
    api: AirflowApi

    @classmethod
    def started(cls, platform: ClusterPlatform, proxies: Proxies) -> TriggererPod:
        """Start it instead of the platform's process."""
        platform.airflow.stop_part("triggerer")
        made = cls(platform.kubectl, platform.api)
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": NAME}}
        made.kubectl.apply({**secret, "stringData": _environment(platform, proxies)})
        template = {"pod_template_file.yaml": WORKER_POD.read_text("utf-8")}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "airflow-pod-template"}}
        made.kubectl.apply({**config, "data": template})
        made.kubectl.apply_file(MANIFEST, IMAGE=platform.images(AIRFLOW))
        made.wait_until_well()
        return made

    def remove(self) -> None:
        """Remove it."""
        self.kubectl("delete", "deployment,secret", NAME, "--ignore-not-found")

    def kill(self) -> None:
        """Kill its processes as if the machine had lost power; Kubernetes makes another pod."""
        (pod,) = self.kubectl.pods(f"app={NAME}")
        name = pod["metadata"]["name"]
        self.kubectl("exec", name, "--", "python", "-c", KILL_ALL)
        # A pod anew, not a container: Kubernetes would wait longer each time.
        self.kubectl("delete", "pod", name, "--force", "--grace-period=0")

    def wait_until_well(self) -> None:
        """Wait until it runs and has told Airflow so."""
        self.kubectl("rollout", "status", f"deployment/{NAME}", "--timeout=120s")
        (pod,) = self.kubectl.pods(f"app={NAME}")
        wait_for(lambda: self._heard_of(pod["metadata"]["name"]), "until the triggerer's pod is heard of", 120)

    def _heard_of(self, pod: str) -> bool:
        jobs = self.api.get("/jobs", job_type="TriggererJob", is_alive=True)["jobs"]
        return any(job["hostname"] == pod for job in jobs)


def _environment(platform: ClusterPlatform, proxies: Proxies) -> dict[str, str]:
    """What the process on this machine has, without what is for this machine alone."""
    database = urlsplit(platform.airflow.database)
    assert database.port
    there = proxies.to("127.0.0.1", database.port)
    told = {
        name: value
        for name, value in platform.airflow.environment("triggerer").items()
        if name.startswith("AIRFLOW__") and not name.startswith(OF_THIS_MACHINE)
    }
    login, _, _ = database.netloc.rpartition("@")
    reached = database._replace(netloc=f"{login}@{platform.services.node_ip}:{there.port}")
    return {**told, "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": reached.geturl()}
