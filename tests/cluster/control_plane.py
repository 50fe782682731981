"""Airflow's own processes on this machine, each with the Kubernetes rights that its service account has."""

from __future__ import annotations

import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from base64 import b64decode, urlsafe_b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx
import yaml

from airflow_mlplatform.demo.airflow_api import AirflowApi
from airflow_mlplatform.demo.processes import MARK, Processes
from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.runtime.model_server import free_port
from airflow_mlplatform.runtime.processes import marked

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.kubectl import Kubectl
    from tests.cluster.proxy import Proxies, Proxy

__all__ = ["HELM_VALUES", "ControlPlane", "shipped_configuration"]

HELM_VALUES = Path(__file__).parents[2] / "helm-values"
# Who Kubernetes takes a process for; the DAG processor asks it for nothing.
SERVICE_ACCOUNTS = {
    "scheduler": "airflow-scheduler",
    "triggerer": "airflow-triggerer",
    "api-server": "airflow-api-server",
    "dag-processor": "",
}
Configuration = dict[str, dict[str, str]]


def shipped_configuration() -> Configuration:
    """Return sections, options and values of `helm-values/airflow/config.yaml`."""
    found: Configuration = yaml.safe_load((HELM_VALUES / "airflow" / "config.yaml").read_text("utf-8"))["config"]
    return found


@dataclass
class ControlPlane:
    """API server, scheduler, DAG processor and triggerer, as processes that can be killed one by one.

    :param folder: where Airflow's home, its logs and configuration lie.
    :param kubectl: in the namespace of Airflow's pods.
    :param database: URI of Airflow's own database.

    ``ours`` is what an installation says beside the shipped configuration: section, option, value.
    """

    folder: Path
    kubectl: Kubectl
    database: str = field(repr=False)
    ours: Configuration = field(default_factory=dict)
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_urlsafe(9), repr=False)
    kubernetes: Proxy = field(init=False)

    def __post_init__(self) -> None:
        self._parts = {name: Processes(self.folder / name) for name in SERVICE_ACCOUNTS}
        self._jwt_secret = secrets.token_urlsafe(64)
        self._fernet_key = urlsafe_b64encode(os.urandom(32)).decode()
        self._trigger_log_port = free_port()

    @property
    def url(self) -> str:
        """Address of Airflow's API, on this machine."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def configuration(self) -> Configuration:
        """The shipped configuration with what is ours laid over it."""
        shipped = shipped_configuration()
        return {
            section: shipped.get(section, {}) | self.ours.get(section, {}) for section in sorted({*shipped, *self.ours})
        }

    @property
    def airflow_cfg(self) -> str:
        """The configuration as the chart writes it for all of Airflow's processes and worker pods."""
        sections = (
            "\n".join([f"[{section}]", *(f"{name} = {value}" for name, value in options.items())])
            for section, options in self.configuration.items()
        )
        return "\n\n".join(sections) + "\n"

    def environment(self, part: str) -> dict[str, str]:
        """Return the environment of a process: what is secret, and what differs because it is not in a pod."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "MLFLOW"))}
        inherited.pop("KUBECONFIG", None)
        return inherited | {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW_HOME": str(self.folder),
            "AIRFLOW_CONFIG": str(self.folder / "airflow.cfg"),
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": self.database,
            "AIRFLOW__CORE__FERNET_KEY": self._fernet_key,
            "AIRFLOW__API_AUTH__JWT_SECRET": self._jwt_secret,
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin",
            "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(self.folder / "passwords.json"),
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.port),
            "AIRFLOW__API__BASE_URL": self.url,
            "AIRFLOW__API__WORKERS": "1",
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(self.folder / "bundles" / part),
            "AIRFLOW__DAG_PROCESSOR__BUNDLE_REFRESH_CHECK_INTERVAL": "1",
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(self._trigger_log_port),
            "AIRFLOW__KUBERNETES_EXECUTOR__IN_CLUSTER": "False",
            "AIRFLOW__KUBERNETES_EXECUTOR__CONFIG_FILE": str(self.folder / f"{part}.kubeconfig"),
            "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE": str(HELM_VALUES / "airflow" / "worker-pod.yaml"),
        }

    def prepare(self, proxies: Proxies) -> None:
        """Make service accounts, their kubeconfigs and the database."""
        self.folder.mkdir(parents=True)
        self.kubernetes = proxies.to(*_kubernetes_api())
        self.kubectl("apply", "-f", str(HELM_VALUES / "platform" / "rbac.yaml"))
        for part, account in SERVICE_ACCOUNTS.items():
            self._write(f"{part}.kubeconfig", json.dumps(self._kubeconfig(account)))
        self._write("passwords.json", json.dumps({"admin": self.password}))
        self._migrate()

    def start(self) -> None:
        """Write the configuration, for worker pods too, and start all parts."""
        self._write("airflow.cfg", self.airflow_cfg)
        self.kubectl.apply(_config_map("airflow-config", {"airflow.cfg": self.airflow_cfg}))
        for part in SERVICE_ACCOUNTS:
            self.start_part(part)

    def start_part(self, part: str) -> None:
        """Start one of the processes."""
        self._parts[part].start(part, [sys.executable, "-m", "airflow", part], self.environment(part), self.folder)

    def kill_part(self, part: str) -> None:
        """Kill a process and its children as if the machine had lost power."""
        for pid in marked(MARK, str(self._parts[part].folder)):
            os.kill(pid, signal.SIGKILL)
        self._parts[part].stop()

    def stop_part(self, part: str) -> None:
        """Stop a process as Kubernetes does it."""
        self._parts[part].stop()

    def runs(self, part: str) -> bool:
        """Whether a process has not ended by itself."""
        try:
            self._parts[part].check()
        except ProcessFailed:
            return False
        return True

    def check(self) -> None:
        """Fail if a process ended that was not stopped."""
        for processes in self._parts.values():
            processes.check()

    def log(self, part: str) -> str:
        """Return what a process has logged."""
        return self._parts[part].log(part).read_text("utf-8", errors="replace")

    def stop(self) -> None:
        """Stop everything."""
        with ThreadPoolExecutor(len(self._parts)) as threads:
            list(threads.map(Processes.stop, self._parts.values()))

    def api(self) -> AirflowApi:
        """Return a client of Airflow's API."""
        return AirflowApi(self.url, "admin", self.password)

    def answers(self) -> bool:
        """Whether the API server answers and all other parts are well."""
        self.check()
        try:
            health = httpx.get(f"{self.url}/api/v2/monitor/health", timeout=5)
        except httpx.HTTPError:
            return False
        return health.is_success and all(part["status"] in ("healthy", None) for part in health.json().values())

    def _write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.touch(mode=0o600)
        path.write_text(text, "utf-8")

    def _kubeconfig(self, account: str) -> dict[str, Any]:
        user = {"token": self.kubectl.token(account)} if account else {}
        cluster = {"server": f"http://127.0.0.1:{self.kubernetes.port}"}
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "tests", "cluster": cluster}],
            "users": [{"name": "tests", "user": user}],
            "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests"}}],
            "current-context": "tests",
        }

    def _migrate(self) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "airflow", "db", "migrate"], env=self.environment("scheduler"), cwd=self.folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"airflow db migrate: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _config_map(name: str, data: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(data)}


def _kubernetes_api() -> tuple[str, int, ssl.SSLContext]:
    """Where the Kubernetes API is, and how to speak to it."""
    command = ["kubectl", "config", "view", "--raw", "--minify", "-o", "json"]
    cluster = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["clusters"][0]["cluster"]
    url = urlsplit(cluster["server"])
    data = b64decode(cluster.get("certificate-authority-data", "")).decode() or None
    context = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=data)
    assert url.hostname, f"{cluster['server']} names no host"
    return url.hostname, url.port or 443, context
