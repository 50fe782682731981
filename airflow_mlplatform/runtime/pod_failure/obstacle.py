"""What keeps a pending pod from starting."""

from __future__ import annotations

import re
from collections.abc import Iterator

from airflow_mlplatform.runtime.pod_failure.facts import Json, PodFailure, condition, container, statuses, where

__all__ = ["obstacle"]

IMAGE_REASONS = frozenset({
    "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ErrImageInspect",
    "RegistryUnavailable", "SignatureValidationFailed",
})  # fmt: skip
# A registry that is down, busy or unreachable: it wins over WRONG_IMAGE, whose words may come with it.
BUSY_REGISTRY = re.compile(
    r"\b(429|5\d\d) [A-Z]|toomanyrequests|rate limit|QPS exceeded|timed? ?out|deadline exceeded|connection re|"
    r"no such host|unreachable|unexpected EOF|has expired|server misbehaving",
    re.IGNORECASE,
)
WRONG_IMAGE = re.compile(
    r"not found|manifest unknown|does not exist|unauthorized|\b40[13]\b|denied|forbidden|authorization failed|"
    r"no basic auth|no match for platform|x509|HTTP response to HTTPS client|pull policy of Never|invalid reference",
    re.IGNORECASE,
)
MISSING = re.compile(r'^(?P<kind>secret|configmap) "(?P<name>[^"]+)" not found')
MISSING_KEY = re.compile(r"couldn't find key (?P<key>\S+) in (?P<kind>Secret|ConfigMap) (?:\S+/)?(?P<name>\S+)")
ROOT = re.compile(r"runAsNonRoot|non-numeric user")
NO_CLAIM = re.compile(r'persistentvolumeclaim "(?P<name>[^"]+)" not found')
NO_NODE = re.compile(r"^(?P<nodes>\d+/\d+) nodes are available: (?P<why>.*?)\.?(?: no new claims| preemption:|$)")


def obstacle(pod: Json) -> PodFailure | None:
    """Tell what keeps a pod from starting, as far as its status says it.

    :param pod: the pod as the API sends it, in any phase.
    :return: ``None`` if nothing is known to be in its way; ``final`` is false where waiting may be enough.
    """
    if (pod.get("status") or {}).get("phase") not in (None, "Pending"):
        return None
    if (unplaced := condition(pod, "PodScheduled")).get("status") == "False":
        return _unplaced(pod, unplaced)
    return next((found for status in statuses(pod) if (found := _waiting(pod, status))), None) or _volumes(pod)


def _unplaced(pod: Json, unplaced: Json) -> PodFailure:
    message = str(unplaced.get("message", ""))
    if unplaced.get("reason") == "SchedulingGated":
        return PodFailure("Gated", f"{where(pod)} is held back by its scheduling gates: {message}", final=False)
    if claim := NO_CLAIM.search(message):
        return PodFailure(
            "MissingVolume",
            f"{where(pod)} cannot start: its persistent volume claim {claim['name']} does not exist; create it in the "
            "same namespace",
            lasting=True,
        )
    parsed = NO_NODE.match(message)
    nodes, why = (parsed["nodes"], parsed["why"]) if parsed else ("none", message)
    lacking = "; ".join(_lacking(pod, part) for part in re.split(r", (?=\d+ )", why))
    return PodFailure(
        "Unschedulable",
        f"{where(pod)} waits for a node, {nodes} fit: {lacking}; it starts when one does: ask for less, or add one",
        final=False,
    )


def _lacking(pod: Json, part: str) -> str:
    if short := re.match(r"(\d+) Insufficient (\S+)", part):
        return f"too little free {short[2]} on {short[1]} ({_asked(pod, short[2])})"
    if matched := re.match(r"(\d+) node\(s\) didn't match Pod's node affinity/selector", part):
        selector = ", ".join(
            f"{key}={value}" for key, value in ((pod.get("spec") or {}).get("nodeSelector") or {}).items()
        )
        return f"the labels of its node selector ({selector or 'see its affinity'}) are missing on {matched[1]}"
    if tainted := re.match(r"(\d+) node\(s\) had untolerated taint(?:\(s\)|s)?(?: \{(.*?):? ?\})?", part):
        return f"a taint that it does not tolerate on {tainted[1]}" + (f" ({tainted[2]})" if tainted[2] else "")
    return part


def _asked(pod: Json, resource: str) -> str:
    return "; ".join(_requests(pod, resource)) or "see its requests"


def _requests(pod: Json, resource: str) -> Iterator[str]:
    spec = pod.get("spec") or {}
    for found in [*(spec.get("initContainers") or []), *(spec.get("containers") or [])]:
        if (amount := ((found.get("resources") or {}).get("requests") or {}).get(resource)) is not None:
            yield f"{found.get('name')} asks for {resource} {amount}"


def _waiting(pod: Json, status: Json) -> PodFailure | None:
    waiting = (status.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), str(waiting.get("message", ""))
    at = f"{where(pod)}, container {status.get('name')}"
    if reason in IMAGE_REASONS:
        image = str(container(pod, str(status.get("name"))).get("image") or status.get("image"))
        return _image(at, image, reason, message)
    if reason == "CreateContainerConfigError":
        return _config(at, message)
    if reason in ("CreateContainerError", "RunContainerError", "CrashLoopBackOff"):
        return PodFailure("CannotStart", f"{at} cannot be started: {message or reason}", final=False)
    return None


def _image(at: str, image: str, reason: str, message: str) -> PodFailure:
    why = message.rsplit('": ', 1)[-1] or reason
    words = why.replace(image, "")
    lasting = not BUSY_REGISTRY.search(words) and bool(WRONG_IMAGE.search(words))
    then = (
        "check the image's name and tag, and the pull secret if its registry wants one; nodes pull it, not this machine"
        if lasting
        else "Kubernetes tries again; if it goes on, see whether the nodes reach that registry"
    )
    kind = "InvalidImage" if reason == "InvalidImageName" else "ImagePull"
    return PodFailure(kind, f"{at}: the image {image} cannot be pulled: {why}; {then}", lasting, final=lasting)


def _config(at: str, message: str) -> PodFailure:
    if found := MISSING.search(message) or MISSING_KEY.search(message):
        kind = "Secret" if found["kind"].lower() == "secret" else "ConfigMap"
        key = found.groupdict().get("key")
        what = f"the {kind} {found['name']} " + (f"has no key {key}" if key else "does not exist")
        then = "correct the name, or create it in the namespace of the pod"
        reason = "MissingSecret" if kind == "Secret" else "MissingConfig"
        return PodFailure(reason, f"{at} cannot start: {what}; {then}", lasting=True)
    if ROOT.search(message):
        then = "give the image a numeric non-root USER, or set run_as_user"
        return PodFailure("RunsAsRoot", f"{at} may not run as root: {message.split(' (')[0]}; {then}", lasting=True)
    return PodFailure("CannotStart", f"{at} cannot be configured yet: {message}", final=False)


def _volumes(pod: Json) -> PodFailure | None:
    """A pod on a node whose volumes are not mounted: only its events tell why, its spec tells what to look at."""
    if condition(pod, "PodReadyToStartContainers").get("status") != "False":
        return None
    named = "; ".join(_external_volumes((pod.get("spec") or {}).get("volumes") or []))
    if not named:
        return None
    message = (
        f"{where(pod)} waits for its volumes: {named}; see that they exist (kubectl describe pod tells which fails)"
    )
    return PodFailure("Volumes", message, final=False)


def _external_volumes(volumes: list[Json]) -> Iterator[str]:
    for volume in volumes:
        if secret := volume.get("secret"):
            yield f"Secret {secret.get('secretName')}"
        elif config := volume.get("configMap"):
            yield f"ConfigMap {config.get('name')}"
        elif claim := volume.get("persistentVolumeClaim"):
            yield f"persistent volume claim {claim.get('claimName')}"
        elif path := volume.get("hostPath"):
            yield f"the node's folder {path.get('path')}"
