"""The webhook of Seldon's operator: the API server really calls it, so that a stopped operator refuses writes."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.cluster.api_server import ApiRefused
from tests.cluster.seldon_stand_in_validation import problems, refusal
from tests.services.ports import free_port
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.cluster.api_server import ApiServer, Object

__all__ = ["Webhook"]

SERVICE = "seldon-webhook-service"
NAME = "v1.vseldondeployment.kb.io"
PATH = "/validate-machinelearning-seldon-io-v1-seldondeployment"
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"


class Webhook:
    """A ValidatingWebhookConfiguration for one namespace, and the server behind its Service on this machine.

    :param namespace: the namespace whose SeldonDeployments it judges.
    :param node_ip: where the cluster reaches this machine.
    :param servers: the prepackaged servers that are installed, with their protocols.
    """

    def __init__(self, api: ApiServer, namespace: str, node_ip: str, servers: Collection[tuple[str, str]]) -> None:
        self._api, self._namespace, self._node_ip = api, namespace, node_ip
        self._servers = {implementation for implementation, _ in servers}
        self._port = free_port(node_ip)
        self._key, self._certificate = _certificate(f"{SERVICE}.{namespace}.svc")
        self._server: ThreadingHTTPServer | None = None

    def install(self) -> None:
        """Tell the API server of it."""
        of_namespace = f"/namespaces/{self._namespace}"
        self._api.create(f"/api/v1{of_namespace}/services", _service(self._port))
        self._api.create(
            f"/apis/discovery.k8s.io/v1{of_namespace}/endpointslices", _endpoints(self._node_ip, self._port)
        )
        self._api.create(CONFIGURATIONS, self._configuration())

    def start(self) -> None:
        """Answer."""
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "pem").write_bytes(self._key + self._certificate)
            trust.load_cert_chain(Path(folder) / "pem")
        self._server = ThreadingHTTPServer((self._node_ip, self._port), self._handler())
        self._server.socket = trust.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), name="webhook", daemon=True).start()
        # A Service reaches its end only when kube-proxy has heard of it.
        wait_for(self._called, "until the API server reaches the webhook")

    def _called(self) -> bool:
        path = f"/apis/machinelearning.seldon.io/v1/namespaces/{self._namespace}/seldondeployments?dryRun=All"
        kind = {"apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment"}
        try:
            self._api.create(path, {**kind, "metadata": {"name": "a"}, "spec": {"predictors": []}})
        except ApiRefused as error:
            return error.status == 422
        return False

    def stop(self) -> None:
        """Answer no longer: connections are refused."""
        if self._server:
            self._server.shutdown()
            self._server.server_close()
        self._server = None

    def remove(self) -> None:
        """Tell the API server that it is gone."""
        self._api.delete(f"{CONFIGURATIONS}/{self._name}")

    @property
    def _name(self) -> str:
        return f"seldon-stand-in-{self._namespace}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        servers = self._servers

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["request"]
                found = problems(request["object"]["spec"], servers)
                answer: Object = {"uid": request["uid"], "allowed": not found}
                answer |= {"status": refusal(found)} if found else {}
                review = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": answer}
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(json.dumps(review).encode())

            def log_message(self, *_: object) -> None:
                """Nothing: the API server tells enough."""

        return Handler

    def _configuration(self) -> Object:
        namespace = self._api.ask("GET", f"/api/v1/namespaces/{self._namespace}")
        owner = {"apiVersion": "v1", "kind": "Namespace", "name": self._namespace, "uid": namespace["metadata"]["uid"]}
        rule = {
            "apiGroups": ["machinelearning.seldon.io"],
            "apiVersions": ["v1"],
            "operations": ["CREATE", "UPDATE"],
            "resources": ["seldondeployments"],
        }
        service = {"namespace": self._namespace, "name": SERVICE, "path": PATH}
        webhook = {
            "name": NAME,
            "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": service, "caBundle": base64.b64encode(self._certificate).decode()},
            "failurePolicy": "Fail",
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self._namespace}},
            "rules": [rule],
            "sideEffects": "None",
        }
        # The namespace owns it: what a killed test leaves behind goes with the namespace.
        head = {"name": self._name, "ownerReferences": [owner]}
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"}
        return {**kind, "metadata": head, "webhooks": [webhook]}


def _service(port: int) -> Object:
    spec = {"ports": [{"name": "https", "port": 443, "targetPort": port}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": SERVICE}, "spec": spec}


def _endpoints(address: str, port: int) -> Object:
    head = {"name": SERVICE, "labels": {"kubernetes.io/service-name": SERVICE}}
    ports = [{"name": "https", "port": port, "protocol": "TCP"}]
    kind = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4"}
    return {**kind, "metadata": head, "ports": ports, "endpoints": [{"addresses": [address]}]}


def _certificate(host: str) -> tuple[bytes, bytes]:
    """A private key and a certificate that vouches for itself, in PEM."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVICE)])
    now = datetime.now(UTC)
    builder: Any = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=2))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.sign(key, hashes.SHA256())
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return (
        key.private_bytes(pem, form, serialization.NoEncryption()),
        certificate.public_bytes(pem),
    )
