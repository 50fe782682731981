"""Files of a model version, as MLflow's server hands them out or does not."""

from __future__ import annotations

import httpx
import pytest

from airflow_mlplatform.clients.http import drive
from airflow_mlplatform.clients.mlflow_model_files import get_model_version_file
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable


def asked(status: int, content: bytes = b"") -> tuple[bytes, httpx.Request]:
    seen: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(status, content=content)

    with httpx.Client(base_url="http://mlflow/base", transport=httpx.MockTransport(handler)) as http:
        return drive(get_model_version_file("wine & co", "7", "MLmodel"), http), seen[0]


def test_a_file() -> None:
    content, request = asked(200, b"flavors: {}")
    assert content == b"flavors: {}"
    assert request.url.path == "/base/model-versions/get-artifact"
    assert dict(request.url.params) == {"name": "wine & co", "version": "7", "path": "MLmodel"}


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_what_is_not_there(status: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"hand out MLmodel of wine & co version 7 \({status}\); see that"):
        asked(status)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_an_outage(status: int) -> None:
    with pytest.raises(ServiceUnavailable, match=str(status)):
        asked(status)
