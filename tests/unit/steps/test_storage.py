from __future__ import annotations

import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.login import Login
from airflow_mlplatform.steps.storage import S3Options, Storage, public, s3_errors

AWS = Login(
    "pond", "aws", user="key", password="secret", extra={"region_name": "eu-west-1", "aws_session_token": "token"}
)


@pytest.mark.parametrize(
    ("pond", "uri", "expected"),
    [
        ("/data/pond", "pond://wine", "/data/pond/wine"),
        ("/data/pond/", "pond://wine/2026", "/data/pond/wine/2026"),
        ("s3://bucket/base", "pond://wine", "s3://bucket/base/wine"),
        ("file:///data/pond", "pond://wine", "/data/pond/wine"),
        ("", "s3://b/k", "s3://b/k"),
        ("", "file:///a%20b", "/a b"),
        ("", "file://localhost/a", "/a"),
        ("", "/a/../b//c/", "/b/c"),
        ("", "https://host/x?y=1", "https://host/x?y=1"),
    ],
)
def test_resolve(pond: str, uri: str, expected: str) -> None:
    assert Storage(pond=pond).resolve(uri) == expected


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pond://../etc/passwd", r"\.\. leads out of the pond"),
        ("pond://x", "no pond is configured"),
        ("gs://bucket/x", "gs:// is not known"),
        ("a/b.csv", "a relative path means another place"),
    ],
)
def test_what_cannot_be_resolved_is_told(uri: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        Storage().resolve(uri)


def test_relative_paths_start_at_the_spec() -> None:
    assert Storage(folder="/specs/wine").resolve("data/x.csv") == "/specs/wine/data/x.csv"


def test_s3_location() -> None:
    place = Storage(logins={"pond": AWS}.__getitem__, s3_connection="pond").locate("s3://bucket/a/b/")
    assert (place.path, place.name, (place / "c").uri) == ("bucket/a/b", "b", "s3://bucket/a/b/c")
    assert place.s3 is not None
    assert (place.s3.access_key, place.s3.region, place.s3.session_token) == ("key", "eu-west-1", "token")


@pytest.mark.parametrize("uri", ["s3://", "s3:///x", "https://host/x"])
def test_places_that_cannot_be_written(uri: str) -> None:
    with pytest.raises(ConfigurationError):
        Storage().locate(uri)


def test_secrets_do_not_show() -> None:
    shown = (
        repr(AWS) + repr(S3Options.of(AWS)) + repr(Storage(logins=lambda _: AWS, s3_connection="x").locate("s3://b/k"))
    )
    assert not {"secret", "token"} & set(shown.replace("'", " ").replace("=", " ").split())
    assert AWS.censor("password=secret") == "password=***"


def test_public_uris() -> None:
    assert public("https://user:pass@host/x?token=1") == "https://host/x"
    assert public("s3://bucket/a@b") == "s3://bucket/a@b"


def test_s3_refusals_are_not_outages() -> None:
    with pytest.raises(ServiceRefused), s3_errors("s3://b"):
        raise OSError("AWS Error ACCESS_DENIED during HeadObject operation")
    with pytest.raises(ServiceUnavailable), s3_errors("s3://b"):
        raise OSError("AWS Error NETWORK_CONNECTION during HeadObject operation")
    with pytest.raises(FileNotFoundError), s3_errors("s3://b"):
        raise FileNotFoundError
