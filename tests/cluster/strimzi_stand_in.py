"""A stand-in for the Strimzi operator: the real resource on the real cluster, and behind it what was recorded.

No Strimzi and no Kafka Connect run here. It repeats what Strimzi 1.2.0 was seen to do, with its traps:

- the status of a new generation is read before tasks restart: Ready, with the tasks of before, or without any;
- what changes inside Kafka Connect later is not noticed until the timer (here: never) or until the resource is touched;
- a refused config is NotReady without `connectorStatus`, while the former one runs on;
- a connector that pauses is Ready while its tasks still run;
- `strimzi.io/pause-reconciliation` freezes it; `strimzi.io/restart` is taken away when it is obeyed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

GROUP = ("kafka.strimzi.io", "v1")
PLURAL = "kafkaconnectors"
NO_CLASS = "com.example.NoSuchConnector"
BROKEN = "broken.after.seconds"
TRACE = "org.apache.kafka.connect.errors.ConnectException: the task broke\n\tat org.example.Task.poll(Task.java:1)"
REFUSED = "io.strimzi.operator.cluster.operator.assembly.ConnectRestException: POST /connectors returned 400 (400): {}"
STARTING = 0.4


@dataclass
class FakeConnector:
    """One connector inside of the pretended Kafka Connect.

    :param config: the config that was taken last.
    :param since: when it was taken, or restarted.
    """

    config: dict[str, Any]
    state: str
    since: float
    former_tasks: list[str] = field(default_factory=list)
    restarts: int = 0

    def tasks(self, now: float) -> list[str]:
        """States of its tasks now."""
        if now - self.since < STARTING:
            return self.former_tasks
        if self.state == "stopped":
            return []
        broken = BROKEN in self.config and now - self.since >= float(self.config[BROKEN])
        return ["FAILED" if broken else self.state.upper()]


@dataclass
class StrimziStandIn:
    """Reconciles the KafkaConnector resources of one namespace.

    :param api: `CustomObjectsApi` of the kubernetes client.
    """

    api: Any
    namespace: str
    connect: dict[str, FakeConnector] = field(default_factory=dict)
    _seen: dict[str, str] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look for changes until it is ended."""
        while not self._ended.wait(0.05):
            found = self.api.list_namespaced_custom_object(*GROUP, self.namespace, PLURAL)["items"]
            for resource in found:
                if self._seen.get(resource["metadata"]["name"]) != _key(resource):
                    self._reconcile(resource)
            for gone in self.connect.keys() - {one["metadata"]["name"] for one in found}:
                del self.connect[gone]
                self._seen.pop(gone, None)

    def _reconcile(self, resource: dict[str, Any]) -> None:
        name, notes = resource["metadata"]["name"], resource["metadata"].get("annotations", {})
        self._seen[name] = _key(resource)
        if notes.get("strimzi.io/pause-reconciliation") == "true":
            self._write(name, {"conditions": [{"type": "ReconciliationPaused", "status": "True"}], "tasksMax": 0})
            return
        status = {"observedGeneration": resource["metadata"]["generation"], "tasksMax": 1}
        if refusal := self._apply(name, resource["spec"]):
            condition = {"type": "NotReady", "status": "True", "reason": "CompletionException", "message": refusal}
            self._write(name, {**status, "conditions": [condition]})
            return
        if "strimzi.io/restart" in notes:
            self._restart(name)
        self._write(name, {**status, **self._told(name)})

    def _apply(self, name: str, spec: dict[str, Any]) -> str:
        config = {**spec.get("config", {}), "class": spec["class"]}
        if spec["class"] == NO_CLASS:
            return REFUSED.format(
                f"Failed to find any class that implements Connector and which name matches {NO_CLASS}"
            )
        if config.get("batch.size") == "many":
            return REFUSED.format("Invalid value many for configuration batch.size: Not a number of type INT")
        state, present = spec.get("state", "running"), self.connect.get(name)
        if present is None:
            self.connect[name] = FakeConnector(config, state, time.monotonic())
        elif (present.config, present.state) != (config, state):
            former = present.tasks(time.monotonic())
            self.connect[name] = FakeConnector(config, state, time.monotonic(), former)
        return ""

    def _restart(self, name: str) -> None:
        connector = self.connect[name]
        connector.restarts += 1
        connector.former_tasks, connector.since = connector.tasks(time.monotonic()), time.monotonic()
        patch = {"metadata": {"annotations": {"strimzi.io/restart": None}}}
        found = self.api.patch_namespaced_custom_object(*GROUP, self.namespace, PLURAL, name, patch)
        self._seen[name] = _key(found)

    def _told(self, name: str) -> dict[str, Any]:
        connector = self.connect[name]
        states = connector.tasks(time.monotonic())
        failed = {"trace": TRACE}
        tasks = [
            {"id": number, "state": state, "worker_id": "w:8083", **(failed if state == "FAILED" else {})}
            for number, state in enumerate(states)
        ]
        condition = {"type": "Ready", "status": "True"}
        if "FAILED" in states:
            message = "The following tasks have failed: 0, see connectorStatus for more details."
            condition = {"type": "NotReady", "status": "True", "reason": "Throwable", "message": message}
        told = {"connector": {"state": connector.state.upper(), "worker_id": "w:8083"}, "type": "source"}
        return {"conditions": [condition], "connectorStatus": {**told, "name": name, "tasks": tasks}}

    def _write(self, name: str, status: dict[str, Any]) -> None:
        # A merge would leave what is not repeated, but Strimzi replaces its status.
        found = self.api.get_namespaced_custom_object(*GROUP, self.namespace, PLURAL, name)
        found["status"] = status
        self.api.replace_namespaced_custom_object_status(*GROUP, self.namespace, PLURAL, name, found)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()


def _key(resource: dict[str, Any]) -> str:
    head = resource["metadata"]
    return f"{head['uid']} {head['generation']} {sorted(head.get('annotations', {}).items())}"


@contextmanager
def strimzi_stand_in(namespace: str) -> Iterator[StrimziStandIn]:
    """A stand-in that reconciles a namespace while the block runs."""
    from kubernetes import client, config

    stand_in = StrimziStandIn(client.CustomObjectsApi(config.new_client_from_config()), namespace)
    thread = threading.Thread(target=stand_in.run, name="strimzi stand-in")
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.end()
        thread.join()
