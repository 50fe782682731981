"""What a laptop's files become in the stack; a program stands for kubectl, and runs what the pod would."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest

from airflow_mlplatform.steps.login import Login
from tests.services.etl_parts import minio

__all__ = ["minio"]

PROGRAM = Path(__file__).parents[3] / "helm-values" / "push_files.py"
# Everything up to the double dash is which pod; what follows runs there, and here with the Python of the tests.
KUBECTL = f'#!/bin/sh\nuntil [ "$1" = -- ]; do shift; done\nshift 2\nexec {sys.executable} "$@"\n'


class Buckets:
    """Buckets of a MinIO, and the way into them."""

    def __init__(self, login: Login, folder: Path) -> None:
        self.folder = folder / "files"
        endpoint = str(login.extra["endpoint_url"])
        self.client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=login.user,
            aws_secret_access_key=login.password,
            region_name="us-east-1",
        )
        user, password = quote(str(login.user), safe=""), quote(str(login.password), safe="")
        self.uri = f"aws://{user}:{password}@/?endpoint_url={quote(endpoint, safe='')}&region_name=us-east-1"
        self.programs = folder / "bin"
        self.programs.mkdir()
        (self.programs / "kubectl").write_text(KUBECTL)
        (self.programs / "kubectl").chmod(0o755)
        for name in ("specs", "pond"):
            self.client.create_bucket(Bucket=name)

    def write(self, **files: str) -> None:
        for name, text in files.items():
            path = self.folder / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def push(self, *to: str) -> str:
        """Run the program; what it says."""
        path = f"{self.programs}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path, "AIRFLOW_CONN_S3": self.uri}
        command = [sys.executable, str(PROGRAM), str(self.folder), *to]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout

    def inside(self, bucket: str) -> dict[str, str]:
        """What is in a bucket."""
        names = [found["Key"] for found in self.client.list_objects_v2(Bucket=bucket).get("Contents", ())]
        return {name: self.client.get_object(Bucket=bucket, Key=name)["Body"].read().decode() for name in names}


@pytest.fixture
def buckets(minio: Login, tmp_path: Path) -> Buckets:
    return Buckets(minio, tmp_path)


def test_specs_are_mirrored_and_data_only_comes(buckets: Buckets) -> None:
    buckets.write(wine__etl="kind: etl", old="1", **{".git__config": "secret"})
    assert "2 files sent to specs, 0 removed" in buckets.push()
    (buckets.folder / "old").unlink()
    buckets.write(wine__etl="kind: etl # 2", new="3")
    assert "2 files sent to specs, 1 removed" in buckets.push()
    assert buckets.inside("specs") == {"wine/etl": "kind: etl # 2", "new": "3"}

    buckets.client.put_object(Bucket="pond", Key="raw/wine/there", Body=b"4")
    assert "2 files sent to pond/raw/wine, 0 removed" in buckets.push("pond/raw/wine")
    found = buckets.inside("pond")
    assert found == {"raw/wine/there": "4", "raw/wine/wine/etl": "kind: etl # 2", "raw/wine/new": "3"}
