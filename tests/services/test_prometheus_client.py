"""The client of Prometheus against a real one: answers, refusals, logins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_mlplatform.clients.http import Endpoint
from airflow_mlplatform.clients.prometheus import AsyncPrometheusClient, PrometheusClient, PrometheusEndpoint
from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.hooks.prometheus import PrometheusHook

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.prometheus_server import PrometheusServer

# Of "s3cret".
BCRYPT = "$2b$04$R7ca1VUzP9wTJ0nMz.u3r.j5Y4dH5afkyh6f/cWdy/bk28uS5gH.m"


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that vouches for itself, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "prometheus")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = folder / "cert.pem", folder / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    files[1].write_bytes(secret)
    return files


async def test_both_clients_answer_the_same(prometheus: PrometheusServer) -> None:
    at = datetime.now(UTC)
    async with AsyncPrometheusClient(prometheus.reached) as later:
        with PrometheusClient(prometheus.reached) as client:
            assert await later.query("vector(7)", at) == client.query("vector(7)", at)
        assert (await later.query("1 + 1")).samples[0].value == 2


def test_a_range(prometheus: PrometheusServer) -> None:
    start = datetime.fromtimestamp(1_700_000_000, UTC)
    with PrometheusClient(prometheus.reached) as client:
        found = client.query_range("vector(time())", start, start + timedelta(seconds=60), timedelta(seconds=30))
        assert [point for series in found.series for point in series.points] == [
            (start + timedelta(seconds=offset), 1_700_000_000.0 + offset) for offset in (0, 30, 60)
        ]
        assert client.query_range("absent_metric", start, start, timedelta(seconds=1)).series == ()
        with pytest.raises(ConfigurationError, match="11,000"):
            client.query_range("up", start, start + timedelta(days=9), timedelta(seconds=1))


def test_one_that_is_away_or_another_service(own_prometheus: PrometheusServer) -> None:
    with PrometheusClient(own_prometheus.reached) as client:
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            client.query("1")
        own_prometheus.start()
        assert client.query("1").samples[0].value == 1
        own_prometheus.stop()
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            client.query("1")


def test_a_query_that_is_too_large_is_a_mistake(own_prometheus: PrometheusServer) -> None:
    own_prometheus.arguments = ("--query.max-samples=10",)
    own_prometheus.start()
    with (
        PrometheusClient(own_prometheus.reached) as client,
        pytest.raises(ConfigurationError, match="too many samples"),
    ):
        client.query("count_over_time(vector(1)[1d:1s])")


@pytest.fixture
def guarded(own_prometheus: PrometheusServer, tmp_path: Path) -> PrometheusServer:
    """One behind TLS, a login and a path."""
    cert, key = certificate(tmp_path)
    web = tmp_path / "web.yml"
    web.write_text(
        f"tls_server_config: {{cert_file: {cert}, key_file: {key}}}\nbasic_auth_users: {{ann: {BCRYPT!r}}}\n"
    )
    own_prometheus.arguments = (f"--web.config.file={web}", "--web.route-prefix=/metrics/")
    url = f"https://127.0.0.1:{own_prometheus.port}/metrics"
    own_prometheus.endpoint = PrometheusEndpoint(Endpoint(url, "ann", "s3cret", verify=str(cert)))
    return own_prometheus.start()


def test_tls_login_and_path(guarded: PrometheusServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = f"prometheus://ann:s3cret@127.0.0.1:{guarded.port}/https?path=/metrics&verify={tmp_path}/cert.pem"
    monkeypatch.setenv("AIRFLOW_CONN_GUARDED", uri)
    assert PrometheusHook("guarded").test_connection()[1].startswith("Prometheus answers")
    base = f"https://127.0.0.1:{guarded.port}"
    trusted = str(tmp_path / "cert.pem")
    for endpoint, error, words in (
        (Endpoint(f"{base}/metrics", "ann", "wrong", verify=trusted), ServiceRefused, "correct login, password"),
        (Endpoint(f"{base}/metrics", verify=trusted), ServiceRefused, "correct login, password"),
        (Endpoint(base, "ann", "s3cret", verify=trusted), ServiceRefused, "with the path it has behind an ingress"),
        (Endpoint(f"{base}/metrics", "ann", "s3cret"), ServiceUnavailable, "CERTIFICATE_VERIFY_FAILED"),
        (Endpoint(base.replace("https", "http"), "ann", "s3cret"), ServiceRefused, "HTTP request to an HTTPS server"),
    ):
        with PrometheusClient(PrometheusEndpoint(endpoint)) as client, pytest.raises(error, match=words) as caught:
            client.query("up")
        assert "s3cret" not in f"{client!r} {caught.value}"
    with PrometheusClient(PrometheusEndpoint(Endpoint(f"{base}/metrics", "ann", "s3cret", verify=False))) as client:
        assert client.query("1").samples[0].value == 1
