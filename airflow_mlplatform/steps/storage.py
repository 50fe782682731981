"""From the URIs that a spec names to places on disk and on S3."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.login import Login, Logins, no_logins

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Location", "S3Options", "Storage", "public", "s3_errors"]

SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)://")
LASTING = (
    "ACCESS_DENIED",
    "NO_SUCH_BUCKET",
    "INVALID_ACCESS_KEY_ID",
    "SIGNATURE_DOES_NOT_MATCH",
    "HTTP status 301",
    "HTTP status 403",
    "Bucket does not exist",
)


@dataclass(frozen=True)
class S3Options:
    """Who asks S3, and where it is. What is empty comes from the environment, as AWS tools do it.

    :param endpoint: URL of an S3 that is not Amazon's.
    :param region: region of the buckets.
    :param role_arn: role to assume.
    """

    access_key: str = field(default="", repr=False)
    secret_key: str = field(default="", repr=False)
    session_token: str = field(default="", repr=False)
    endpoint: str = ""
    region: str = ""
    role_arn: str = ""

    @classmethod
    def of(cls, login: Login) -> S3Options:
        """Read an Airflow connection of type aws: keys in login and password or in the extra."""
        extra = login.extra
        service = extra.get("service_config", {}).get("s3", {})
        return cls(
            access_key=login.user or extra.get("aws_access_key_id", ""),
            secret_key=login.password or extra.get("aws_secret_access_key", ""),
            session_token=extra.get("aws_session_token", ""),
            endpoint=service.get("endpoint_url", "") or extra.get("endpoint_url", "") or extra.get("host", ""),
            region=extra.get("region_name", ""),
            role_arn=extra.get("role_arn", ""),
        )

    def filesystem(self, bucket: str) -> Any:
        """Open PyArrow's S3 file system for one bucket."""
        from pyarrow import fs

        endpoint = self.endpoint or os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            region = "us-east-1" if endpoint else fs.resolve_s3_region(bucket)
        options = {
            "access_key": self.access_key,
            "secret_key": self.secret_key,
            "session_token": self.session_token,
            "role_arn": self.role_arn,
            "endpoint_override": endpoint,
        }
        return fs.S3FileSystem(
            region=region,
            connect_timeout=10,
            request_timeout=60,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=4),
            **{name: value for name, value in options.items() if value},
        )


@contextmanager
def s3_errors(uri: str) -> Iterator[None]:
    """Tell what S3 refused from what it could not do just now.

    :raises ServiceRefused: for keys, rights and buckets that are not there.
    :raises ServiceUnavailable: for everything else.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        if any(word in str(error) for word in LASTING):
            raise ServiceRefused(
                f"{uri}: S3 refused: {error}; check bucket, keys and rights of the aws connection"
            ) from error
        raise ServiceUnavailable(f"{uri}: S3 did not do it: {error}; a retry may help") from error


@dataclass(frozen=True)
class Location:
    """A place for data.

    :param uri: its full URI (``s3://…``) or absolute path.
    :param path: the same, as the file system takes it; no slash at its end.
    :param s3: how to reach it; ``None`` on this machine.
    """

    uri: str
    path: str
    s3: S3Options | None = None

    @property
    def local(self) -> Path:
        """The path on this machine."""
        return Path(self.path)

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.rpartition("/")[2]

    @cached_property
    def filesystem(self) -> Any:
        """PyArrow's file system that holds it."""
        from pyarrow import fs

        if self.s3 is None:
            return fs.LocalFileSystem()
        with s3_errors(self.uri):
            return self.s3.filesystem(self.path.partition("/")[0])

    def __truediv__(self, name: str) -> Location:
        return Location(f"{self.uri.rstrip('/')}/{name}", f"{self.path.rstrip('/')}/{name}", self.s3)


@dataclass(frozen=True)
class Storage:
    """Where data lies.

    :param pond: folder or URI that ``pond://`` stands for.
    :param logins: finds the login of a connection.
    :param s3_connection: connection (type aws) where none is named; empty: the environment's credentials.
    :param folder: folder that relative paths start from; without one they are an error.
    """

    pond: str = ""
    logins: Logins = no_logins
    s3_connection: str = ""
    folder: str | None = None

    def resolve(self, uri: str) -> str:
        """Replace ``pond://`` and make paths absolute.

        :raises ConfigurationError: for a scheme that is not known, ``..`` in a pond URI, or a relative path.
        """
        scheme, rest = self._split(uri)
        if scheme == "pond":
            return self._in_pond(uri, rest)
        if scheme == "file":
            return self._absolute(unquote(rest.removeprefix("localhost")), uri)
        if scheme in ("s3", "http", "https"):
            return uri
        if scheme:
            raise ConfigurationError(
                f"{uri}: {scheme}:// is not known; use pond://, s3://, file:// or an absolute path "
                "(sources: http:// and https:// too)"
            )
        return self._absolute(uri, uri)

    def locate(self, uri: str, connection: str | None = None) -> Location:
        """Find the place that a URI names.

        :param connection: id of the aws connection for S3, if the spec names one.
        :raises ConfigurationError: if the URI names no place on disk or S3.
        """
        full = self.resolve(uri)
        scheme, rest = self._split(full)
        if scheme == "s3":
            path = rest.rstrip("/")
            if not path.partition("/")[0]:
                raise ConfigurationError(f"{uri}: names no bucket; write s3://bucket/folder")
            return Location(f"s3://{path}", path, self._s3(connection))
        if scheme:
            raise ConfigurationError(f"{uri}: {scheme}:// can only be read; name a place on disk or s3://")
        return Location(full, full)

    def _s3(self, connection: str | None) -> S3Options:
        wanted = connection or self.s3_connection
        return S3Options.of(self.logins(wanted)) if wanted else S3Options()

    def _in_pond(self, uri: str, rest: str) -> str:
        # Templates put run parameters into URIs; none of them may lead out of the pond.
        if ".." in rest.split("/"):
            raise ConfigurationError(f"{uri}: .. leads out of the pond; name the place itself")
        if not self.pond or self.pond.startswith("pond://"):
            raise ConfigurationError(f"{uri}: no pond is configured; set [mlplatform] pond to a folder or s3:// URI")
        return self.resolve(f"{self.pond.rstrip('/')}/{rest}".rstrip("/"))

    def _absolute(self, path: str, uri: str) -> str:
        if not path.startswith("/"):
            if not self.folder:
                raise ConfigurationError(
                    f"{uri}: a relative path means another place in each worker; write an absolute path, "
                    "pond://… or s3://…"
                )
            path = f"{self.folder}/{path}"
        return os.path.normpath(path)

    @staticmethod
    def _split(uri: str) -> tuple[str, str]:
        match = SCHEME.match(uri)
        return (match[1].lower(), uri[match.end() :]) if match else ("", uri)


def public(uri: str) -> str:
    """Return a URI without user, password and query, for messages and metadata."""
    return re.sub(r"(://)[^/@]*@", r"\1", uri).partition("?")[0]
