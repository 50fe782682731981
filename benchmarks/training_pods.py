"""What a training costs beside itself: pods and pod-seconds of workers, against KubernetesPodOperator.

On the cluster that KUBECONFIG names, with the platform of `tests/cluster`: the same command in the same image, by
`MlflowRunOperator`, by a plain `KubernetesPodOperator` (whose worker waits) and by a deferrable one. Run it with
`make benchmarks-cluster`; it prints figures and asserts nothing about them.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tests.cluster.conftest import images, node_ip, platform, postgres, proxies
from tests.cluster.images import TRAINER
from tests.cluster.kubectl import Kubectl

if TYPE_CHECKING:
    from tests.cluster.platform import ClusterPlatform
    from tests.cluster.pod_history import SeenPod

__all__ = ["images", "node_ip", "platform", "postgres", "proxies"]

SECONDS = 60
SPEC = """\
apiVersion: mlplatform/v1
kind: training
name: ours
start: 2026-01-01
retries: {count: 0}
project: {uri: project}
experiment: pods
"""
PROJECT = f"""\
name: waits
entry_points:
  main: {{command: "sleep {SECONDS}"}}
"""
DAG = """\
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG
SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "runAsUser": 50000,
    "seccompProfile": {"type": "RuntimeDefault"},
}
for name, deferrable in (("plain", False), ("deferrable", True)):
    with DAG(name, schedule=None) as dag:
        KubernetesPodOperator(
            task_id="train",
            image="IMAGE",
            cmds=["sleep", "SECONDS"],
            namespace="NAMESPACE",
            container_security_context=SECURITY,
            deferrable=deferrable,
            kubernetes_conn_id="launcher",
        )
    globals()[name] = dag
"""
LAUNCHER: list[dict[str, object]] = [
    {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "launcher"}},
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "launcher"},
        "rules": [
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
            {"apiGroups": [""], "resources": ["pods/log", "events"], "verbs": ["get", "list"]},
        ],
    },
    {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": "launcher"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "launcher"},
        "subjects": [{"kind": "ServiceAccount", "name": "launcher"}],
    },
]


def test_worker_pod_seconds_of_a_training(platform: ClusterPlatform) -> None:
    """Print them."""
    for manifest in LAUNCHER:
        platform.kubectl.apply(manifest)
    extra = json.dumps({"kube_config": json.dumps(_kubeconfig(platform))})
    platform.api.post("/connections", {"connection_id": "launcher", "conn_type": "kubernetes", "extra": extra})
    dag = DAG.replace("IMAGE", platform.images(TRAINER)).replace("SECONDS", str(SECONDS))
    platform.publish(
        {
            "ours/training.yaml": SPEC,
            "ours/project/MLproject": PROJECT,
            "dags/launched.py": dag.replace("NAMESPACE", platform.kubectl.namespace),
        },
        "ours", "plain", "deferrable",
    )  # fmt: skip
    print(f"\na training of {SECONDS} s{'':>6}{'worker pods':>14}{'worker-pod-seconds':>22}{'state':>10}")
    for name in ("ours", "plain", "deferrable"):
        run = platform.finish(platform.start(name), timeout=SECONDS + 300)
        workers = platform.pods.workers_of(run)
        platform.pods.wait_until_deleted(workers)
        total = sum(_seconds(pod) for pod in platform.pods.workers_of(run))
        print(f"{name:<24}{len(workers):>14}{total:>22.0f}{run.state:>10}")
        if run.state != "success":
            print(platform.explain(run))


def _kubeconfig(platform: ClusterPlatform) -> dict[str, Any]:
    """Such an operator makes its pod in its worker, and follows it in the triggerer: both need these rights."""
    (subset,) = Kubectl("default").get("endpoints", "kubernetes")["subsets"]
    server = f"https://{subset['addresses'][0]['ip']}:{subset['ports'][0]['port']}"
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": {"token": platform.kubectl.token("launcher")}}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
        "current-context": "tests",
    }


def _seconds(pod: SeenPod) -> float:
    """How long a pod was there: from its creation to its container's end."""
    begin = datetime.fromisoformat(pod.last["metadata"]["creationTimestamp"])
    ends = [
        datetime.fromisoformat(status["state"]["terminated"]["finishedAt"])
        for event in pod.events
        for status in event["status"].get("containerStatuses", ())
        if "terminated" in status["state"]
    ]
    return (max(ends) - begin).total_seconds() if ends else 0.0
