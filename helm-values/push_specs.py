"""Copy a folder of specs to the bucket ``specs`` of the stack: ``make push-specs``, for a laptop without a git server.

``push_specs.py FOLDER`` needs ``kubectl`` only: a pod of the DAG processor, which knows the bucket, does the copying.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

# Replaces what is there: a file that has gone from the folder goes from the bucket, after the others have come.
COPY = """
import io, os, sys, tarfile
import boto3
from airflow.sdk import Connection
s3 = Connection.from_uri(os.environ["AIRFLOW_CONN_S3"], "s3")
extra = s3.extra_dejson
client = boto3.client("s3", aws_access_key_id=s3.login, aws_secret_access_key=s3.password,
                      endpoint_url=extra.get("endpoint_url"), region_name=extra.get("region_name"))
there = {found["Key"] for page in client.get_paginator("list_objects_v2").paginate(Bucket="specs")
         for found in page.get("Contents", ())}
with tarfile.open(fileobj=io.BytesIO(sys.stdin.buffer.read())) as given:
    sent = {member.name: given.extractfile(member).read() for member in given if member.isfile()}
for name, content in sent.items():
    client.put_object(Bucket="specs", Key=name, Body=content)
for name in sorted(there - sent.keys()):
    client.delete_object(Bucket="specs", Key=name)
print(f"{len(sent)} files sent, {len(there - sent.keys())} removed")
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


def main(folder: Path) -> int:
    """Send a folder to the DAG processor's pod, which knows the bucket, and let it copy."""
    if not folder.is_dir():
        print(f"there is no folder {folder}; name one: make push-specs SPECS=dag_specs")  # noqa: T201
        return 1
    target = ["-n", "airflow", "exec", "-i", "deploy/airflow-dag-processor", "-c", "dag-processor"]
    command = ["kubectl", *target, "--", "python", "-c", COPY]
    return subprocess.run(command, input=packed(folder), check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "dag_specs")))
