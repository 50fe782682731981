"""Split files on the cluster: a pod a part, a container a part, one load."""

from __future__ import annotations

import pytest
import yaml

from tests.cluster.platform import ClusterPlatform
from tests.cluster.test_container_transform import IMAGE

COPY = ["sh", "-c", 'cp "$INPUT" "$OUTPUT"']


def spec(platform: ClusterPlatform) -> str:
    container = {"image": f"{platform.images.registry}/{IMAGE}", "command": COPY}
    return yaml.safe_dump(
        {
            "apiVersion": "mlplatform/v1", "kind": "etl", "name": "split", "retries": {"count": 2, "delay": "1s"},
            "defaults": {"resources": {"cpu": "100m", "memory": "768Mi"}},
            "extract": {"files": {"uri": "pond://raw/split/*.csv", "split": 3}},
            "transform": [
                {"sql": "select *, id * 2 as twice from input", "per": "part"},
                {"container": container, "per": "part"},
                {"sql": "select *, count(*) over () as total from input"},
                {"container": container},
            ],
            "checks": {"unique": ["id"]},
            "load": {"uri": "pond://split"},
        }
    )  # fmt: skip


@pytest.mark.long
def test_each_part_has_its_pods_and_one_that_dies_changes_nothing(platform: ClusterPlatform, tmp_path) -> None:
    for number in range(7):
        file = tmp_path / f"{number}.csv"
        file.write_text(f"id,name\n{number},n{number}\n")
        platform.services.upload(file, f"pond/raw/split/{number}.csv")
    platform.publish({"split.yaml": spec(platform)}, "split")
    run = platform.start("split")
    victim = platform.wait_until(
        "a pod extracts", lambda: next(iter(platform.pods.workers("split", run.run_id, "extract")), None), 120
    )
    platform.kubectl("delete", "pod", victim.name, "--force", "--grace-period=0")
    platform.succeed(run, 600)
    assert platform.api.xcom(run, "load")["rows"] == 7
    tasks = {(task.task_id, task.map_index) for task in platform.api.tasks(run)}
    assert {index for name, index in tasks if name == "extract"} == {0, 1, 2}
    assert {index for name, index in tasks if name == "transform_2"} == {0, 1, 2}
    copies = [pod for pod in platform.pods.others() if pod.labels.get("dag_id") == "split"]
    assert len(copies) == 4  # three parts and the whole
    assert not [name for name in platform.services.objects("staging") if "/split/" in name]
