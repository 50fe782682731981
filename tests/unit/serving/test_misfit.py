"""Why a model and the image of its server do not go together, told by what MLflow and Python print."""

from __future__ import annotations

import pytest

from airflow_mlplatform.serving.misfit import causes, differences

PYTHON = (
    "2026/11/22 15:55:10 WARNING mlflow.pyfunc: The version of Python that the model was saved in, `Python 3.12.1`, "
    "differs from the version of Python that is currently running, `Python 3.11.2`, and may be incompatible"
)
PACKAGES = """WARNING: Detected one or more mismatches between the model's dependencies and the environment:
 - scikit-learn (current: 1.3.2, required: scikit-learn==1.9.1)
 - xgboost (current: uninstalled, required: xgboost==3.0)
To fix the mismatches, call `mlflow.pyfunc.get_model_dependencies(model_uri)`"""


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([PYTHON, *PACKAGES.splitlines()], []),
        (["TypeError: code() argument 13 must be str, not int"], ["made with Python 3.13.0, whose pickles"]),
        (["TypeError: code expected at most 16 arguments, got 18"], ["made with Python 3.13.0, whose pickles"]),
        (["ModuleNotFoundError: No module named 'sklearn.foo'"] * 2, ["lacks the package sklearn"]),
        (["ImportError: cannot import name 'f' from 'a.b' (/x)"], ["another version of a.b, without f"]),
    ],
)
def test_what_keeps_a_server_from_serving(lines: list[str], found: list[str]) -> None:
    told = causes(lines, "3.13.0")
    assert len(told) == len(found)
    assert all(part in text for part, text in zip(found, told, strict=True))


def test_what_may_do_no_harm() -> None:
    assert differences(["INFO: ready"]) == []
    told = differences([PYTHON, PYTHON, *PACKAGES.splitlines()])
    assert len(told) == 3
    assert "made with Python 3.12.1 and the image runs Python 3.11.2" in told[0]
    assert told[1:] == [
        "the model was made with scikit-learn==1.9.1 and the image has 1.3.2",
        "the model was made with xgboost==3.0 and the image lacks it",
    ]
