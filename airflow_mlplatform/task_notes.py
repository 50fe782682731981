"""What the scheduler has to say to a task that cannot speak for itself: into its log, and about its retries."""

from __future__ import annotations

import json
import logging
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from logging import FileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from airflow.configuration import conf
from airflow.logging_config import get_remote_task_log
from airflow.models.taskinstance import TaskInstance
from airflow.utils.log.file_task_handler import FileTaskHandler
from airflow.utils.session import create_session
from airflow.utils.sqlalchemy import with_row_locks
from airflow.utils.state import TaskInstanceState
from sqlalchemy import select, update
from sqlalchemy.exc import SQLAlchemyError

if TYPE_CHECKING:
    from airflow.models.taskinstancekey import TaskInstanceKey
    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.sql.dml import ReturningUpdate

__all__ = ["TaskNotes", "keep_try", "spend_retries", "state_of", "unfinished"]

log = logging.getLogger(__name__)

Level = Literal["warning", "error"]
UNFINISHED = (TaskInstanceState.QUEUED, TaskInstanceState.RUNNING, TaskInstanceState.SCHEDULED)
# Airflow shows every file whose name begins with that of the try's log.
SUFFIX = "pod"


class TaskNotes:
    """Lines in the logs of tasks, beside what the tasks themselves wrote.

    They are written by a thread of its own: logs may lie on a service that is slow or away, and the scheduler must not
    wait for it.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None

    def add(self, key: TaskInstanceKey, message: str, level: Level) -> None:
        """Write a line into the log of one try, soon."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="task-notes")
        line = {"timestamp": datetime.now(UTC).isoformat(), "level": level, "event": message, "logger": __name__}
        self._thread.submit(_write, key, json.dumps(line)).add_done_callback(_complain)

    def close(self) -> None:
        """Wait until all is written."""
        if self._thread:
            self._thread.shutdown()


def unfinished(key: TaskInstanceKey) -> bool:
    """Whether a try has not ended for Airflow, as far as its database can be asked."""
    found = _execute(select(TaskInstance.id).where(*_try(key), TaskInstance.state.in_(UNFINISHED)))
    return found is None or bool(found)


def state_of(key: TaskInstanceKey) -> str | None:
    """Return the state of a try; ``None`` if it is not the present one, or the database does not answer."""
    found = _execute(select(TaskInstance.state).where(*_try(key)))
    return str(found[0].state) if found else None


def spend_retries(key: TaskInstanceKey) -> None:
    """Leave the task no retries; clearing it gives them back."""
    _execute(update(TaskInstance).where(*_try(key)).values(max_tries=key.try_number - 1).returning(TaskInstance.id))


def keep_try(key: TaskInstanceKey) -> None:
    """Keep the record of a try that never ran, if another one will follow: without it nobody can read its log.

    Airflow does so for tries that ran, by the same method.
    """
    never_ran = select(TaskInstance).where(*_try(key), TaskInstance.state == TaskInstanceState.QUEUED)
    try:
        with create_session(scoped=False) as session:
            ti = session.scalar(with_row_locks(never_ran, session, of=TaskInstance, skip_locked=True))
            if ti and ti.is_eligible_to_retry():
                ti.prepare_db_for_next_try(session)
    except SQLAlchemyError as why:
        log.warning("The record of a try that never ran is not kept: %s", why)


def _execute(statement: Select[Any] | ReturningUpdate[Any]) -> list[Any] | None:
    try:
        # Not the session of the scheduler, whose transaction is not ours to commit.
        with create_session(scoped=False) as session:
            return list(session.execute(statement))
    except SQLAlchemyError as why:
        log.warning("Airflow's database did not answer about a task whose pod has a problem: %s", why)
        return None


def _task(key: TaskInstanceKey) -> tuple[ColumnElement[bool], ...]:
    of = TaskInstance
    return of.dag_id == key.dag_id, of.task_id == key.task_id, of.run_id == key.run_id, of.map_index == key.map_index


def _try(key: TaskInstanceKey) -> tuple[ColumnElement[bool], ...]:
    return *_task(key), TaskInstance.try_number == key.try_number


def _write(key: TaskInstanceKey, line: str) -> None:
    with create_session(scoped=False) as session:
        ti = session.scalar(select(TaskInstance).where(*_task(key)))
        if ti is None:
            return
        session.expunge(ti)
    # The task may have gone on to its next try; the line belongs to this one.
    ti.try_number = key.try_number
    path = _file_of(ti)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    if remote := get_remote_task_log():
        remote.upload(path, ti)


def _file_of(ti: TaskInstance) -> Path:
    """Make the file beside the log of that try, where Airflow looks for it and with the permissions that it wants."""
    with closing(FileTaskHandler(conf.get_mandatory_value("logging", "base_log_folder"), delay=True)) as handler:
        handler.set_context(ti, identifier=SUFFIX)
        assert isinstance(handler.handler, FileHandler)
        return Path(handler.handler.baseFilename)


def _complain(done: Future[None]) -> None:
    if not done.cancelled() and (why := done.exception()):
        log.warning("The reason of a failed pod is not in the log of its task: %s", why)
