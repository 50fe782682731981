"""A stand-in for the Strimzi operator: the real resources on the real cluster, and behind them what was recorded.

No Strimzi and no Kafka Connect run here. It repeats what Strimzi 1.2.0 was seen to do, with its traps:

- the status of a new generation is read before tasks restart: Ready, with the tasks of before, or without any;
- what changes inside Kafka Connect later is not noticed until the timer (here: never) or until the resource is touched;
- a refused config is NotReady without `connectorStatus`, while the former one runs on;
- a connector that pauses is Ready while its tasks still run;
- `strimzi.io/pause-reconciliation` freezes it;
- annotations that ask for something are taken away when it is done, before the status of that look is written; what
  cannot be done leaves them, with a Warning beside Ready, and is tried again at every look;
- offsets are written to a ConfigMap in Kafka Connect's own words, and outlive the connector.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

GROUP = ("kafka.strimzi.io", "v1")
PLURAL = "kafkaconnectors"
NO_CLASS = "com.example.NoSuchConnector"
BROKEN = "broken.after.seconds"
SNAPSHOT = "snapshot.seconds"
WEATHER = "127.0.0.1:15999"
RESTART, RESTART_TASK = "strimzi.io/restart", "strimzi.io/restart-task"
OFFSETS = "strimzi.io/connector-offsets"
TRACE = "org.apache.kafka.connect.errors.ConnectException: the task broke\n\tat org.example.Task.poll(Task.java:1)"
REFUSED = "io.strimzi.operator.cluster.operator.assembly.ConnectRestException: POST /connectors returned 400 (400): {}"
UNREACHABLE = (
    "Connector configuration is invalid and contains the following 1 error(s):\nError while validating connector "
    f"config: Connection to {WEATHER} refused. Check that the hostname and port are correct and that the postmaster "
    "is accepting TCP/IP connections."
)
NOT_STOPPED = "Encountered error {} connector offsets. Connector is not in STOPPED state"
NO_TASK = (
    "Failed to restart connector task {0}:{1}. io.strimzi.operator.cluster.operator.assembly.ConnectRestException: "
    "POST /connectors/{0}/tasks/{1}/restart returned 404 (404): Unexpected status code"
)
STARTING = 0.4


@dataclass
class FakeConnector:
    """One connector inside of the pretended Kafka Connect.

    :param config: the config that was taken last.
    :param since: when it was taken, or restarted.
    :param broken: its task has failed, until it is restarted.
    """

    config: dict[str, Any]
    state: str
    since: float
    former_tasks: list[str] = field(default_factory=list)
    restarts: int = 0
    broken: bool = False

    def tasks(self, now: float) -> list[str]:
        """States of its tasks now."""
        if now - self.since < STARTING:
            return self.former_tasks
        if self.state == "stopped":
            return []
        broken = self.broken or (BROKEN in self.config and now - self.since >= float(self.config[BROKEN]))
        return ["FAILED" if broken else self.state.upper()]

    def restart(self, now: float) -> None:
        """Restart its tasks."""
        self.restarts += 1
        self.broken = False
        self.former_tasks, self.since = self.tasks(now), now


class CannotDo(Exception):
    """What an annotation asks for cannot be done.

    :param reason: that of the Warning.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass
class StrimziStandIn:
    """Reconciles the KafkaConnector resources of one namespace.

    :param api: `CustomObjectsApi` of the kubernetes client.
    :param core: `CoreV1Api`, for ConfigMaps.
    :param offsets: how far connectors are, by name.
    :param asleep: while set, nothing is reconciled, as if the operator were down.
    """

    api: Any
    core: Any
    namespace: str
    connect: dict[str, FakeConnector] = field(default_factory=dict)
    offsets: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    asleep: threading.Event = field(default_factory=threading.Event)
    _seen: dict[str, str] = field(default_factory=dict)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Look for changes until it is ended."""
        from kubernetes.client.exceptions import ApiException

        while not self._ended.wait(0.05):
            if self.asleep.is_set():
                continue
            found = self.api.list_namespaced_custom_object(*GROUP, self.namespace, PLURAL)["items"]
            for resource in found:
                if self._seen.get(resource["metadata"]["name"]) == _key(resource):
                    continue
                try:
                    self._reconcile(resource)
                except ApiException as error:
                    # Otherwise somebody changed or removed it meanwhile: look again.
                    if error.status not in (404, 409):
                        raise
                    self._seen.pop(resource["metadata"]["name"], None)
            for gone in self.connect.keys() - {one["metadata"]["name"] for one in found}:
                del self.connect[gone]
                self._seen.pop(gone, None)

    def _reconcile(self, resource: dict[str, Any]) -> None:
        name, notes = resource["metadata"]["name"], resource["metadata"].get("annotations", {})
        self._seen[name] = _key(resource)
        if notes.get("strimzi.io/pause-reconciliation") == "true":
            self._write(name, {"conditions": [_condition("ReconciliationPaused")], "tasksMax": 0})
            return
        status = {"observedGeneration": resource["metadata"]["generation"], "tasksMax": 1}
        if refusal := self._apply(name, resource["spec"]):
            self._write(name, {**status, "conditions": [refusal]})
            return
        if notes.get(OFFSETS) not in (None, "list", "alter", "reset"):
            unknown = (
                f"No enum constant io.strimzi.operator.cluster.model.KafkaConnectorOffsetsAnnotation.{notes[OFFSETS]}"
            )
            self._write(name, {**status, "conditions": [_condition("NotReady", "IllegalArgumentException", unknown)]})
            return
        warnings = self._asked(resource, notes)
        told = self._told(name)
        self._write(name, {**status, **told, "conditions": [*told["conditions"], *warnings]})

    def _apply(self, name: str, spec: dict[str, Any]) -> dict[str, str] | None:
        config = {**spec.get("config", {}), "class": spec["class"]}
        refused = None
        if spec["class"] == NO_CLASS:
            refused = f"Failed to find any class that implements Connector and which name matches {NO_CLASS}"
        if config.get("batch.size") == "many":
            refused = "Invalid value many for configuration batch.size: Not a number of type INT"
        if config.get("database") == WEATHER:
            refused = UNREACHABLE
        if refused:
            return _condition("NotReady", "CompletionException", REFUSED.format(refused))
        state, present = spec.get("state", "running"), self.connect.get(name)
        if present is None:
            self.connect[name] = FakeConnector(config, state, time.monotonic())
        elif (present.config, present.state) != (config, state):
            former = present.tasks(time.monotonic())
            self.connect[name] = FakeConnector(config, state, time.monotonic(), former, present.restarts)
        return None

    def _asked(self, resource: dict[str, Any], notes: dict[str, str]) -> list[dict[str, str]]:
        """Do what annotations ask for; return the warnings about what cannot be done."""
        does = {RESTART: self._restart, RESTART_TASK: self._restart_task, OFFSETS: self._change_offsets}
        warnings = []
        for annotation, do in does.items():
            if annotation not in notes or notes[annotation] == "false":
                continue
            try:
                do(resource, notes[annotation])
            except CannotDo as error:
                warnings.append(_condition("Warning", error.reason, str(error)))
            else:
                self._take_away(resource["metadata"]["name"], annotation)
        return warnings

    def _restart(self, resource: dict[str, Any], how: str) -> None:
        if not {"true", "includeTasks", "onlyFailed"} >= set(how.split(",")):
            raise CannotDo("RestartConnector", "Invalid annotation format")
        connector = self.connect[resource["metadata"]["name"]]
        if "onlyFailed" not in how or "FAILED" in connector.tasks(time.monotonic()):
            connector.restart(time.monotonic())

    def _restart_task(self, resource: dict[str, Any], number: str) -> None:
        name = resource["metadata"]["name"]
        if number != "0":
            raise CannotDo("RestartConnectorTask", NO_TASK.format(name, number))
        self.connect[name].restart(time.monotonic())

    def _change_offsets(self, resource: dict[str, Any], how: str) -> None:
        name, spec = resource["metadata"]["name"], resource["spec"]
        if how == "list":
            if "listOffsets" not in spec:
                missing = (
                    "Failed to list the connector offsets due to missing property listOffsets in KafkaConnector CR."
                )
                raise CannotDo("ListOffsets", missing)
            self._write_offsets(resource, spec["listOffsets"]["toConfigMap"]["name"])
            return
        if self.connect[name].state != "stopped":
            verb = "altering" if how == "alter" else "resetting"
            raise CannotDo(f"{how.title()}Offsets", NOT_STOPPED.format(verb))
        if how == "reset":
            self.offsets[name] = []
            return
        place = spec["alterOffsets"]["fromConfigMap"]["name"]
        data = self.core.read_namespaced_config_map(place, self.namespace).data
        changes = {
            json.dumps(one["partition"], sort_keys=True): one for one in json.loads(data["offsets.json"])["offsets"]
        }
        kept = {json.dumps(one["partition"], sort_keys=True): one for one in self.offsets.get(name, [])}
        self.offsets[name] = [one for one in (kept | changes).values() if one["offset"] is not None]

    def _write_offsets(self, resource: dict[str, Any], place: str) -> None:
        from kubernetes.client.exceptions import ApiException

        name = resource["metadata"]["name"]
        owner = {key: resource[key] for key in ("apiVersion", "kind")}
        owner |= {key: resource["metadata"][key] for key in ("name", "uid")}
        told = json.dumps({"offsets": self._offsets(name)}, indent=2)
        body = {"metadata": {"name": place, "ownerReferences": [owner]}, "data": {"offsets.json": told}}
        try:
            self.core.create_namespaced_config_map(self.namespace, body)
        except ApiException as error:
            if error.status != 409:
                raise
            self.core.patch_namespaced_config_map(place, self.namespace, body)

    def _offsets(self, name: str) -> list[dict[str, Any]]:
        connector = self.connect[name]
        if SNAPSHOT in connector.config:
            # As Debezium does: while the snapshot lasts, its offset says so.
            lasts = time.monotonic() - connector.since < float(connector.config[SNAPSHOT])
            noted = {"lsn": 7, **({"snapshot": "INITIAL", "snapshot_completed": False} if lasts else {})}
            return [{"partition": {"server": "shop"}, "offset": noted}]
        return self.offsets.get(name, [])

    def _take_away(self, name: str, annotation: str) -> None:
        patch = {"metadata": {"annotations": {annotation: None}}}
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
        condition = _condition("Ready")
        if "FAILED" in states:
            message = "The following tasks have failed: 0, see connectorStatus for more details."
            condition = _condition("NotReady", "Throwable", message)
        told = {"connector": {"state": connector.state.upper(), "worker_id": "w:8083"}, "type": "source"}
        return {"conditions": [condition], "connectorStatus": {**told, "name": name, "tasks": tasks}}

    def _write(self, name: str, status: dict[str, Any]) -> None:
        # A merge would leave what is not repeated, but Strimzi replaces its status.
        found = self.api.get_namespaced_custom_object(*GROUP, self.namespace, PLURAL, name)
        found["status"] = status
        self.api.replace_namespaced_custom_object_status(*GROUP, self.namespace, PLURAL, name, found)

    def make_cluster(self, name: str, *classes: str, uses_resources: bool = True) -> None:
        """Make a KafkaConnect resource as Strimzi leaves it once it is ready.

        :param classes: the plugins that it tells of.
        """
        storage = {f"{one}StorageTopic": f"{name}-{one}" for one in ("config", "offset", "status")}
        spec = {"bootstrapServers": "kafka:9092", "groupId": name, "replicas": 1, "version": "4.3.1", **storage}
        notes = {"strimzi.io/use-connector-resources": "true"} if uses_resources else {}
        head = {"apiVersion": "/".join(GROUP), "kind": "KafkaConnect", "metadata": {"name": name, "annotations": notes}}
        made = self.api.create_namespaced_custom_object(*GROUP, self.namespace, "kafkaconnects", {**head, "spec": spec})
        plugins = [{"class": one, "type": "sink" if "Sink" in one else "source", "version": "4.3.1"} for one in classes]
        seen = {"observedGeneration": made["metadata"]["generation"], "connectorPlugins": plugins, "replicas": 1}
        made["status"] = {"conditions": [_condition("Ready")], **seen}
        self.api.replace_namespaced_custom_object_status(*GROUP, self.namespace, "kafkaconnects", name, made)

    def end(self) -> None:
        """Stop looking."""
        self._ended.set()


def _condition(kind: str, reason: str = "", message: str = "") -> dict[str, str]:
    words = {"reason": reason, "message": message} if reason else {}
    return {"type": kind, "status": "True", "lastTransitionTime": datetime.now(UTC).isoformat(), **words}


def _key(resource: dict[str, Any]) -> str:
    head = resource["metadata"]
    return f"{head['uid']} {head['generation']} {sorted(head.get('annotations', {}).items())}"


@contextmanager
def strimzi_stand_in(namespace: str) -> Iterator[StrimziStandIn]:
    """A stand-in that reconciles a namespace while the block runs."""
    from kubernetes import client, config

    api = config.new_client_from_config()
    stand_in = StrimziStandIn(client.CustomObjectsApi(api), client.CoreV1Api(api), namespace)
    thread = threading.Thread(target=stand_in.run, name="strimzi stand-in")
    thread.start()
    try:
        yield stand_in
    finally:
        stand_in.end()
        thread.join()
