"""The platform on the cluster that KUBECONFIG names: one for the whole test session, in namespaces of its own."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest

from airflow_mlplatform.demo.airflow_api import AirflowApi
from airflow_mlplatform.demo.processes import Processes
from airflow_mlplatform.steps.login import Login
from tests.cluster.control_plane import Configuration, ControlPlane
from tests.cluster.git_server import SpecRepository
from tests.cluster.images import AIRFLOW, TRAINER, Images
from tests.cluster.kubectl import Kubectl
from tests.cluster.platform import ClusterPlatform
from tests.cluster.pod_history import PodHistory
from tests.cluster.proxy import Proxies
from tests.cluster.seldon_models import WineModels, fitted, store_models
from tests.cluster.seldon_parts import SDEPS, SeldonParts, seldon_namespace
from tests.cluster.services import Services
from tests.parts import require
from tests.services.postgres_server import postgres
from tests.waiting import wait_for

__all__ = ["postgres"]

GET_CLUSTER = (
    "a Kubernetes cluster: set KUBECONFIG (and have kubectl on PATH), IMAGE_REGISTRY (where the cluster pulls images "
    "from) and NODE_IP (where its pods reach this machine)"
)
CREDENTIALS = "mlplatform-credentials"
KEEP = "MLPLATFORM_KEEP_NAMESPACES"
GET_SELDON = "the CRDs of Seldon Core v1 and of Istio's VirtualServices and DestinationRules"
GIT_BUNDLE = "airflow.providers.git.bundles.git.GitDagBundle"


@pytest.fixture(scope="session")
def node_ip() -> str:
    """Where pods reach this machine."""
    names = ("KUBECONFIG", "IMAGE_REGISTRY", "NODE_IP")
    require(shutil.which("kubectl") and all(os.environ.get(name) for name in names), GET_CLUSTER)
    return os.environ["NODE_IP"]


@pytest.fixture(scope="session")
def images(node_ip: str) -> Images:
    """The images of the package, and those of the services, all built."""
    images = Images(os.environ["IMAGE_REGISTRY"], os.environ.get("IMAGE_TAG", "dev"))
    images.build_services()
    images.build_own()
    return images


@pytest.fixture(scope="session")
def proxies() -> Iterator[Proxies]:
    """Ways to services that a test may break."""
    with Proxies() as proxies:
        yield proxies


def _namespace(name: str, stack: ExitStack) -> Kubectl:
    """Make a namespace that enforces Pod Security `restricted`; it goes with the session, or is kept to look at."""
    Kubectl().apply(
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
        }
    )
    if os.environ.get(KEEP) != "1":
        stack.callback(Kubectl(), "delete", "namespace", name, "--wait=false")
    return Kubectl(name)


def _ours(execution_api: str, specs: SpecRepository, images: Images, namespace: str) -> Configuration:
    """What this installation says beside the shipped configuration."""
    repository = {"repo_url": specs.url, "tracking_ref": "main"}
    source = {"classpath": GIT_BUNDLE, "kwargs": repository}
    bundles = [
        {
            "name": "specs",
            "classpath": "airflow_mlplatform.bundle.SpecBundle",
            "kwargs": {"source": source, "refresh_interval": 2},
        },
        {"name": "dags", "classpath": GIT_BUNDLE, "kwargs": {**repository, "subdir": "dags", "refresh_interval": 2}},
    ]
    return {
        "core": {"execution_api_server_url": execution_api},
        "dag_processor": {"dag_bundle_config_list": json.dumps(bundles)},
        "kubernetes_executor": {
            "namespace": namespace,
            "worker_container_repository": images(AIRFLOW).rpartition(":")[0],
            "worker_container_tag": images.tag,
        },
        "mlplatform": {"training_image": images(TRAINER), "registry_poll_interval": "2"},
    }


def _add_connections(api: AirflowApi, services: Services) -> None:
    s3 = {"conn_type": "aws", "login": services.s3_user, "password": services.s3_password}
    extra = json.dumps({"endpoint_url": services.s3_url, "region_name": "us-east-1"})
    api.post("/connections", {"connection_id": "s3", "extra": extra, **s3})
    api.post("/connections", {"connection_id": "mlflow", "conn_type": "mlflow", "host": services.mlflow_url})


def _add_credentials(kubectl: Kubectl, services: Services) -> None:
    """The Secret of training pods, as `[mlplatform] credentials_secret` names it."""
    values = {
        "AWS_ACCESS_KEY_ID": services.s3_user,
        "AWS_SECRET_ACCESS_KEY": services.s3_password,
        "AWS_ENDPOINT_URL": services.s3_url,
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}, "stringData": values})


def _uri(login: Login) -> str:
    return f"postgresql://{login.user}:{quote(login.password, safe='')}@{login.host}:{login.port}/{login.schema}"


@pytest.fixture(scope="session")
def services(node_ip: str, images: Images, proxies: Proxies) -> Iterator[Services]:
    """S3 and MLflow of this session."""
    with ExitStack() as stack:
        services = Services(_namespace(f"mlplatform-{uuid4().hex[:6]}-services", stack), node_ip)
        services.start(images, proxies)
        yield services


@pytest.fixture(scope="session")
def platform(
    tmp_path_factory: pytest.TempPathFactory,
    node_ip: str,
    images: Images,
    proxies: Proxies,
    postgres: Login,
    services: Services,
) -> Iterator[ClusterPlatform]:
    """Airflow with the KubernetesExecutor, its services and an empty repository of specs."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        kubectl = _namespace(f"mlplatform-{uuid4().hex[:6]}", stack)
        airflow = ControlPlane(folder / "airflow", kubectl, _uri(postgres))
        airflow.prepare(proxies)
        specs = SpecRepository(folder / "git" / "specs", node_ip, stack.enter_context(_processes(folder / "git")))
        specs.start()
        pods = stack.enter_context(PodHistory(kubectl.namespace, folder / "pods.json"))
        execution_api = proxies.to("127.0.0.1", airflow.port)
        airflow.ours = _ours(f"http://{node_ip}:{execution_api.port}/execution/", specs, images, kubectl.namespace)
        _add_credentials(kubectl, services)
        stack.callback(airflow.stop)
        airflow.start()
        wait_for(airflow.answers, "until Airflow is well", 120)
        api = stack.enter_context(closing(airflow.api()))
        _add_connections(api, services)
        yield ClusterPlatform(airflow, api, kubectl, services, execution_api, specs, pods, images)


@contextmanager
def _processes(folder: Path) -> Iterator[Processes]:
    processes = Processes(folder)
    try:
        yield processes
    finally:
        processes.stop()


@pytest.fixture(scope="session")
def wine_models(services: Services, tmp_path_factory: pytest.TempPathFactory) -> WineModels:
    """Real MLflow models in S3, registered in MLflow."""
    return store_models(services, fitted(tmp_path_factory.mktemp("wine")))


@pytest.fixture(scope="module")
def seldon(services: Services, images: Images, wine_models: WineModels) -> Iterator[SeldonParts]:
    """A namespace in which SeldonDeployments come to life; `seldon_parts` tells how it is used."""
    require(Kubectl()("get", "crd", SDEPS, "-o", "name", check=False), GET_SELDON)
    with seldon_namespace(services, images, wine_models) as parts:
        yield parts
