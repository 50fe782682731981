"""What a registry tells about an image: labels, user, size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import httpx

__all__ = ["ImageFacts", "pinned"]

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


@dataclass(frozen=True)
class ImageFacts:
    """What is written on an image.

    :param labels: its labels.
    :param user: the user its programs run as, as the image has it.
    :param entrypoint: its entrypoint.
    :param megabytes: what a node pulls, in 10⁶ bytes.
    """

    labels: dict[str, str]
    user: str
    entrypoint: list[str]
    megabytes: float

    @classmethod
    def of(cls, image: str) -> ImageFacts:
        """Ask the registry.

        :param image: full name with its tag.
        """
        client, tag = _registry(image)
        with client:
            manifest = _manifest(client, tag)
            config = _get(client, f"/blobs/{manifest['config']['digest']}")["config"]
        size = sum(layer["size"] for layer in manifest["layers"]) / 1e6
        return cls(config.get("Labels") or {}, config.get("User", ""), config.get("Entrypoint") or [], size)


def pinned(image: str) -> str:
    """The image by its digest: a node that has another one of that tag pulls it all the same.

    :param image: full name with its tag.
    """
    client, tag = _registry(image)
    with client:
        found = client.head(f"/manifests/{tag}", headers={"Accept": ", ".join(MANIFESTS)}).raise_for_status()
    return f"{image.removesuffix(f':{tag}')}@{found.headers['Docker-Content-Digest']}"


def _registry(image: str) -> tuple[httpx.Client, str]:
    """A client for the image's repository, and its tag."""
    host, _, path = image.partition("/")
    name, _, tag = path.rpartition(":")
    scheme = "http" if host.startswith(("localhost", "127.")) else "https"
    return httpx.Client(base_url=f"{scheme}://{host}/v2/{name}", follow_redirects=True), tag


def _manifest(client: httpx.Client, reference: str) -> Any:
    found = _get(client, f"/manifests/{reference}")
    if "manifests" not in found:
        return found
    # An index: beside the images for platforms lie attestations, whose platform is unknown.
    image = next(one for one in found["manifests"] if one.get("platform", {}).get("os") != "unknown")
    return _get(client, f"/manifests/{image['digest']}")


def _get(client: httpx.Client, path: str) -> Any:
    return client.get(path, headers={"Accept": ", ".join(MANIFESTS)}).raise_for_status().json()
