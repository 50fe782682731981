"""What it costs to bring many connectors from nothing to running, to find that nothing changed, and to wait for many.

Run it with ``python benchmarks/connect.py``; it needs Java and Maven, and starts a broker and, for each variant, a
Connect cluster of two workers of its own. Connectors are FileStreamSource, the lightest there is. The variants:

- ``operators``: a KafkaConnectorOperator a connector. Tasks begin one after the other and wait together in one process,
  as in a triggerer;
- ``plain loop``: what one writes without it: PUT every config, then ask for the status of each that does not run yet,
  once a second; nothing is validated before, nothing restarted or put back;
- ``one by one``: PUT a config and wait for it, before the next.

All send with httpx, the operators over a connection each, the loops over one. Seconds are mostly those of the workers;
requests are all that arrive there. To find that nothing changed, the others ask for config and status of each connector
and compare.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))
# Hundreds of tasks and triggers tell a lot.
os.environ.setdefault("AIRFLOW__LOGGING__LOGGING_LEVEL", "ERROR")

import httpx
import psutil

if TYPE_CHECKING:
    from tests.services.connect_workers import ConnectWorkers

CONNECTORS, WAITS = 500, 1000
QUICK_CONNECTORS, QUICK_WAITS = 40, 200
HEAP = "768m"
SOURCE = "org.apache.kafka.connect.file.FileStreamSourceConnector"
BUSY = 409
CLIENT_WAITS = 20
TIMEOUT = 95.0


@dataclass
class Meter:
    """Counts requests of this process and the CPU time of the workers while it is open.

    :param workers: the Connect cluster.
    """

    workers: ConnectWorkers
    requests: int = 0
    seconds: float = 0.0
    cpu: float = 0.0

    @contextmanager
    def open(self) -> Iterator[Meter]:
        """Measure what the block does."""
        transports = (httpx.HTTPTransport, "handle_request"), (httpx.AsyncHTTPTransport, "handle_async_request")
        former = [(kind, name, getattr(kind, name)) for kind, name in transports]
        for kind, name, real in former:
            setattr(kind, name, self._counting(real))
        began, used = time.perf_counter(), self._cpu()
        try:
            yield self
        finally:
            self.seconds, self.cpu = time.perf_counter() - began, self._cpu() - used
            for kind, name, real in former:
                setattr(kind, name, real)

    def _counting(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def counting(transport: Any, request: httpx.Request) -> Any:
            self.requests += 1
            return real(transport, request)

        return counting

    def _cpu(self) -> float:
        processes = [worker.process.process for worker in self.workers.workers]
        times = [psutil.Process(one.pid).cpu_times() for one in processes if one is not None]
        return sum(one.user + one.system for one in times)


@dataclass
class Connectors:
    """What is wished.

    :param folder: where the files lie that they read.
    :param count: how many.
    """

    folder: Path
    count: int
    configs: dict[str, dict[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        file = self.folder / "lines"
        file.write_text("one line\n")
        shared = {"connector.class": SOURCE, "tasks.max": "1", "topic": "lines", "file": str(file)}
        # A producer that holds less: five hundred share a heap.
        shared |= {"producer.override.buffer.memory": "1048576", "producer.override.enable.idempotence": "false"}
        self.configs = {f"lines-{number:04}": dict(shared) for number in range(self.count)}


def operators(workers: ConnectWorkers, wished: Connectors) -> None:
    """Bring all about with the operator, and check what it says."""
    from airflow_mlplatform import KafkaConnectorOperator
    from tests.services.connector_tasks import run_all

    tasks = [
        KafkaConnectorOperator(task_id=name, name=name, config=config, timeout=3600.0, settle=0.0)
        for name, config in wished.configs.items()
    ]
    assert {result["state"] for result in run_all(tasks)} == {"RUNNING"}, workers.urls


def plain_loop(workers: ConnectWorkers, wished: Connectors) -> None:
    """Bring all about as one would by hand; then look again at each that does not run yet."""
    with httpx.Client(base_url=workers.urls[0], timeout=TIMEOUT) as client:
        left = [name for name in wished.configs if differs(client, name, wished)]
        for name in left:
            put(client, name, wished.configs[name])
        while left := [name for name in left if not runs(client, name)]:
            time.sleep(1.0)


def one_by_one(workers: ConnectWorkers, wished: Connectors) -> None:
    """Bring one about after the other."""
    with httpx.Client(base_url=workers.urls[0], timeout=TIMEOUT) as client:
        for name, config in wished.configs.items():
            if differs(client, name, wished):
                put(client, name, config)
                while not runs(client, name):
                    time.sleep(0.1)


def differs(client: httpx.Client, name: str, wished: Connectors) -> bool:
    """Whether a connector is not there, not as wished, or does not run."""
    present = client.get(f"/connectors/{name}/config").json()
    return present != {**wished.configs[name], "name": name} or not runs(client, name)


def put(client: httpx.Client, name: str, config: dict[str, str]) -> None:
    """Send a config until the workers have the time to take it."""
    while (answer := client.put(f"/connectors/{name}/config", json=config)).status_code == BUSY:
        time.sleep(0.25)
    answer.raise_for_status()


def runs(client: httpx.Client, name: str) -> bool:
    """Whether a connector and its task run."""
    status = client.get(f"/connectors/{name}/status").json()
    tasks = [task["state"] for task in status.get("tasks", ())]
    return bool(tasks) and {status["connector"]["state"], *tasks} == {"RUNNING"}


VARIANTS: dict[str, Callable[[ConnectWorkers, Connectors], None]] = {
    "operators": operators, "plain loop": plain_loop, "one by one": one_by_one,
}  # fmt: skip


def triggers(names: list[str], seconds: float) -> None:
    """Wait in one event loop for connectors that run already to go on for some seconds."""
    from airflow_mlplatform.connectors.waiting import ConnectorWait
    from airflow_mlplatform.triggers.kafka_connect import KafkaConnectorTrigger
    from tests.services.connector_tasks import fired

    async def wait() -> list[Any]:
        deadline = datetime.now(UTC).timestamp() + 3600
        waits = [ConnectorWait(name=name, state="running", settle=seconds).model_dump(mode="json") for name in names]
        return await asyncio.gather(
            *(fired(KafkaConnectorTrigger(one, deadline, "kafka_connect_default")) for one in waits)
        )

    assert {event["ending"] for event in asyncio.run(wait())} == {"done"}


def pollers(url: str, names: list[str], seconds: float) -> None:
    """Wait the same way with a loop a connector, as a trigger has it that shares nothing."""

    async def poll(client: httpx.AsyncClient, name: str, until: float) -> None:
        while time.monotonic() < until:
            (await client.get(f"/connectors/{name}/status")).raise_for_status()
            await asyncio.sleep(1.0)

    async def wait() -> None:
        async with AsyncExitStack() as stack:
            # One client does not bear a thousand requests at once.
            made = [httpx.AsyncClient(base_url=url, timeout=None) for _ in range(0, len(names), CLIENT_WAITS)]
            clients = [await stack.enter_async_context(one) for one in made]
            until = time.monotonic() + seconds
            loops = (poll(clients[number % len(clients)], name, until) for number, name in enumerate(names))
            await asyncio.gather(*loops)

    asyncio.run(wait())


def compare_waits(workers: ConnectWorkers, names: list[str], waits: int, seconds: float) -> None:
    """Print requests and the workers' CPU time a second of many waits, shared and not."""
    many = [names[number % len(names)] for number in range(waits)]
    with Meter(workers).open() as ours:
        triggers(many, seconds)
    with Meter(workers).open() as theirs:
        pollers(workers.urls[0], many, seconds)
    print(f"\n{waits} waits at once for {len(names)} connectors{'requests/s':>20}{'workers CPU s/s':>18}")
    for variant, one in (("triggers", ours), ("a loop of requests each", theirs)):
        print(f"{variant:<42}{one.requests / one.seconds:>20.1f}{one.cpu / one.seconds:>18.2f}")
    ratio = theirs.requests / theirs.seconds / (ours.requests / ours.seconds)
    print(f"triggers ask {ratio:,.0f} times less often")


def measure(variant: str, bootstrap: str, folder: Path, options: argparse.Namespace) -> dict[str, Meter]:
    """Run one variant on workers of its own: from nothing, then again."""
    from tests.services.connect_workers import ConnectWorkers
    from tests.services.connector_tasks import connection

    folder.mkdir()
    wished = Connectors(folder, options.connectors)
    bring = VARIANTS[variant]
    workers = ConnectWorkers(folder, bootstrap, group=folder.name, heap=HEAP)
    with workers, connection("kafka_connect_default", conn_type="kafka_connect", host=workers.urls[0]):
        found = {}
        for step in ("from nothing", "nothing changed"):
            with Meter(workers).open() as found[step]:
                bring(workers, wished)
        if variant == "operators":
            compare_waits(workers, list(wished.configs), options.waits, options.seconds)
    return found


def main() -> None:
    """Compare the variants."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connectors", type=int, default=CONNECTORS, help=f"how many (default {CONNECTORS})")
    parser.add_argument("--waits", type=int, default=WAITS, help=f"waits at once (default {WAITS:,})")
    parser.add_argument("--seconds", type=float, default=20.0, help="how long these last (default 20)")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), help="default: all")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_CONNECTORS} connectors, two variants")
    options = parser.parse_args()
    if options.quick:
        options.connectors, options.waits, options.seconds = QUICK_CONNECTORS, QUICK_WAITS, 5.0
        options.variants = ["operators", "plain loop"]
    from tests.services.kafka_broker import KafkaBroker

    with tempfile.TemporaryDirectory() as folder, KafkaBroker(Path(folder) / "kafka") as broker:
        found = {
            variant: measure(variant, broker.bootstrap, Path(folder) / variant.replace(" ", "-"), options)
            for variant in options.variants
        }
    print(f"\n{options.connectors} connectors, two workers")
    print(f"{'variant':<14}{'step':<18}{'seconds':>9}{'ratio':>7}{'requests':>10}{'ratio':>7}{'workers CPU s':>15}")
    for step in ("from nothing", "nothing changed"):
        for variant, meters in found.items():
            one, base = meters[step], found[options.variants[-1] if len(found) == 1 else "plain loop"][step]
            print(
                f"{variant:<14}{step:<18}{one.seconds:>9.1f}{one.seconds / base.seconds:>7.2f}"
                f"{one.requests:>10}{one.requests / base.requests:>7.2f}{one.cpu:>15.1f}"
            )


if __name__ == "__main__":
    main()
