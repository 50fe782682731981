"""A try of a connector task in a process of its own, which a test kills; what it left for the next try outlives it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.services.connector_tasks import StateStore, Task, connection


class FileStore(StateStore):
    """A state store in a file."""

    def __init__(self, file: Path) -> None:
        super().__init__(json.loads(file.read_text()) if file.exists() else {})
        self._file = file

    def set(self, key: str, value: Any) -> None:
        super().set(key, value)
        self._file.write_text(json.dumps(self))

    def delete(self, key: str) -> None:
        super().delete(key)
        self._file.write_text(json.dumps(self))


class DyingConnectorTask:
    """One try.

    :param folder: where its state store lies.
    :param url: Kafka Connect.
    :param arguments: of the operator.
    """

    def __init__(self, folder: Path, url: str, **arguments: Any) -> None:
        self.folder, self.url, self.arguments = folder, url, arguments
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Run it to its end, whatever that is."""
        order = {"store": str(self._file), "url": self.url, "arguments": self.arguments}
        command = [sys.executable, "-m", "tests.services.dying_connector", json.dumps(order)]
        self.process = subprocess.Popen(command, cwd=Path(__file__).parents[2], env=os.environ)
        self.process.wait(120)

    def kill(self) -> None:
        """`kill -9`."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    @property
    def killed(self) -> bool:
        """Whether that is how it ended."""
        return self.process is not None and self.process.returncode == -signal.SIGKILL

    @property
    def store(self) -> StateStore:
        """What it left for the next try."""
        return FileStore(self._file)

    @property
    def _file(self) -> Path:
        return self.folder / "task-state.json"


def main(order: dict[str, Any]) -> None:
    """Start the task: it ends by itself, unless it is killed before."""
    from airflow_mlplatform import KafkaConnectorOperator

    with connection("kafka_connect_default", conn_type="kafka_connect", host=order["url"]):
        Task(store=FileStore(Path(order["store"]))).start(
            KafkaConnectorOperator(task_id="a_task", **order["arguments"])
        )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
