"""Every generation that SeldonDeployments ever had: what was written, in its order."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cluster.api_server import ApiServer, Watched

if TYPE_CHECKING:
    from typing import Self

    from tests.cluster.api_server import Object

__all__ = ["SeldonHistory", "Written"]

SDEPS = "/apis/machinelearning.seldon.io/v1/namespaces/{}/seldondeployments"


@dataclass(frozen=True)
class Written:
    """One generation of a SeldonDeployment.

    :param models: where the model of each predictor lies.
    :param shares: percent of the requests of each predictor.
    """

    models: dict[str, str]
    shares: dict[str, int]


@dataclass
class SeldonHistory:
    """What was written in one namespace while the block runs."""

    namespace: str
    _api: ApiServer = field(default_factory=ApiServer)
    _seen: dict[str, dict[int, Written]] = field(default_factory=dict)
    _watched: Watched = field(init=False)

    def __enter__(self) -> Self:
        self._watched = Watched(self._api, SDEPS.format(self.namespace), self._take)
        self._watched.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._watched.stop()
        self._api.close()

    def of(self, name: str) -> list[Written]:
        """Return what was written to a SeldonDeployment.

        Each generation is there, for each was one event of the watch; a gap is a failure of the test's own.
        """
        seen = self._seen.get(name, {})
        assert sorted(seen) == list(range(1, len(seen) + 1)), f"generations {sorted(seen)} of {name} were seen"
        return [seen[generation] for generation in sorted(seen)]

    def _take(self, found: Object) -> None:
        predictors = found["spec"]["predictors"]
        models = {one["name"]: one["graph"].get("modelUri", "") for one in predictors}
        shares = {one["name"]: one.get("traffic", 0) for one in predictors}
        seen = self._seen.setdefault(found["metadata"]["name"], {})
        seen.setdefault(found["metadata"]["generation"], Written(models, shares))
