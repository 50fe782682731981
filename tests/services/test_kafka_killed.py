"""Loads of a topic that are killed between any two lines: each record is in the pond once, and none is missing."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.services.etl_parts import bucket, minio, s3_site, site
from tests.services.kafka_parts import OFFSETS, Clicks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka_broker import KafkaBroker

__all__ = ["bucket", "minio", "s3_site", "site"]

EACH = 5
PLACES = [("site", ""), ("site", ".parquet"), ("s3_site", ""), ("s3_site", ".parquet")]
STAGES = ["fused", "separate"]


class Dying:
    """A process whose children load and die at a line of our choice."""

    def __init__(self, clicks: Clicks, stages: str, ending: str) -> None:
        task = {
            "folder": str(clicks.site.folder), "pond": clicks.site.pond, "topic": clicks.topic, "stages": stages,
            "ending": ending, "columns": {"id": "BIGINT"},
            "logins": {name: {**asdict(one), "extra": dict(one.extra)} for name, one in clicks.site.logins.items()},
        }  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.services.dying_kafka_load", json.dumps(task)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2],
        )  # fmt: skip

    def load(self, run: str, line: int = 0) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line} {run}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)


@dataclass
class Sent:
    """What has been produced: some records that parse, and one that does not, each time."""

    clicks: Clicks
    times: int = 0

    def again(self) -> None:
        good = [{"id": self.times * EACH + number} for number in range(EACH)]
        self.clicks.send([*good, b"nope"])
        self.times += 1

    def found(self) -> tuple[int, int]:
        """How often all of that has been loaded, and set aside; nothing of it twice."""
        rows, offsets = self.clicks.loaded()
        assert rows == offsets
        assert rows % EACH == 0
        ((bad, bad_offsets),) = self.clicks.site.rows("pond://aside", OFFSETS)
        assert bad == bad_offsets
        return rows // EACH, bad

    def demand_all(self, line: int) -> None:
        assert self.found() == (self.times, self.times), line


def killed_everywhere(clicks: Clicks, dying: Dying, first: int, step: int) -> int:
    """Kill a load at each ``step``-th line; retry it, or let another run come first; return how often it died."""
    sent, deaths = Sent(clicks), 0
    clicks.create(2)
    sent.again()
    assert dying.load("warm") == "done"
    for line in range(first, 10_000, step):
        sent.again()
        outcome = dying.load(f"r{line}", line)
        loaded, aside = sent.found()
        assert sent.times >= loaded >= aside >= sent.times - 1, line
        if outcome != "killed":
            assert outcome == "done"
            break
        deaths += 1
        if line // step % 2:
            # The run is given up for now; the next one comes, and then it is cleared after all.
            sent.again()
            assert dying.load(f"r{line}-next") == "done"
            sent.demand_all(line)
        assert dying.load(f"r{line}") == "done"
        sent.demand_all(line)
    assert clicks.rows("select id from input order by id") == [(number,) for number in range(sent.times * EACH)]
    return deaths


@pytest.fixture
def clicks(kafka: KafkaBroker, request: pytest.FixtureRequest) -> Clicks:
    return Clicks(kafka, request.getfixturevalue(request.param))


@pytest.fixture
def dying(clicks: Clicks, request: pytest.FixtureRequest) -> Iterator[Dying]:
    stages, ending = request.param
    process = Dying(clicks, stages, ending)
    yield process
    process.close()


def cases(stages: list[str]) -> pytest.MarkDecorator:
    all_cases = [(place, (how, ending)) for place, ending in PLACES for how in stages]
    ids = [f"{place}{how[1]}-{how[0]}" for place, how in all_cases]
    return pytest.mark.parametrize(("clicks", "dying"), all_cases, ids=ids, indirect=True)


@pytest.mark.parametrize(
    ("clicks", "dying"),
    [("site", ("fused", "")), ("s3_site", ("separate", ".parquet"))],
    ids=["site-fused", "s3_site.parquet-separate"],
    indirect=True,
)
def test_a_load_of_a_topic_killed_at_some_lines(clicks: Clicks, dying: Dying) -> None:
    assert killed_everywhere(clicks, dying, 23, 131) > 3


@pytest.mark.long
@pytest.mark.timeout(3600)
@cases(STAGES)
def test_a_load_of_a_topic_killed_at_every_line(clicks: Clicks, dying: Dying) -> None:
    assert killed_everywhere(clicks, dying, 1, 1) > 100
