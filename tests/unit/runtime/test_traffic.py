from __future__ import annotations

import pytest

from airflow_mlplatform.runtime.traffic import Counts, Traffic, exposition


def traffic(*seconds: float, code: int = 200) -> Traffic:
    found = Traffic()
    for one in seconds:
        found.count("candidate", code, one)
    return found


@pytest.mark.parametrize(
    ("seconds", "share", "expected"),
    [
        ((0.2, 0.2, 0.2, 0.2), 0.5, 0.175),  # halfway between the bounds 0.1 and 0.25
        ((0.004,) * 10, 0.95, 0.00475),
        ((0.004,) * 50 + (0.2,) * 50, 0.5, 0.005),
        ((60.0,), 0.5, 10.0),
        ((), 0.5, None),
    ],
)
def test_quantiles_are_those_of_prometheus(seconds: tuple[float, ...], share: float, expected: float | None) -> None:
    found = traffic(*seconds).quantile("candidate", share)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_a_value_on_a_bound_is_within_it() -> None:
    assert Counts().plus(0.005).buckets[0] == 1
    assert Counts().plus(10.1).buckets[-1] == 1


def test_counts_by_code_and_over_a_restart() -> None:
    found = traffic(0.1, 0.1)
    found.count("candidate", 500, 0.2)
    found.count("main", 200, 0.2)
    again = Traffic.model_validate_json(found.model_dump_json())
    assert again.by_code("candidate") == {"200": 2, "500": 1}
    assert again.by_code("main") == {"200": 1}
    assert again.quantile("candidate", 1.0) == found.quantile("candidate", 1.0)


def test_what_prometheus_reads() -> None:
    lines = exposition({"wine": traffic(0.2, 0.3)}).splitlines()
    labels = (
        'code="200",deployment_name="wine",method="post",predictor_name="candidate",predictor_version="",'
        'service="predictions"'
    )
    metric = "seldon_api_executor_server_requests_seconds"
    assert lines[1] == f"# TYPE {metric} histogram"
    assert f'{metric}_bucket{{{labels},le="0.25"}} 1' in lines
    assert f'{metric}_bucket{{{labels},le="+Inf"}} 2' in lines
    assert f"{metric}_sum{{{labels}}} 0.5" in lines
    assert lines[-1] == f"{metric}_count{{{labels}}} 2"


def test_nothing_yet() -> None:
    assert exposition({}).count("\n") == 2
