"""A stand-in for Seldon's operator: the real resource on the real cluster, and behind it what was recorded.

Seldon's operator does not run here. This repeats what Seldon Core 1.17.1 was seen to do, with its traps, and makes real
Deployments, Services, VirtualServices and DestinationRules, whose pods run:

- after an update the old state stays for a while (`Traps.lag`), or for long while the operator restarts;
- before a rolling update `Available` flashes (`Traps.flash`), for it looks at a Deployment's status of before;
  during the flash the Deployment of a removed predictor goes, although the new one may be broken;
- a broken image on an existing predictor is Creating for ever, a Deployment past its progress deadline is Failed for
  the whole resource, replicas 0 stay Creating;
- with Istio `Available` comes before `Ready`, and the VirtualService follows only when all Deployments are ready;
- a removed Deployment that is gone already is `Failed` for a moment (`Traps.late`);
- `observedGeneration` is never set;
- while it is stopped, writes are refused by the API server (its webhook does not answer), status patches pass.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.cluster.api_server import ApiRefused, ApiServer, Watched
from tests.cluster.seldon_stand_in_compare import LAST_APPLIED, mark_of, marked, timeless, within
from tests.cluster.seldon_stand_in_objects import Components, components
from tests.cluster.seldon_stand_in_status import STALLED, Status, condition
from tests.cluster.seldon_stand_in_webhook import Webhook

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster.api_server import Object
    from tests.cluster.seldon_stand_in_predictor import Installation

__all__ = ["SeldonStandIn", "Traps"]

SDEP = "machinelearning.seldon.io/v1"
KINDS = {
    "seldondeployments": f"/apis/{SDEP}",
    "deployments": "/apis/apps/v1",
    "services": "/api/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "virtualservices": "/apis/networking.istio.io/v1",
    "destinationrules": "/apis/networking.istio.io/v1",
}
ISTIO = ("virtualservices", "destinationrules")


@dataclass
class Traps:
    """What the operator may or may not do; a test sets what it is about.

    :param lag: seconds between a change and the look at it: 0.05 to 0.33 were seen.
    :param flash: whether `Available` flashes before a rolling update.
    :param late: whether a removed Deployment that is gone makes `Failed` for a moment.
    """

    lag: float = 0.05
    flash: bool = True
    late: bool = True


@dataclass
class SeldonStandIn:
    """Reconciles the SeldonDeployments of one namespace.

    :param at: what the installation says.
    """

    namespace: str
    at: Installation
    node_ip: str
    traps: Traps = field(default_factory=Traps)
    _api: ApiServer = field(default_factory=ApiServer)
    _seen: dict[str, Watched] = field(default_factory=dict)
    _work: dict[str, float] = field(default_factory=dict)
    _wake: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False
    _paused: bool = False
    _thread: threading.Thread | None = None
    _webhook: Webhook | None = None
    _before: dict[str, Object] = field(default_factory=dict)
    _shown: set[str] = field(default_factory=set)
    _missed: set[str] = field(default_factory=set)
    _done: dict[str, int] = field(default_factory=dict)

    def start(self) -> None:
        """Start the operator, unless it runs: its webhook answers, everything is looked at once."""
        if self._thread:
            return
        self._ended, self._paused = False, False
        if self._webhook is None:
            self._webhook = Webhook(self._api, self.namespace, self.node_ip, frozenset(self.at.servers))
            self._webhook.install()
        self._webhook.start()
        for plural in KINDS:
            if self.at.istio or plural not in ISTIO:
                watched = self._seen[plural] = Watched(self._api, self._collection(plural), self._changed)
                watched.start()
        self._thread = threading.Thread(target=self._run, name="seldon stand-in", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the operator, if it runs: nothing is reconciled, and the API server refuses writes."""
        if self._webhook:
            self._webhook.stop()
        with self._wake:
            self._ended = True
            self._wake.notify()
        for watched in self._seen.values():
            watched.stop()
        if self._thread:
            self._thread.join()
        self._thread = None

    @contextmanager
    def restarting(self) -> Iterator[None]:
        """While the block runs, writes pass, but nothing is reconciled (12 seconds were seen)."""
        self._paused = True
        try:
            yield
        finally:
            with self._wake:
                self._paused = False
                self._wake.notify()

    def remove(self) -> None:
        """Stop it and take its webhook away."""
        self.stop()
        if self._webhook:
            self._webhook.remove()
        self._api.close()

    def settled(self, sdep: Object) -> bool:
        """Whether it has looked at this generation of a SeldonDeployment, and has nothing more to do."""
        head = sdep["metadata"]
        return self._done.get(head["uid"], 0) >= head["generation"] and head["name"] not in self._work

    def _collection(self, plural: str) -> str:
        return f"{KINDS[plural]}/namespaces/{self.namespace}/{plural}"

    def _changed(self, found: Object) -> None:
        head = found["metadata"]
        owners = [one["name"] for one in head.get("ownerReferences", []) if one["kind"] == "SeldonDeployment"]
        names = [head["name"]] if "predictors" in found.get("spec", {}) else owners
        with self._wake:
            for name in names:
                self._work.setdefault(name, time.monotonic() + self.traps.lag)
            self._wake.notify()

    def _run(self) -> None:
        while (name := self._next()) is not None:
            try:
                self._reconcile(name)
            except (ApiRefused, httpx.HTTPError) as error:
                conflict = isinstance(error, ApiRefused) and error.status in {404, 409}
                with self._wake:
                    self._work.setdefault(name, time.monotonic() + (0.05 if conflict else 1.0))

    def _next(self) -> str | None:
        with self._wake:
            while not self._ended:
                due = min(self._work.items(), key=lambda one: one[1], default=None)
                wait = None if due is None or self._paused else due[1] - time.monotonic()
                if due is not None and wait is not None and wait <= 0:
                    del self._work[due[0]]
                    return due[0]
                self._wake.wait(wait)
        return None

    def _reconcile(self, name: str) -> None:
        sdep = self._seen["seldondeployments"].objects.get(name)
        if sdep is None or sdep["metadata"].get("deletionTimestamp"):
            return
        status = Status(sdep.get("status"))
        self._shown.clear()
        try:
            wanted = components(sdep, self.at)
            self._look(sdep, wanted, status)
        except ApiRefused as error:
            if error.status == 409:
                raise
            status.say("Failed", error.message)
        if timeless(status.whole()) != timeless(sdep.get("status", {})):
            self._write(sdep, status.whole())
        # Only what was written has been seen: after a conflict it is shown again.
        for deployment in self._shown:
            self._before.pop(deployment, None)
            self._missed.discard(deployment)
        self._done[sdep["metadata"]["uid"]] = sdep["metadata"]["generation"]

    def _write(self, sdep: Object, status: Object) -> None:
        path = f"{self._collection('seldondeployments')}/{sdep['metadata']['name']}"
        try:
            self._api.replace(f"{path}/status", sdep | {"status": status})
        except ApiRefused as error:
            found = self._api.get(path) if error.status == 409 else None
            if found is None or found["metadata"]["generation"] != sdep["metadata"]["generation"]:
                raise
            # On a busy machine its own last status is not in the cache yet; no state of the story may be lost by that.
            self._api.replace(f"{path}/status", found | {"status": status})

    def _look(self, sdep: Object, wanted: Components, status: Status) -> None:
        services = self._services(wanted, status, last=False)
        scaled = self._beside("horizontalpodautoscalers", wanted.autoscalers, wanted)
        _tell(status, "HpasReady", scaled, bool(wanted.autoscalers), "HPAs")
        status.condition("KedaReady", True, "No KEDA resources defined")
        kept = self._beside("poddisruptionbudgets", wanted.budgets, wanted)
        _tell(status, "PdbsReady", kept, bool(wanted.budgets), "PDBs")
        ready, progressing = self._deployments(wanted, status)
        if ready:
            self._complete(sdep, wanted, status)
        if ready and services and scaled and kept:
            status.say("Available")
        elif not progressing and not ready:
            status.say("Failed", STALLED)
        else:
            status.say("Creating")

    def _services(self, wanted: Components, status: Status, last: bool) -> bool:
        ready = True
        for name, service in wanted.services.items():
            if self._ensure("services", service):
                status.written["address"] = {"url": wanted.address}
                status.service(name, wanted.endpoints[name])
            else:
                ready = False
        well = last and ready
        status.condition("ServicesReady", well, "All services created" if well else "Not all services created")
        return ready

    def _same(self, plural: str, wanted: dict[str, Object]) -> bool:
        there = [self._ensure(plural, one) for one in wanted.values()]
        return all(there)

    def _beside(self, plural: str, own: dict[str, Object], wanted: Components) -> bool:
        """What stands beside a Deployment under the same name; what is no longer wanted goes."""
        for name in wanted.deployments.keys() & self._seen[plural].objects.keys() - own.keys():
            self._delete(plural, name)
        return self._same(plural, own)

    def _ensure(self, plural: str, wanted: Object) -> bool:
        """Create or update an object; whether it was there as wished."""
        name, path = wanted["metadata"]["name"], self._collection(plural)
        found = self._seen[plural].objects.get(name)
        if found is None:
            self._create(path, wanted)
            return False
        same = found["spec"] == wanted["spec"] if plural in ISTIO else within(wanted["spec"], found["spec"])
        own = {key: wanted["metadata"].get(key, {}) for key in ("labels", "annotations")}
        if same and all(found["metadata"].get(key, {}) == value for key, value in own.items()):
            return True
        spec = wanted["spec"] if plural in ISTIO else found["spec"] | wanted["spec"]
        self._api.replace(f"{path}/{name}", {**wanted, "metadata": found["metadata"] | own, "spec": spec})
        return False

    def _create(self, path: str, wanted: Object) -> None:
        try:
            self._api.create(path, wanted)
        except ApiRefused as error:
            # What is there already is seen a moment later.
            if error.status != 409:
                raise

    def _deployments(self, wanted: Components, status: Status) -> tuple[bool, bool]:
        """Create and update the Deployments; whether all are ready, and whether they progress."""
        ready = progressing = True
        newest: Object = {}
        for name, deployment in wanted.deployments.items():
            found = self._deployment(name, deployment)
            if found is None:
                ready = False
                continue
            seen = found.get("status", {})
            status.replicas(name, seen, name == wanted.default)
            if not seen.get("readyReplicas") or seen.get("unavailableReplicas"):
                if ready:
                    status.available(found)
                    stopped = [condition(found, kind).get("status") == "False" for kind in ("Progressing", "Available")]
                    progressing = not all(stopped)
                ready = False
            newest = max(newest, found, key=lambda one: str(condition(one, "Available").get("lastTransitionTime", "")))
        if ready:
            status.available(newest)
        return ready, progressing

    def _deployment(self, name: str, wanted: Object) -> Object | None:
        """The Deployment with the status that the operator sees; None if it was created or its pods change."""
        found = self._seen["deployments"].objects.get(name)
        mark, path = mark_of(wanted), self._collection("deployments")
        if found is None:
            self._create(path, marked(wanted, mark))
            return None
        scaled = wanted["spec"].get("replicas", found["spec"]["replicas"]) != found["spec"]["replicas"]
        if found["metadata"].get("annotations", {}).get(LAST_APPLIED) != mark or scaled:
            changed = marked(wanted, mark, found)
            changed["spec"].setdefault("replicas", found["spec"]["replicas"])
            answer = self._api.replace(f"{path}/{name}", changed)
            if answer["spec"]["template"]["spec"] != found["spec"]["template"]["spec"]:
                self._before[name] = found.get("status", {})
                return None
            return answer
        return found | {"status": self._status_of(name, found)}

    def _status_of(self, name: str, found: Object) -> Object:
        # The operator reads from a cache in which the status of before still stands, and may believe that all is well.
        current: Object = found.get("status", {})
        if name in self._before:
            self._shown.add(name)
            before = self._before[name]
            if self.traps.flash and before.get("readyReplicas") and not before.get("unavailableReplicas"):
                self._changed(found)
                return before
        if current.get("observedGeneration", 0) < found["metadata"]["generation"]:
            return {**current, "unavailableReplicas": 1, "conditions": []}
        return current

    def _complete(self, sdep: Object, wanted: Components, status: Status) -> None:
        """All Deployments are ready: routes follow, what is no longer wanted goes."""
        self._services(wanted, status, last=True)
        self._route(wanted, status)
        status.condition("AmbassadorMappingsReady", True, "No Ambassador Mappaings defined")
        remaining = [one for one in status.written.get("deploymentStatus", {}) if one not in wanted.deployments]
        for name in remaining:
            self._remove(name, status)
        if not remaining:
            for name in [one for one in status.written.get("serviceStatus", {}) if one not in wanted.services]:
                status.forget("serviceStatus", name)
                self._delete("services", name)

    def _route(self, wanted: Components, status: Status) -> None:
        if not self.at.istio:
            status.condition("istioVirtualServicesReady", True, "No VirtualServices defined")
            return
        well = self._same("virtualservices", wanted.virtual_services)
        well = self._same("destinationrules", wanted.destination_rules) and well
        reason = "All VirtualServices created" if well else "Not all VirtualServices created"
        status.condition("istioVirtualServicesReady", well, reason)

    def _remove(self, name: str, status: Status) -> None:
        if name in self._seen["deployments"].objects:
            self._missed.add(name)
            self._delete("deployments", name)
            for plural in ("horizontalpodautoscalers", "poddisruptionbudgets"):
                if name in self._seen[plural].objects:
                    self._delete(plural, name)
        elif self.traps.late and name in self._missed:
            self._shown.add(name)
            raise ApiRefused(404, f'deployments.apps "{name}" not found')
        else:
            status.forget("deploymentStatus", name)

    def _delete(self, plural: str, name: str) -> None:
        try:
            self._api.delete(f"{self._collection(plural)}/{name}", "Foreground")
        except ApiRefused as error:
            if error.status != 404:
                raise


def _tell(status: Status, kind: str, well: bool, wanted: bool, what: str) -> None:
    reason = f"No {what} defined" if not wanted else f"All {what} resources ready" if well else f"{what} not ready"
    status.condition(kind, well, reason)
