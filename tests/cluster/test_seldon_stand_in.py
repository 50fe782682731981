"""The stand-in for Seldon's operator does what was recorded from the real one: objects, answers, order of states."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster.api_server import ApiRefused, ApiServer, Object, Watched
from tests.cluster.seldon_parts import GRAPH, SDEPS, SeldonParts
from tests.cluster.seldon_stand_in_objects import components
from tests.cluster.seldon_stand_in_predictor import Installation, short
from tests.cluster.seldon_stand_in_status import STALLED
from tests.cluster.seldon_stand_in_validation import problems, refusal
from tests.waiting import wait_for

RECORDED = Path(__file__).parent / "seldon_recorded"
OBJECTS, VALIDATION, TRANSITIONS = (
    yaml.safe_load((RECORDED / f"{name}.yaml").read_text("utf-8")) for name in ("objects", "validation", "transitions")
)
REGISTRY = "localhost:5000"
AS_RECORDED = Installation(
    servers={("MLFLOW_SERVER", "v2"): f"{REGISTRY}/mlserver:1.7.1-mlflow"},
    executor=f"{REGISTRY}/seldon-core-executor:1.17.1",
    initializer=f"{REGISTRY}/rclone-storage-initializer:1.17.1",
)
# What the API server adds to a Deployment and its pods by itself.
DEFAULTED = {"revisionHistoryLimit", "restartPolicy", "dnsPolicy", "schedulerName", "serviceAccount"}


def made(case: Object) -> dict[tuple[str, str], Object]:
    """What the stand-in makes of a recorded SeldonDeployment."""
    found = components(case["sdep"], AS_RECORDED)
    of_kinds = (found.deployments, found.services, found.virtual_services, found.destination_rules)
    return {(one["kind"], name): one for of_kind in of_kinds for name, one in of_kind.items()}


def comparable(found: Any) -> Any:
    """An object without what is not compared: order of containers' variables, what the engine is told, defaults."""
    if isinstance(found, list):
        return [comparable(one) for one in found]
    if not isinstance(found, dict):
        return found
    kept = {key: comparable(value) for key, value in found.items() if key not in DEFAULTED}
    if "env" in kept:
        kept["env"] = {
            one["name"]: "…" if one["name"] == "ENGINE_PREDICTOR" else one.get("value") for one in kept["env"]
        }
    return kept


@pytest.mark.parametrize(
    ("case", "kind", "name"),
    [(case, one["kind"], one["metadata"]["name"]) for case, told in OBJECTS.items() for one in told["objects"]],
)
def test_objects_are_those_that_were_recorded(case: str, kind: str, name: str) -> None:
    (recorded,) = [one for one in OBJECTS[case]["objects"] if (one["kind"], one["metadata"]["name"]) == (kind, name)]
    assert comparable(made(OBJECTS[case])[kind, name]) == comparable(recorded)


def test_names_over_63_characters_are_hashed() -> None:
    sdep = "a-really-long-deployment-name-that-goes-on-and-on-and-on"
    recorded = {
        f"{sdep}-main-predictor-name-0-classifier": "seldon-b1d59fa9d65fdf71f986bafdd36132a6",
        f"{sdep}-main-predictor-name": "seldon-53e0f67a4b1a47d0037088a20e2e91e5",
        f"{sdep}-main-predictor-name-classifier": "seldon-743749e6b7d60eaa94a2a2775f518b2d",
    }
    assert {name: short(name) for name in recorded} == recorded


def test_weights_and_replicas_restart_nothing() -> None:
    def template(**changed: Any) -> Object:
        sdep = json.loads(json.dumps(OBJECTS["canary"]["sdep"]))
        sdep["spec"]["predictors"][0].update(changed)
        found: Object = components(sdep, AS_RECORDED).deployments["iris-main-0-classifier"]["spec"]["template"]
        return found

    assert template(traffic=10, replicas=3) == template()
    assert template(annotations={"version": "2"}) != template()
    engine = template()["spec"]["containers"][-1]
    told = json.loads(base64.b64decode(engine["env"][0]["value"]))
    assert (told["traffic"], told["replicas"], told["graph"]["modelUri"]) == (0, 0, "s3://models/iris/v1")


BY_WEBHOOK = [
    case
    for case in VALIDATION["cases"]
    if 'SeldonDeployment ""' in case["answer"] or ("created" in case["answer"] and "predictors" in case["sdep"]["spec"])
]


@pytest.mark.parametrize("case", BY_WEBHOOK, ids=lambda case: str(case["name"]))
def test_the_webhook_answers_as_recorded(case: Object) -> None:
    found = problems(case["sdep"]["spec"], {"MLFLOW_SERVER"})
    told = [f'The SeldonDeployment "" is invalid: {one.field}: {one.message}' for one in found]
    assert (told or ["created"]) == ([case["answer"]] if "invalid" in case["answer"] else ["created"])


def test_a_refusal_is_the_recorded_status() -> None:
    recorded = VALIDATION["raw"]["implementation-unknown"]
    (case,) = [one for one in VALIDATION["cases"] if one["name"] == "implementation-unknown"]
    found = refusal(problems(case["sdep"]["spec"], {"MLFLOW_SERVER"}))
    before = 'admission webhook "v1.vseldondeployment.kb.io" denied the request: '
    assert {**found, "message": before + found["message"]} == {key: recorded[key] for key in found}


class Story:
    """What a SeldonDeployment says of itself, one state after the other.

    :param name: its name.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.told: list[str] = []
        self.statuses: list[Object] = []

    def see(self, found: Object) -> None:
        """Take one version of it."""
        if found["metadata"]["name"] != self.name:
            return
        status = found.get("status", {})
        ready: Object = next((one for one in status.get("conditions", []) if one["type"] == "Ready"), {})
        why = "ready" if ready.get("status") == "True" else ready.get("reason", "")
        parts = (status.get("state", "none"), why, status.get("description", ""))
        told = ", ".join(part for part in parts if part)
        self.statuses.append(status)
        if not self.told or self.told[-1] != told:
            self.told.append(told)

    def forget(self) -> None:
        """Begin anew with what it says now."""
        self.told = self.told[-1:]


@pytest.fixture(scope="module")
def api() -> Iterator[ApiServer]:
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def path(seldon: SeldonParts) -> str:
    return f"/apis/machinelearning.seldon.io/v1/namespaces/{seldon.kubectl.namespace}/seldondeployments"


@pytest.fixture
def story(seldon: SeldonParts, api: ApiServer, path: str) -> Iterator[Story]:
    """The story of a SeldonDeployment that does not exist yet; it goes after the test."""
    story = Story(seldon.name())
    watched = Watched(api, path, story.see)
    watched.start()
    yield story
    watched.stop()
    seldon.kubectl("delete", SDEPS, story.name, "--ignore-not-found")


def ends(story: Story, name: str, **values: str) -> None:
    """Wait until the story is the recorded one, and no more."""
    recorded = TRANSITIONS[name]
    for key, value in values.items():
        recorded = [line.replace(key, value) for line in recorded]
    with suppress(AssertionError):
        wait_for(lambda: story.told[-1:] == recorded[-1:] and len(story.told) >= len(recorded))
    # Kubernetes itself may be late with a Deployment's status: then Available flashes once more.
    flashed = len(story.told) == len(recorded) + 2 and _once(story.told) == _once(recorded)
    assert flashed or story.told == recorded


def _once(told: list[str]) -> list[str]:
    """Without pairs that are told again at once."""
    found: list[str] = []
    for line in told:
        found.append(line)
        if found[-4:-2] == found[-2:]:
            del found[-2:]
    return found


@contextmanager
def traps(seldon: SeldonParts, **wished: Any) -> Iterator[None]:
    known = {key: getattr(seldon.operator.traps, key) for key in wished}
    for key, value in wished.items():
        setattr(seldon.operator.traps, key, value)
    try:
        yield
    finally:
        for key, value in known.items():
            setattr(seldon.operator.traps, key, value)


def changed(manifest: Object, change: Callable[[list[Object]], object]) -> Object:
    change(manifest["spec"]["predictors"])
    return manifest


def test_a_canary_from_its_creation_to_its_end(seldon: SeldonParts, story: Story) -> None:
    apply = seldon.kubectl.apply
    apply(seldon.manifest(story.name, good=100))
    ends(story, "created_with_istio")
    assert "observedGeneration" not in story.statuses[-1]

    story.forget()
    apply(seldon.manifest(story.name, good=80, better=20))
    ends(story, "canary_with_istio")
    wait_for(lambda: seldon.answering(story.name) == "better", "until the gateway follows")
    with seldon.load(story.name, 40) as load:
        wait_for(lambda: load.total >= 100)
    seen = load.seen()
    assert seen.keys() == {"good", "better"}
    assert 0.17 < seen["better"] / seen.total() < 0.23
    assert set(load.codes()) == {200}

    story.forget()
    apply(seldon.manifest(story.name, good=50, better=50))
    ends(story, "weights_with_istio")
    (route, _) = seldon.kubectl.get("virtualservice", story.name)["spec"]["http"]
    assert [one["weight"] for one in route["route"]] == [50, 50]

    story.forget()
    apply(seldon.manifest(story.name, good=100))
    ends(story, "predictor_removed", CANDIDATE=f"{story.name}-candidate-0-{GRAPH}")
    wait_for(lambda: len(seldon.kubectl.get("services", "--selector", f"seldon-deployment-id={story.name}")) == 2)
    rules = {one["metadata"]["name"] for one in seldon.kubectl.get("destinationrules")}
    assert f"{story.name}-candidate" in rules, "the operator leaves it"

    seldon.delete(story.name)
    owned = "services,virtualservices,destinationrules,pods"
    wait_for(lambda: story.name not in seldon.kubectl("get", owned, "-o", "name"))


def test_available_flashes_before_a_rolling_update(seldon: SeldonParts, story: Story) -> None:
    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    seldon.wait_until_serving(story.name)
    story.forget()
    seldon.kubectl.apply(seldon.manifest(story.name, better=100))
    ends(story, "rolling_update")


@pytest.mark.long
def test_a_broken_image_is_creating_for_ever(seldon: SeldonParts, story: Story) -> None:
    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    seldon.wait_until_serving(story.name)
    container = {"name": GRAPH, "image": seldon.image("nosuch:1")}
    broken = changed(
        seldon.manifest(story.name, good=100),
        lambda found: found[0].update(
            progressDeadlineSeconds=2, componentSpecs=[{"spec": {"containers": [container]}}]
        ),
    )
    story.forget()
    seldon.kubectl.apply(broken)
    ends(story, "broken_image")
    deployment = f"{story.name}-main-0-{GRAPH}"
    wait_for(lambda: _condition(seldon.deployments(story.name)[deployment], "Progressing") == "False")
    assert story.told == TRANSITIONS["broken_image"]
    assert wait_for(lambda: seldon.answering(story.name)) == "good"


def _condition(deployment: Object, kind: str) -> str:
    found: list[str] = [one["status"] for one in deployment["status"]["conditions"] if one["type"] == kind]
    return found[0]


@pytest.mark.long
def test_past_its_deadline_and_repaired(seldon: SeldonParts, story: Story) -> None:
    manifest = changed(
        seldon.manifest(story.name, missing=100), lambda found: found[0].update(progressDeadlineSeconds=4)
    )
    seldon.kubectl.apply(manifest)
    ends(story, "past_its_deadline")
    log = seldon.kubectl("logs", "--selector", f"seldon-deployment-id={story.name}", "-c", GRAPH)
    assert "No such file or directory: '/mnt/models/MLmodel'" in log
    story.forget()
    with traps(seldon, flash=False):
        seldon.kubectl.apply(seldon.manifest(story.name, good=100))
        seldon.wait_until_serving(story.name)
    first, second, last = TRANSITIONS["repaired"]
    assert [*story.told[:2], story.told[-1]] == [first, second, last]
    assert not any(line.startswith("Failed") for line in story.told[1:])


@pytest.mark.long
def test_a_broken_canary_fails_the_whole_and_goes_in_the_flash(seldon: SeldonParts, story: Story) -> None:
    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    seldon.wait_until_serving(story.name)
    manifest = changed(
        seldon.manifest(story.name, good=90, crashing=10), lambda found: found[1].update(progressDeadlineSeconds=4)
    )
    seldon.kubectl.apply(manifest)
    wait_for(lambda: story.told[-1].endswith(STALLED))
    assert wait_for(lambda: seldon.answering(story.name)) == "good", "the VirtualService does not follow yet"
    assert len(seldon.kubectl.get("virtualservice", story.name)["spec"]["http"][0]["route"]) == 1

    story.forget()
    container = {"name": GRAPH, "image": seldon.image("nosuch:1")}
    broken = changed(
        seldon.manifest(story.name, good=100),
        lambda found: found[0].update(componentSpecs=[{"spec": {"containers": [container]}}]),
    )
    seldon.kubectl.apply(broken)
    ends(story, "broken_canary_removed")
    wait_for(lambda: f"{story.name}-candidate-0-{GRAPH}" not in seldon.deployments(story.name))


@pytest.mark.long
def test_no_replicas_are_creating_for_ever(seldon: SeldonParts, story: Story) -> None:
    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    seldon.wait_until_serving(story.name)
    seldon.kubectl.apply(changed(seldon.manifest(story.name, good=100), lambda found: found[0].update(replicas=0)))
    wait_for(lambda: not seldon.kubectl.pods(f"seldon-deployment-id={story.name}"))
    wait_for(lambda: story.told[-1] == "Creating, Not all services created")
    assert story.statuses[-1]["deploymentStatus"] == {f"{story.name}-main-0-{GRAPH}": {}}
    assert seldon.ask(story.name).status_code == 503


@pytest.mark.parametrize(("suffix", "predictor"), [(".dots", "main"), ("", "Bad_Predictor")])
def test_bad_names_pass_and_then_fail(seldon: SeldonParts, story: Story, suffix: str, predictor: str) -> None:
    story.name += suffix
    named = changed(seldon.manifest(story.name, good=100), lambda found: found[0].update(name=predictor))
    seldon.kubectl.apply(named)
    ends(story, "bad_name", NAME=f"{story.name}-{predictor}-{GRAPH}")


@pytest.mark.long
def test_a_shadow_is_mirrored(seldon: SeldonParts, story: Story) -> None:
    shadow = changed(seldon.manifest(story.name, good=100, better=0), lambda found: found[1].update(shadow=True))
    seldon.kubectl.apply(shadow)
    seldon.wait_until_serving(story.name)
    wait_for(lambda: seldon.ask(story.name).status_code == 200)
    with seldon.load(story.name) as load:
        wait_for(lambda: load.total >= 20)
    assert load.seen().keys() == {"good"}
    labels = f'deployment_name="{story.name}",predictor_name="candidate"'
    count = f"sum(seldon_api_executor_server_requests_seconds_count{{{labels}}})"
    wait_for(lambda: [one for one in seldon.query(count) if float(one["value"][1]) >= 20], "for mirrored requests")


def test_the_api_server_refuses_as_recorded(seldon: SeldonParts, api: ApiServer, path: str) -> None:
    for name, recorded in VALIDATION["raw"].items():
        (case,) = [one for one in VALIDATION["cases"] if one["name"] == name]
        kind = {"apiVersion": "machinelearning.seldon.io/v1", "kind": "SeldonDeployment"}
        head = {"metadata": {"name": case["sdep"]["name"]}}
        with pytest.raises(ApiRefused) as refused:
            api.create(path, {**kind, **head, "spec": case["sdep"]["spec"]})
        assert (refused.value.status, refused.value.message) == (recorded["code"], recorded["message"])


def test_writes_are_refused_while_the_operator_is_down(
    seldon: SeldonParts, api: ApiServer, path: str, story: Story
) -> None:
    with traps(seldon, flash=False):
        seldon.kubectl.apply(seldon.manifest(story.name, good=100))
        seldon.wait_until_serving(story.name)
        seldon.operator.stop()
        wish = seldon.manifest(story.name, better=100)
        down = r'failed calling webhook "v1.vseldondeployment.kb.io": failed to call webhook: Post .*connection refused'
        with pytest.raises(ApiRefused, match=down) as refused:
            api.ask("PATCH", f"{path}/{story.name}", wish, "application/merge-patch+json")
        assert refused.value.status == 500
        said = {"status": {"description": "x"}}
        assert api.ask("PATCH", f"{path}/{story.name}/status", said, "application/merge-patch+json")
        seldon.operator.start()
        wait_for(lambda: story.told[-1] == "Available, ready", "until it is looked at again")


@pytest.mark.long
def test_while_it_restarts_the_old_state_stays(seldon: SeldonParts, story: Story) -> None:
    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    before = seldon.wait_until_serving(story.name)
    with seldon.operator.restarting():
        seldon.kubectl.apply(seldon.manifest(story.name, better=100))
        now = wait_for(lambda: (one := seldon.get(story.name))["metadata"]["generation"] == 2 and one)
        assert now["status"] == before["status"]
        assert not seldon.operator.settled(now)
    seldon.wait_until_serving(story.name)
    wait_for(lambda: seldon.answering(story.name) == "better")


@pytest.mark.long
def test_scaling_by_load_comes_and_goes(seldon: SeldonParts, story: Story) -> None:
    resource = {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 70}}
    scaling = {"minReplicas": 1, "maxReplicas": 2, "metricsv2": [{"type": "Resource", "resource": resource}]}
    component = {"hpaSpec": scaling, "pdbSpec": {"maxUnavailable": 1}}
    name = f"{story.name}-main-0-{GRAPH}"
    kinds = "horizontalpodautoscalers,poddisruptionbudgets"
    scaled = changed(seldon.manifest(story.name, good=100), lambda found: found[0].update(componentSpecs=[component]))
    seldon.kubectl.apply(scaled)
    status = seldon.wait_until_serving(story.name)["status"]
    reasons = {one["type"]: one.get("reason") for one in status["conditions"]}
    assert reasons["HpasReady"] == "All HPAs resources ready"
    assert reasons["PdbsReady"] == "All PDBs resources ready"
    assert seldon.kubectl("get", kinds, "-o", "name").count(name) == 2

    seldon.kubectl.apply(seldon.manifest(story.name, good=100))
    seldon.wait_until_serving(story.name)
    wait_for(lambda: name not in seldon.kubectl("get", kinds, "-o", "name"))
