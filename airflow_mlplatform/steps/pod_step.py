"""What the containers around a foreign one share: their orders, their exit codes, their last words.

They run as ``python -m airflow_mlplatform.steps.staged_input`` and ``…staged_output`` in an image with this package,
and know no Airflow. The variable ``MLPLATFORM_STAGED`` holds the orders, as JSON of :class:`Order`; S3's credentials
are the usual variables of AWS tools.

The outcome goes to the pod's termination message. Exit code 75 means an outage, which may pass; 78 a mistake, which
will not.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from airflow_mlplatform.exceptions import ConfigurationError, ServiceRefused, ServiceUnavailable
from airflow_mlplatform.steps.engine import Engine
from airflow_mlplatform.steps.file_list import Part
from airflow_mlplatform.steps.staging import Staging
from airflow_mlplatform.steps.storage import Storage
from airflow_mlplatform.steps.workbench import Run, Workbench

__all__ = ["ORDER", "Order", "main"]

ORDER = "MLPLATFORM_STAGED"
TERMINATION_LOG = Path("/dev/termination-log")
LONGEST_MESSAGE = 4000  # Kubernetes keeps 4096 bytes
SCRATCH = ".mlplatform"

Step = Callable[["Order", Staging], str]


class Order(BaseModel):
    """Which data of which run, and where it lies in the pod.

    :param staging: folder or URI of all staging.
    :param dag_id: the pipeline.
    :param run_id: its run.
    :param task: the task whose data is meant.
    :param listing: id of the task that listed the files, if the data is staged in parts and all are meant.
    :param part: the part, if one is meant.
    :param path: file or folder in the pod.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    staging: str
    dag_id: str
    run_id: str
    task: str
    listing: str | None = None
    part: dict[str, Any] | None = None
    path: Path

    @property
    def own_part(self) -> Part | None:
        """The part, if one is meant."""
        return Part(**self.part) if self.part else None


def main(step: Step, result: Path = TERMINATION_LOG) -> int:
    """Run a step and return its exit code.

    :param step: does the work and returns the last words.
    :param result: file for the outcome.
    """
    _end_on_sigterm()
    code, message = _attempt(step)
    print(message, file=sys.stderr if code else sys.stdout, flush=True)
    result.write_text(message.encode()[:LONGEST_MESSAGE].decode(errors="ignore"), encoding="utf-8")
    return code


def _attempt(step: Step) -> tuple[int, str]:
    try:
        order = _read()
        # The volume that the containers share has room for the data; a file there can be renamed instead of copied.
        with Engine(scratch_root=order.path.parent / SCRATCH) as engine:
            bench = Workbench(engine, Storage(), Run(order.dag_id, order.run_id))
            return os.EX_OK, step(order, Staging(order.staging, bench))
    except (ConfigurationError, ServiceRefused) as error:
        return os.EX_CONFIG, str(error)
    except ServiceUnavailable as error:
        return os.EX_TEMPFAIL, str(error)
    except OSError as error:
        return os.EX_TEMPFAIL, f"the data cannot be written: {error}; see that the pod's volume has room"


def _read() -> Order:
    try:
        return Order.model_validate_json(os.environ.get(ORDER, ""))
    except ValidationError as error:
        raise ConfigurationError(
            f"the environment variable {ORDER} does not describe staged data: {error.errors()[0]['msg']}; "
            "this container and Airflow need the same version of this package"
        ) from None


def _end_on_sigterm() -> None:
    # The first process of a container ignores SIGTERM without a handler, and Python would run one only after a long
    # query. What the interpreter does at once, whichever thread the signal meets, is to write to the wake-up file.
    received, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGTERM, lambda *_: None)

    def end() -> None:
        while os.read(received, 1) != bytes([signal.SIGTERM]):
            pass
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=end, daemon=True).start()
