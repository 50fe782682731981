"""What serves on a SeldonDeployment before a rollout, and what of it is kept for an abort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.serving.edits import owned
from airflow_mlplatform.serving.predictor import CANDIDATE, PREFIX
from airflow_mlplatform.serving.state import OUTCOME, STATE, Former

__all__ = ["base_of", "former_of", "predictor_of", "served_version"]

Json = Mapping[str, Any]


def base_of(spec: Json, default: str) -> str:
    """Return the name of the predictor that serves.

    :param spec: of the resource; empty if there is none.
    :param default: the name of a predictor that is made anew.
    :raises ConfigurationError: if that cannot be told.
    """
    names = [str(one["name"]) for one in spec.get("predictors") or () if one["name"] != CANDIDATE]
    if len(names) > 1:
        raise ConfigurationError(
            f"the resource has the predictors {', '.join(names)}; a rollout needs the one that serves and would remove "
            "the others. Nothing was applied: remove them yourself, or give them a SeldonDeployment of their own"
        )
    return names[0] if names else default


def predictor_of(spec: Json, name: str) -> dict[str, Any] | None:
    """Return a predictor by its name; ``None`` if there is none."""
    return next((dict(one) for one in spec.get("predictors") or () if one["name"] == name), None)


def former_of(live: Json | None, wished: Json) -> Former | None:
    """Return what an abort has to put back; ``None`` if nothing serves.

    :param live: the resource as it is.
    :param wished: the resource as it is to be: what it sets is what must be put back.
    """
    if live is None or not (live.get("spec") or {}).get("predictors"):
        return None
    spec, metadata, wanted = live["spec"], live["metadata"], wished["metadata"]
    touched = set(wished["spec"]) | owned(live)
    labels, notes = metadata.get("labels") or {}, metadata.get("annotations") or {}
    kept = {key for key in notes if key in (wanted.get("annotations") or {}) or key.startswith(f"{PREFIX}/")}
    return Former(
        spec={key: spec[key] for key in spec if key in touched},
        labels={key: labels[key] for key in wanted.get("labels") or {} if key in labels},
        annotations={key: notes[key] for key in sorted(kept - {STATE, OUTCOME})},
    )


def served_version(former: Former | None) -> str:
    """Return the version of the model that served before; empty if nobody noted it."""
    return former.annotations.get(f"{PREFIX}/version", "") if former else ""
