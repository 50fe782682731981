"""What tests of serving need: a namespace in which "Seldon" works, models to serve, traffic, Prometheus.

How to use it, in a test module of this folder::

    from tests.cluster.seldon_parts import SeldonParts                  # the fixture `seldon` is in conftest.py

    def test_canary(seldon: SeldonParts) -> None:
        seldon.kubectl.apply({... a SeldonDeployment, modelUri: seldon.models["good"].uri ...})
        seldon.wait_until_serving("wine")
        with seldon.load("wine", rate=20) as load:                      # through the gateway, split by the weights
            ...                                                         # load.seen(): {"good": 190, "better": 10}
        seldon.operator.stop(); seldon.operator.start()                 # down: writes are refused; up again
        with seldon.operator.restarting(): ...                          # writes pass, nothing is reconciled
        seldon.operator.traps.flash = False                             # see `Traps`
        seldon.query('sum(seldon_api_executor_client_requests_seconds_count{predictor_name="main"})')

`seldon` is one namespace for all tests of a module, with its own stand-in; give each test a SeldonDeployment name of
its own (`seldon.name()`), so that tests do not meet, and delete what you applied (`seldon.delete(name)`).

The models are real MLflow models (a scikit-learn classifier of wines), registered in a real MLflow as
`seldon.registered_model`, one version each. In these pods a small model server answers for them at once (both
protocols, model name = name of the graph), so that a pod is ready a few seconds after its start; the real images serve
them in test_serving_images.py.

========== =========================================================================================
`good`     version 1, alias `champion`
`better`   version 2, alias `challenger`
`failing`  version 3: one request of two is answered 500
`slow`     version 4: each answer takes 0.5 s
`crashing` version 5: the server ends with exit code 1 while it loads
`unready`  version 6: the server runs, but never says that it is ready
`greedy`   version 7: the server takes memory until it is killed (needs a memory limit: 64Mi)
`missing`  version 8: nothing lies at its URI
========== =========================================================================================

`seldon.image("nosuch")` is the name of an image that is not there. `seldon.model_server` is the image of the small
model server, which stands for MLFLOW_SERVER of both protocols here.
"""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx

from tests.cluster.image_registry import pinned
from tests.cluster.kubectl import Kubectl
from tests.cluster.seldon_load import INPUT, load
from tests.cluster.seldon_prometheus import prometheus
from tests.cluster.seldon_stand_in import SeldonStandIn
from tests.cluster.seldon_stand_in_predictor import Installation
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

    from tests.cluster.images import Images
    from tests.cluster.seldon_load import Load
    from tests.cluster.seldon_models import StoredModel, WineModels
    from tests.cluster.services import Services

__all__ = ["GRAPH", "SDEPS", "SeldonParts", "seldon_namespace"]

GRAPH = "classifier"
SDEPS = "seldondeployments.machinelearning.seldon.io"
SECRET = "seldon-rclone-secret"
PROGRAMS = "mlplatform-test-seldon"
MANIFEST = Path(__file__).parent / "manifests" / "seldon.yaml"


@dataclass(frozen=True)
class SeldonParts:
    """A namespace in which SeldonDeployments come to life.

    :param kubectl: in that namespace (`kubectl.namespace`).
    :param operator: the stand-in: `start()`, `stop()`, `restarting()`, `traps`.
    :param models: the models of the table, by name.
    :param registered_model: the model in MLflow whose versions they are.
    :param images: where images lie.
    :param secret: Secret with the credentials of S3, as `envSecretRefName` names it (it is the default too).
    :param mlflow_url: the MLflow that knows the models.
    :param prometheus_url: a Prometheus that scrapes all predictors each second.
    :param gateway_url: the ingress: ``{gateway_url}/seldon/{namespace}/{sdep}/v2/models/{graph}/infer``.
    """

    kubectl: Kubectl
    operator: SeldonStandIn
    models: Mapping[str, StoredModel]
    registered_model: str
    images: Images
    secret: str
    mlflow_url: str
    prometheus_url: str
    gateway_url: str

    @property
    def model_server(self) -> str:
        """Image of the small model server."""
        return self.operator.at.servers["MLFLOW_SERVER", "v2"]

    def name(self) -> str:
        """A name that no SeldonDeployment has."""
        return f"wine-{uuid4().hex[:5]}"

    def image(self, name: str) -> str:
        """Full name of an image in the registry, whether it is there or not."""
        return f"{self.images.registry}/{name}"

    def manifest(self, sdep: str, **weights: int) -> dict[str, Any]:
        """A SeldonDeployment: a predictor for each model, such as ``good=90, better=10``; the first is `main`.

        A second one is called `candidate`.
        """
        predictors = [
            {
                "name": name,
                "replicas": 1,
                "traffic": weight,
                "progressDeadlineSeconds": 60,
                "graph": {"name": GRAPH, "implementation": "MLFLOW_SERVER", "modelUri": self.models[model].uri},
            }
            for name, (model, weight) in zip(("main", "candidate"), weights.items(), strict=False)
        ]
        head = {"apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment", "metadata": {"name": sdep}}
        return {**head, "spec": {"protocol": "v2", "predictors": predictors}}

    def get(self, sdep: str) -> dict[str, Any]:
        """A SeldonDeployment as it is now."""
        return dict(self.kubectl.get(SDEPS, sdep))

    def deployments(self, sdep: str) -> dict[str, dict[str, Any]]:
        """Its Deployments, by name."""
        found = self.kubectl.get("deployments", "--selector", f"seldon-deployment-id={sdep}")
        return {one["metadata"]["name"]: one for one in found}

    def wait_until_serving(self, sdep: str, timeout: float = 90.0) -> dict[str, Any]:
        """Wait until a SeldonDeployment is Available and Ready and all its Deployments are rolled out; return it."""
        return wait_for(partial(self._serving, sdep), f"until {sdep} serves", timeout)

    def _serving(self, sdep: str) -> dict[str, Any]:
        found = self.get(sdep)
        status = found.get("status", {})
        ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", []))
        settled = status.get("state") == "Available" and ready and self.operator.settled(found)
        return found if settled and all(map(_rolled_out, self.deployments(sdep).values())) else {}

    def delete(self, sdep: str) -> None:
        """Delete a SeldonDeployment and wait until its Deployments are gone."""
        self.kubectl("delete", SDEPS, sdep, "--ignore-not-found")
        wait_for(lambda: not self.deployments(sdep), f"until {sdep} is gone")

    def url(self, sdep: str) -> str:
        """Where its inference requests go, through the gateway."""
        return f"{self.gateway_url}/seldon/{self.kubectl.namespace}/{sdep}/v2/models/{GRAPH}/infer"

    def ask(self, sdep: str) -> httpx.Response:
        """The answer to one inference request through the gateway.

        The `model_version` in it tells which model answered: `good`, `better`, ….
        """
        return httpx.post(self.url(sdep), json=INPUT, timeout=10)

    def answering(self, sdep: str) -> str:
        """The model that answers a request now, such as `good`; empty if none does."""
        answer = self.ask(sdep)
        return str(answer.json()["model_version"]) if answer.status_code == 200 else ""

    def load(self, sdep: str, rate: float = 20.0) -> AbstractContextManager[Load]:
        """Send requests through the gateway while the block runs; yields a `Load`: `seen()`, `codes()`, `total`."""
        return load(self.url(sdep), rate)

    def query(self, promql: str) -> list[dict[str, Any]]:
        """Result of an instant query (`data.result`)."""
        answer = httpx.get(f"{self.prometheus_url}/api/v1/query", params={"query": promql}, timeout=10)
        return list(answer.raise_for_status().json()["data"]["result"])


def _rolled_out(deployment: dict[str, Any]) -> bool:
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = (status.get(key, 0) for key in ("replicas", "updatedReplicas", "availableReplicas"))
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and set(counts) == {wanted}


@contextmanager
def seldon_namespace(services: Services, images: Images, models: WineModels) -> Iterator[SeldonParts]:
    """A namespace with everything, which goes at the end."""
    with ExitStack() as stack:
        kubectl = _namespace(stack)
        programs = pinned(f"{images.registry}/{PROGRAMS}:dev")
        kubectl.apply_file(MANIFEST, IMAGE=programs, SECRET=SECRET, **_rclone(services))
        operator = SeldonStandIn(kubectl.namespace, _installation(programs), services.node_ip)
        stack.callback(operator.remove)
        operator.start()
        metrics = stack.enter_context(prometheus(kubectl.namespace))
        kubectl("rollout", "status", "deployment/gateway", "--timeout=120s")
        yield SeldonParts(
            kubectl,
            operator,
            models.stored,
            models.registered,
            images,
            SECRET,
            services.mlflow_url,
            metrics,
            _gateway(kubectl),
        )


def _namespace(stack: ExitStack) -> Kubectl:
    name = f"seldon-{uuid4().hex[:6]}"
    Kubectl()("create", "namespace", name)
    if os.environ.get("MLPLATFORM_KEEP_NAMESPACES") != "1":
        stack.callback(Kubectl(), "delete", "namespace", name, "--wait=false")
    return Kubectl(name)


def _installation(programs: str) -> Installation:
    servers = {("MLFLOW_SERVER", protocol): programs for protocol in ("v2", "seldon")}
    return Installation(servers, programs, programs, probe_delay=0, probe_period=1, drain=1)


def _rclone(services: Services) -> dict[str, str]:
    return {"S3_USER": services.s3_user, "S3_PASSWORD": services.s3_password, "S3_URL": services.s3_url}


def _gateway(kubectl: Kubectl) -> str:
    node = Kubectl().get("nodes")[0]
    host = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
    return f"http://{host}:{kubectl.get('service', 'gateway')['spec']['ports'][0]['nodePort']}"
