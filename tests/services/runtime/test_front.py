"""The front as its users see it: requests, replacement, failure, death and removal."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.services.runtime.conftest import Crowd, ask, deploy, eventually, processes, servers, wish

if TYPE_CHECKING:
    from airflow_mlplatform.runtime.serving import LocalServing


@pytest.fixture
def front(serving: LocalServing, tmp_path: Path) -> LocalServing:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    return serving


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE, "it is dead")


def test_a_request_reaches_the_server_as_it_was_sent(front: LocalServing) -> None:
    answer = httpx.post(
        f"{front.url('wine')}/invocations?a=b%2Fc&d",
        content=b"x" * 0 + b'{"a": 1}',
        headers={"x-mine": "yes"},
        trust_env=False,
    )
    told = answer.json()
    assert told["path"] == "/invocations?a=b%2Fc&d"
    assert told["size"] == 8
    assert told["headers"]["x-mine"] == "yes"
    assert answer.headers["x-mlplatform-model-version"] == "1"
    assert len(answer.headers.get_list("date")) == 1


def test_a_large_body_is_passed_on_whole(front: LocalServing) -> None:
    body = b'{"a": "' + b"x" * 5_000_000 + b'"}'
    assert httpx.post(f"{front.url('wine')}/invocations", content=body, trust_env=False).json()["size"] == len(body)


def test_a_client_that_goes_away_holds_up_nothing(front: LocalServing, tmp_path: Path) -> None:
    url = httpx.URL(front.url("wine"))
    with socket.create_connection((url.host, url.port or 80)) as client:
        client.sendall(b"POST /wine/invocations HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{")
    assert ask(front).status_code == 200
    assert deploy(front, tmp_path, "2").result == "ready"
    eventually(lambda: len(servers(front)) == 1, "the former server need not wait for that client")
    wish = front.folder.endpoint("wine").desired()
    assert wish is not None
    assert wish.drain_timeout >= 30
    assert ask(front).json()["version"] == "2"


def test_an_unknown_endpoint_says_which_there_are(front: LocalServing) -> None:
    answer = ask(front, name="wien")
    assert answer.status_code == 404
    assert answer.json() == {"error": "no endpoint 'wien'; there are: wine"}


def test_the_overview_is_for_programs_and_for_people(front: LocalServing) -> None:
    root = front.url("wine").removesuffix("/wine")
    (row,) = httpx.get(root, trust_env=False).json()["endpoints"]
    assert (row["endpoint"], row["model"], row["version"], row["phase"]) == ("wine", "wine", "1", "ready")
    page = httpx.get(root, headers={"accept": "text/html"}, trust_env=False)
    assert page.headers["content-type"].startswith("text/html")
    assert "/wine/invocations" in page.text


def test_a_replacement_refuses_no_request(front: LocalServing, tmp_path: Path) -> None:
    with Crowd(front.url("wine")) as crowd:
        eventually(lambda: len(crowd.versions) > 50, "the first version answers")
        for version in ("2", "3"):
            outcome = deploy(front, tmp_path, version, start=0.5)
            assert (outcome.result, outcome.former_version) == ("ready", str(int(version) - 1))
            seen = len(crowd.versions)
            eventually(lambda seen=seen: len(crowd.versions) > seen + 50, f"version {version} answers")
    assert crowd.refused == []
    assert crowd.versions == sorted(crowd.versions, key=int) or _only_late_answers(crowd.versions)
    assert crowd.versions[-1] == "3"
    eventually(lambda: len(servers(front)) == 1, "the former servers are gone")


def _only_late_answers(versions: list[str]) -> bool:
    """Whether versions only mix where answers of the former were still on their way."""
    first = versions.index("3")
    return "1" not in versions[first:]


def test_a_candidate_that_dies_leaves_the_former_serving(front: LocalServing, tmp_path: Path) -> None:
    with Crowd(front.url("wine"), size=2) as crowd:
        outcome = deploy(front, tmp_path, "2", exit=3)
    assert outcome.result == "failed"
    assert "exit code 3" in outcome.message
    assert "'lightgbm'" in outcome.message
    assert crowd.refused == []
    assert set(crowd.versions) == {"1"}
    assert len(servers(front)) == 1


def test_a_candidate_that_never_answers_is_given_up(front: LocalServing, tmp_path: Path) -> None:
    outcome = deploy(front, tmp_path, "2", silent=True, ready_timeout=1)
    assert outcome.result == "failed"
    assert "not ready in time" in outcome.message
    assert ask(front).json()["version"] == "1"
    eventually(lambda: len(servers(front)) == 1, "the candidate is gone")


def test_a_failed_wish_may_be_tried_again(front: LocalServing, tmp_path: Path) -> None:
    assert deploy(front, tmp_path, "2", exit=1).result == "failed"
    assert deploy(front, tmp_path, "2").result == "ready"
    assert ask(front).json()["version"] == "2"


def test_going_back_to_what_still_serves_starts_nothing(front: LocalServing, tmp_path: Path) -> None:
    before = servers(front)
    assert deploy(front, tmp_path, "2", exit=1).result == "failed"
    assert deploy(front, tmp_path, "1").result == "ready"
    assert servers(front) == before


def test_the_same_wish_again_is_the_same_generation(front: LocalServing, tmp_path: Path) -> None:
    before = servers(front)
    assert wish(front, tmp_path, "1") == wish(front, tmp_path, "1") == 1
    assert deploy(front, tmp_path, "1").result == "ready"
    assert servers(front) == before


def test_a_later_wish_supersedes_one_that_is_coming_up(front: LocalServing, tmp_path: Path) -> None:
    slow = wish(front, tmp_path, "2", silent=True)
    eventually(lambda: len(servers(front)) == 2, "the second is starting")
    assert deploy(front, tmp_path, "3").result == "ready"
    outcome = front.outcome("wine", slow)
    assert outcome is not None
    assert outcome.result == "superseded"
    assert "version 3" in outcome.message
    eventually(lambda: len(servers(front)) == 1, "the others are gone")


def test_a_slow_request_ends_on_the_former_server(front: LocalServing, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    answers: list[dict[str, object]] = []

    def slow() -> None:
        url = f"{front.url('wine')}/invocations"
        answers.append(httpx.post(url, json={"wait_for": str(gate)}, timeout=60, trust_env=False).json())

    asking = threading.Thread(target=slow)
    asking.start()
    eventually(lambda: Path(f"{gate}.started").exists(), "the request is on its way")
    assert deploy(front, tmp_path, "2").result == "ready"
    assert ask(front).json()["version"] == "2"
    assert len(servers(front)) == 2
    gate.touch()
    asking.join()
    assert answers[0]["version"] == "1"
    eventually(lambda: len(servers(front)) == 1, "the former server is gone")


def test_a_killed_server_comes_back(front: LocalServing) -> None:
    (former,) = servers(front)
    kill(former)
    eventually(lambda: ask(front).status_code == 200, "it answers again")
    assert servers(front) != {former}
    assert len(servers(front)) == 1


def test_without_a_server_the_answer_is_503_with_retry_after(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    wish(serving, tmp_path, "1", silent=True)
    answer = eventually(lambda: (a := ask(serving)).status_code == 503 and a, "the endpoint is known")
    assert int(answer.headers["retry-after"]) > 0
    assert "starting wine version 1" in answer.json()["error"]


def test_replicas_share_the_load_and_cover_for_each_other(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1", replicas=2).result == "ready"
    assert {ask(serving).json()["pid"] for _ in range(6)} == servers(serving)
    kill(servers(serving).pop())
    assert {ask(serving).status_code for _ in range(20)} == {200}
    eventually(lambda: len(servers(serving)) == 2, "the dead one is replaced")


def test_a_request_whose_server_dies_is_told_so(front: LocalServing) -> None:
    answer = ask(front, "die")
    assert answer.status_code == 502
    assert "ask again" in answer.json()["error"]


def test_a_killed_front_leaves_servers_that_the_next_one_adopts(front: LocalServing, tmp_path: Path) -> None:
    before = servers(front)
    kill(front.ensure_front().process.pid)
    assert servers(front) == before
    front.ensure_front()
    assert ask(front).json()["pid"] in before
    assert servers(front) == before
    assert deploy(front, tmp_path, "2").result == "ready"
    eventually(lambda: len(servers(front)) == 1, "the adopted server is gone")


def test_a_front_killed_while_it_switches_doubles_nothing(front: LocalServing, tmp_path: Path) -> None:
    before = servers(front)
    generation = wish(front, tmp_path, "2", start=1)
    eventually(lambda: len(servers(front)) == 2, "the candidate is starting")
    kill(front.ensure_front().process.pid)
    lost = front.outcome("wine", generation)
    assert lost is not None
    assert lost.result == "lost"
    front.ensure_front()
    assert deploy(front, tmp_path, "2", start=1).result == "ready"
    eventually(lambda: len(servers(front)) == 1, "one server is left")
    assert not servers(front) & before
    assert ask(front).json()["version"] == "2"


def test_after_a_reboot_the_last_good_version_serves_again(front: LocalServing, tmp_path: Path) -> None:
    assert deploy(front, tmp_path, "2", exit=1).result == "failed"
    for pid in processes(front):
        kill(pid)
    front.ensure_front()
    answer = eventually(lambda: (a := ask(front)).status_code == 200 and a, "it answers again")
    assert answer.json()["version"] == "1"
    assert len(servers(front)) == 1


def test_removal_leaves_nothing(front: LocalServing, tmp_path: Path) -> None:
    front.remove("wine")
    front.remove("never-there")
    assert servers(front) == set()
    eventually(lambda: ask(front).status_code == 404, "the front has forgotten it")
    assert front.status("wine") is None
    assert deploy(front, tmp_path, "4").result == "ready"
    assert ask(front).json()["version"] == "4"


def test_one_damaged_endpoint_costs_the_others_nothing(front: LocalServing, tmp_path: Path) -> None:
    other = front.folder.endpoint("other")
    other.make()
    other.desired_path.write_text("{")
    other.status_path.write_text("[]")
    kill(front.ensure_front().process.pid)
    front.ensure_front()
    assert deploy(front, tmp_path, "2").result == "ready"
    assert "other/desired.json" in front.folder.front_log.read_text()
    assert deploy(front, tmp_path, "3", name="other").result == "ready"


def test_sigterm_to_the_front_ends_its_servers(front: LocalServing) -> None:
    psutil.Process(front.ensure_front().process.pid).terminate()
    eventually(lambda: not processes(front), "all are gone")


def test_a_front_whose_folder_is_deleted_ends_with_its_servers(front: LocalServing) -> None:
    shutil.rmtree(front.folder.path)
    eventually(lambda: not processes(front), "all are gone")
