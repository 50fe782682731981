"""Copy a folder into a bucket of the stack: ``make push-specs`` and ``make push-data``, on a laptop.

``push_files.py FOLDER TO`` needs ``kubectl`` only: a pod of the DAG processor, which knows the buckets, copies.
``TO`` is a bucket, or a bucket and a folder in it. The bucket ``specs`` becomes what the folder is: what has gone from
the folder goes from there. From other places nothing is removed.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

SPECS = "specs"
COPY = """
import io, os, sys, tarfile
import boto3
from airflow.sdk import Connection
bucket, _, folder = sys.argv[1].partition("/")
s3 = Connection.from_uri(os.environ["AIRFLOW_CONN_S3"], "s3")
extra = s3.extra_dejson
client = boto3.client("s3", aws_access_key_id=s3.login, aws_secret_access_key=s3.password,
                      endpoint_url=extra.get("endpoint_url"), region_name=extra.get("region_name"))
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as given:
    files = [member for member in given if member.isfile()]
    sent = {f"{folder}/{member.name}".lstrip("/"): given.extractfile(member).read() for member in files}
for name, content in sent.items():
    client.put_object(Bucket=bucket, Key=name, Body=content)
gone = set()
if bucket == "specs":
    pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    gone = {found["Key"] for page in pages for found in page.get("Contents", ())} - sent.keys()
for name in sorted(gone):
    client.delete_object(Bucket=bucket, Key=name)
print(f"{len(sent)} files sent to {sys.argv[1]}, {len(gone)} removed")
"""


def packed(folder: Path) -> bytes:
    """Return a folder as a tar archive, without what begins with a dot."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder)
            if path.is_file() and not any(part.startswith(".") or part == "__pycache__" for part in name.parts):
                archive.add(path, str(name))
    return target.getvalue()


def main(folder: Path, to: str) -> int:
    """Send a folder to the DAG processor's pod, which knows the buckets, and let it copy."""
    if not folder.is_dir():
        print(f"there is no folder {folder}; name one: make push-specs SPECS=dag_specs")  # noqa: T201
        return 1
    target = ["-n", "airflow", "exec", "-i", "deploy/airflow-dag-processor", "-c", "dag-processor"]
    command = ["kubectl", *target, "--", "python", "-c", COPY, to]
    return subprocess.run(command, input=packed(folder), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else SPECS))
