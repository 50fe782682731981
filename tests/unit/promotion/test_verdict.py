from __future__ import annotations

import json
import math
from typing import Any

import pytest

from airflow_mlplatform.exceptions import ConfigurationError
from airflow_mlplatform.promotion.judge import judge
from airflow_mlplatform.promotion.verdict import decode_verdict, encode_verdict
from airflow_mlplatform.specs.deployment import Gate, GateMetric
from tests.unit.promotion.builders import NOW, WINE, contender


def encoded(**metrics: float) -> dict[str, Any]:
    gate = Gate(metrics=[GateMetric(name="rmse", max=0.9)])
    return encode_verdict(judge(gate, WINE, contender(7, **metrics), contender(3, rmse=1.0), NOW))


def test_a_verdict_survives_json() -> None:
    data = json.loads(json.dumps(encoded(rmse=0.8), allow_nan=False))
    assert encode_verdict(decode_verdict(data)) == data
    assert data["promote"] is True
    assert data["champion"]["version"] == 3


def test_json_without_nan_holds_every_metric() -> None:
    data = json.loads(json.dumps(encoded(rmse=math.nan, r2=-math.inf), allow_nan=False))
    back = decode_verdict(data)
    assert back.candidate is not None
    assert math.isnan(back.candidate.metrics["rmse"])
    assert back.candidate.metrics["r2"] == -math.inf


def test_the_summary_is_for_people() -> None:
    assert encoded(rmse=1.2)["summary"] == "**wine version 7: refused**\n\n- **no**: rmse 1.2: is above 0.9"


@pytest.mark.parametrize(
    "value",
    [
        None,
        "promote",
        [],
        {},
        {"promote": True},
        {**encoded(rmse=0.8), "outcome": "yes"},
        {**encoded(rmse=0.8), "surprise": 1},
        {**encoded(rmse=0.8), "reasons": []},
        {**encoded(rmse=0.8), "candidate": {"name": "wine"}},
    ],
)
def test_anything_else_is_refused_with_what_to_do(value: object) -> None:
    with pytest.raises(ConfigurationError, match="ModelPromotionSensor"):
        decode_verdict(value)
