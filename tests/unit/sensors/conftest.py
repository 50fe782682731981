from __future__ import annotations

from tests.unit.triggers.conftest import registry

__all__ = ["registry"]
