"""Tasks that start in the triggerer, without a worker: what such a start can do, and what it leaves to a worker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, XComArg
from airflow.triggers.base import BaseTrigger
from jinja2 import StrictUndefined, TemplateError

from airflow_mlplatform.asset_log import published
from airflow_mlplatform.macros import locate
from airflow_mlplatform.training.provenance import DataAsset, Provenance

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context

__all__ = ["FROM_TASK", "NeedsWorker", "StartingTrigger", "needs_a_worker", "templated"]


FROM_TASK = "from_task"
"""Key of an argument that is the result of another task, which the triggerer fetches."""


class NeedsWorker(Exception):
    """The triggerer cannot do this; a worker can."""


def templated(value: object) -> bool:
    """Whether there are templates, or results of other tasks, anywhere in a value."""
    return any(isinstance(leaf, XComArg) or "{{" in str(leaf) or "{%" in str(leaf) for leaf in _leaves(value))


def needs_a_worker(value: object) -> bool:
    """Whether only a worker can render a value.

    The triggerer renders templates too, but has no XComs for XComArgs, and a bare xcom_pull waits there for ever.
    """
    return any(isinstance(leaf, XComArg) or "xcom_pull" in str(leaf) for leaf in _leaves(value))


def _leaves(value: object) -> Iterator[object]:
    if isinstance(value, Mapping):
        for item in value.items():
            yield from _leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


class StartingTrigger(BaseTrigger):
    """Base of triggers that may be the start of their task.

    Then ``origin`` is ``None``: the trigger finds out itself whose it is and renders its templates, in ``prepare``. A
    worker that hands the task over has done both.

    :param origin: whose work it is, as JSON of ``Provenance``.
    """

    def __init__(self, origin: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.origin = origin
        self._context: Context | None = None

    def render_template_fields(self, context: Context, jinja_env: jinja2.Environment | None = None) -> None:  # noqa: ARG002
        """Keep the context: templates are rendered in ``prepare``, which can wait for what they ask for."""
        self._context = context

    async def prepare(self) -> Provenance:
        """Render the templates and return whose work this is.

        :raises NeedsWorker: if a template, or what is known of the data, needs a worker.
        """
        if self.origin is not None:
            return Provenance.from_json(self.origin)
        if self._context is None:
            raise NeedsWorker("the triggerer was not told which DAG run this is")
        assets = [asset async for asset in self._assets(self._context)]
        self._fill_in(self._context, assets)
        return Provenance.of(self._context, assets)

    def _fill_in(self, context: Context, assets: Sequence[DataAsset]) -> None:
        environment = self.get_template_env()
        environment.undefined = StrictUndefined
        environment.globals["asset_uri"] = lambda asset: locate(asset, assets)
        try:
            for field in self.template_fields:
                setattr(self, field, self.render_template(getattr(self, field), context, environment))
        except (TemplateError, TypeError, KeyError, AttributeError, ValueError) as error:
            raise NeedsWorker(f"a template cannot be rendered in the triggerer: {error}") from error

    async def _assets(self, context: Context) -> AsyncIterator[DataAsset]:
        moment = context["dag_run"].run_after
        for inlet in context["inlets"]:
            if not getattr(inlet, "uri", None):
                continue
            asset = Asset(name=inlet.name, uri=inlet.uri)
            facts = await published(asset, moment)
            if facts is None:
                raise NeedsWorker(f"only a worker can ask which data of {asset.uri} started this DAG run")
            yield DataAsset(asset.uri.rstrip("/"), str(facts.get("uri") or ""), str(facts.get("schema_hash") or ""))
