"""The scripts of helm-values, which are no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

VALUES = Path(__file__).parents[3] / "helm-values"


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def make_secrets() -> ModuleType:
    return _load(VALUES / "platform" / "files" / "make_secrets.py")


@pytest.fixture(scope="session")
def prerequisites() -> ModuleType:
    return _load(VALUES / "prerequisites.py")
