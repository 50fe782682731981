"""Ten thousand broken specs: only clean errors, no crash, bounded time and memory."""

from __future__ import annotations

import random
import resource
import sys

from airflow_mlplatform.specs.load import load_text
from tests.unit.specs.examples import ALL

MUTANTS = 10_000
FRAGMENTS = (
    "", "{", "}", "[", "]", ":", "- ", "\n", "\t", "'", '"', "&a ", "*a", "<<: ", "!!python/object:os.system ",
    "!!set ",
    "!!binary ", "? ", "| ", "> ", "%TAG", "---\n", "...\n", "{{ ", " }}", "{% if %}", "{{ params.x }}", "null", "true",
    "1e999", ".nan", "2026-13-01", "0x", "12:30:45", "~", "\x00", "\x85", "\ufeff", "\U0001f377", "9" * 400, "a" * 3000,
    "[" * 300, "- " * 300, "=", "!", "@", "`", "#",
)  # fmt: skip


def mutate(text: str, chance: random.Random) -> bytes:
    for _ in range(chance.randint(1, 4)):
        start = chance.randrange(len(text) + 1)
        end = min(len(text), start + chance.choice((0, 0, 1, 3, 20, 200)))
        match chance.randrange(4):
            case 0:
                text = text[:start] + chance.choice(FRAGMENTS) + text[end:]
            case 1:
                text = text[:start] + text[start:end] * 3 + text[end:]
            case 2:
                lines = text.splitlines(keepends=True)
                chance.shuffle(lines) if chance.random() < 0.2 else lines.insert(0, chance.choice(lines or [""]))
                text = "".join(lines)
            case _:
                other = chance.choice(list(ALL.values()))
                text = text[:start] + other[start : start + 60] + text[end:]
    data = text.encode("utf-8", "surrogatepass")
    if chance.random() < 0.05:
        place = chance.randrange(len(data) + 1)
        data = data[:place] + bytes([chance.randrange(256)]) + data[place:]
    return data


def test_only_clean_errors_come_of_mutated_specs() -> None:
    chance = random.Random(20261122)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    broken = 0
    for _ in range(MUTANTS):
        for document in load_text(mutate(chance.choice(list(ALL.values())), chance), "m.yaml"):
            assert (document.spec is None) == bool(document.problems)
            for problem in document.problems:
                assert str(problem).startswith(f"m.yaml:{problem.line}:{problem.column}")
                assert problem.line >= 1
                assert problem.column >= 1
                assert problem.what
                assert problem.todo
                broken += 1
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert broken > MUTANTS / 2
    assert grown < (256 << 20 if sys.platform == "darwin" else 256 << 10), "loading specs must not hoard memory"
