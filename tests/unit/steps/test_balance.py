from __future__ import annotations

import random

import pytest

from airflow_mlplatform.steps.balance import balanced


@pytest.mark.parametrize(
    ("sizes", "parts", "expected"),
    [
        ([100, *[10] * 10], 2, [100, 100]),
        ([1, 1, 100, 1, 1, 100], 2, [102, 102]),
        ([10, 20, 10], 2, [30, 10]),
        ([5], 4, [5]),
        ([], 3, []),
        ([0, 0, 0, 0, 0], 3, [0, 0, 0]),
        ([10**12, 1, 1, 1], 4, [10**12, 1, 1, 1]),
    ],
)
def test_parts_are_about_the_same_size(sizes: list[int], parts: int, expected: list[int]) -> None:
    found = balanced(sizes, sizes, parts)
    assert [sum(part) for part in found] == expected
    assert all(found)


def test_nothing_is_lost_and_the_order_stays() -> None:
    chance = random.Random(7)
    for _ in range(200):
        sizes = [chance.choice([0, 1, 10, 1000, 10**9]) for _ in range(chance.randint(1, 60))]
        parts = chance.randint(2, 20)
        found = balanced(list(enumerate(sizes)), sizes, parts)
        assert [thing for part in found for thing in part] == list(enumerate(sizes))
        assert len(found) == min(parts, len(sizes))
        assert max(sum(max(size, 1) for _, size in part) for part in found) <= sum(sizes) / parts + max(sizes) + 60
