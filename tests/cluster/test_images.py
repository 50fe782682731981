"""The images of `docker/`: each does its job as any user, on a read-only root, where Pod Security is `restricted`."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from airflow_mlplatform import __version__
from tests.cluster.image_registry import ImageFacts
from tests.cluster.images import Images
from tests.cluster.kubectl import Kubectl
from tests.parts import require
from tests.waiting import wait_for

REPOSITORY = Path(__file__).parents[2]
# Megabytes that a node pulls: what was measured, and a fifth more.
LARGEST = {
    "airflow": 430,
    "trainer": 515,
    "model-server": 480,
    "seldon-server": 365,
    "streaming": 110,
    "faust": 125,
}
ANOTHER_USER = 8888  # as which Seldon runs model servers, and OpenShift anything
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
pytestmark = pytest.mark.long


@dataclass(frozen=True)
class Job:
    """A container of a test: an image, what it is given and where it may write.

    :param image: name of the image, as in `docker/`.
    :param args: arguments for the entrypoint of the image.
    :param writable: folders that are volumes, shared by the containers of the pod.
    :param files: ConfigMap → folder.
    """

    image: str
    args: tuple[str, ...] = ()
    writable: tuple[str, ...] = ("/tmp",)
    files: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    probe: str | None = None

    def container(self, name: str, images: Images) -> dict[str, Any]:
        """Return the container as Kubernetes wants it."""
        mounts = [{"name": _volume(path), "mountPath": path} for path in self.writable]
        mounts += [{"name": files, "mountPath": path} for files, path in self.files]
        made: dict[str, Any] = {
            "name": name,
            "image": images(f"mlplatform-{self.image}"),
            "imagePullPolicy": "Always",
            "args": list(self.args),
            "env": [{"name": key, "value": value} for key, value in self.env],
            "securityContext": RESTRICTED,
            "volumeMounts": mounts,
        }
        if self.probe:
            made["readinessProbe"] = {"httpGet": {"path": self.probe, "port": 9000}, "periodSeconds": 1}
        return made


def _volume(path: str) -> str:
    return path.strip("/").replace("/", "-")


@dataclass(frozen=True)
class Pods:
    """Pods of the tests, in a namespace of their own."""

    kubectl: Kubectl
    images: Images

    def start(self, job: Job, before: Job | None = None, user: int | None = None) -> str:
        """Make a pod and return its name.

        :param before: init container.
        :param user: who runs it, without a name in the image; by default whom the image names.
        """
        name = f"{job.image}-{uuid4().hex[:6]}"
        jobs = [job, before] if before else [job]
        volumes = {path: {"name": _volume(path), "emptyDir": {}} for one in jobs for path in one.writable}
        maps = {files: {"name": files, "configMap": {"name": files}} for one in jobs for files, _ in one.files}
        context: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
        spec = {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 120,
            "securityContext": context | ({"runAsUser": user} if user else {}),
            "initContainers": [before.container("before", self.images)] if before else [],
            "containers": [job.container("job", self.images)],
            "volumes": [*volumes.values(), *maps.values()],
        }
        self.kubectl.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec})
        return name

    def run(self, job: Job, before: Job | None = None, user: int | None = None) -> str:
        """Run a pod to its end and return what its container printed; it must succeed."""
        name = self.start(job, before, user)
        assert self.code(name) == 0, self.kubectl("logs", name, "--all-containers")
        return self.kubectl("logs", name, "-c", "job")

    def code(self, name: str) -> int:
        """Wait for the end of a pod and return the exit code of its container."""

        def ended() -> list[dict[str, Any]]:
            status = self.kubectl.get("pod", name)["status"]
            if status["phase"] not in ("Succeeded", "Failed"):
                return []
            return list(status.get("containerStatuses") or status["initContainerStatuses"])

        state = wait_for(ended, f"for the end of {name}", 300)[0]["state"]
        return int(state.get("terminated", {}).get("exitCode", -1))

    def terminate(self, name: str) -> None:
        """Send SIGTERM to process 1 of a pod's container; the sender may well end with it."""
        self.kubectl("exec", name, "-c", "job", "--", "python", "-c", "import os; os.kill(1, 15)", check=False)

    def logs(self, name: str) -> str:
        """Return what the container of a pod has printed so far; nothing before it started."""
        return self.kubectl("logs", name, check=False)


@pytest.fixture(scope="module")
def pods(node_ip: str, images: Images) -> Iterator[Pods]:
    """A namespace with Pod Security `restricted`, and the images built."""
    require(
        os.environ.get("IMAGE_BUILD") or shutil.which("docker"), "a builder of images: docker on PATH, or IMAGE_BUILD"
    )
    name = f"mlplatform-images-{uuid4().hex[:6]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    Kubectl().apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
    yield Pods(Kubectl(name), images)
    Kubectl()("delete", "namespace", name, "--wait=false")


def config_map(pods: Pods, name: str, files: dict[str, str]) -> None:
    pods.kubectl.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": files})


def python(image: str, program: str, **more: Any) -> Job:
    return Job(image, ("python", "-c", program), **more)


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_it_is_labelled_and_small_and_its_user_is_not_root(pods: Pods, name: str) -> None:
    facts = ImageFacts.of(pods.images(f"mlplatform-{name}"))
    print(f"mlplatform-{name}: {facts.megabytes:.0f} MB to pull")
    assert facts.megabytes < LARGEST[name]
    assert facts.user == "50000:0"
    assert facts.entrypoint[:2] == ["dumb-init", "--"]
    labels = {key.removeprefix("org.opencontainers.image."): value for key, value in facts.labels.items()}
    assert labels["title"] == f"mlplatform-{name}"
    assert labels["version"] == __version__
    assert labels["revision"] not in ("", "unknown") or not (REPOSITORY / ".git").exists()
    assert labels["description"]
    assert labels["source"].startswith("https://")
    assert labels["licenses"] == "Apache-2.0"


@pytest.mark.parametrize("name", sorted(LARGEST))
def test_nothing_is_left_to_compile_or_to_build_with(pods: Pods, name: str) -> None:
    program = """
import importlib.util, json, os, pathlib, shutil, sysconfig
places = [sysconfig.get_path("stdlib") + "/json", sysconfig.get_path("stdlib") + "/asyncio", "/opt/venv"]
sources = [path for place in places for path in pathlib.Path(place).rglob("*.py")]
bare = [str(path) for path in sources if not os.path.exists(importlib.util.cache_from_source(str(path)))]
print(json.dumps({"id": [os.getuid(), os.getgid()], "sources": len(sources), "bare": bare,
    "tools": [tool for tool in ("gcc", "cc", "make", "rustc") if shutil.which(tool)]}))
"""
    found = json.loads(pods.run(python(name, program)).splitlines()[-1])
    assert found["id"] == [50000, 0]
    assert found["tools"] == []
    # Templates and what is there for other versions of Python are no Python of this one.
    assert len(found["bare"]) < found["sources"] / 100, found["bare"][:20]


@pytest.mark.parametrize("user", [None, ANOTHER_USER])
def test_airflow_starts_with_what_worker_pods_need(pods: Pods, user: int | None) -> None:
    program = (
        "airflow config get-value core dags_folder; git --version; python -c '"
        "import asyncpg, psycopg, statsd, airflow_mlplatform.factory.build, airflow_mlplatform.steps.pipeline;"
        "import airflow.providers.amazon.aws.log.s3_task_handler, airflow.providers.git.bundles.git;"
        "import airflow.providers.cncf.kubernetes.executors.kubernetes_executor'; mlplatform --version"
    )
    job = Job("airflow", ("bash", "-euc", program), ("/tmp", "/opt/airflow/logs"))
    told = pods.run(job, user=user)
    assert "/opt/airflow/dags" in told
    assert "git version" in told
    assert __version__ in told


def test_airflow_has_ssh(pods: Pods) -> None:
    # OpenSSH serves nobody whose user has no name: this is for the image's own.
    assert "OpenSSH" in pods.run(Job("airflow", ("bash", "-c", "ssh -V 2>&1")))


def test_airflow_takes_commands_as_the_official_chart_gives_them(pods: Pods) -> None:
    locked = (REPOSITORY / "requirements.lock").read_text("utf-8")
    version = re.search(r"^apache-airflow==(\S+)", locked, re.MULTILINE)
    assert version
    for words in (("version",), ("airflow", "version"), ("bash", "-c", "exec /entrypoint airflow version")):
        assert pods.run(Job("airflow", words)).strip().endswith(version[1])


@pytest.mark.parametrize("name", ["airflow", "trainer"])
def test_what_heeds_no_signal_is_ended_by_one(pods: Pods, name: str) -> None:
    # Linux shields process 1 from signals that it does not handle.
    pod = pods.start(python(name, "import time; print('waits', flush=True); time.sleep(900)"))
    wait_for(lambda: "waits" in pods.logs(pod), f"for {pod} to start", 300)
    pods.terminate(pod)
    assert pods.code(pod) == 128 + 15


def test_a_streaming_application_ends_its_work_when_told_to(pods: Pods) -> None:
    program = """
import signal, sys, threading
import kafka, prometheus_client
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
prometheus_client.start_http_server(9000)
print("kafka-python", kafka.__version__, flush=True)
done.wait()
print("committed", flush=True)
"""
    pod = pods.start(python("streaming", program, probe="/metrics"), user=ANOTHER_USER)
    pods.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=280s")
    pods.terminate(pod)
    assert pods.code(pod) == 0
    assert pods.logs(pod).splitlines()[-1] == "committed"


TRAIN_WINE = """
import os, sklearn.datasets
sklearn.datasets.load_wine(as_frame=True).frame.to_parquet("/mlplatform/wine.parquet")
os.environ["MLFLOW_TRACKING_URI"] = "sqlite:////mlplatform/mlflow.db"
os.execvp("mlflow", ["mlflow", "run", "/project", "-P", "data=/mlplatform/wine.parquet", "--env-manager", "local"])
"""


@pytest.mark.parametrize("user", [None, ANOTHER_USER])
def test_the_trainer_trains_the_wine_project(pods: Pods, user: int | None) -> None:
    files = {path.name: path.read_text("utf-8") for path in (REPOSITORY / "dag_specs/wine/project").iterdir()}
    config_map(pods, "wine-project", files)
    # A project lies in a folder of its own, which it may write to; a ConfigMap is neither.
    copy = "mkdir /mlplatform/project && cp -L /files/* /mlplatform/project/"
    before = Job("trainer", ("bash", "-c", copy), ("/mlplatform",), (("wine-project", "/files"),))
    train = python("trainer", TRAIN_WINE.replace("/project", "/mlplatform/project"), writable=("/tmp", "/mlplatform"))
    assert "'accuracy': 0.9" in pods.run(train, before, user)


BARE_PROJECT = {
    "MLproject": 'name: bare\npython_env: env.yaml\nentry_points: {main: {command: "python say.py"}}\n',
    "env.yaml": "build_dependencies: []\ndependencies: []\n",
    "say.py": "import sys; print('environment', sys.prefix, sys.prefix != sys.base_prefix)\n",
}


@pytest.mark.parametrize("manager", ["uv", "virtualenv"])
def test_the_trainer_makes_environments(pods: Pods, manager: str) -> None:
    config_map(pods, "bare-project", BARE_PROJECT)
    run = f"cp -rL /files /tmp/project && mlflow run /tmp/project --env-manager {manager}"
    env = (("MLFLOW_TRACKING_URI", "sqlite:////tmp/mlflow.db"),)
    job = Job("trainer", ("bash", "-c", run), files=(("bare-project", "/files"),), env=env)
    assert re.search(r"^environment /tmp/.mlflow/envs/mlflow-\w+ True$", pods.run(job), re.MULTILINE)


MAKE_MODEL = """
import os, shutil, mlflow.sklearn, sklearn.datasets, sklearn.linear_model
x, y = sklearn.datasets.load_wine(return_X_y=True, as_frame=True)
model = sklearn.linear_model.LogisticRegression(max_iter=5000).fit(x, y)
signature = mlflow.models.infer_signature(x, model.predict(x))
mlflow.sklearn.save_model(model, "/tmp/model", signature=signature, pip_requirements=["mlflow"])
for name in os.listdir("/tmp/model"):
    shutil.copy(f"/tmp/model/{name}", "/mnt/models")
"""
ASK_MODEL = """
import json, urllib.request
def get(url, body=None):
    request = urllib.request.Request("http://localhost:" + url, body, {"Content-Type": "application/json"})
    return urllib.request.urlopen(request).read()
names = [one["name"] for one in json.loads(get("9000/v2/models/wine"))["inputs"]]
first = [14.23, 1.71, 2.43, 15.6, 127.0, 2.8, 3.06, 0.28, 2.29, 5.64, 1.04, 3.92, 1065.0]
inputs = [{"name": n, "datatype": "FP64", "shape": [1, 1], "data": [v]} for n, v in zip(names, first)]
body = {"inputs": inputs, "parameters": {"content_type": "pd"}}
answer = json.loads(get("9000/v2/models/wine/infer", json.dumps(body).encode()))
print(json.dumps({"outputs": answer["outputs"], "metrics": get("6000/prometheus").decode()}))
"""


def test_the_model_server_serves_what_the_trainer_made(pods: Pods) -> None:
    # Environment, folder and user as Seldon gives them.
    env = {"HTTP_PORT": "9000", "GRPC_PORT": "9500", "MODEL_NAME": "wine", "MODEL_URI": "/mnt/models"}
    env |= {"METRICS_PORT": "6000", "METRICS_ENDPOINT": "/prometheus"}
    variables = tuple((f"MLSERVER_{key}", value) for key, value in env.items())
    both = ("/tmp", "/mnt/models")
    server = Job("model-server", writable=both, env=variables, probe="/v2/health/ready")
    pod = pods.start(server, python("trainer", MAKE_MODEL, writable=both), ANOTHER_USER)
    pods.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=280s")
    told = json.loads(pods.kubectl("exec", pod, "-c", "job", "--", "python", "-c", ASK_MODEL))
    assert told["outputs"][0]["data"] == [0]
    assert "rest_server_requests_total" in told["metrics"]
    pods.terminate(pod)
    assert pods.code(pod) == 0


ASK_SELDON = """
import json, urllib.request
wine = json.load(open("/mnt/models/serving_input_example.json"))["dataframe_split"]
body = json.dumps({"data": {"names": wine["columns"], "ndarray": wine["data"]}}).encode()
request = urllib.request.Request("http://localhost:9000/predict", body, {"Content-Type": "application/json"})
print(json.load(urllib.request.urlopen(request))["data"]["ndarray"])
"""


def test_the_seldon_server_serves_what_the_trainer_made(pods: Pods) -> None:
    # Environment, folder and user as Seldon gives them.
    parameters = [{"name": "xtype", "value": "DataFrame", "type": "STRING"}]
    parameters += [{"name": "model_uri", "value": "/mnt/models", "type": "STRING"}]
    env = {"HTTP_SERVICE_PORT": "9000", "GRPC_SERVICE_PORT": "9500", "METRICS_SERVICE_PORT": "6000"}
    env |= {"ID": "wine", "PARAMETERS": json.dumps(parameters)}
    variables = tuple((f"PREDICTIVE_UNIT_{key}", value) for key, value in env.items())
    both = ("/tmp", "/mnt/models")
    server = Job("seldon-server", writable=both, env=variables, probe="/health/ping")
    with_example = MAKE_MODEL.replace("pip_requirements", "input_example=x.head(1), pip_requirements")
    pod = pods.start(server, python("trainer", with_example, writable=both), ANOTHER_USER)
    pods.kubectl("wait", f"pod/{pod}", "--for=condition=Ready", "--timeout=280s")
    assert pods.kubectl("exec", pod, "-c", "job", "--", "python", "-c", ASK_SELDON).strip() == "[0]"
    pods.terminate(pod)
    wait_for(lambda: pods.kubectl.get("pod", pod)["status"]["phase"] != "Running", "for its end", 60)
