from __future__ import annotations

import pytest

from airflow_mlplatform.runtime.share import Share


@pytest.mark.parametrize(("percent", "of"), [(0, 1), (5, 20), (25, 4), (33, 100), (50, 2), (100, 1)])
def test_a_share_is_exact_in_every_block(percent: int, of: int) -> None:
    share = Share(percent)
    for _ in range(10):
        assert sum(share.turn() for _ in range(of)) == percent * of // 100


def test_no_pattern_meets_one_predictor_only() -> None:
    share = Share(50)
    turns = [share.turn() for _ in range(200)]
    assert len(set(turns[::2])) == 2
    assert len(set(turns[1::2])) == 2
