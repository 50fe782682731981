"""Every error this package raises on purpose.

::

    MlplatformError
    ├── SpecError                a spec file is wrong; carries every problem with file, line and column
    ├── ConfigurationError       a mistake that no retry can mend: wrong argument, missing setting, unknown name
    │   └── UnsupportedHere      a right wish that this runtime cannot fulfil
    ├── ServiceError             a service that we depend on
    │   ├── ServiceUnavailable   did not answer, or said that it cannot now: worth a retry
    │   └── ServiceRefused       understood the request and refused it
    │       └── NotFound         because what it names is not there
    ├── ConnectorFailed          a Kafka connector, or one of its tasks, does not run; carries its own trace
    ├── CheckFailed              data did not pass the checks of its spec
    ├── ProcessFailed            a process or pod ended with an error; carries its exit code and last lines
    ├── ServingFailed            a model server did not come up or gave wrong answers
    └── PromotionConflict        the champion changed between the comparison and the promotion
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_mlplatform.specs.problems import Problem

__all__ = [
    "CheckFailed",
    "ConfigurationError",
    "ConnectorFailed",
    "MlplatformError",
    "NotFound",
    "ProcessFailed",
    "PromotionConflict",
    "ServiceError",
    "ServiceRefused",
    "ServiceUnavailable",
    "ServingFailed",
    "SpecError",
    "UnsupportedHere",
]


class MlplatformError(Exception):
    """Base of every error that this package raises on purpose."""


class SpecError(MlplatformError, SyntaxError):
    """A spec file cannot be used.

    It is a ``SyntaxError`` so that tracebacks, and with them Airflow's import errors, show the YAML line.

    :param problems: every problem found, in the order of the file; at least one.
    :param line: the text of the line of the first problem, for the traceback.
    """

    def __init__(self, problems: Sequence[Problem], line: str = "") -> None:
        first = problems[0]
        self.problems = tuple(problems)
        message = "\n".join(str(problem) for problem in problems)
        SyntaxError.__init__(self, message, (first.path, first.line, first.column, line))

    def __str__(self) -> str:
        return self.msg


class ConfigurationError(MlplatformError):
    """A mistake that no retry can mend; operators fail at once on it."""


class UnsupportedHere(ConfigurationError):
    """A right wish that this runtime cannot fulfil."""


class ServiceError(MlplatformError):
    """A service that we depend on failed us."""


class ServiceUnavailable(ServiceError):
    """The service did not answer, or said that it cannot now; a retry may help."""


class ServiceRefused(ServiceError):
    """The service understood the request and refused it; a retry will not help."""


class NotFound(ServiceRefused):
    """What the request names is not there."""


class ConnectorFailed(MlplatformError):
    """A Kafka connector, or one of its tasks, does not run; a retry may help."""


class CheckFailed(MlplatformError):
    """Data did not pass the checks of its spec."""


class ProcessFailed(MlplatformError):
    """A process or pod ended with an error.

    :param message: what ran, how it ended and what to do next.
    :param exit_code: the exit code; negative for a signal; ``None`` if it vanished without one.
    """

    def __init__(self, message: str, exit_code: int | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class ServingFailed(MlplatformError):
    """A model server did not come up, or gave wrong answers."""


class PromotionConflict(MlplatformError):
    """The champion changed between the comparison and the promotion."""
