"""Errors that no retry can mend fail the task at once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from airflow_mlplatform.exceptions import CheckFailed, ConfigurationError, PromotionConflict, ServiceRefused

__all__ = ["failing_fast"]


@contextmanager
def failing_fast() -> Iterator[None]:
    """Turn lasting mistakes into :class:`AirflowFailException`, which Airflow does not retry; let outages pass.

    :raises AirflowFailException: for a configuration mistake, a refused request, data that failed its checks, or a
        champion that changed meanwhile.
    """
    try:
        yield
    except (ConfigurationError, ServiceRefused, CheckFailed, PromotionConflict) as error:
        raise AirflowFailException(str(error)) from error
