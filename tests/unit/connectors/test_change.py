"""What is sent for a wish, and how it is undone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet

from airflow_mlplatform.clients.kafka_connect_entities import Problem
from airflow_mlplatform.connectors.change import Change, perform, plan, put_back, validate
from airflow_mlplatform.connectors.sealed import Seal
from airflow_mlplatform.connectors.wish import Wish
from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from tests.unit.connectors.fake_connectors import FakeConnectors

CLASS = {"connector.class": "a.B"}
SECRET = "hunter2-and-more"


def present(state: Any = "running", **config: str) -> FakeConnectors:
    return FakeConnectors({"c": {**CLASS, "name": "c", **config}}, {"c": state})


def wish(state: str = "running", **config: Any) -> Wish:
    return Wish.of("c", state, {**CLASS, **config})


def planned(wished: Wish, connectors: FakeConnectors) -> Change:
    return plan(wished, connectors.get("c"))


def brought(wished: Wish, connectors: FakeConnectors) -> Change:
    change = validate(connectors, "c", planned(wished, connectors))
    perform(connectors, "c", change)
    return change


@pytest.mark.parametrize(
    ("connectors", "wished", "kind", "did"),
    [
        (FakeConnectors(), wish(), "created", ["make running"]),
        (FakeConnectors(), wish("stopped"), "created", ["make stopped"]),
        (FakeConnectors(), Wish.of("c", "absent", None), "nothing", []),
        (present(a="1"), wish(a=1), "nothing", []),
        (present(a="1"), wish(a=2), "updated", ["update config"]),
        (present("paused", a="1"), wish(a="1"), "updated", ["update running"]),
        (present(a="1"), wish("paused", a="2"), "updated", ["update config paused"]),
        (present(a="1"), Wish.of("c", "stopped", None), "updated", ["update stopped"]),
        (present(a="1"), wish("absent", a="1"), "removed", ["delete"]),
    ],
)
def test_only_what_differs_is_sent(connectors: FakeConnectors, wished: Wish, kind: str, did: list[str]) -> None:
    assert brought(wished, connectors).kind == kind
    assert connectors.did == did


@pytest.mark.parametrize(
    ("name", "state", "config", "words"),
    [
        ("a/b", "running", CLASS, "rename it"),
        ("c", "on", CLASS, "write running, paused"),
        ("c", "running", {"a": 1}, "lacks connector.class"),
        ("c", "running", {**CLASS, "name": "d"}, "says name = 'd'"),
    ],
)
def test_wishes_that_cannot_be(name: str, state: str, config: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Wish.of(name, state, config)


def test_a_state_of_what_is_not_there() -> None:
    with pytest.raises(ConfigurationError, match="no connector 'c' that could be paused"):
        planned(Wish.of("c", "paused", None), FakeConnectors())


def test_problems_are_told_with_their_fields_and_without_secrets() -> None:
    connectors = FakeConnectors(problems=(Problem("a", f"{SECRET} is no number"), Problem("b", "missing")))
    with pytest.raises(ConfigurationError, match=r"- a: \*{8} is no number\n- b: missing"):
        brought(wish(a=SECRET, password=SECRET), connectors)
    assert connectors.did == []


def test_a_database_that_is_away_is_an_outage() -> None:
    away = Problem("database.hostname", "Connection to 127.0.0.1:5432 refused. Check that the hostname is right")
    with pytest.raises(ServiceUnavailable, match="nothing was changed"):
        brought(wish(), FakeConnectors(problems=(away,)))
    with pytest.raises(ConfigurationError):
        brought(wish(), FakeConnectors(problems=(away, Problem("a", "is no number"))))


def test_a_refusal_quotes_no_secrets() -> None:
    with pytest.raises(ServiceRefused) as error:
        brought(wish(a="refused", password=SECRET), FakeConnectors())
    assert SECRET not in str(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize("state", ["running", "paused"])
def test_the_former_config_and_state_are_put_back(state: Any) -> None:
    connectors = present(state, a="1", password=SECRET)
    before = dict(connectors.configs["c"])
    change = brought(wish(a="2", password="another-one"), connectors)
    assert put_back(connectors, "c", change).done
    assert (connectors.configs["c"], connectors.states["c"]) == (before, state)
    assert ("restart" in connectors.did) is (state == "running")


def test_a_connector_that_was_paused_keeps_no_failed_tasks() -> None:
    connectors = present("paused", a="1")
    change = brought(wish("running", a="2"), connectors)
    connectors.did.clear()
    assert put_back(connectors, "c", change).done
    assert connectors.did == ["update stopped", "update config paused"]
    assert connectors.states["c"] == "paused"


def test_what_was_new_is_removed() -> None:
    connectors = FakeConnectors()
    change = brought(wish(), connectors)
    assert "removed" in put_back(connectors, "c", change).message
    assert connectors.configs == {}


def test_what_somebody_else_changed_is_left_alone() -> None:
    for connectors in (FakeConnectors(), present(a="1")):
        change = brought(wish(a="2"), connectors)
        connectors.configs["c"]["a"] = "3"
        assert "stays" in put_back(connectors, "c", change).message
        assert connectors.configs["c"]["a"] == "3"


def test_putting_back_may_fail_and_says_so() -> None:
    connectors = present(a="1", password=SECRET)
    change = brought(wish(a="2", password=SECRET), connectors)
    connectors.refuses = "1"
    outcome = put_back(connectors, "c", change)
    assert not outcome.done
    assert SECRET not in outcome.message
    connectors.away = True
    assert "does not answer" in put_back(connectors, "c", change).message


def test_a_former_secret_that_nobody_tells_is_named() -> None:
    connectors = present(a="1", password="********")
    change = brought(wish(a="2", password=SECRET), connectors)
    assert "former password is not known" in put_back(connectors, "c", change).message
    assert connectors.configs["c"]["password"] == SECRET


def seals() -> tuple[Seal, Seal]:
    fernet = Fernet(Fernet.generate_key())
    return Seal(lambda t: fernet.encrypt(t.encode()).decode(), lambda t: fernet.decrypt(t.encode()).decode()), Seal()


def test_a_sealed_change_shows_nothing_and_comes_back_whole() -> None:
    connectors = present(a="1", password=SECRET, note=f"it is {SECRET}", pin="123456")
    connectors.secrets = frozenset({"pin"})
    change = brought(wish(a="2", password=SECRET[::-1], pin="654321"), connectors)
    with_key, without_key = seals()
    for seal in (with_key, without_key):
        stored = json.dumps(seal.to_json(change))
        assert not [word for word in (SECRET, SECRET[::-1], "123456", "654321") if word in stored]
    back = with_key.from_json(json.loads(json.dumps(with_key.to_json(change))))
    assert (back.config, back.former_config, back.kind) == (change.config, change.former_config, change.kind)
    assert back.told() == change.told()
    blind = without_key.from_json(without_key.to_json(change))
    assert blind.former_config is not None
    assert blind.former_config["password"] == "********"


def test_fingerprints_tell_wishes_apart_but_no_secrets() -> None:
    assert wish(a="1").fingerprint() != wish(a="2").fingerprint() != wish("paused", a="2").fingerprint()
    assert wish(password="a-secret").fingerprint() == wish(password="another").fingerprint()
