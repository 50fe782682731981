"""The deploying side: one front however many start it, addresses, names, stopping."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from airflow_mlplatform.exceptions import ConfigurationError, ServiceUnavailable
from airflow_mlplatform.runtime.model_server import free_port
from airflow_mlplatform.runtime.serving import LocalServing
from airflow_mlplatform.runtime.serving_folder import base_url, parse_address
from tests.services.runtime.conftest import PROGRAM, ask, deploy, eventually, processes, servers, wish

if TYPE_CHECKING:
    from pathlib import Path

STARTER = """
import sys, time
from pathlib import Path
from airflow_mlplatform.runtime.serving import LocalServing
LocalServing(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]).ensure_front()
print("started", flush=True)
time.sleep(600)
"""


def starter(serving: LocalServing) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", STARTER, str(serving.folder.path.parent), serving.address, *PROGRAM]
    return subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)


def test_many_starters_make_one_front(serving: LocalServing) -> None:
    with ThreadPoolExecutor(8) as pool:
        fronts = list(pool.map(lambda _: serving.ensure_front(), range(8)))
    assert len({front.process.pid for front in fronts}) == 1
    assert processes(serving) == {fronts[0].process.pid}


def test_starters_in_several_processes_make_one_front(serving: LocalServing) -> None:
    starters = [starter(serving) for _ in range(3)]
    try:
        for each in starters:
            assert each.stdout is not None
            assert each.stdout.readline() == b"started\n"
        assert processes(serving) == {serving.ensure_front().process.pid}
    finally:
        for each in starters:
            each.kill()
            each.wait()
            assert each.stdout is not None
            each.stdout.close()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_the_front_outlives_its_starter_and_all_its_group(
    serving: LocalServing, tmp_path: Path, number: signal.Signals
) -> None:
    starting = starter(serving)
    assert starting.stdout is not None
    starting.stdout.readline()
    front = serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    os.killpg(starting.pid, number)
    starting.kill()  # where signals are ignored, as under nohup
    starting.wait()
    starting.stdout.close()
    assert serving.ensure_front() == front
    assert ask(serving).status_code == 200


def test_a_starter_killed_at_once_leaves_one_front_or_none(serving: LocalServing) -> None:
    starting = starter(serving)
    eventually(lambda: processes(serving), "the front process is there")
    starting.kill()
    starting.wait()
    assert starting.stdout is not None
    starting.stdout.close()
    assert processes(serving) == {serving.ensure_front().process.pid}


def test_a_taken_port_is_a_mistake_that_names_holder_and_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(ConfigurationError) as caught:
            LocalServing(tmp_path, address, PROGRAM).ensure_front()
    message = str(caught.value)
    assert address in message
    assert f"pid {os.getpid()}" in message
    assert "AIRFLOW__MLPLATFORM__SERVING_ADDRESS" in message


def test_an_address_of_another_machine_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="serving_address"):
        LocalServing(tmp_path, "192.0.2.1:8090", PROGRAM).ensure_front()


@pytest.mark.parametrize(
    "address", ["", "8090", "localhost", "localhost:", ":8090", "localhost:http", "localhost:0", "h:99999"]
)
def test_an_address_that_is_none_is_refused(address: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"write host:port"):
        LocalServing(tmp_path, address)


def test_addresses() -> None:
    assert parse_address("[::1]:80") == ("::1", 80)
    assert base_url("[::1]:80") == "http://[::1]:80"
    assert base_url("0.0.0.0:8090") == "http://127.0.0.1:8090"
    assert base_url("models.example.org:8090") == "http://models.example.org:8090"


def test_a_new_address_moves_the_front_and_what_it_serves(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    moved = LocalServing(tmp_path / "state", f"127.0.0.1:{free_port()}", PROGRAM)
    moved.ensure_front()
    eventually(lambda: ask(moved).status_code == 200, "it answers at the new address")
    assert len(servers(serving)) == 1


def test_a_front_that_cannot_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    serving = LocalServing(tmp_path, f"127.0.0.1:{free_port()}", (sys.executable, "-c", "raise SystemExit('no luck')"))
    with pytest.raises(ServiceUnavailable, match="no luck"):
        serving.ensure_front()


def test_missing_packages_say_which_extra_brings_them(tmp_path: Path) -> None:
    serving = LocalServing(tmp_path, f"127.0.0.1:{free_port()}", (sys.executable, "-c", "import starlette_is_missing"))
    with pytest.raises(ConfigurationError, match=r"airflow-mlplatform\[local\]"):
        serving.ensure_front()


@pytest.mark.parametrize("name", ["", "..", "a/b", "Wine", "-", "-wine", "wine.json", "x" * 64])
def test_names_that_cannot_be_an_endpoint(name: str, serving: LocalServing, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot name an endpoint"):
        wish(serving, tmp_path, "1", name=name)


def test_stop_leaves_nothing_and_may_be_repeated(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1", replicas=2).result == "ready"
    wish(serving, tmp_path, "2", silent=True)
    eventually(lambda: len(servers(serving)) == 3, "a candidate is starting")
    everything = processes(serving)
    assert len(everything) == 4
    serving.stop()
    serving.stop()
    assert not [pid for pid in everything if psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie"]


def test_stop_finds_servers_whose_front_was_killed(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    os.kill(serving.ensure_front().process.pid, signal.SIGKILL)
    assert servers(serving)
    serving.stop()
    assert not processes(serving)


def test_what_served_before_the_stop_serves_after_the_start(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    serving.stop()
    serving.ensure_front()
    answer = eventually(lambda: (a := ask(serving)).status_code == 200 and a, "it answers again")
    assert answer.json()["version"] == "1"


def test_a_front_of_another_version_is_replaced(serving: LocalServing, tmp_path: Path) -> None:
    former = serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    serving.folder.front_path.write_text('{"pid": 1}')
    assert serving.ensure_front() != former
    eventually(lambda: ask(serving).status_code == 200, "it answers again")
    assert len(processes(serving)) == 2


def test_two_folders_do_not_know_each_other(serving: LocalServing, tmp_path: Path) -> None:
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    other = LocalServing(tmp_path / "other", f"127.0.0.1:{free_port()}", PROGRAM)
    other.ensure_front()
    other.stop()
    assert ask(serving).status_code == 200


def test_a_model_s_code_sees_no_secrets_of_airflow(
    serving: LocalServing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "secret")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "secret")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
    serving.ensure_front()
    assert deploy(serving, tmp_path, "1").result == "ready"
    for pid in processes(serving):
        assert "secret" not in psutil.Process(pid).environ().values()


def test_the_folder_is_private(serving: LocalServing) -> None:
    assert serving.folder.path.stat().st_mode & 0o077 == 0
