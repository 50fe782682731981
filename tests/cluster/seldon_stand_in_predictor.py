"""One predictor of a SeldonDeployment as the operator sees it: defaults added, names made.

Graphs are of one unit, which is what `airflow_mlplatform` makes: a prepackaged server or a container of the user's.
"""

from __future__ import annotations

import hashlib
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.cluster.api_server import Object

__all__ = ["DOMAIN", "Installation", "Predictor", "short"]

DOMAIN = "svc.cluster.local"


@dataclass(frozen=True)
class Installation:
    """What the values of Seldon's chart say, and where the stand-in differs to be quick.

    :param servers: images of the prepackaged servers, by implementation and protocol.
    :param executor: image of the engine container.
    :param initializer: image of the init container that copies the model.
    :param secret: Secret with credentials for it where `envSecretRefName` is not given.
    :param istio: whether the operator programs Istio.
    :param gateway: the gateway of its VirtualServices.
    :param probe_delay: seconds before the first readiness probe; the operator's are 20.
    :param probe_period: seconds between two; the operator's are 5.
    :param drain: seconds that an ending container sleeps; the operator's are 10.
    """

    servers: Mapping[tuple[str, str], str]
    executor: str
    initializer: str
    secret: str = "seldon-rclone-secret"
    istio: bool = True
    gateway: str = "istio-system/seldon-gateway"
    probe_delay: int = 20
    probe_period: int = 5
    drain: int = 10


def short(name: str) -> str:
    """A name as the operator shortens it: over 63 characters it becomes a hash."""
    return name if len(name) <= 63 else f"seldon-{hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()}"


@dataclass(frozen=True)
class Predictor:
    """One predictor with the defaults that the operator adds.

    :param sdep: its SeldonDeployment.
    :param spec: the predictor in it.
    :param at: the installation.
    """

    sdep: Object
    spec: Object
    at: Installation

    @property
    def sdep_name(self) -> str:
        return str(self.sdep["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.sdep["metadata"]["namespace"])

    @property
    def graph(self) -> Object:
        return dict(self.spec["graph"])

    @property
    def protocol(self) -> str:
        return str(self.sdep["spec"].get("protocol") or "seldon")

    @property
    def labels(self) -> dict[str, str]:
        found: dict[str, str] = {"version": self.spec["name"], **self.spec.get("labels", {})}
        return found

    @property
    def key(self) -> str:
        named = self.spec.get("annotations", {}).get("seldon.io/svc-name")
        return named or short(f"{self.sdep_name}-{self.spec['name']}")

    @property
    def component(self) -> Object:
        """Its first component spec, in which a container for the graph's unit exists."""
        found: Object = deepcopy((self.spec.get("componentSpecs") or [{}])[0])
        containers = found.setdefault("spec", {}).setdefault("containers", [])
        if all(one["name"] != self.graph["name"] for one in containers):
            containers.append({"name": self.graph["name"]})
        return found

    @property
    def deployment_name(self) -> str:
        own = self.component.get("metadata", {}).get("name")
        containers = "-".join(one["name"] for one in self.component["spec"]["containers"])
        return short(f"{self.sdep_name}-{self.spec['name']}-0-{own or containers}")

    @property
    def server_service(self) -> str:
        return short(f"{self.sdep_name}-{self.spec['name']}-{self.graph['name']}")

    @property
    def image(self) -> str:
        return self.at.servers.get((self.graph.get("implementation", ""), self.protocol), "")
