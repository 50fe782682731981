"""Alertmanager's notifications: what is read of them, and what a run is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from airflow_mlplatform.alerts.message import NO_ALERT, Message, told


def alert(
    name: str = "ModelFails", status: str = "firing", since: str = "2026-11-23T08:14:43.123456789Z", **labels: str
) -> dict[str, Any]:
    annotations = {"summary": f"{name} of wine", "description": labels.get("pod", "")}
    return {
        "status": status, "labels": {"alertname": name, **labels}, "annotations": annotations, "startsAt": since,
        "endsAt": "0001-01-01T00:00:00Z", "generatorURL": "http://prometheus/graph", "fingerprint": "c2a5b9a1f1a1b2c3",
    }  # fmt: skip


def message(*alerts: dict[str, Any], **others: Any) -> Message:
    return Message.model_validate_json(json.dumps({"version": "4", "receiver": "airflow", "alerts": alerts} | others))


def test_what_is_resolved_fires_no_more() -> None:
    firing = message(alert(), alert(status="resolved"), alert("ModelSlow"), alert()).firing
    assert {name: len(alerts) for name, alerts in firing.items()} == {"ModelFails": 2, "ModelSlow": 1}


def test_a_run_is_told_what_all_its_alerts_share_and_since_when() -> None:
    later = alert(model="wine", pod="b", since="2026-11-23T09:14:43+01:00")
    (alerts,) = message(alert(model="wine", pod="a"), later).firing.values()
    assert told(alerts) == {
        "name": "ModelFails",
        "labels": {"alertname": "ModelFails", "model": "wine"},
        "annotations": {"summary": "ModelFails of wine"},
        "since": "2026-11-23T08:14:43+00:00",
        "count": 2,
        "url": "http://prometheus/graph",
    }
    assert told(alerts).keys() == NO_ALERT.keys()


def test_an_alert_without_a_name_is_none_that_anybody_listens_to() -> None:
    nameless = alert()
    del nameless["labels"]["alertname"]
    assert list(message(nameless).firing) == [""]


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ("", ""),
        ("[]", ""),
        ("{}", "version"),
        ('{"version": "3", "alerts": []}', "version"),
        ('{"version": "4"}', "alerts"),
        (json.dumps({"version": "4", "alerts": [alert(status="pending")]}), "alerts.0.status"),
        (json.dumps({"version": "4", "alerts": [alert(since="yesterday")]}), "alerts.0.startsAt"),
        (json.dumps({"version": "4", "alerts": [alert(model="wi\0ne")]}), "alerts.0.labels.model"),
        (json.dumps({"version": "4", "alerts": [alert() | {"labels": {"model": 1}}]}), "alerts.0.labels.model"),
    ],
)
def test_what_is_no_notification_is_refused(body: str, place: str) -> None:
    with pytest.raises(ValidationError) as refused:
        Message.model_validate_json(body)
    assert place in [".".join(map(str, error["loc"])) for error in refused.value.errors()]
