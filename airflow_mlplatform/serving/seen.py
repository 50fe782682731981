"""What was found of a SeldonDeployment in the cluster, and what is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Failure", "Seen"]

Json = Mapping[str, Any]


@dataclass(frozen=True)
class Seen:
    """What was found in the cluster, each as the API's JSON.

    :param sdep: the SeldonDeployment; ``None`` if there is none.
    :param deployments: its Deployments.
    :param pods: its pods.
    :param events: warnings about it, its Deployments and its pods.
    :param virtual_service: that of its name, if Istio is there.
    """

    sdep: Json | None
    deployments: Sequence[Json] = ()
    pods: Sequence[Json] = ()
    events: Sequence[Json] = ()
    virtual_service: Json | None = None


@dataclass(frozen=True)
class Failure:
    """What will not mend by itself.

    :param reason: one word: ``Gone``, ``Invalid`` (the operator cannot make it), ``Late`` (past its deadline),
        ``ModelMissing``, or what :class:`~airflow_mlplatform.runtime.pod_failure.PodFailure` has.
    :param message: where, what, why and what to do next.
    :param lasting: no retry can mend it.
    :param predictor: whose servers it is about; empty if it is about the whole.
    :param pod: name of the pod whose log tells more; empty if none does.
    :param container: its container.
    :param former: whether the container runs again, so that its former log tells why.
    """

    reason: str
    message: str
    lasting: bool
    predictor: str = ""
    pod: str = ""
    container: str = ""
    former: bool = False
