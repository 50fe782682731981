"""What a try leaves for the next one, wherever the first one died."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_connect_entities import Connector, ConnectorStatus, InitialState, TaskStatus
from airflow_mlplatform.connectors.change import Change, plan
from airflow_mlplatform.connectors.wish import Wish
from airflow_mlplatform.operators.kafka_connector_memory import ChangeMemory
from tests.services.connector_tasks import StateStore

FORMER = {"connector.class": "a.B", "name": "c", "a": "1"}
SENT = {**FORMER, "a": "2"}


def present(state: InitialState, config: dict[str, str]) -> Connector:
    return Connector("c", config, ConnectorStatus(state.upper(), (TaskStatus(0, state.upper()),)))


def noted(wish: Wish) -> tuple[ChangeMemory, Change]:
    memory = ChangeMemory({"task_state_store": StateStore()})  # type: ignore[typeddict-item]
    change = plan(wish, present("running", FORMER))
    memory.note(wish, change)
    return memory, change


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(present("running", FORMER), id="before anything was sent"),
        pytest.param(present("paused", FORMER), id="between state and config"),
        pytest.param(present("paused", SENT), id="after all was sent"),
    ],
)
def test_the_way_back_is_known_wherever_the_former_try_died(found: Connector) -> None:
    wish = Wish.of("c", "paused", {**FORMER, "a": "2"})
    memory, change = noted(wish)
    undo = memory.recall(wish, found)
    assert undo is not None
    undo = undo.continued(plan(wish, found))
    assert (undo.config, undo.former_config, undo.former_state) == (SENT, FORMER, "running")
    assert undo.kind == change.kind


@pytest.mark.parametrize("found", [None, present("running", {**FORMER, "a": "3"})])
def test_what_somebody_else_did_meanwhile_ends_the_memory(found: Connector | None) -> None:
    wish = Wish.of("c", "running", {**FORMER, "a": "2"})
    assert noted(wish)[0].recall(wish, found) is None


def test_another_wish_is_another_change() -> None:
    wish = Wish.of("c", "running", {**FORMER, "a": "2"})
    other: Any = Wish.of("c", "running", {**FORMER, "a": "3"})
    assert noted(wish)[0].recall(other, present("running", SENT)) is None


def test_a_secret_that_is_another_one_by_now_is_what_counts_as_sent() -> None:
    former = {**FORMER, "password": "former-secret"}
    wish = Wish.of("c", "running", {**former, "password": "first-secret"})
    memory, _ = noted(wish)
    again = Wish.of("c", "running", {**former, "password": "second-secret"})
    undo = memory.recall(again, present("running", FORMER))
    assert undo is not None
    sent = undo.continued(plan(again, present("running", FORMER))).config
    assert sent is not None
    assert sent["password"] == "second-secret"


def test_the_end_of_a_task_knows_its_change_even_if_nobody_hands_it_on() -> None:
    wish = Wish.of("c", "running", {**FORMER, "a": "2"})
    memory, change = noted(wish)
    assert memory.noted().former_config == change.former_config == FORMER
    memory.forget()
    assert memory.noted().nothing
