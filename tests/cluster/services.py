"""S3, PostgreSQL and MLflow inside the cluster, and the ways to them that a test may break."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.kubectl import Kubectl

if TYPE_CHECKING:
    from tests.cluster.images import Images
    from tests.cluster.proxy import Proxies, Proxy

__all__ = ["BUCKETS", "Services"]

MANIFESTS = Path(__file__).parent / "manifests"
BUCKETS = ("pond", "staging", "mlflow", "logs", "models")
NAMES = ("minio", "postgres", "mlflow")
# How clients of an MLflow server come to artifacts: through it, or to S3 themselves, as in helm-values/mlflow.
ARTIFACTS = {
    "mlflow": "--serve-artifacts, --artifacts-destination, 's3://mlflow'",
    "mlflow-direct": "--no-serve-artifacts, --default-artifact-root, 's3://mlflow'",
}


@dataclass
class Services:
    """What pipelines speak to. Pods and Airflow reach it through proxies on this machine.

    :param kubectl: in the namespace of the services.
    :param node_ip: where pods reach this machine.
    """

    kubectl: Kubectl
    node_ip: str
    s3_user: str = "pond-key"
    s3_password: str = field(default_factory=lambda: secrets.token_hex(16), repr=False)
    s3: Proxy = field(init=False)
    mlflow: Proxy = field(init=False)

    @property
    def s3_url(self) -> str:
        """Address of S3, for pods and for this machine."""
        return f"http://{self.node_ip}:{self.s3.port}"

    @property
    def mlflow_url(self) -> str:
        """Address of MLflow, for pods and for this machine."""
        return f"http://{self.node_ip}:{self.mlflow.port}"

    def start(self, images: Images, proxies: Proxies) -> None:
        """Start all and wait until they answer; make the buckets."""
        self.kubectl.apply_file(
            MANIFESTS / "services.yaml",
            REGISTRY=images.registry,
            TAG="dev",
            S3_USER=self.s3_user,
            S3_PASSWORD=self.s3_password,
            POSTGRES_PASSWORD=secrets.token_hex(16),
        )
        self._apply_mlflow("mlflow", images)
        for name in NAMES:
            self._wait_for(name)
        self.s3 = proxies.to(*self._address("minio"))
        self.mlflow = proxies.to(*self._address("mlflow"))
        for bucket in BUCKETS:
            self.filesystem().create_dir(bucket)

    def start_direct_mlflow(self, images: Images, proxies: Proxies) -> str:
        """Start another MLflow on the same registry, whose new experiments lie at ``s3://``; return its address.

        What reads ``s3://``, as Seldon's storage initializer does, can read the models of those.
        """
        self._apply_mlflow("mlflow-direct", images)
        self._wait_for("mlflow-direct")
        return f"http://{self.node_ip}:{proxies.to(*self._address('mlflow-direct')).port}"

    def _apply_mlflow(self, name: str, images: Images) -> None:
        how = {"NAME": name, "ARTIFACTS": ARTIFACTS[name]}
        self.kubectl.apply_file(MANIFESTS / "mlflow.yaml", REGISTRY=images.registry, TAG="dev", **how)

    def _wait_for(self, name: str) -> None:
        self.kubectl("rollout", "status", f"deployment/{name}", "--timeout=280s")

    def _address(self, service: str) -> tuple[str, int]:
        node = Kubectl().get("nodes")[0]
        host = next(each["address"] for each in node["status"]["addresses"] if each["type"] == "InternalIP")
        return host, self.kubectl.get("service", service)["spec"]["ports"][0]["nodePort"]

    def filesystem(self) -> Any:
        """S3 as PyArrow's file system."""
        from pyarrow import fs

        return fs.S3FileSystem(
            access_key=self.s3_user, secret_key=self.s3_password, endpoint_override=self.s3_url, region="us-east-1",
            allow_bucket_creation=True,
        )  # fmt: skip

    def objects(self, place: str) -> list[str]:
        """Return the keys below `bucket/prefix` that hold something."""
        from pyarrow import fs

        found = self.filesystem().get_file_info(fs.FileSelector(place, recursive=True, allow_not_found=True))
        return sorted(info.path for info in found if info.is_file and info.size)

    def upload(self, file: Path, to: str) -> None:
        """Copy a file of this machine to `bucket/key`."""
        with self.filesystem().open_output_stream(to) as sink:
            sink.write(file.read_bytes())
