"""The PromQL of an analysis: what is shipped, and where names are put into a query of one's own.

The metrics are those of Seldon's executor (recorded from 1.17.1), which stands before every model server, whatever its
protocol. Its *server* requests are what callers see: one a request, also where it never reached the model; its *client*
requests count every node of a graph and some probes. All are without a namespace: the scrape adds one, or does not.
"""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from airflow_mlplatform.exceptions import ConfigurationError

if TYPE_CHECKING:
    from airflow_mlplatform.specs.deployment import Metric

__all__ = ["NAMESPACE_LABELS", "Scope", "fill_in", "latency", "requests_by_code"]

METRIC = "seldon_api_executor_server_requests_seconds"
NAMESPACE_LABELS = ("namespace", "kubernetes_namespace")
"""The two names that scrapes of pods give to the namespace."""
NO_PREDICTION = r"feedback|/.*/(SendFeedback|Check|.*Metadata|.*Live|.*Ready)"
QUANTILES = {"latency-p50": 0.5, "latency-p95": 0.95, "latency-p99": 0.99}
SAFE = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_]*[A-Za-z0-9])?")
NAME = re.compile(r"\$(?:(\w+)|\{(\w+)\})")


class Scope(BaseModel):
    """What an analysis looks at.

    :param deployment: name of the SeldonDeployment.
    :param predictor: name of the predictor.
    :param namespace: their namespace.
    :param window: how far to look back: the time since the step began.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    deployment: str
    predictor: str
    namespace: str
    window: timedelta

    def names(self) -> dict[str, str]:
        """Return what stands for the names in a query.

        :raises ConfigurationError: for a name that could be more than a name in PromQL.
        """
        found = {"deployment": self.deployment, "predictor": self.predictor, "namespace": self.namespace}
        for name, value in found.items():
            if not SAFE.fullmatch(value):
                raise ConfigurationError(
                    f"{name} {value!r} cannot be put into a query: there is more in it than letters, digits and dashes"
                )
        return found | {"window": f"{max(1, int(self.window.total_seconds()))}s"}


def fill_in(query: str, scope: Scope) -> str:
    """Put names and window into a query; any other ``$`` stays.

    :param query: PromQL with ``$deployment``, ``$predictor``, ``$namespace`` and ``$window``, also as ``${window}``.
    :raises ConfigurationError: see :meth:`Scope.names`.
    """
    names = scope.names()
    return NAME.sub(lambda found: names.get(found[1] or found[2], found[0]), query)


def requests_by_code(scope: Scope) -> str:
    """Return the query for the predictions that were asked for within the window: one number a status code."""
    return f"sum by (code, {', '.join(NAMESPACE_LABELS)}) ({_grown(f'{METRIC}_count', scope)})"


def latency(metric: Metric, scope: Scope) -> str:
    """Return the query for the seconds within which a share of the predictions was answered."""
    return f"histogram_quantile({QUANTILES[metric]}, sum by (le) ({_grown(f'{METRIC}_bucket', scope)}))"


def _grown(counter: str, scope: Scope) -> str:
    """By how much counters grew within the window.

    Not ``increase`` alone, which guesses beyond the samples and takes no notice of what a new series starts with: the
    first requests of a new pod, and the first error of all. It is left for counters that began anew on the way.
    """
    window = scope.names()["window"]
    series = f"{counter}{{{_selector(scope)}}}"
    return (
        f"(increase({series}[{window}]) and resets({series}[{window}]) > 0)"
        f" or (last_over_time({series}[{window}]) - {series} offset {window} >= 0)"
        f" or last_over_time({series}[{window}])"
    )


def _selector(scope: Scope) -> str:
    names = scope.names()
    # A pattern that matches nothing matches series without the label too. The scrape of a Service takes the label
    # service for itself and calls the executor's own exported_service.
    matchers = [
        f'deployment_name="{names["deployment"]}"',
        f'predictor_name="{names["predictor"]}"',
        *(f'{label}=~"|{names["namespace"]}"' for label in NAMESPACE_LABELS),
        'method=~"post|unary"',
        *(f'{label}!~"{NO_PREDICTION}"' for label in ("service", "exported_service")),
    ]
    return ",".join(matchers)
