"""For how long a state has to last after a change."""

from __future__ import annotations

import pytest

from airflow_mlplatform.connectors.change import Change
from airflow_mlplatform.connectors.waiting import settle_after

CONFIG = {"connector.class": "a.B"}


@pytest.mark.parametrize(
    ("change", "seconds"),
    [
        (Change(), 10.0),
        (Change("created", config=CONFIG, state="running"), 10.0),
        (Change("updated", state="running", former_state="paused"), 10.0),
        (Change("updated", config=CONFIG, former_config=CONFIG, former_state="running"), 45.0),
        (Change("updated", config=CONFIG, former_config=CONFIG, former_state="paused", state="running"), 45.0),
        (Change("updated", config=CONFIG, former_config=CONFIG, former_state="stopped", state="running"), 10.0),
        (Change("updated", config=CONFIG, former_config=CONFIG, former_state="running", state="stopped"), 10.0),
        (Change("updated", config=CONFIG, former_config=CONFIG, former_state="paused"), 10.0),
        (Change("removed", former_state="running"), 10.0),
    ],
)
def test_tasks_that_start_anew_are_believed_late(change: Change, seconds: float) -> None:
    assert settle_after(change, 600.0) == seconds
    assert settle_after(change, 12.0) == 6.0
