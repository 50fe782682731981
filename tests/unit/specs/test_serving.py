"""What cannot be served is told when the spec is loaded."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from airflow_mlplatform.specs.deployment import Serving


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ({"name": "1wine"}, "should match pattern"),
        ({"name": "wine.v1"}, "should match pattern"),
        ({"autoscale": {"max": 3}}, r"none is requested; add resources: \{cpu: 1\}"),
        ({"autoscale": {"max": 3}, "replicas": 2}, "both say how many servers"),
        ({"parameters": {"xtype": "DataFrame"}}, r"MLServer \(v2\) would ignore them; write protocol: seldon"),
    ],
)
def test_it_is_refused(keys: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Serving.model_validate({"name": "wine", **keys})


@pytest.mark.parametrize(
    "keys",
    [
        {"autoscale": {"max": 3}, "resources": {"cpu": 1}},
        {"autoscale": {"max": 3}, "template": {"spec": {}}},
        {"parameters": {"xtype": "DataFrame"}, "protocol": "seldon"},
        {"parameters": {"xtype": "DataFrame"}, "image": "mine:1"},
    ],
)
def test_it_can_be_served(keys: dict[str, Any]) -> None:
    assert Serving.model_validate({"name": "wine", **keys}).name == "wine"
