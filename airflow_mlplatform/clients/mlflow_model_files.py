"""Files of a registered model version, handed out by MLflow's server wherever they lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_mlplatform.clients.http import Request
from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable

if TYPE_CHECKING:
    from airflow_mlplatform.clients.http import Operation

__all__ = ["get_model_version_file"]

PATH = "/model-versions/get-artifact"
AWAY = frozenset({429, 502, 503, 504})


def get_model_version_file(name: str, version: str, path: str) -> Operation[bytes]:
    """Download a file of a model version.

    :param path: below the folder with ``MLmodel``.
    :raises ConfigurationError: if it is not there, or MLflow cannot reach where it is: its server answers both alike.
    """
    response = yield Request("GET", PATH, params={"name": name, "version": version, "path": path})
    if response.is_success:
        return response.content
    where = f"MLflow at {response.request.url.copy_with(path='/', query=None)}"
    if response.status_code in AWAY:
        raise ServiceUnavailable(f"{where} answered {response.status_code}; try again later")
    raise ConfigurationError(
        f"{where} cannot hand out {path} of {name} version {version} ({response.status_code}); see that the folder of "
        "that version is there and holds it, that MLflow's server can read that store, and that the connection may"
    )
