"""Real processes that outlive their starter; killed, started twice, lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psutil
import pytest

from airflow_mlplatform.exceptions import ProcessFailed
from airflow_mlplatform.runtime.local import Identity, LocalProcess, ProcessFolder, inherited_environment
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "process"
    yield folder
    LocalProcess(folder).stop(grace=0.1)


def start(folder: Path, script: str, **env: str) -> LocalProcess:
    return LocalProcess.ensure(folder, ["bash", "-c", script], {**os.environ, **env}, folder.parent)


def identity(folder: Path) -> Identity:
    found = ProcessFolder(folder).identity
    assert found is not None
    return found


def test_output_and_exit_code(folder: Path) -> None:
    process = start(folder, "echo one; echo two >&2; printf 'half a line'; exit 3")
    assert list(process.follow()) == ["one", "two", "half a line"]
    assert (process.exit_code, process.alive) == (3, False)


def test_lines_are_yielded_while_it_runs(folder: Path) -> None:
    process = start(folder, f"echo first; while [ ! -e {folder}/go ]; do sleep 0.05; done; echo second")
    lines = process.follow()
    assert next(lines) == "first"
    assert process.alive
    assert process.exit_code is None
    (folder / "go").touch()
    assert list(lines) == ["second"]


def test_bytes_that_are_no_text_progress_bars_and_endless_lines(folder: Path) -> None:
    script = r"printf '\xff\n'; printf '10%%\r100%%\n'; printf '\r\n'; head -c 300000 /dev/zero | tr '\0' x"
    lines = list(start(folder, script).follow())
    assert lines[:3] == ["\ufffd", "100%", ""]
    assert "".join(lines[3:]) == "x" * 300_000
    assert max(map(len, lines)) <= 2 * 64 * 1024


def test_it_outlives_a_starter_that_is_killed(folder: Path, tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys, time\n"
        "from airflow_mlplatform.runtime.local import LocalProcess\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "LocalProcess.ensure(folder, ['bash', '-c', sys.argv[2]], dict(os.environ), folder)\n"
        "print('started', flush=True); time.sleep(600)\n"
    )
    script = f"echo once >> {tmp_path}/work; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done; echo done; exit 4"
    starter = subprocess.Popen([sys.executable, "-c", code, str(folder), script], stdout=subprocess.PIPE)
    assert starter.stdout is not None
    assert starter.stdout.readline() == b"started\n"
    starter.kill()
    starter.wait()
    starter.stdout.close()
    process = LocalProcess.attach(folder)
    assert process is not None
    assert process.alive
    (tmp_path / "go").touch()
    assert list(process.follow()) == ["done"]
    assert process.exit_code == 4
    # A third one, after the end, finds the end and starts nothing.
    again = start(folder, script)
    assert (list(again.follow()), again.exit_code) == (["done"], 4)
    assert (tmp_path / "work").read_text() == "once\n"


def test_many_at_once_start_one(folder: Path, tmp_path: Path) -> None:
    script = f"echo once >> {tmp_path}/work; sleep 0.5"
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: start(folder, script), range(8)))
    for process in found:
        list(process.follow())
    assert [process.exit_code for process in found] == [0] * 8
    assert (tmp_path / "work").read_text() == "once\n"


def test_lost_without_a_trace_it_is_started_again_and_its_orphans_end(folder: Path, tmp_path: Path) -> None:
    script = (
        f"echo once >> {tmp_path}/work; echo $$ > {tmp_path}/pid; while [ ! -e {tmp_path}/go ]; do sleep 0.05; done"
    )
    process = start(folder, script)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip())
    orphan = int((tmp_path / "pid").read_text())
    os.kill(identity(folder).pid, signal.SIGKILL)
    wait_for(lambda: not process.alive)
    assert list(process.follow()) == []
    assert process.exit_code is None
    again = start(folder, f"echo twice >> {tmp_path}/work")
    list(again.follow())
    assert again.exit_code == 0
    assert (tmp_path / "work").read_text() == "once\ntwice\n"
    wait_for(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == psutil.STATUS_ZOMBIE)


def test_a_later_process_with_the_same_pid_is_not_taken_for_it(folder: Path) -> None:
    start(folder, "true").follow()
    mine = Identity.own()
    assert mine.alive
    assert not Identity(mine.pid, mine.started - 60).alive
    assert not Identity(2**22 + 1, mine.started).alive


def test_stop_ends_the_whole_tree_even_what_ignores_the_request(folder: Path) -> None:
    process = start(folder, "trap '' TERM; (trap '' TERM; sleep 600) & echo ready; sleep 600; sleep 600")
    assert next(process.follow()) == "ready"
    leader = identity(folder)
    process.stop(grace=0.2)
    assert not process.alive
    assert process.exit_code is not None
    assert process.exit_code != 0
    assert [member for member in leader.members() if member.status() != psutil.STATUS_ZOMBIE] == []


def test_stop_asks_first(folder: Path) -> None:
    process = start(folder, "trap 'echo tidied up; exit 9' TERM; echo ready; while true; do sleep 0.05; done")
    lines = process.follow()
    assert next(lines) == "ready"
    process.stop(grace=10)
    assert "tidied up" in list(lines)
    assert process.exit_code == 9


def test_what_the_command_leaves_running_ends_with_it(folder: Path, tmp_path: Path) -> None:
    process = start(folder, f"sleep 600 & echo $! > {tmp_path}/pid")
    list(process.follow())
    child = int((tmp_path / "pid").read_text())
    wait_for(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_program_that_is_missing(folder: Path) -> None:
    process = LocalProcess.ensure(folder, ["no-such-program"], dict(os.environ), folder.parent)
    assert "cannot run no-such-program" in "\n".join(process.follow())
    assert process.exit_code == 127


def test_a_folder_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "process").mkdir()
    (tmp_path / "process" / "log").mkdir()
    with pytest.raises(ProcessFailed, match=r"was not started in .*writable"):
        start(tmp_path / "process", "true")


def test_secrets_in_the_environment_are_not_written(folder: Path) -> None:
    process = start(folder, 'test "$TOKEN" = s3cr3t-t0k3n', TOKEN="s3cr3t-t0k3n")
    list(process.follow())
    assert process.exit_code == 0
    assert all(b"s3cr3t-t0k3n" not in file.read_bytes() for file in folder.iterdir())


def test_projects_do_not_see_airflows_own_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://secret")
    monkeypatch.setenv("AIRFLOW_CONN_SHOP", "postgresql://secret")
    monkeypatch.setenv("MY_SETTING", "kept")
    environment = inherited_environment()
    assert environment["MY_SETTING"] == "kept"
    assert not [name for name in environment if "AIRFLOW" in name]


def test_forget(folder: Path) -> None:
    process = start(folder, "true")
    list(process.follow())
    process.forget()
    assert LocalProcess.attach(folder) is None
