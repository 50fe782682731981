"""Training pods by themselves: projects from private git servers, and environments made in the pod."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_mlplatform.clients.mlflow import Endpoint, MlflowClient, Run
from airflow_mlplatform.runtime.pod_failure import PodFailure, failure
from airflow_mlplatform.runtime.pod_manifest import Identity, PodSetup
from airflow_mlplatform.training.plan import TrainingPlan
from airflow_mlplatform.training.training_pod import PROJECT, TRAIN, TrainingPod
from tests.cluster.images import AIRFLOW, TRAINER
from tests.services.git_servers import HttpsServer, Repository, certificate
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.platform import ClusterPlatform

pytestmark = pytest.mark.long

WINE = Path(__file__).parents[2] / "dag_specs" / "wine" / "project"
CREDENTIALS = "mlplatform-credentials"
TOKEN = "glpat-5ecret_T0ken"
POD_TIMEOUT = 600.0
CERTIFICATES = "/certificates"
# `six` in a version that no image has: only an environment of its own does.
SMALL = {
    "MLproject": (
        "name: small\npython_env: python_env.yaml\nentry_points:\n  main:\n    parameters: {word: string}\n"
        '    command: "python train.py {word}"\n'
    ),
    "python_env.yaml": "build_dependencies: [pip]\ndependencies: [six==1.16.0]\n",
    "train.py": (
        "import importlib.metadata, json, os, pathlib, sys\n"
        "here = [str(path) for path in pathlib.Path('/mlplatform').rglob('*') if 'environments' not in path.parts]\n"
        "pathlib.Path('written').touch()\n"
        "told = {'word': sys.argv[1], 'six': importlib.metadata.version('six'), 'prefix': sys.prefix}\n"
        "print('TOLD ' + json.dumps(told | {'env': dict(os.environ), 'files': here, 'cwd': os.getcwd()}))\n"
    ),
}


@dataclass
class Pods:
    """Starts training pods and waits for their end, as the triggerer would.

    :param env: where certificates are.
    """

    platform: ClusterPlatform
    env: list[dict[str, str]]

    def run(self, uri: str, **changes: Any) -> Finished:
        """Run a project in a pod until its end."""
        parameters, version = changes.pop("parameters", {}), changes.pop("version", None)
        training = TrainingPod(uri, version, parameters, TrainingPlan(owner="test", **changes))
        client = MlflowClient(Endpoint(self.platform.services.mlflow_url))
        made = client.create_run(client.get_or_create_experiment("environments"), {})
        kubectl, key = self.platform.kubectl, uuid.uuid4().hex
        setup = PodSetup(kubectl.namespace, self.platform.images(AIRFLOW), credentials_secret=CREDENTIALS)
        manifest = training.manifest(
            setup,
            Identity("environments", "manual__1", "train", -1, 1, key, training.work),
            made.run_id,
            made.experiment_id,
            image=self.platform.images(TRAINER),
            tracking_uri=self.platform.services.mlflow_url,
        )
        self._lend(manifest)
        kubectl.apply(manifest)
        name = manifest["metadata"]["name"]
        try:
            wait_for(lambda: self._phase(name) in ("Succeeded", "Failed"), f"for the end of {name}", POD_TIMEOUT)
            pod = kubectl.get("pod", name)
            logs = {
                each["name"]: kubectl("logs", name, "-c", each["name"], check=False)
                for each in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
            }
        finally:
            kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")
        return Finished(pod, logs, client.get_run(made.run_id))

    def _phase(self, name: str) -> str:
        return str(self.platform.kubectl.get("pod", name)["status"].get("phase"))

    def _lend(self, manifest: dict[str, Any]) -> None:
        spec = manifest["spec"]
        spec["volumes"].append({"name": "certificates", "configMap": {"name": "certificates"}})
        for container in [*spec["initContainers"], *spec["containers"]]:
            container["volumeMounts"].append({"name": "certificates", "mountPath": CERTIFICATES})
            container["env"] += self.env


@dataclass
class Finished:
    """A pod at its end.

    :param logs: by container.
    """

    pod: dict[str, Any]
    logs: dict[str, str]
    run: Run

    @property
    def told(self) -> dict[str, Any]:
        """What the small project told about its surroundings."""
        assert self.pod["status"]["phase"] == "Succeeded", self.logs
        lines = self.logs[TRAIN].splitlines()
        return dict(json.loads(next(line for line in lines if line.startswith("TOLD ")).removeprefix("TOLD ")))

    @property
    def failure(self) -> PodFailure:
        """Why it failed, in the words that the task log would show."""
        lines = self.logs[TRAIN] or self.logs.get(PROJECT, "")
        found = failure(self.pod, lines.splitlines()[-5:])
        assert found is not None, self.logs
        return found

    @property
    def message(self) -> str:
        """What the init container left."""
        return str(self.pod["status"]["initContainerStatuses"][0]["state"]["terminated"]["message"])


@pytest.fixture(scope="module")
def https(platform: ClusterPlatform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpsServer]:
    """A private git server on this machine, with a certificate that only its Secret's readers know."""
    folder = tmp_path_factory.mktemp("git")
    host = platform.services.node_ip
    made = Repository.create(folder / "served", "small")
    made.write({f"training/{name}": text for name, text in SMALL.items()})
    pem = certificate(folder, host)
    server = HttpsServer(folder / "served", pem, TOKEN, host=host).start()
    secrets = {"token": TOKEN, "username": "deploy-7", "wrong": "wrong"}
    platform.kubectl.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"}, "stringData": secrets})
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pods(platform: ClusterPlatform, https: HttpsServer) -> Pods:
    """Pods that know the git server's certificate, and that of the package index where this machine has its own."""
    files = {"git.crt": https.certificate.read_text().partition("-----BEGIN PRIVATE KEY-----")[0]}
    env = [{"name": "GIT_SSL_CAINFO", "value": f"{CERTIFICATES}/git.crt"}]
    if ours := os.environ.get("SSL_CERT_FILE"):
        files["index.crt"] = Path(ours).read_text()
        env += [{"name": name, "value": f"{CERTIFICATES}/index.crt"} for name in ("SSL_CERT_FILE", "PIP_CERT")]
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "certificates"}, "data": files}
    platform.kubectl("create", "-f", "-", given=json.dumps(made))  # too long for `apply`
    return Pods(platform, env)


@pytest.fixture(scope="module")
def project(https: HttpsServer) -> str:
    """The small project's address."""
    return f"{https.url}/small.git#training"


SECRET = {"secret": "git", "key": "token"}


@pytest.mark.parametrize("environment", ["uv", "virtualenv"])
def test_environments_are_made_in_the_pod(pods: Pods, project: str, environment: str) -> None:
    told = pods.run(project, secret=SECRET, environment=environment, parameters={"word": "a b"}).told
    assert (told["word"], told["six"]) == ("a b", "1.16.0")
    assert told["prefix"].startswith("/mlplatform/environments/")


def test_the_token_stays_with_the_init_container(pods: Pods, https: HttpsServer, project: str) -> None:
    done = pods.run(project, secret=SECRET, environment="uv", parameters={"word": "x"})
    found = json.loads(done.message)
    assert found["code_version"] == found["commit"]
    assert ("deploy-7", TOKEN) in https.login
    assert TOKEN not in json.dumps(done.pod) + json.dumps(done.logs)
    told = done.told
    assert not [name for name in told["env"] if "GIT_SECRET" in name]
    files = [path for path in told["files"] if path.startswith("/mlplatform/project")]
    assert files
    assert not [path for path in files if ".git" in Path(path).parts]
    assert told["cwd"].endswith("/training")


def test_a_wrong_token_is_a_lasting_mistake(pods: Pods, project: str) -> None:
    wrong = {"secret": "git", "key": "wrong"}
    found = pods.run(project, secret=wrong, parameters={"word": "x"}).failure
    assert found.lasting
    assert "Authentication failed" in found.message


def test_a_git_server_in_trouble_is_an_outage(pods: Pods, https: HttpsServer, project: str) -> None:
    https.status = 503
    try:
        found = pods.run(project, secret=SECRET, parameters={"word": "x"}).failure
    finally:
        https.status = 0
    assert not found.lasting
    assert "503" in found.message


def test_a_mistake_in_the_call_is_told_before_the_training_starts(pods: Pods, project: str) -> None:
    done = pods.run(project, secret=SECRET, parameters={"wrod": "x"})
    assert done.failure.lasting
    assert "no parameter 'wrod'; did you mean 'word'" in done.failure.message
    assert done.logs[TRAIN] == ""


def test_an_image_without_conda(pods: Pods, https: HttpsServer, project: str) -> None:
    named = f"{https.url}/conda.git"
    Repository.create(https.root, "conda").write(
        {"MLproject": "name: x\nconda_env: conda.yaml\n", "conda.yaml": "", "x.py": ""}
    )
    found = pods.run(named, secret=SECRET, environment="conda", entry_point="x.py").failure
    assert found.lasting
    assert "the training image lacks conda, which environment: conda needs" in found.message


def test_the_wine_project_in_an_environment_of_its_own(
    pods: Pods, https: HttpsServer, platform: ClusterPlatform, tmp_path: Path
) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    datasets.load_wine(as_frame=True).frame.to_parquet(tmp_path / "wine.parquet")
    platform.services.upload(tmp_path / "wine.parquet", "pond/environments/wine.parquet")
    files = {file.name: file.read_text("utf-8") for file in WINE.iterdir() if file.is_file()}
    Repository.create(https.root, "wine").write(files)
    done = pods.run(
        f"{https.url}/wine.git", secret=SECRET, environment="uv",
        parameters={"data": "s3://pond/environments/wine.parquet"},
    )  # fmt: skip
    assert done.pod["status"]["phase"] == "Succeeded", done.logs
    assert done.run.metrics["accuracy"] > 0.9
