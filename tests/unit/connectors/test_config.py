"""What is a difference between two configs, and what in them is secret."""

from __future__ import annotations

import pytest

from airflow_mlplatform.connectors.config import (
    Difference,
    as_text,
    complete,
    differences,
    masked,
    scrubbed,
    secret_values,
)
from airflow_mlplatform.exceptions import ConfigurationError


def test_values_become_the_text_that_connect_keeps() -> None:
    written = {"a": 1, "b": True, "c": 0.5, "d": "x", "e": None, "f": ["x", "y"], "g": False}
    assert as_text(written) == {"a": "1", "b": "true", "c": "0.5", "d": "x", "f": "x,y", "g": "false"}


@pytest.mark.parametrize("value", [{"a": 1}, [{"a": 1}], object()])
def test_values_that_have_no_place(value: object) -> None:
    with pytest.raises(ConfigurationError, match="config 'a' is"):
        as_text({"a": value})


@pytest.mark.parametrize(
    ("wished", "present"),
    [
        ({"a": "1"}, {"a": "1", "name": "x"}),
        ({"p": "s3cret"}, {"p": "********"}),
        ({"p": "********"}, {"p": "s3cret"}),
        ({"p": "s3cret"}, {"p": "[hidden]"}),
        ({"p": "${file:/run/secrets:p}"}, {"p": "****"}),
        ({"p": "${secrets:ns/name:key}"}, {"p": "${secrets:ns/name:key}"}),
    ],
)
def test_no_difference(wished: dict[str, str], present: dict[str, str]) -> None:
    assert differences(wished, present) == {}


def test_differences() -> None:
    present = {"same": "1", "other": "1", "gone": "1", "p": "${file:/a:b}", "name": "x"}
    wished = {"same": "1", "other": "2", "new": "1", "p": "${file:/a:c}", "name": "x"}
    assert differences(wished, present) == {
        "gone": Difference("1", None),
        "new": Difference(None, "1"),
        "other": Difference("1", "2"),
        "p": Difference("${file:/a:b}", "${file:/a:c}"),
    }


def test_a_mask_is_never_sent() -> None:
    assert complete({"p": "********", "a": "2"}, {"p": "s3cret", "a": "1"}) == {"p": "s3cret", "a": "2"}
    for present in ({}, {"p": "********"}):
        with pytest.raises(ConfigurationError, match="'p' is a mask"):
            complete({"p": "********"}, present)


@pytest.mark.parametrize(
    "key",
    [
        "database.password", "connection.passwd", "my_secret", "ssl.keystore.password", "sasl.jaas.config",
        "consumer.override.sasl.jaas.config", "aws.secret.access.key", "aws.access.key.id", "api.key", "bearer.token",
        "basic.auth.user.info", "github.access.token", "ssl.keystore.key", "mqtt.pass", "gcs.credentials.json",
    ],
)  # fmt: skip
def test_secret_keys(key: str) -> None:
    assert masked({key: "t0p-s3cret"}) == {key: "********"}
    assert secret_values({key: "t0p-s3cret"}) == {"t0p-s3cret"}


@pytest.mark.parametrize(
    "key",
    ["key.converter", "primary.key.mode", "message.key.columns", "bypass.filter", "tasks.max", "topics", "compass.url"],
)
def test_keys_that_are_no_secrets(key: str) -> None:
    assert masked({key: "some value"}) == {key: "some value"}
    assert secret_values({key: "some value"}) == frozenset()


def test_references_are_shown_and_declared_keys_are_not() -> None:
    config = {"db.password": "${file:/run/db:password}", "pin": "123456"}
    assert masked(config, {"pin"}) == {"db.password": "${file:/run/db:password}", "pin": "********"}
    assert secret_values(config, {"pin"}) == {"123456"}


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("mongodb://ann:s3cr3t@db:27017/x", "mongodb://ann:********@db:27017/x"),
        ("jdbc:postgresql://db/x?user=ann&password=s3cr3t", "jdbc:postgresql://db/x?user=ann&password=********"),
        ("https://ann:${env:PW}@db/x", "https://ann:${env:PW}@db/x"),
    ],
)
def test_passwords_inside_of_addresses(value: str, shown: str) -> None:
    assert masked({"connection.url": value}) == {"connection.url": shown}
    assert secret_values({"connection.url": value}) == (frozenset() if "${" in value else {"s3cr3t"})


def test_a_secret_is_masked_wherever_it_stands() -> None:
    config = {"my.password": "hunter22", "greeting": "hello hunter22"}
    assert masked(config)["greeting"] == "hello ********"
    jaas = {"sasl.jaas.config": 'org.Plain required username="u" password="hunter22";'}
    assert scrubbed("FATAL: hunter22 is wrong", secret_values(jaas)) == "FATAL: ******** is wrong"
