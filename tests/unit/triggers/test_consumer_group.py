"""When a consumer group counts as well, by several looks at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from airflow_mlplatform.clients.kafka_group import GroupLook
from airflow_mlplatform.exceptions import ServiceUnavailable
from airflow_mlplatform.triggers.consumer_group import GroupHealth

BOTH = frozenset({"a", "b"})


def stable(lag: int = 0, members: frozenset[str] = BOTH, *, committed: bool = True) -> GroupLook:
    behind = {("t", 0): lag} if lag else {}
    return GroupLook("STABLE", members, behind, frozenset() if committed else frozenset(behind))


def health(*looks: GroupLook, max_lag: int | None = None) -> GroupHealth:
    """A group that is looked at once a second and has to be stable for two."""
    seen: Iterator[GroupLook] = iter(looks)
    clock = iter(range(100))

    return GroupHealth(lambda: next(seen), "g", 2, 2, max_lag, clock=lambda: next(clock))


async def answers(*looks: GroupLook, **options: Any) -> list[str | None]:
    asked = health(*looks, **options)
    return [await asked.missing() for _ in looks]


async def test_it_has_to_be_stable_for_a_while() -> None:
    told = await answers(stable(), stable(), stable())
    assert told == ["consumer group g is stable with 2 members, but not for long"] * 2 + [None]


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (GroupLook("DEAD", frozenset()), "consumer group g is dead and has 0 of 2 members"),
        (GroupLook("PREPARING_REBALANCING", BOTH), "consumer group g is preparing rebalancing and has 2 of 2 members"),
        (stable(members=frozenset({"a"})), "consumer group g is stable and has 1 of 2 members"),
    ],
)
async def test_what_is_missing_is_told(look: GroupLook, message: str) -> None:
    assert await answers(look) == [message]


async def test_other_members_start_the_time_anew() -> None:
    others = stable(members=frozenset({"a", "c"}))
    told = await answers(stable(), stable(), others, others, others)
    assert [one is None for one in told] == [False, False, False, False, True]


async def test_lag_has_to_fall_or_be_none() -> None:
    told = await answers(*[stable(10)] * 4, stable(12), stable(11))
    assert told[3:] == ["consumer group g is 10 records behind, and not fewer than before", told[4], None]
    assert "12 records behind" in str(told[4])


async def test_a_limit_for_the_lag() -> None:
    told = await answers(*[stable(10)] * 4, stable(5), max_lag=5)
    assert told[3] == "consumer group g is 10 records behind, more than 5"
    assert told[4] is None


async def test_a_group_that_never_commits_is_not_well() -> None:
    told = await answers(*[stable(10, committed=False)] * 4)
    assert told[3] == "consumer group g is 10 records behind, with no offset committed for t-0"


async def test_an_outage_is_no_judgement() -> None:
    def away() -> GroupLook:
        raise ServiceUnavailable("Kafka is away")

    with pytest.raises(ServiceUnavailable):
        await GroupHealth(away, "g", 1, 0).missing()
