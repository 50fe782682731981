"""Of several candidates, which one the verdict is about."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from airflow_mlplatform.promotion.judge import judge, wanted
from airflow_mlplatform.promotion.verdict import Reason, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_mlplatform.promotion.judge import Contender
    from airflow_mlplatform.specs.deployment import Gate, ModelRef
    from airflow_mlplatform.specs.training import Select

__all__ = ["choose"]

RANK = {"promote": 0, "pending": 1, "refused": 2}


def choose(
    gate: Gate, model: ModelRef, candidates: Sequence[Contender], champion: Contender | None, now: datetime
) -> Verdict:
    """Judge the candidates; the verdict is that of the newest (or best) worth promoting, else of the newest (or best).

    Those that cannot follow the champion do not count: without ``select`` the older ones, with it those that are not
    better by that metric. So a promotion never leads back.

    :param candidates: who wants to be champion; with an alias at most one.
    :param champion: who is; ``None`` if nobody.
    :param now: the time, with its zone.
    """
    if model.candidates is None:
        return judge(gate, model, candidates[0] if candidates else None, champion, now)
    following = _in_order(candidates, champion, model.candidates.select)
    if not following:
        return judge(gate, model, _itself(candidates, champion), champion, now)
    verdicts = [judge(gate, model, candidate, champion, now) for candidate in following]
    chosen = min(verdicts, key=lambda verdict: RANK.get(verdict.outcome, len(RANK)))
    return chosen.model_copy(update={"reasons": (_why(model, verdicts, chosen), *chosen.reasons)})


def _in_order(candidates: Sequence[Contender], champion: Contender | None, select: Select | None) -> list[Contender]:
    newest_first = sorted(candidates, key=lambda one: one.version.version, reverse=True)
    if select is None:
        return [one for one in newest_first if champion is None or one.version.version > champion.version.version]
    losses = {one.version.version: _loss(one, select) for one in newest_first}
    bar = _loss(champion, select) if champion else math.inf
    better = [one for one in newest_first if losses[one.version.version] < bar or bar == math.inf]
    rivals = [one for one in better if champion is None or one.version.version != champion.version.version]
    return sorted(rivals, key=lambda one: losses[one.version.version])


def _loss(contender: Contender, select: Select) -> float:
    value = contender.metrics.get(select.metric, math.nan)
    if not math.isfinite(value):
        return math.inf
    return value if select.best == "min" else -value


def _itself(candidates: Sequence[Contender], champion: Contender | None) -> Contender | None:
    if champion is None:
        return None
    return next((one for one in candidates if one.version.version == champion.version.version), None)


def _why(model: ModelRef, verdicts: Sequence[Verdict], chosen: Verdict) -> Reason:
    select = model.candidates.select if model.candidates else None
    which = f"best by {select.metric}" if select else "newest"
    passed = " that passes" if chosen.promote else ""
    among = ", ".join(str(verdict.candidate.version) for verdict in verdicts if verdict.candidate)
    text = f"it {wanted(model)}, and is the {which}{passed} among those that could follow the champion ({among})"
    return Reason(passed=True, text=text)
