"""References between specs: a schedule that nearly names what another spec makes is probably a typing mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator

from airflow_mlplatform.specs.common import AllAssets, AnyAsset, RegistryChange
from airflow_mlplatform.specs.deployment import Deployment
from airflow_mlplatform.specs.etl import Etl
from airflow_mlplatform.specs.load import Document
from airflow_mlplatform.specs.problems import Problem
from airflow_mlplatform.specs.training import Training
from airflow_mlplatform.specs.values import locate, show_field

__all__ = ["check_references"]

NEAR = 0.8


def check_references(documents: Iterable[Document]) -> Iterator[Problem]:
    """Yield a warning for each asset or model that no spec makes although one makes something of nearly that name."""
    everything = [document for document in documents if document.spec]
    assets = {document.spec.load.asset_uri for document in everything if isinstance(document.spec, Etl)}
    trainings = [document.spec for document in everything if isinstance(document.spec, Training)]
    models = {spec.register_.model for spec in trainings if spec.register_}
    for document in everything:
        yield from _misses(document, _asset_references(document), assets, "loads")
        yield from _misses(document, _model_references(document), models, "registers")


def _asset_references(document: Document) -> Iterator[tuple[tuple[str | int, ...], str]]:
    schedule = document.spec.schedule if document.spec else None
    if isinstance(schedule, AllAssets):
        yield from ((("schedule", "assets", index), uri) for index, uri in enumerate(schedule.assets))
    if isinstance(schedule, AnyAsset):
        yield from ((("schedule", "any", index), uri) for index, uri in enumerate(schedule.any))


def _model_references(document: Document) -> Iterator[tuple[tuple[str | int, ...], str]]:
    spec = document.spec
    if spec and isinstance(spec.schedule, RegistryChange):
        yield ("schedule", "model"), spec.schedule.model
    if isinstance(spec, Deployment):
        yield ("model", "name"), spec.model.name


def _misses(
    document: Document, references: Iterable[tuple[tuple[str | int, ...], str]], made: set[str], verb: str
) -> Iterator[Problem]:
    for location, name in references:
        near = difflib.get_close_matches(name, made, n=1, cutoff=NEAR)
        if name in made or not near or document.node is None:
            continue
        mark = locate(document.node, location)[0].start_mark
        yield Problem(
            path=mark.name,
            line=mark.line + 1,
            column=mark.column + 1,
            field=show_field(location),
            what=f"no spec here {verb} {name!r}",
            todo=f'did you mean "{near[0]}"?',
            severity="warning",
        )
